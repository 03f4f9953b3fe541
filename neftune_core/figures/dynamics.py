"""Training dynamics of the arms: gradient norm, share of clipped steps, and distance of the weights from the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from neftune_core.figures.base import Figure
from neftune_core.figures.colours import token
from neftune_core.figures.panels import Event, Panel, Points, last_numbers, panel_figure, steps_of
from neftune_core.language import later
from neftune_core.noise.settings import NoiseSettings

PANELS = {
    "gradient_norm": Panel(later("Gradient norm, before clipping"), later("gradient norm"), later("norm"), noisy=True),
    "clipped": Panel(later("Steps clipped so far"), later("clipped"), later("share"), "%"),
    "weight_distance": Panel(
        later("Distance from the start"),
        later("distance from the start"),
        later("distance"),
        later("norm"),
    ),
}


def move_curves(events: Iterable[Event], arms: Mapping[str, NoiseSettings], clip_norm: float = 0.0) -> Figure:
    """Plot the training dynamics over the same steps, in three panels with one colour per arm.

    With several seeds, each curve is the mean over the seeds that reached the last step.

    Args:
        events: Events of one record.
        arms: Noise settings of the arms by name.
        clip_norm: Norm at which the gradient is clipped, drawn as a line; 0 for none.

    Returns:
        The figure.
    """
    points = Points()
    for event in steps_of(events):
        for arm, numbers in event["arms"].items():
            for number in PANELS:
                points.add(number, arm, event, numbers.get(number))
    for (number, _), by_seed in points.found.items():
        if number == "clipped":
            by_seed.update({seed: (steps, _shares_so_far(values)) for seed, (steps, values) in by_seed.items()})
    curves = points.means(PANELS)
    drawn = panel_figure("moves", curves, PANELS, arms, last_numbers(curves, PANELS, list(arms)))
    if clip_norm and drawn["data"]:
        line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": clip_norm, "y1": clip_norm}
        drawn["layout"]["shapes"] = [{**line, "line": {"color": token("quiet"), "width": 1, "dash": "dot"}}]
    return drawn


def _shares_so_far(values: Sequence[float]) -> list[float]:
    """Return the running percentage of true values."""
    shares, total = [], 0.0
    for count, value in enumerate(values, start=1):
        total += value
        shares.append(100 * total / count)
    return shares
