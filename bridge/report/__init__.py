"""Reports: one HTML page about a bridge, for `mcr report`."""
