"""Instructions: formats in, examples, chat rendering and labels, batches, starter sets."""
