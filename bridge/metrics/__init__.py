"""Figures as pure functions of scores, maps and embeddings; they import torch and typing only."""
