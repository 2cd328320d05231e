"""Embeddings of other tools: their files into memories, and memories into their files.

`opening.open_embeddings` and `importing.import_memory` read; `exporting.export_memory` writes.
Everything is streamed in blocks of rows.
"""
