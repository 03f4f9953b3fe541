"""Small pieces of HTML that several tabs show. Every text is escaped here, and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Sequence

from neftune_core.language import say


def quiet(text: str) -> str:
    """A sentence in small grey letters."""
    return f'<p class="lab-quiet">{html.escape(text)}</p>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A row of figures, each over the words for it: `(("42", "to train on"), ...)`."""
    cells = "".join(f"<div><dt>{html.escape(words)}</dt><dd>{html.escape(value)}</dd></div>" for value, words in pairs)
    return f'<dl class="lab-facts">{cells}</dl>'


def bar(share: float, label: str) -> str:
    """A progress bar; `share` from 0 to 1."""
    return f'<progress max="1" value="{share:.3f}" aria-label="{html.escape(label)}"></progress>'


def open_bar(label: str) -> str:
    """A progress bar of work whose length is not known."""
    words = html.escape(label)
    return f'<progress aria-label="{words}" title="{words}"></progress>'


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return say("{seconds} s", seconds=max(1, round(seconds)))
    if seconds < 5400:
        return say("{minutes} min", minutes=round(seconds / 60))
    return say("{hours:.1f} h", hours=seconds / 3600)
