"""Model architectures: components, caches, trial runs, and the components that noise and adapters do not reach."""
