"""Results of a study for notebooks: verdict, loss curves, losses and answers as static HTML without scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from neftune_core.errors import LabError
from neftune_core.export.report_parts import table_html, verdict_html
from neftune_core.export.study_report import losses_html
from neftune_core.figures.colours import arm_colours, resolve_colours
from neftune_core.figures.curves import gather_losses, mean_of_seeds, shared_seeds
from neftune_core.language import say
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.judging import verdict_of
from neftune_core.studies.records.record import Record

WIDTH, HEIGHT, LEFT, BELOW = 640, 260, 56, 36
TICKS = 4


def study_html(record: Record) -> str:
    """Return the results of a record so far as HTML, with the answers of its first seed."""
    parts = [_curves_svg(record)]
    try:
        parts = [verdict_html(verdict_of(record)), *parts, losses_html(record)]
    except LabError as error:
        parts.insert(0, f"<p>{html.escape(str(error))}</p>")
    answers = record.answers()
    return "".join([*parts, answers_html([line for line in answers if line.get("seed") == answers[0].get("seed")])])


def answers_html(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return answers as a table with one row per prompt and one column per arm; "" if there are none.

    The first column contains the expected answers, if any are known.

    Args:
        lines: Dictionaries with a `prompt`, the answers by arm as `arms` (each with a `text`) and, if known, the
            expected answer as `reference`.

    Returns:
        HTML.
    """
    names = list(dict.fromkeys(name for line in lines for name in line["arms"]))
    rows = [[line["prompt"], *(line["arms"].get(name, {}).get("text", "") for name in names)] for line in lines]
    names = [*map(arm_words, names)]
    if any(line.get("reference") for line in lines):
        names = [say("expected answer"), *names]
        rows = [[row[0], line.get("reference", ""), *row[1:]] for row, line in zip(rows, lines, strict=True)]
    return table_html(map(html.escape, names), ([html.escape(cell) for cell in row] for row in rows)) if rows else ""


def _curves_svg(record: Record) -> str:
    """Draw the held-out losses with noise off over the steps, or the training losses if no rows are held out.

    The curves are means over the seeds that every arm has; they begin at the first evaluation after step 0.
    """
    events = record.events()
    gathered, shared = gather_losses(events), shared_seeds(events)
    for loss, title in (("held_out_loss", say("held-out loss")), ("train_loss", say("training loss"))):
        means = {arm: zip(*mean_of_seeds(seeds, shared), strict=True) for arm, seeds in gathered[loss].items()}
        points = {arm: [point for point in mean if point[0] and np.isfinite(point[1])] for arm, mean in means.items()}
        if any(points.values()):
            return _svg({arm: found for arm, found in points.items() if found}, record.arms, title)
    return ""


def _svg(curves: Mapping[str, Sequence[tuple[float, float]]], arms: Mapping[str, NoiseSettings], title: str) -> str:
    xs, ys = zip(*chain(*curves.values()), strict=True)
    low, high, last = min(ys), max(ys), max(xs)
    span = (high - low) or 1.0
    colours = resolve_colours(arm_colours(arms), "light")

    def place(x: float, y: float) -> tuple[float, float]:
        """Convert a point of a curve to coordinates of the image.

        Args:
            x: Step.
            y: Loss.

        Returns:
            Distances from the left and the top, in pixels.
        """
        return LEFT + x / last * (WIDTH - LEFT - 110), 12 + (high - y) / span * (HEIGHT - BELOW - 24)

    label = html.escape(title, quote=True)
    parts = [f'<text x="{LEFT}" y="{HEIGHT - 4}">{label}, {html.escape(say("steps"))} 0 – {last:,.0f}</text>']
    for value in np.linspace(low, high, TICKS):
        _, y = place(0, value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 110}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e1e4e9"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for number, (arm, curve) in enumerate(curves.items()):
        points = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in curve)
        colour = colours.get(arm, "#5c6573")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{WIDTH - 104}" y="{24 + 16 * number}" fill="{colour}">{html.escape(arm_words(arm))}</text>'
        )
    style = "font:12px sans-serif;fill:#5c6573;max-width:100%"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" style="{style}" role="img" aria-label="{label}">' + (
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )
