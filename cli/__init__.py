"""The `mcr` command: one file per command, plain keyword arguments from here on."""
