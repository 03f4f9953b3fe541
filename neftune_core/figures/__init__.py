"""Records and arrays as Plotly figures: pure functions that return plain dicts, ready for JSON.

assets/docs/contributing.md explains how to add a figure.
"""

from neftune_core.figures.base import Figure

__all__ = ["Figure"]
