"""Noise on embeddings: kinds, strength, drawing it for a batch, adding it to a live model, and its preview."""
