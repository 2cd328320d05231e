"""From files to memories: sources, decoding, encoding, and what is kept when it is interrupted."""
