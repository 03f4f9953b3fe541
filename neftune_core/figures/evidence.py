"""The evidence behind a verdict: differences by seed, best and last epoch, memorised answers and robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Outcomes
from neftune_core.evaluation.paired_comparison import Comparison
from neftune_core.evaluation.verdict import Verdict
from neftune_core.figures.base import Figure, Trace, axis, figure, hover, in_panel, interval_text, line_trace
from neftune_core.figures.colours import arm_colours, token
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings

BINS = 10
Arms = Mapping[str, NoiseSettings]
EPOCH_NAMES = {"last": later("last epoch"), "best": later("best epoch")}
DISTURBANCES = {
    "noise": (later("Embedding noise"), later("of the embeddings' root mean square")),
    "typos": (later("Typing errors"), later("share of letters")),
}


def seed_differences(found: Verdict, arms: Arms) -> Figure:
    """Plot arm minus control at the last and the best epoch: one point per seed, and the mean with its interval.

    Args:
        found: The verdict.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    colours, measure = arm_colours(arms), say(MEASURES[found.question.measure].label)
    data: list[Trace] = []
    parts = []
    for name, arm in found.arms.items():
        for epoch, symbol in (("last", "circle"), ("best", "diamond-open")):
            comparison = arm.epochs[epoch]
            if comparison.seeds and arm.status != "void":  # the difference of such an arm is meaningless
                data += _differences(name, epoch, symbol, comparison, colours.get(name, token("control")))
                label = say(", ").join([arm_words(name), say(EPOCH_NAMES[epoch])])
                parts.append(f"{label}{say(': ')}{comparison.difference:+.2g}{interval_text(comparison.interval)}")
    layout = {
        "height": 120 + 76 * max(1, len(found.arms)),
        "xaxis": axis(say("{measure}: arm minus control", measure=measure), zeroline=True, zerolinewidth=2),
        "yaxis": axis("", autorange="reversed", type="category", showgrid=False),
        "margin": {"l": 150},
    }
    asked = say("tested: the {epoch}", epoch=say(EPOCH_NAMES[found.question.epoch]))
    narrow = {"margin": {"l": 110, "r": 8}}
    lead = say("Each dot is one seed, the large mark is the mean with its interval, and zero is no difference.")
    numbers = f"{say('; ').join(parts) or say('Nothing yet')} ({asked})."
    return figure("differences", data, layout, f"{lead} {numbers}", narrow=narrow)


def _differences(name: str, epoch: str, symbol: str, comparison: Comparison, colour: str) -> list[Trace]:
    row = f"{arm_words(name)}<br>{say(EPOCH_NAMES[epoch])}"
    shared = {"type": "scatter", "mode": "markers", "showlegend": False}
    seeds = {
        **shared,
        "uid": f"{name}/{epoch}/seeds",
        "x": list(comparison.differences),
        "y": [row] * len(comparison.differences),
        "marker": {"color": colour, "size": 7, "opacity": 0.45},
        "text": [say("seed {seed}", seed=seed) for seed in comparison.seeds],
        "hovertemplate": hover("%{text}", "%{x:+.3g}"),
    }
    mean = {
        **shared,
        "uid": f"{name}/{epoch}/mean",
        "x": [comparison.difference],
        "y": [row],
        "marker": {"color": colour, "size": 12, "symbol": symbol, "line": {"width": 2, "color": colour}},
        "hovertemplate": hover(say("mean"), "%{x:+.3g}"),
    }
    if comparison.interval is not None:
        half = comparison.interval.high - comparison.interval.estimate
        mean["error_x"] = {"type": "data", "array": [half], "color": colour, "thickness": 2}
    return [seeds, mean]


def epochs_beside(outcomes: Outcomes, control: str, arms: Arms) -> Figure:
    """Plot the held-out loss at the best and the last epoch, as means over the shared seeds.

    Args:
        outcomes: Outcomes of the study.
        control: Name of the control.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    colours = arm_colours(arms)
    runs = {control: outcomes.control, **outcomes.arms}
    epochs = [say("best epoch"), say("last epoch")]
    data: list[Trace] = []
    parts = []
    known = [{seed for seed, one in seeds.items() if one.last} for seeds in runs.values()]
    shared = set.intersection(*(seeds for seeds in known if seeds)) if any(known) else set()
    for name, seeds in runs.items():
        chosen = [one for seed, one in seeds.items() if seed in shared]
        values = [_mean([one.value("held_out_loss", epoch) for one in chosen]) for epoch in ("best", "last")]
        if np.isfinite(values).all():
            label, colour = arm_words(name), colours.get(name, token("control"))
            style: dict[str, Any] = {"mode": "lines+markers", "marker": {"size": 9}}
            data.append(line_trace(f"{name}/epochs", label, epochs, values, colour, "%{y:.4g} (%{x})", **style))
            best, last = values
            words = later("{arm} {best:.4g} at the best epoch, {last:.4g} at the last")
            parts.append(say(words, arm=label, best=best, last=last))
    layout = {
        "xaxis": axis("", type="category", range=[-0.3, 1.3], showgrid=False),
        "yaxis": axis(later("held-out loss"), later("nats per response token")),
    }
    lead = say("If the loss is lower at the best epoch than at the last, the arm was overfitting by the end.")
    return figure("epochs", data, layout, f"{lead} {_losses_text(parts)}")


def _losses_text(parts: Sequence[str]) -> str:
    return say("Held-out loss: {numbers}.", numbers=say("; ").join(parts) or say("not measured"))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def overlap_histogram(overlaps: Mapping[str, Sequence[float]], arms: Arms) -> Figure:
    """Plot a histogram per arm of the overlap (ROUGE-L) of answers to training prompts with the training responses.

    Args:
        overlaps: ROUGE-L of every answer, from 0 to 1, by arm.
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    colours = arm_colours(arms)
    edges = np.linspace(0, 1, BINS + 1)
    data: list[Trace] = []
    parts = []
    for name, values in overlaps.items():
        label = arm_words(name)
        counts, _ = np.histogram(np.asarray(values, dtype=np.float64), edges)
        shares = (counts / max(1, len(values))).tolist()
        data.append(
            {
                "type": "bar",
                "uid": f"{name}/overlap",
                "name": label,
                "x": ((edges[1:] + edges[:-1]) / 2).round(2).tolist(),
                "y": shares,
                "marker": {"color": colours.get(name, token("base"))},
                "hovertemplate": hover(label, say("%{y:.0%} of answers at %{x:.2f}")),
            }
        )
        parts.append(f"{label} {float(np.mean(values)):.2f}" if len(values) else say("{arm} none", arm=label))
    layout = {
        "barmode": "group",
        "bargap": 0.15,
        "xaxis": axis(later("ROUGE-L with the training response"), later("0 to 1"), range=[0, 1]),
        "yaxis": axis(later("share of answers to training prompts"), tickformat=".0%", rangemode="tozero"),
    }
    summary = say("Mean overlap with the training responses: {numbers}.", numbers=say("; ").join(parts))
    lead = say("The further to the right, the more of a training response an answer repeats (1: word for word).")
    return figure("overlap", data, layout, f"{lead} {summary}")


def robustness_curves(measured: Sequence[Mapping[str, Any]], arms: Arms) -> Figure:
    """Plot the held-out loss under increasing embedding noise and increasing rates of typing errors.

    Args:
        measured: The stored robustness of each seed (`SeedMeasures.robustness`).
        arms: Noise settings of the arms by name.

    Returns:
        The figure.
    """
    colours = arm_colours(arms)
    data: list[Trace] = []
    parts = []
    for panel, kind in enumerate(DISTURBANCES, start=1):
        for name in arms:
            amounts, losses = _curve(measured, kind, name)
            if not losses:
                continue
            label, value = arm_words(name), say("%{y:.3f} at %{x}")
            style: dict[str, Any] = {"mode": "lines+markers", "legendgroup": name, "showlegend": panel == 1}
            style |= in_panel(panel)
            data.append(line_trace(f"{name}/{kind}", label, amounts, losses, colours[name], value, **style))
            words = later("{arm} under {disturbance}: {first:.3g} at the smallest amount, {last:.3g} at the largest")
            disturbance = say(DISTURBANCES[kind][0]).lower()
            parts.append(say(words, arm=label, disturbance=disturbance, first=losses[0], last=losses[-1]))
    lead = say("The flatter the curve, the less the disturbance harms the arm.")
    return figure("robustness", data, _two_panels(), f"{lead} {_losses_text(parts)}", narrow=_under())


def _curve(measured: Sequence[Mapping[str, Any]], kind: str, arm: str) -> tuple[list[float], list[float]]:
    """Return the amounts of a disturbance, and the mean losses over the seeds measured at these amounts."""
    found = [entry[kind] for entry in measured if kind in entry and arm in entry[kind].get("arms", {})]
    if not found:
        return [], []
    amounts = found[0]["amounts"]
    losses = [entry["arms"][arm]["loss"] for entry in found if entry["amounts"] == amounts]
    return list(amounts), np.mean(np.asarray(losses, dtype=np.float64), axis=0).tolist()


def _two_panels() -> dict[str, Any]:
    (noise, noise_unit), (typos, typos_unit) = DISTURBANCES.values()
    return {
        "xaxis": axis(say(noise).lower(), noise_unit, domain=[0, 0.46], **SHARE_AXIS),
        "xaxis2": axis(say(typos).lower(), typos_unit, domain=[0.54, 1], anchor="y2", **SHARE_AXIS),
        "yaxis": axis(later("held-out loss"), later("nats per response token")),
        "yaxis2": axis("", anchor="x2"),
    }


SHARE_AXIS: dict[str, Any] = {"rangemode": "tozero", "tickformat": ".0%"}


def _under() -> dict[str, Any]:
    """Return the layout changes that stack the two panels on a narrow screen, with titles that fit there."""
    noise, typos = (say(words).lower() for words, _ in DISTURBANCES.values())
    loss = {"title": {"text": say("held-out loss")}}
    return {
        "height": 620,
        "margin": {"l": 48, "r": 8},
        "xaxis": {"domain": [0, 1], "title": {"text": noise}},
        "xaxis2": {"domain": [0, 1], "title": {"text": typos}},
        "yaxis": {"domain": [0.58, 1], **loss},
        "yaxis2": {"domain": [0, 0.42], **loss},
    }
