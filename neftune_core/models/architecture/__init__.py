"""The architecture of a model: its parts, caches, trial runs, and what noise and adapters reach."""
