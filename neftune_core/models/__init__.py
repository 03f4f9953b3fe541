"""Models: the catalogue, loading from any source, the anatomy of each family, and what this machine can do."""
