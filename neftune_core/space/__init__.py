"""Hugging Face Spaces: server profiles, the folder to push, ZeroGPU, and the visitor's account."""
