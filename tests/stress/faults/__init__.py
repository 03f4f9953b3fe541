"""Faults that a study must survive."""
