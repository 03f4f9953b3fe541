"""Model sources: the hub or a mirror, ModelScope, a local folder, a GGUF file, the Python package index."""
