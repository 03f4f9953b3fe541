"""HTML templates of the page, and HTML snippets that several tabs share; the snippets escape all text."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from neftune_core.home import assets
from neftune_core.language import plural, say

TEMPLATES = assets() / "page" / "html"
TRANSLATED = re.compile(r"\{\{(.+?)\}\}")
"""A text in a template, which is translated."""


def page_html(name: str, **values: str) -> str:
    """Return an HTML template of the page in the current language.

    Args:
        name: Name of the file in `assets/page/html` without `.html`. Texts in double braces are translated.
        **values: HTML that replaces `$NAME` in the template and `{NAME}` in its texts.

    Returns:
        HTML.
    """
    template = (TEMPLATES / f"{name}.html").read_text(encoding="utf-8").strip()
    return Template(TRANSLATED.sub(lambda text: say(text[1], **values), template)).substitute(values)


def quiet(text: str) -> str:
    """Return a sentence in small grey type, as HTML."""
    return f'<p class="lab-quiet">{html.escape(text)}</p>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a row of numbers, each above its description, as HTML; pairs are such as `("42", "to train on")`."""
    cells = "".join(f"<div><dt>{html.escape(words)}</dt><dd>{html.escape(value)}</dd></div>" for value, words in pairs)
    return f'<dl class="lab-facts">{cells}</dl>'


def bar(share: float, label: str) -> str:
    """Return a progress bar as HTML.

    Args:
        share: Progress from 0 to 1.
        label: Label for screen readers.

    Returns:
        HTML.
    """
    return f'<progress max="1" value="{share:.3f}" aria-label="{html.escape(label)}"></progress>'


def open_bar(label: str) -> str:
    """Return the HTML of an indeterminate progress bar, for work of unknown length."""
    words = html.escape(label)
    return f'<progress aria-label="{words}" title="{words}"></progress>'


def duration(seconds: float) -> str:
    """Format a number of seconds as seconds, minutes or hours."""
    if seconds < 90:
        return say("{seconds} s", seconds=max(1, round(seconds)))
    if seconds < 5400:
        return say("{minutes} min", minutes=round(seconds / 60))
    return say("{hours:.1f} h", hours=seconds / 3600)


def machine_text(machine: Mapping[str, Any]) -> str:
    """Describe the machine that trained a record, as text."""
    cores, processor = machine.get("cores", "?"), machine.get("processor", "?")
    words = plural(cores, "on {cores} core of {processor}", "on {cores} cores of {processor}")
    return say(words, cores=cores, processor=processor)


def recorded_notice(head: str, description: str, then: str = "") -> str:
    """Return the notice above a recorded study or sweep.

    Args:
        head: The first sentence.
        description: The second sentence.
        then: A sentence in a paragraph of its own; "" for none.

    Returns:
        HTML.
    """
    more = quiet(then) if then else ""
    return f'<div class="lab-recorded"><p><b>{html.escape(head)}</b> {html.escape(description)}</p>{more}</div>'
