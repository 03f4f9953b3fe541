"""Embedding noise: kinds, strength, sampling for a batch, hooks on a live model, and the preview."""
