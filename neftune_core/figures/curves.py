"""Losses of all arms over the steps of a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neftune_core.figures.base import (
    LEVEL,
    NOISY,
    Figure,
    Trace,
    axis,
    dotted_line,
    figure,
    heading,
    in_panel,
    line_trace,
    list_once,
    merge_mappings,
)
from neftune_core.figures.colours import CONTROL, arm_colours, token
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.steering.log import STEERED

Event = Mapping[str, Any]
Curve = tuple[list[int], list[float]]
Losses = dict[str, dict[str, dict[Any, Curve]]]
"""Steps and values by kind of loss, then by arm, then by seed."""

DASHES = {
    "uniform": "solid",
    "gaussian": "dash",
    "laplace": "dot",
    "bernoulli": "longdash",
    "symmetric": "longdashdot",
    "adversarial": "dashdot",
    "token-dropout": "2px,6px",
}
METHOD_DASH = "8px,3px,2px,3px"
MEASURED = ("train_loss", "held_out_loss")
"""Kinds of loss that are measured with noise off."""
OVER = ("saved", "answered", "finished", "stopped", "failed")
"""Names of events that show that training has ended."""
POINTS = 600
STEEP = 30
"""Ratio of the highest to the lowest measured loss beyond which a logarithmic scale is clearer."""
MOST_LISTED, LISTED_HEIGHT = 6, 19
"""Maximum number of arms whose latest values are listed in the figure, and the height of one of them in pixels."""
AXIS_MARGIN = 1.02  # of the axis after the last step, so that its marker is not clipped
CURVE_KINDS: dict[str, tuple[int, float, float, str, str]] = {
    "train_loss": (1, 2.4, 1.0, later("training loss, noise off"), "lines+markers"),
    "held_out_loss": (2, 2.4, 1.0, later("held-out loss, noise off"), "lines+markers"),
    "loss": (1, 1.0, 0.4, later("training loss of one batch, noise on"), "lines"),
}
"""Panel, line width, opacity, description and mode of each kind of loss, by its name in the log."""
SEED_OPACITY = {"train_loss": 0.35, "held_out_loss": 0.35, "loss": 0.1}  # of each seed, relative to the mean


def loss_curves(events: Iterable[Event], arms: Mapping[str, NoiseSettings]) -> Figure:
    """Plot training and held-out losses over the same steps, in two panels.

    The training panel shows the loss with noise on as a thin line behind the loss with noise off. All other values are
    measured with noise off. Several seeds are drawn as thin lines, with a thick line for the mean over the finished
    seeds that all arms share. While the study runs, the axis covers all planned steps. Without held-out rows, the
    training panel takes the full width.

    Args:
        events: Events of one record: `step` with `loss`; `evaluated` with `train_loss` and `held_out_loss` per arm.
        arms: Noise settings of the arms by name, control first.

    Returns:
        The figure.
    """
    events = list(events)
    gathered, shared = gather_losses(events), shared_seeds(events)
    colours = arm_colours(arms)
    names = [name for name in ("base", *arms) if any(name in part for part in gathered.values())]
    data = [trace for name in names for trace in _arm_traces(name, gathered, shared, colours[name], _dash(name, arms))]
    for trace in data:
        if trace["legendgroup"] == "base" and _last_step(events):  # the base is not trained: draw a reference level
            trace |= {"x": [0, _last_step(events)], "y": trace["y"][-1:] * 2, "mode": "lines", **LEVEL}
    list_once(data)
    layout, narrow = _layout(_last_step(events)), _narrow()
    marks = _marks(events)
    shapes = [
        dotted_line(xref=x, yref=f"{y} domain", x0=step, x1=step, y0=0, y1=1, name=text)
        for step, text in marks.items()
        for x, y in (("x", "y"), ("x2", "y2"))
    ]
    labels = [_mark_label(step, text) for step, text in marks.items()] + _latest_values(gathered, shared, colours)
    layout = merge_mappings(layout, {"shapes": shapes, "annotations": [*layout["annotations"], *labels]})
    if gathered["loss"] and not gathered["held_out_loss"]:
        layout, narrow = _training_panel_only(layout), {}
    return figure(
        "losses",
        data,
        layout,
        " ".join([_summary(gathered, shared, names, _diverged_seeds(events)), *_steering_words(marks)]),
        narrow=narrow,
        log=_is_over(events) and _is_steep(gathered),  # decided at the end, so that a running study keeps its scale
    )


def _marks(events: Sequence[Event]) -> dict[int, str]:
    """Describe the user's changes (a new noise strength, a stopped arm), by step."""
    found: dict[int, dict[str, list[Any]]] = {}
    for event in events:
        for arm, change in event.get("arms", {}).items() if event["event"] == STEERED else ():
            words = _change_words(arm, change)
            if words:
                found.setdefault(event["step"], {}).setdefault(words, []).append(event.get("seed"))
    several = len({event.get("seed") for event in events if event["event"] == "step"}) > 1
    return {step: say(", ").join(_with_seeds(*one, several) for one in found[step].items()) for step in sorted(found)}


def _mark_label(step: int, text: str) -> dict[str, Any]:
    """Return the label of a mark in the first panel."""
    place = {"xref": "x", "yref": "y domain", "x": step, "y": 0.02, "xanchor": "left", "yanchor": "bottom"}
    return {**place, "text": text, "textangle": -90, "showarrow": False, "font": {"size": 11}}


def _latest_values(gathered: Losses, shared: set[Any], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """List each arm's latest held-out loss, and its difference from the control, in a corner of the second panel.

    On the axis of a whole run, the differences at its end are often too small to see.
    """
    means = {arm: mean_of_seeds(seeds, shared) for arm, seeds in gathered["held_out_loss"].items() if arm != "base"}
    means = {arm: curve for arm, curve in means.items() if curve[1]}
    if CONTROL not in means or not 1 < len(means) <= MOST_LISTED or max(means[CONTROL][0]) == 0:
        return []
    control = means[CONTROL][1][-1]
    digits = 3 if control >= 0.1 else 4
    texts = {
        arm: f"{arm_words(arm)} {values[-1]:.{digits}f}"
        + (f" ({values[-1] - control:+.{digits}f})" if arm != CONTROL else "")
        for arm, (_, values) in means.items()
    }
    base = (
        mean_of_seeds(gathered["held_out_loss"]["base"], shared)[1][-1:] if "base" in gathered["held_out_loss"] else []
    )
    top = _has_room_above([*means.values()], base)
    place = {"xref": "x2 domain", "yref": "y2 domain", "x": 1, "xanchor": "right", "showarrow": False}
    place |= {"y": 1, "yanchor": "top"} if top else {"y": 0, "yanchor": "bottom"}
    rows = list(texts.items()) if top else list(texts.items())[::-1]
    return [
        {
            **place,
            "text": text,
            "yshift": (-1 if top else 1) * (LISTED_HEIGHT * (index + bool(base)) + 4),
            "font": {"size": 15, "color": colours[arm]},
            "bgcolor": token("background"),
            "opacity": 0.9,
        }
        for index, (arm, text) in enumerate(rows)
    ]


def _has_room_above(curves: Sequence[Curve], levels: Sequence[float]) -> bool:
    """Return whether the second half of the curves is mostly in the lower half of the range that is drawn."""
    every = [*levels, *(value for _, values in curves for value in values)]
    late = [value for _, values in curves for value in values[len(values) // 2 :]]
    return max(late) + min(late) <= max(every) + min(every)


def _change_words(arm: str, change: Mapping[str, Any]) -> str:
    if "strength" in change:
        return say("strength {strength:g}", strength=change["strength"])
    return say("{arm} stopped", arm=arm_words(arm)) if change.get("stopped") else ""


def _with_seeds(words: str, seeds: Sequence[Any], several: bool) -> str:
    """Add the seeds of a change to its description, if the study has several."""
    numbers = say(", ").join(map(str, seeds))
    return say("{change} (seed {seeds})", change=words, seeds=numbers) if several else words


def _steering_words(marks: Mapping[int, str]) -> list[str]:
    """Return one sentence that describes the marks; empty if there are none."""
    changes = [say("{change} after step {step:,}", change=text, step=step) for step, text in marks.items()]
    return [say("Changed by hand: {changes}.", changes=", ".join(changes))] if changes else []


def _diverged_seeds(events: Sequence[Event]) -> dict[str, set[Any]]:
    """Return the seeds with a loss that became NaN or infinite, by arm."""
    found: dict[str, set[Any]] = {}
    for event in events:
        for arm in event.get("arms", {}) if event["event"] == "diverged" else ():
            found.setdefault(arm, set()).add(event.get("seed"))
    return found


def shared_seeds(events: Sequence[Event]) -> set[Any]:
    """Return the seeds to average: those that every arm has, except seeds in which an arm diverged.

    Arms that diverged for every seed are ignored. If no seed remains, all seeds are returned.
    """
    arms: dict[str, set[Any]] = {}
    for event in events:
        for arm in event.get("arms", {}) if event["event"] in ("step", "evaluated") else ():
            arms.setdefault(arm, set()).add(event.get("seed"))
    every = set[Any]().union(*arms.values())
    lost = _diverged_seeds(events)
    finite = [kept for arm, seeds in arms.items() if (kept := seeds - lost.get(arm, set()))]
    return set.intersection(*finite) or every if finite else every


def _measured(gathered: Losses) -> list[Curve]:
    """Return all curves measured with noise off."""
    return [curve for kind in MEASURED for seeds in gathered[kind].values() for curve in seeds.values()]


def _is_steep(gathered: Losses) -> bool:
    """Return whether the range of the losses calls for a logarithmic scale."""
    positive = [value for _, values in _measured(gathered) for value in values if value > 0]
    return bool(positive) and max(positive) > STEEP * min(positive)


def _last_step(events: Sequence[Event]) -> int:
    """Return the end of the axis: the final planned step while the study runs, afterwards the last completed step."""
    names = ("step",) if _is_over(events) else ("step", "steps")
    return max((event.get(name, 0) for event in events for name in names), default=0)


def _is_over(events: Sequence[Event]) -> bool:
    return any(event["event"] in OVER for event in events)


def gather_losses(events: Iterable[Event]) -> Losses:
    """Return the losses in the order of the events; those with noise on are downsampled if there are many."""
    gathered: Losses = {kind: {} for kind in ("loss", *MEASURED)}
    for event in events:
        for kind in {"step": ("loss",), "evaluated": MEASURED}.get(event["event"], ()):
            for arm, numbers in event.get("arms", {}).items():
                if numbers.get(kind) is not None:
                    seeds = gathered[kind].setdefault(arm, {})
                    steps, values = seeds.setdefault(event.get("seed"), ([], []))
                    steps.append(event["step"])
                    values.append(numbers[kind])
    for seeds in gathered["loss"].values():
        seeds.update({seed: downsample(*curve) for seed, curve in seeds.items()})
    return gathered


def downsample(steps: list[int], values: list[float]) -> Curve:
    """Reduce a curve to at most `POINTS` points by averaging groups of consecutive steps of equal size.

    Args:
        steps: Step numbers.
        values: One value per step.

    Returns:
        The number of the last step in each group, and the mean value of the group.
    """
    size = math.ceil(len(steps) / POINTS)
    if size <= 1:
        return steps, values
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    ends = [min(start + size, len(steps)) - 1 for start in range(0, len(steps), size)]
    return [steps[end] for end in ends], [sum(group) / len(group) for group in groups]


def _dash(name: str, arms: Mapping[str, NoiseSettings]) -> str:
    """Return the line style of an arm, which shows its kind of noise."""
    if name not in arms:
        return "dot"
    if name == CONTROL:
        return "solid"
    return METHOD_DASH if arms[name].is_silent else DASHES[arms[name].kind]


def _arm_traces(name: str, gathered: Losses, shared: set[Any], colour: str, dash: str) -> list[Trace]:
    traces = []
    for kind in CURVE_KINDS:
        seeds = gathered[kind].get(name, {})
        line = {"color": colour, "dash": dash if kind != "loss" else "solid"}
        if len(seeds) > 1:
            traces.append(_trace(name, kind, "mean", mean_of_seeds(seeds, shared), line))
        for seed, points in seeds.items():
            trace = _trace(name, kind, seed, points, line)
            if len(seeds) > 1:
                thin = {"mode": "lines", "opacity": SEED_OPACITY[kind], "line": {**line, "width": 1.0}}
                trace |= {**thin, "hoverinfo": "skip", "hovertemplate": None}
            traces.append(trace)
    return traces


def _trace(name: str, kind: str, which: Any, points: Curve, line: dict[str, str]) -> Trace:
    panel, width, opacity, words, mode = CURVE_KINDS[kind]
    of_seeds = say(", mean over the seeds") if which == "mean" else ""
    value = f"%{{y:.3f}} ({say(words)}{of_seeds})"
    style = {"mode": mode, "opacity": opacity, "line": line, "marker": {"color": line["color"], "size": 5}}
    more = in_panel(panel) | (NOISY if kind == "loss" else {}) | style
    uid, label = f"{name}/{kind}/{which}", arm_words(name)
    return line_trace(uid, label, *points, line["color"], value, width=width, legendgroup=name, **more)


def mean_of_seeds(seeds: Mapping[Any, Curve], shared: set[Any]) -> Curve:
    """Average curves over those shared seeds that have reached the latest step of any of them.

    Args:
        seeds: Steps and values by seed.
        shared: The shared seeds; if none of them has a curve, all seeds are used.

    Returns:
        The steps at which all averaged curves have a value, and the means.
    """
    seeds = {seed: points for seed, points in seeds.items() if seed in shared} or seeds
    last = max(steps[-1] for steps, _ in seeds.values())
    through = [points for points in seeds.values() if points[0][-1] == last]
    by_step: dict[int, list[float]] = {}
    for steps, values in through:
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(step, []).append(value)
    common = sorted(step for step, values in by_step.items() if len(values) == len(through))
    return common, [sum(by_step[step]) / len(through) for step in common]


def _layout(last_step: int) -> dict[str, Any]:
    steps = {"rangemode": "tozero", "showgrid": False, **({"range": [0, AXIS_MARGIN * last_step]} if last_step else {})}
    return {
        "height": 420,
        "margin": {"t": 72},
        "hovermode": "x unified",
        "xaxis": axis(later("step"), later("optimizer steps"), domain=[0, 0.475], **steps),
        "xaxis2": axis(later("step"), later("optimizer steps"), domain=[0.525, 1], **steps, anchor="y2", matches="x"),
        "yaxis": axis(later("loss"), later("nats per response token")),
        "yaxis2": axis("", anchor="x2"),  # a separate scale, since held-out losses differ by hundredths
        "legend": {"y": 1.1},
        "annotations": [
            heading(say("Training loss (thin: single batches, noise on)"), "x domain", "y domain"),
            heading(say("Held-out loss (noise off)"), "x2 domain", "y2 domain"),
        ],
    }


def _training_panel_only(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layout with the training panel over the full width."""
    kept = {name: part for name, part in layout.items() if name not in ("xaxis2", "yaxis2")}
    return merge_mappings(kept, {"xaxis": {"domain": [0, 1]}, "annotations": layout["annotations"][:1]})


def _narrow() -> dict[str, Any]:
    """Return the layout changes that stack the panels."""
    return {
        "height": 600,
        "margin": {"l": 48, "r": 8, "t": 104},
        "xaxis": {"domain": [0, 1], "title": {"text": ""}},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [0.57, 1], "title": {"text": say("loss (nats per token)")}},
        "yaxis2": {"domain": [0, 0.43], "title": {"text": say("loss (nats per token)")}},
        "legend": {"y": 1.07},
    }


def _summary(gathered: Losses, shared: set[Any], names: list[str], lost: Mapping[str, set[Any]]) -> str:
    """Describe the last measured losses of every arm; diverged arms have none."""
    parts = []
    for name in names:
        started = {seed for part in gathered.values() for seed in part.get(name, ())}
        if started and started <= lost.get(name, set()):
            parts.append(say("{arm} diverged", arm=arm_words(name)))
            continue
        numbers = [
            f"{words} {mean_of_seeds(gathered[kind][name], shared)[1][-1]:.3f}"
            for kind, words in zip(MEASURED, (say("training"), say("held-out")), strict=True)
            if name in gathered[kind]
        ]
        if numbers:
            parts.append(f"{arm_words(name)} {say(', ').join(numbers)}")
    if not parts:
        return say("No loss has been measured yet.")
    steps = [step for found, _ in _measured(gathered) for step in found]
    means = say(", means over {count} seeds", count=len(shared)) if len(shared) > 1 else ""
    return say(
        "Losses with noise off, the latest up to step {step:,}{means}: {losses}.",
        step=max(steps),
        means=means,
        losses=say("; ").join(parts),
    )
