"""Evaluations: from a bridge, memories and annotations to figures, one file for each protocol."""
