"""Model sources: the hub or a mirror, a local folder, a GGUF file, the Python package index."""
