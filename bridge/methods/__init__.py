"""Bridges beyond one pair of projectors: closed forms, hub routing, and mixtures of several."""
