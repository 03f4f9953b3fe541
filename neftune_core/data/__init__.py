"""Instruction data: formats, examples, chat rendering and labels, batches, starter sets."""
