"""The architecture of a model: its components, caches, trial runs, and what noise and adapters reach."""
