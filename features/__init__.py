"""From files to memories and indices: sources, encoders, extraction, memories, indices."""
