"""Models: catalogue, loading from any source, the anatomy of each family, and this machine's capabilities."""
