"""Answers of the base and the arms as columns; everything a model said is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.figures.colours import arm_colours
from neftune_core.noise.settings import NoiseSettings

ENDINGS = {"stop": "ended by itself", "limit": "cut at the limit", "": "writing"}


def answer_columns(lines: Sequence[Mapping[str, Any]], arms: Mapping[str, NoiseSettings]) -> str:
    """One block a prompt, a column an arm, as HTML. `lines` are those of a record's answers."""
    colours = arm_colours(arms)
    return "".join(_block(line, colours) for line in lines)


def _block(line: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    columns = "".join(
        _column(name, answer, colours.get(name, "var(--lab-quiet)")) for name, answer in line["arms"].items()
    )
    reference = line.get("reference")
    known = (
        f'<details class="lab-more"><summary>The answer in the data</summary><p>{html.escape(reference)}</p></details>'
        if reference
        else ""
    )
    return (
        f'<section class="lab-answers"><h3>{html.escape(line["prompt"])}</h3>{known}'
        f'<div class="lab-columns" tabindex="0" role="group" aria-label="Answers by arm">{columns}</div></section>'
    )


def _column(name: str, answer: Mapping[str, Any], colour: str) -> str:
    return (
        f'<article style="--arm: {colour}"><h4>{html.escape(name)}</h4>'
        f"<p>{html.escape(answer['text'].strip())}</p>"
        f"<footer>{_count(answer['tokens'])}, {ENDINGS.get(answer['ended'], '')}</footer></article>"
    )


def _count(tokens: int) -> str:
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"
