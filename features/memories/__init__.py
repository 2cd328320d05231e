"""Memories: embeddings in HDF5 files, read, written, joined and compared."""
