"""Distribution of row lengths in a data set, in tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neftune_core.figures.base import Figure, Trace, axis, dotted_line, figure
from neftune_core.figures.colours import token
from neftune_core.language import later, plural, say

BINS = 40
NEAR = 0.7
"""The longest row is close to the maximum length if it is at least this share of it."""
FEW_ROWS = 6


def length_histogram(
    train: Sequence[int], held_out: Sequence[int] = (), *, maximum_length: int | None = None
) -> Figure:
    """Plot a stacked histogram of the lengths of training and held-out rows (prompt and response), in tokens.

    Args:
        train: Lengths of the training rows.
        held_out: Lengths of the held-out rows.
        maximum_length: Length at which rows are cut or skipped, marked if the longest row is close to it; None if
            unlimited.

    Returns:
        The figure.
    """
    longest = max([*train, *held_out, 1])
    width = bin_width(longest)
    parts = [(say("training rows"), train, "control"), (say("held-out rows"), held_out, "base")]
    data = [_bars(name, lengths, width, token(colour)) for name, lengths, colour in parts if lengths]
    few = sum(max(trace["y"]) for trace in data) <= FEW_ROWS  # Plotly would choose fractions as ticks
    limit = dotted_line(x0=maximum_length, x1=maximum_length, y0=0, y1=1, yref="paper")
    layout = {
        "barmode": "stack",
        "height": 260,
        "xaxis": axis(later("length of prompt and response"), later("tokens"), rangemode="tozero", showgrid=False),
        "yaxis": axis(later("rows"), later("count"), rangemode="tozero", **({"dtick": 1} if few else {})),
        "showlegend": len(data) > 1,
        "shapes": [limit] if maximum_length and longest >= NEAR * maximum_length else [],
    }
    return figure("lengths", data, layout, _summary(train, held_out, maximum_length))


def bin_width(longest: int) -> int:
    """Return a round width (1, 2 or 5 times a power of ten) that gives at most `BINS` bins."""
    widths = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    return next(width for width in widths if longest / width < BINS)


def _bars(name: str, lengths: Sequence[int], width: int, colour: str) -> Trace:
    """Return bars with the number of rows in each bin, from 0 to the longest row."""
    starts, counts = range(0, max(lengths) + 1, width), Counter(length // width for length in lengths)
    return {
        "type": "bar",
        "uid": name,
        "name": name,
        "x": [start + width / 2 for start in starts],
        "y": [counts[start // width] for start in starts],
        "width": width * 0.92,
        "customdata": [[start, start + width - 1] for start in starts],
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertemplate": say("%{customdata[0]} to %{customdata[1]} tokens: %{y} ") + name + "<extra></extra>",
    }


def _summary(train: Sequence[int], held_out: Sequence[int], maximum_length: int | None) -> str:
    every = sorted([*train, *held_out])
    if not every:
        return say("No rows yet.")
    rows = say(plural(len(train), "{count:,} training row", "{count:,} training rows"), count=len(train))
    if held_out:
        words = plural(len(held_out), " and {count:,} held-out row", " and {count:,} held-out rows")
        rows += say(words, count=len(held_out))
    text = say(
        "{rows}: {least:,} to {most:,} tokens, median {median:,}.",
        rows=rows,
        least=every[0],
        most=every[-1],
        median=every[len(every) // 2],
    )
    longer = sum(length >= maximum_length for length in every) if maximum_length else 0
    if longer:
        text += say(" Rows that reach the limit of {limit:,}: {count:,}.", count=longer, limit=maximum_length)
    return text
