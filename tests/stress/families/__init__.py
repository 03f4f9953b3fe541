"""Tiny models of every family, and the checks for each."""
