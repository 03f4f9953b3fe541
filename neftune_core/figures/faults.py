"""The effect of a fault in a common training script on the true and the reported held-out loss."""

from __future__ import annotations

from neftune_core.figures.base import Figure, Trace, axis, figure, line_trace
from neftune_core.figures.colours import token
from neftune_core.language import later, say
from neftune_core.lessons.faults import RunMeasurements


def fault_curves(right: RunMeasurements | None, wrong: RunMeasurements | None) -> Figure:
    """Plot the held-out loss without the fault, and the true and the reported loss with it, over the steps.

    The line without the fault is wide, so that it stays visible behind a line that coincides with it. If the reported
    loss equals the true one, it is not drawn.

    Args:
        right: The run without the fault; None if it has not started.
        wrong: The run with the fault; None if it has not started.

    Returns:
        The figure.
    """
    data = []
    if right is not None and right.evaluated_at:
        data.append(_line(say("without the fault"), right.evaluated_at, right.true, "control", "solid", width=5.0))
    if wrong is not None and wrong.evaluated_at:
        steps = wrong.evaluated_at
        data.append(_line(say("with the fault, true loss"), steps, wrong.true, "warm-3", "solid"))
        if wrong.reported != wrong.true:
            data.append(_line(say("with the fault, reported loss"), steps, wrong.reported, "warm-5", "dot"))
    total = max((run.total for run in (right, wrong) if run), default=1)
    layout = {
        "height": 320,
        "xaxis": axis(later("step"), later("optimizer steps"), range=[0, 1.02 * total], showgrid=False),
        "yaxis": axis(later("held-out loss"), later("nats per response token"), rangemode="tozero"),
        "hovermode": "x unified",
        "showlegend": True,
    }
    words = say("; ").join(
        say("{line} {loss:.3f} after {steps} steps", line=trace["name"], loss=trace["y"][-1], steps=trace["x"][-1])
        for trace in data
    )
    return figure("fault", data, layout, say("Held-out loss: {numbers}.", numbers=words) if data else "")


def _line(name: str, x: list[int], y: list[float], colour: str, dash: str, *, width: float = 2.4) -> Trace:
    style = {"mode": "lines+markers", "line": {"dash": dash}, "marker": {"color": token(colour), "size": 5}}
    return line_trace(name, name, x, y, token(colour), "%{y:.3f}", width=width, **style)
