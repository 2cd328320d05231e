"""Indices in Milvus: a collection in a local file through milvus-lite, or in a cluster."""
