"""TCL: terms of momentum projectors, of parts and of a fusion encoder, and re-ranking with it."""
