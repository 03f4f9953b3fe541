"""The studies of a class in one figure: losses by strength, and each study's differences from its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neftune_core.figures.base import Figure, Trace, axis, figure, heading, hover, line_trace
from neftune_core.figures.colours import CONTROL, arm_colours, token
from neftune_core.language import later, plural, say
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings

HEIGHT = 340
SPREAD = 0.22
"""Maximum horizontal offset of a point; neighbouring arms are 1 apart."""


@dataclass(frozen=True)
class ClassStudy:
    """One study of a class.

    Attributes:
        student: Number of the student.
        arms: Noise settings of the arms by name, control first.
        curves: Steps and held-out losses by arm, in nats per response token, as means over the seeds.
        differences: Final held-out loss of each arm minus that of the control; empty until the study has finished.
    """

    student: int
    arms: Mapping[str, NoiseSettings]
    curves: Mapping[str, tuple[list[int], list[float]]]
    differences: Mapping[str, float]


def class_curves(studies: Sequence[ClassStudy]) -> Figure:
    """Plot the held-out losses of all arms of all studies, coloured by strength."""
    arms = _all_arms(studies)
    colours = arm_colours(arms)
    data: list[Trace] = []
    for name in arms:
        drawn = [(study.student, study.curves[name]) for study in studies if name in study.curves]
        for index, (student, points) in enumerate(drawn):
            number = len(drawn) - index  # the newest study comes first, and the others keep their ids
            data.append(_curve(f"{name}/{number}", student, points, colours[name], first=index == 0))
    count = sum(bool(study.curves) for study in studies)
    layout = {
        "height": HEIGHT,
        "xaxis": axis(later("step"), later("optimizer steps"), rangemode="tozero", showgrid=False),
        "yaxis": axis(later("held-out loss, noise off"), later("nats per response token")),
    }
    words = plural(count, "Held-out losses of 1 study.", "Held-out losses of {count} studies, coloured by strength.")
    return figure("class-curves", data, layout, say(words, count=count))


def _curve(uid: str, student: int, points: tuple[list[int], list[float]], colour: str, *, first: bool) -> Trace:
    name = uid.rpartition("/")[0]
    label = say(", ").join([say("student {number}", number=student), arm_words(name)])
    style: dict[str, Any] = {"legendgroup": name, "showlegend": first, "opacity": 0.6}
    return line_trace(uid, label, *points, colour, "%{y:.3f}", width=1.8, name=arm_words(name), **style)


def class_differences(studies: Sequence[ClassStudy]) -> Figure:
    """Plot the final differences from the control, with one point per study and arm, and the mean of each arm."""
    arms = {name: noise for name, noise in _all_arms(studies).items() if name != CONTROL}
    colours = arm_colours(arms)
    every = {
        name: [(one.student, one.differences[name]) for one in studies if name in one.differences] for name in arms
    }
    found = {name: differences for name, differences in every.items() if differences}
    data: list[Trace] = []
    for place, (name, differences) in enumerate(found.items()):
        data += _points(name, place, differences, colours[name])
    layout = {
        "height": HEIGHT,
        "showlegend": False,
        "annotations": [
            heading(say("Held-out loss, arm minus control: below 0, the arm is better"), "x domain", "y domain")
        ],
        "xaxis": axis(
            "",
            tickvals=[*range(len(found))],
            ticktext=[arm_words(name) for name in found],
            range=[-0.6, max(0.6, len(found) - 0.4)],
            showgrid=False,
            zeroline=False,
        ),
        "yaxis": axis(later("difference"), later("nats per response token"), zeroline=True, zerolinewidth=2),
    }
    return figure("class-differences", data, layout, _summary(found))


def _points(name: str, place: int, found: Sequence[tuple[int, float]], colour: str) -> list[Trace]:
    values = [value for _, value in found]
    points = {
        "type": "scatter",
        "mode": "markers",
        "uid": f"{name}/points",
        "name": arm_words(name),
        "x": [place + SPREAD * _jitter(number) for number in range(len(found))],
        "y": values,
        "marker": {"color": colour, "size": 9, "opacity": 0.6},
        "text": [say("student {number}", number=student) for student, _ in found],
        "hovertemplate": hover(f"%{{text}}{say(', ')}{arm_words(name)}", "%{y:+.3f}"),
    }
    ends, mean = [place - 1.4 * SPREAD, place + 1.4 * SPREAD], float(np.mean(values))
    return [points, line_trace(f"{name}/mean", say("mean"), ends, [mean] * 2, token("text"), "%{y:+.3f}", width=2.5)]


def _jitter(number: int) -> float:
    """Return a fixed offset from -1 to 1 for each point, so that successive points are spread evenly."""
    return 2 * ((number * 0.618034) % 1) - 1 if number else 0.0


def _summary(found: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    if not found:
        return say("No study of the class has finished yet.")
    parts = [
        say(
            plural(len(points), "{arm} {mean:+.3f} in 1 study", "{arm} {mean:+.3f} on average in {count} studies"),
            arm=arm_words(name),
            mean=float(np.mean([value for _, value in points])),
            count=len(points),
        )
        for name, points in found.items()
    ]
    return say("Difference of the held-out loss from the control: {numbers}.", numbers=say("; ").join(parts))


def _all_arms(studies: Sequence[ClassStudy]) -> dict[str, NoiseSettings]:
    """Return all arms of the class: the control first, then by unit and strength."""
    every: dict[str, Any] = {name: noise for study in studies for name, noise in study.arms.items()}
    return dict(sorted(every.items(), key=lambda item: (item[0] != CONTROL, item[1].unit, item[1].strength, item[0])))
