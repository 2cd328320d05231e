"""Pictures of bridges and memories: one file a kind, drawn by Matplotlib, for `mcr plot`."""
