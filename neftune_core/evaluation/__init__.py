"""Measurement with noise off: clean losses, and the answers of the base and all arms from one batched decode.

Two modules are about the noise itself: `sensitivity` (the loss under it) and `noise_propagation` (its way through the
layers, and the next token).
"""
