"""Measurements of a record's trained arms: loss of every token, robustness to noise, size of the adapter updates."""
