"""Runs: folders with a bridge and how it came to be; listed and compared without loading torch."""
