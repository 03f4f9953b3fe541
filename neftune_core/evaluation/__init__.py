"""Measurement with noise off: clean losses, and the answers of the base and all arms from one batched decode."""
