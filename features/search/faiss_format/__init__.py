"""The files that FAISS writes, checked before FAISS reads them: `check_faiss`."""
