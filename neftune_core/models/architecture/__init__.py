"""Model architectures: components, caches, trial runs, and the reach of noise and adapters."""
