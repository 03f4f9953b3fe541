"""Inputs and speed of training: noise strength, learning rate and tokens per second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neftune_core.figures.base import Figure
from neftune_core.figures.panels import SHARED, Event, Panel, Points, last_numbers, panel_figure, steps_of
from neftune_core.language import later
from neftune_core.noise.settings import NoiseSettings

AVERAGED = 5
"""Number of steps over which the speed is averaged, because single steps are too short to be timed."""
INTERRUPTED = 10
"""A gap longer than this many usual steps means that the study was interrupted or had to wait."""


def rate_curves(events: Iterable[Event], arms: Mapping[str, NoiseSettings]) -> Figure:
    """Plot the noise of each arm, the learning rate and the total speed over the same steps, in three panels.

    The strength is that of the arm times its schedule, in the arm's unit. The speed is tokens per second (prompts
    included, padding excluded), summed over the arms, over steps without an evaluation in between.

    Args:
        events: Events of one record.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    panels = {
        "noise": Panel(later("Noise, by its schedule"), later("noise"), later("strength"), _unit(arms)),
        "learning_rate": Panel(later("Learning rate"), later("learning rate"), later("learning rate")),
        "speed": Panel(
            later("Speed, all arms together"), later("tokens per second"), later("tokens per second"), noisy=True
        ),
    }
    events = list(events)
    points = Points()
    for event in steps_of(events):
        for arm, numbers in event["arms"].items():
            multiplier = numbers.get("noise_multiplier", 1.0)
            if arm in arms and arms[arm].strength and isinstance(multiplier, int | float):
                points.add("noise", arm, event, arms[arm].strength * multiplier)
        points.add("learning_rate", SHARED, event, event.get("learning_rate"))
    for event, speed in _speeds(events):
        points.add("speed", SHARED, event, speed)
    curves = points.means(panels)
    return panel_figure("rates", curves, panels, arms, last_numbers(curves, panels, list(arms)))


def _unit(arms: Mapping[str, NoiseSettings]) -> str:
    units = {noise.unit for noise in arms.values() if noise.strength}
    return units.pop() if len(units) == 1 else later("in each arm's unit")


def _speeds(events: Iterable[Event]) -> Iterator[tuple[Event, float]]:
    """Yield the last event of each run of consecutive steps, and the speed over that run."""
    for row in _rows(events):
        seconds = row[-1]["time"] - row[0]["time"]
        if seconds > 0:
            yield row[-1], sum(step["tokens"] * len(step["arms"]) for step in row[1:]) / seconds


def _rows(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Yield runs of consecutive steps: up to `AVERAGED`, and the step before them; an interruption ends a run."""
    row: list[Event] = []
    for event in events:
        is_timed = event["event"] == "step" and _is_timed(event)
        if row and (not is_timed or row[-1].get("seed") != event.get("seed") or _is_late(row, event)):
            if len(row) > 1:
                yield row
            row = []
        if is_timed:
            row = [*row, event]
        if len(row) > AVERAGED:
            yield row
            row = row[-1:]
    if len(row) > 1:
        yield row


def _is_late(row: list[Event], event: Event) -> bool:
    """Return whether the gap before a step is so long that the study must have been interrupted."""
    usual = (row[-1]["time"] - row[0]["time"]) / max(1, len(row) - 1)
    return len(row) > 1 and event["time"] - row[-1]["time"] > INTERRUPTED * usual


def _is_timed(event: Mapping[str, Any]) -> bool:
    numbers = all(isinstance(event.get(name), int | float) for name in ("time", "tokens"))
    return numbers and isinstance(event.get("arms"), Mapping)
