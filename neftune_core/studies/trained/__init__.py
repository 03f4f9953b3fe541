"""Trained arms of a record: comparison of answers, token losses, robustness to noise, sizes of adapter updates."""
