"""The loss of the base model by noise strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neftune_core.figures.base import Figure, Trace, axis, figure, line_trace
from neftune_core.figures.colours import SINGLE_NOISE, token
from neftune_core.figures.noise_views import HEIGHT, MARGIN, NARROW
from neftune_core.language import later, say
from neftune_core.noise.names import unit_words

if TYPE_CHECKING:
    from neftune_core.evaluation.sensitivity import Sensitivity


def loss_by_strength(found: Sensitivity, sample: str) -> Figure:
    """Plot the response loss by noise strength: the mean over the finished rows, and a faint line per row behind it.

    The loss without noise is a horizontal line. The figure has two further entries, the `kind` and `unit` of the noise.

    Args:
        found: The measurement so far.
        sample: Description of the rows, such as "held-out rows".

    Returns:
        The figure.
    """
    noise = found.noise
    strengths, means = list(found.strengths[1:]), found.means
    measured = enumerate(zip(found.losses, found.tokens, strict=True), start=1)
    rows = [
        _row(number, strengths, [loss / tokens for loss in losses[1:]])
        for number, (losses, tokens) in measured
        if tokens
    ]
    for trace in rows[:-1]:  # one entry in the legend for all rows
        trace["showlegend"] = False
    dashed = {"mode": "lines", "line": {"dash": "dash"}}
    level = _line(say("without noise"), [strengths[0], strengths[-1]], [means[0]] * 2, token("control"), **dashed)
    mean = _line(say("mean"), strengths, means[1:], SINGLE_NOISE)
    drawn = [*rows, level, mean] if found.losses else []
    ticks = {"tickvals": strengths, "ticktext": [f"{one:g}" for one in strengths], "zeroline": False}
    layout = {
        "height": HEIGHT,
        "margin": {**MARGIN, "b": 56},
        "hovermode": "x",
        "xaxis": axis(
            say("strength of {kind} noise", kind=say(noise.kind)), noise.unit, type="log", automargin=False, **ticks
        ),
        "yaxis": axis(later("response loss"), later("nats per token"), automargin=False),
    }
    made = figure("noise-loss", drawn, layout, _summary(found, sample), narrow=NARROW)
    return {**made, "kind": noise.kind, "unit": noise.unit}


def _row(number: int, strengths: list[float], losses: list[float]) -> Trace:
    """Return the faint line of one row."""
    faint = {"mode": "lines", "opacity": 0.4, "line": {"width": 1}, "hoverinfo": "skip", "hovertemplate": None}
    name = say("individual rows")
    return _line(say("row {number}", number=number), strengths, losses, token("base"), name=name, **faint)


def _line(label: str, x: Sequence[float], y: Sequence[float], colour: str, **more: Any) -> Trace:
    hovertemplate = f"%{{y:.3f}}<extra>{label}</extra>"
    style: dict[str, Any] = {"mode": "lines+markers", "opacity": 1.0, "hovertemplate": hovertemplate, **more}
    return line_trace(label, label, x, [round(value, 5) for value in y], colour, "", **style)


def _summary(found: Sensitivity, sample: str) -> str:
    """Describe the loss without noise, its rise, and the strength at which the loss has risen by 10%."""
    if not found.losses:
        return say("Measuring the first of {count} {sample}.", count=found.planned, sample=sample)
    clean, *noisy = found.means
    noise = found.noise
    grown = next((s for s, loss in zip(found.strengths[1:], noisy, strict=True) if loss > 1.1 * clean), None)
    if grown:
        rise = say("The loss has risen by 10% at {unit} {strength:g}.", unit=unit_words(noise.unit), strength=grown)
    else:
        rise = say("The loss does not rise by 10% at any strength.")
    count = len(found.losses)
    words = later("{count} {sample}") if count == found.planned else later("{count} of {planned} {sample} so far")
    done = say(words, count=count, planned=found.planned, sample=sample)
    return say(
        "The base model before training, on {done} ({tokens:,} response tokens): {clean:.3f} nats per token without "
        "noise, {noisy:.3f} with {kind} noise at {unit} {strength:g}. {rise}",
        done=done,
        tokens=sum(found.tokens),
        clean=clean,
        noisy=noisy[-1],
        unit=unit_words(noise.unit),
        strength=found.strengths[-1],
        kind=say(noise.kind),
        rise=rise,
    )
