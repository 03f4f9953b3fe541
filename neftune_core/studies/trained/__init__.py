"""What the trained arms of a record do: loss of every token, robustness to noise, and size of the adapter updates."""
