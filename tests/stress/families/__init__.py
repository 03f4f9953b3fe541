"""Tiny models of every family, and what is checked on each."""
