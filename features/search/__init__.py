"""Nearest neighbours: exact search over rows, and FAISS indices over memories."""
