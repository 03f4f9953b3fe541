"""HTML snippets shared by several tabs; all text is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from neftune_core.language import say


def quiet(text: str) -> str:
    """Return a sentence in small grey type."""
    return f'<p class="lab-quiet">{html.escape(text)}</p>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a row of numbers, each above its description: `(("42", "to train on"), ...)`."""
    cells = "".join(f"<div><dt>{html.escape(words)}</dt><dd>{html.escape(value)}</dd></div>" for value, words in pairs)
    return f'<dl class="lab-facts">{cells}</dl>'


def bar(share: float, label: str) -> str:
    """Return a progress bar.

    Args:
        share: Progress from 0 to 1.
        label: Label for screen readers.

    Returns:
        HTML.
    """
    return f'<progress max="1" value="{share:.3f}" aria-label="{html.escape(label)}"></progress>'


def open_bar(label: str) -> str:
    """Return a progress bar for work of unknown length."""
    words = html.escape(label)
    return f'<progress aria-label="{words}" title="{words}"></progress>'


def duration(seconds: float) -> str:
    """Format a number of seconds as seconds, minutes or hours."""
    if seconds < 90:
        return say("{seconds} s", seconds=max(1, round(seconds)))
    if seconds < 5400:
        return say("{minutes} min", minutes=round(seconds / 60))
    return say("{hours:.1f} h", hours=seconds / 3600)
