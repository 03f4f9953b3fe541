"""Training dynamics over the steps, in three panels with one colour per arm.

`move_curves` shows the gradient norm, the share of clipped steps, and the distance of the weights from the start.
`rate_curves` shows the noise strength, the learning rate, and tokens per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from neftune_core.figures.base import Figure, dotted_line
from neftune_core.figures.panels import SHARED, Event, Panel, Points, panel_figure, steps_of
from neftune_core.language import later
from neftune_core.noise.settings import NoiseSettings

PANELS = {
    "gradient_norm": Panel(later("Gradient norm, before clipping"), later("gradient norm"), later("norm"), noisy=True),
    "clipped": Panel(later("Steps clipped so far"), later("clipped"), later("share"), "%"),
    "weight_distance": Panel(
        later("Distance from the start"), later("distance from the start"), later("distance"), later("norm")
    ),
}
AVERAGED = 5
"""Number of steps over which the speed is averaged, because single steps are too short to time."""
INTERRUPTED = 10
"""A gap longer than this many typical steps means that the study was interrupted or had to wait."""


def move_curves(events: Iterable[Event], arms: Mapping[str, NoiseSettings], clip_norm: float = 0.0) -> Figure:
    """Plot the gradient norm, the share of clipped steps and the distance of the weights from the start.

    With several seeds, each curve is the mean over the seeds that have reached the latest step of any seed.

    Args:
        events: Events of one record.
        arms: Noise settings of the arms by name.
        clip_norm: Norm at which the gradient is clipped, drawn as a line; 0 for none.

    Returns:
        The figure.
    """
    points = Points()
    for event in steps_of(events):
        for arm, values in event["arms"].items():
            for panel in PANELS:
                points.add(panel, arm, event, values.get(panel))
    for (panel, _), by_seed in points.found.items():
        for _, clipped in by_seed.values() if panel == "clipped" else ():
            clipped[:] = [100 * total / count for count, total in enumerate(accumulate(clipped), start=1)]
    drawn = panel_figure("moves", points.means(PANELS), PANELS, arms)
    if clip_norm and drawn["data"]:
        drawn["layout"]["shapes"] = [dotted_line(xref="x domain", x0=0, x1=1, y0=clip_norm, y1=clip_norm)]
    return drawn


def rate_curves(events: Iterable[Event], arms: Mapping[str, NoiseSettings]) -> Figure:
    """Plot the noise strength of each arm, the learning rate and the total speed.

    The strength includes the schedule and is in the unit of the arm. The speed is in tokens per second (prompts
    included, padding excluded), summed over the arms and measured over steps without an evaluation in between.

    Args:
        events: Events of one record.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    units = {noise.unit for noise in arms.values() if noise.strength}
    unit = units.pop() if len(units) == 1 else later("in each arm's unit")
    panels = {
        "noise": Panel(later("Noise strength, including the schedule"), later("noise"), later("strength"), unit),
        "learning_rate": Panel(later("Learning rate"), later("learning rate"), later("learning rate")),
        "speed": Panel(
            later("Speed, all arms together"), later("tokens per second"), later("tokens per second"), noisy=True
        ),
    }
    events = list(events)
    points = Points()
    for event in steps_of(events):
        for arm, values in event["arms"].items():
            multiplier = values.get("noise_multiplier", 1.0)
            if arm in arms and arms[arm].strength and isinstance(multiplier, int | float):
                points.add("noise", arm, event, arms[arm].strength * multiplier)
        points.add("learning_rate", SHARED, event, event.get("learning_rate"))
    for event, speed in _speeds(events):
        points.add("speed", SHARED, event, speed)
    return panel_figure("rates", points.means(panels), panels, arms)


def _speeds(events: Iterable[Event]) -> Iterator[tuple[Event, float]]:
    """Yield the last event of each run of consecutive steps, with the speed of that run."""
    for run in _runs_of_steps(events):
        seconds = run[-1]["time"] - run[0]["time"]
        if seconds > 0:
            yield run[-1], sum(step["tokens"] * len(step["arms"]) for step in run[1:]) / seconds


def _runs_of_steps(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Yield runs of up to `AVERAGED` consecutive steps, with the step before them; an interruption ends a run."""
    run: list[Event] = []
    for event in events:
        is_timed = event["event"] == "step" and _is_timed(event)
        if run and (not is_timed or run[-1].get("seed") != event.get("seed") or _is_late(run, event)):
            yield run
            run = []
        if is_timed:
            run = [*run, event]
        if len(run) > AVERAGED:
            yield run
            run = run[-1:]
    if run:
        yield run


def _is_late(run: list[Event], event: Event) -> bool:
    """Return whether the gap before a step is so long that the study must have been interrupted."""
    usual = (run[-1]["time"] - run[0]["time"]) / max(1, len(run) - 1)
    return len(run) > 1 and event["time"] - run[-1]["time"] > INTERRUPTED * usual


def _is_timed(event: Mapping[str, Any]) -> bool:
    numbers = all(isinstance(event.get(name), int | float) for name in ("time", "tokens"))
    return numbers and isinstance(event.get("arms"), Mapping)
