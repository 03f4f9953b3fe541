"""How a model is built: its parts, caches, trials before admission, and what noise and adapters reach."""
