"""Benchmarks of this machine; `registry` lists them by name."""
