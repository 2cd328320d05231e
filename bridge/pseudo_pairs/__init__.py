"""Pseudo pairs: softmax retrieval from memories, the ways to compute it, and what is kept of it."""
