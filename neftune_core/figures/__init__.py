"""Records and arrays as Plotly figures: pure functions that return plain dicts, ready for JSON.

assets/docs/contributing.md explains how to add a figure.
"""

from neftune_core.figures.base import Figure
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.lengths import length_histogram
from neftune_core.figures.norms import token_norms
from neftune_core.figures.sensitivity import loss_by_strength

__all__ = ["Figure", "length_histogram", "loss_by_strength", "loss_curves", "token_norms"]
