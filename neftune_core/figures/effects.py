"""The difference of every arm of a sweep from its control, by noise strength."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.evaluation.measures import MEASURES
from neftune_core.figures.base import Figure, Trace, axis, figure, heading, interval_text
from neftune_core.figures.colours import arm_colours, token
from neftune_core.language import later, plural, say
from neftune_core.noise.names import arm_words
from neftune_core.sweeps.record import describe_training
from neftune_core.sweeps.settings import axes
from neftune_core.sweeps.table import SweepTable, TableRow

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
WIDE = 20.0
"""Ratio of the largest to the smallest value at which the axis becomes logarithmic."""
EPOCH_WORDS = {"last": later("after the last epoch"), "best": later("at the best epoch")}
DIRECTIONS = {
    1: later("higher is better"),
    -1: later("lower is better"),
    0: later("neither direction is better by itself"),
}


def effect_curve(table: SweepTable, measure: str, epoch: str) -> Figure:
    """Plot mean paired differences from the control, with their intervals, over the noise strength.

    Settings that differ only in strength share a line. With three seeds or more, each point has an interval consistent
    with Holm's correction over all arms of the sweep. If the strength does not vary, the horizontal axis is the first
    numeric training or data setting that does.

    Args:
        table: The table of the sweep.
        measure: Name of the measure.
        epoch: "last" or "best".

    Returns:
        The figure.
    """
    rows = [row for row in table.rows if _difference(row, measure, epoch) is not None]
    name, title = _horizontal_axis(rows)
    series = _series(rows, name)
    colours = arm_colours({row.arm: row.noise for row in table.rows})
    data = [_trace(*labelled, index, name, measure, epoch, colours) for index, labelled in enumerate(series.items())]
    units = {row.noise.unit for row in rows}
    unit = units.pop() if len(units) == 1 else later("in the unit of each line")
    label, direction = say(MEASURES[measure].label), say(DIRECTIONS[MEASURES[measure].better])
    if MEASURES[measure].is_share:
        direction = say("percentage points, {direction}", direction=direction)
    layout = {
        "height": 400,
        "margin": {"t": 72},
        "legend": {"y": 1.1},
        "xaxis": axis(title, unit if name == "strength" else "", **_scale(rows, name)),
        "yaxis": axis(direction, zeroline=True, zerolinewidth=2),
        "annotations": [heading(say("{measure}: difference from the control", measure=label), "x domain", "y domain")],
        "showlegend": len(series) > 1,
        "hovermode": "closest",
    }
    return figure("effects", data, layout, _summary(rows, measure, epoch), narrow={"height": 360})


def _difference(row: TableRow, measure: str, epoch: str) -> float | None:
    found = row.effects.get(measure, {}).get(epoch)
    return found.difference if found is not None and found.seeds else None


def _horizontal_axis(rows: Sequence[TableRow]) -> tuple[str, str]:
    """Return the name and title of the horizontal axis.

    This is the strength or, if it does not vary, the first numeric training or data setting that does.
    """
    names = dict.fromkeys(name for row in rows for name in row.varied)
    varied = {name: {row.varied.get(name) for row in rows} for name in names}
    numbers = [
        name for name, values in varied.items() if len(values) > 1 and all(isinstance(v, int | float) for v in values)
    ]
    if len({(row.noise.unit, row.noise.strength) for row in rows}) > 1 or not numbers:
        return "strength", later("strength of the noise")
    return numbers[0], axes()[numbers[0]].label


def _value(row: TableRow, name: str) -> float:
    return row.noise.strength if name == "strength" else float(row.varied[name])


def _scale(rows: Sequence[TableRow], name: str) -> dict[str, Any]:
    values = sorted({_value(row, name) for row in rows if _value(row, name) > 0})
    if values and values[-1] / values[0] >= WIDE:
        return {"type": "log", "tickmode": "array", "tickvals": values, "ticktext": [f"{value:g}" for value in values]}
    return {"rangemode": "tozero"}


def _series(rows: Sequence[TableRow], name: str) -> dict[str, list[TableRow]]:
    """Group rows that differ only in `name`, sorted by it, under a label for their common settings."""
    found: dict[str, list[TableRow]] = {}
    for row in rows:
        found.setdefault(_series_label(row, name), []).append(row)
    return {label: sorted(series, key=lambda row: _value(row, name)) for label, series in found.items()}


def _series_label(row: TableRow, name: str) -> str:
    others = describe_training({key: value for key, value in row.varied.items() if key != name})
    is_noise_alone = row.arm == row.noise.name  # an arm with another method has its own line
    noise = arm_words(row.arm)
    if name == "strength" and is_noise_alone:
        noise = re.sub(rf"[- ]{re.escape(f'{row.noise.strength:.15g}')}", "", noise, count=1)
    return f"{noise}{say(', ')}{others}" if others else noise


def _trace(
    label: str, rows: Sequence[TableRow], index: int, name: str, measure: str, epoch: str, colours: Mapping[str, str]
) -> Trace:
    compared = [row.effects[measure][epoch] for row in rows]
    scale = _percent_scale(measure)
    above = [each.interval.high - each.difference if each.interval else 0.0 for each in compared]
    below = [each.difference - each.interval.low if each.interval else 0.0 for each in compared]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "uid": f"effect/{label}",
        "name": label,
        "x": [_value(row, name) for row in rows],
        "y": [scale * each.difference for each in compared],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [scale * value if math.isfinite(value) else None for value in above],
            "arrayminus": [scale * value if math.isfinite(value) else None for value in below],
            "color": token("quiet"),
            "thickness": 1.4,
            "width": 5,
        },
        "line": {"color": token("quiet"), "width": 1.4, "dash": DASHES[index % len(DASHES)]},
        "marker": {"color": [colours[row.arm] for row in rows], "size": 10, "symbol": SYMBOLS[index % len(SYMBOLS)]},
        "text": [_setting_text(row, measure, epoch) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _setting_text(row: TableRow, measure: str, epoch: str) -> str:
    """Describe one setting, such as `uniform std 0.1: +0.02 (+0.01 to +0.03), 8 seeds`."""
    found = row.effects[measure][epoch]
    name = f"{arm_words(row.arm)}{say(', ')}{row.cell}" if row.cell else arm_words(row.arm)
    scale, count = _percent_scale(measure), len(found.seeds)
    seeds = say(plural(count, "1 seed", "{count} seeds"), count=count)
    return f"{name}{say(': ')}{scale * found.difference:+.2g}{interval_text(found.interval, scale)}{say(', ')}{seeds}"


def _percent_scale(measure: str) -> float:
    return 100.0 if MEASURES[measure].is_share else 1.0


def _summary(rows: Sequence[TableRow], measure: str, epoch: str) -> str:
    if not rows:
        return say(
            "There is no difference to show yet: the control and at least one other arm must first finish training "
            "with the same seed."
        )
    numbers = say("; ").join(_setting_text(row, measure, epoch) for row in rows)
    return say(
        "{measure} {when}, mean difference of each arm from the control, with t intervals adjusted for all arms "
        "(Holm): {numbers}.",
        measure=say(MEASURES[measure].label),
        when=say(EPOCH_WORDS[epoch]),
        numbers=numbers,
    )
