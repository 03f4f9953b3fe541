"""Settings of a sweep, and its cells, each of which is a study with one seed.

Settings that differ only in noise are arms of the same cell, trained in lockstep with one control. Each combination of
training settings and seed is a separate cell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import DoesNotFit, InvalidSetting
from neftune_core.language import later, plural, say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Control, Limits, Settings, controls, flat, parse, setting
from neftune_core.studies.settings import EXAMPLE, StudySettings

S = TypeVar("S", bound=Settings)

Value = bool | int | float | str
Point = Mapping[str, Value]
"""One value per varied setting, by dotted name."""

NOISE, TRAINING, DATA = "noise.", "training.", "data."
TIME_BUDGET = "training.time_budget_seconds"
MOST_SETTINGS = 10_000
MOST_VALUES = 1_000
NOTHING_VARIED = later(
    "a sweep needs at least one setting to vary (axes) or one combination (points), such as noise.strength = 0, 1, 2, 5"
)
SEVERAL_NOISE_ARMS = later(
    "a sweep that varies the noise starts from a single noise arm: leave only one noise arm in its study"
)


@cache
def axes() -> dict[str, Control]:
    """Return the settings that a sweep can vary, by dotted name: noise, training, and number of rows.

    The time budget is excluded, because the number of steps that fit into it depends on the load of the machine.
    """
    found = {NOISE + one.name: one for one in controls(NoiseSettings)}
    found |= {TRAINING + one.name: one for one in controls(TrainingSettings)}
    found |= {DATA + one.name: one for one in controls(DataSettings) if one.name == "rows"}
    del found[TIME_BUDGET]
    return found


class SweepSettings(Settings):
    """A study and the settings to vary: the grid of all `axes`, and each of `points`."""

    title: str = setting("", max_length=200)
    """A name for the sweep."""
    most_arms: int = setting(16, minimum=2, maximum=64, step=1, unit="arms", label="Arms at once")
    """Maximum number of arms trained in lockstep, including the control. Further noise settings go to another study
    with its own control; fewer arms need less memory."""
    keep_adapters: bool = setting(True)
    """Keep every trained adapter. Without them, the measures are kept, but no arm can generate answers later."""
    axes: dict[str, tuple[Value, ...]] = Field(default={})
    """The grid: every combination of these values is trained. Names are those of a study, such as noise.strength,
    noise.kind, training.learning_rate and data.rows; strength 0 is the control, which is always trained."""
    points: tuple[dict[str, Value], ...] = ()
    """Single combinations to train, in addition to the grid or instead of it."""
    study: StudySettings = Field(default_factory=StudySettings)
    """The study to vary; its only noise arm is the starting point, and the sweep uses its seeds."""

    @field_validator("axes", "points", mode="before")
    @classmethod
    def _flatten(cls, given: Any) -> Any:
        """Flatten nested TOML tables, as parsed from `noise.strength = [0, 5]`."""
        if isinstance(given, list | tuple):
            return tuple(flat(point) if isinstance(point, Mapping) else point for point in given)
        return flat(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _has_a_verdict(self) -> Self:
        if self.study.live:
            raise ValueError(say("a live study has no verdict, so it cannot be part of a sweep: set live to false"))
        return self

    @model_validator(mode="after")
    def _is_a_sweep(self) -> Self:
        if not self.axes and not self.points:
            raise ValueError(say(NOTHING_VARIED))
        names = [*itertools.chain(self.axes, *self.points)]
        for name in names:
            if name == TIME_BUDGET:
                raise ValueError(say("a sweep cannot vary the time budget: vary training.epochs or training.steps"))
            if name not in axes():
                raise ValueError(say("a sweep cannot vary {name!r}, only noise.*, training.* and data.rows", name=name))
        for name, values in self.axes.items():
            if not values:
                raise ValueError(say("the axis {name} has no values: give some, or remove it", name=name))
            if len(values) > MOST_VALUES:
                words = later("the axis {name} has {count:,} values: give at most {most:,}")
                raise ValueError(say(words, name=name, count=len(values), most=MOST_VALUES))
        if self.study.training.time_budget_seconds:
            words = later("a sweep compares studies of a known length: set epochs or steps instead of a time budget")
            raise ValueError(say(words))
        if any(name.startswith(NOISE) for name in names) and len(self.study.noise) != 1:
            raise ValueError(say(SEVERAL_NOISE_ARMS))
        return self

    @property
    def seeds(self) -> range:
        """Seeds of the sweep."""
        return range(self.study.seed, self.study.seed + self.study.seeds)

    def check(self, limits: Limits) -> None:
        """Check the settings against the limits of this server.

        Raises:
            DoesNotFit: If a limit is exceeded.
            InvalidSetting: If a combination is not valid.
        """
        found = cells(self)
        if len(found) > limits.sweep_studies:
            words = later(
                "This sweep needs {count:,} studies, but this server allows at most {most:,}: vary fewer training "
                "settings, or use fewer seeds."
            )
            raise DoesNotFit(say(words, count=len(found), most=limits.sweep_studies))
        for cell in found[: len(found) // len(self.seeds)]:
            cell.study.check(limits)


@dataclass(frozen=True)
class Cell:
    """One study of a sweep, with one seed.

    Attributes:
        name: Name, such as `001-seed-1`.
        varied: Varied training and data settings by dotted name, without noise settings.
        study: The settings of the study.
    """

    name: str
    varied: Point
    study: StudySettings


def points(sweep: SweepSettings) -> list[dict[str, Value]]:
    """Return all combinations, the grid first.

    Raises:
        DoesNotFit: If there are too many.
    """
    count = math.prod(len(values) for values in sweep.axes.values()) + len(sweep.points)
    if count > MOST_SETTINGS:
        words = later("The sweep has {count:,} combinations, but at most {most:,} are allowed.")
        raise DoesNotFit(say(words, count=count, most=MOST_SETTINGS))
    grid = itertools.product(*sweep.axes.values()) if sweep.axes else ()
    return [*(dict(zip(sweep.axes, values, strict=True)) for values in grid), *map(dict, sweep.points)]


def cells(sweep: SweepSettings) -> list[Cell]:
    """Return the cells in running order, all of one seed before the next; the order depends only on the settings.

    Raises:
        InvalidSetting: If a combination is not valid, or no strength is above 0.
        DoesNotFit: If there are too many.
    """
    groups: dict[tuple[tuple[str, Value], ...], list[NoiseSettings]] = {}
    for point in points(sweep):
        varied = tuple((name, value) for name, value in point.items() if not name.startswith(NOISE))
        groups.setdefault(varied, []).extend(_noises(sweep.study, point))
    bases = [
        (dict(varied), _study(sweep.study, dict(varied), arms))
        for varied, noises in groups.items()
        for arms in _parts(noises, sweep.study, sweep.most_arms)
    ]
    return [
        Cell(f"{place:03d}-seed-{seed}", varied, study.model_copy(update={"seed": seed}))
        for seed in sweep.seeds
        for place, (varied, study) in enumerate(bases, start=1)
    ]


def _noises(study: StudySettings, point: Point) -> list[NoiseSettings]:
    """Return the noise arms of one combination; none for strength 0, which is the control."""
    changes = {name.removeprefix(NOISE): value for name, value in point.items() if name.startswith(NOISE)}
    if not changes:
        return list(study.noise)
    noise = _with_changes(study.noise[0], changes, point)
    return [] if noise.is_silent else [noise]


def _parts(noises: Sequence[NoiseSettings], study: StudySettings, most_arms: int) -> list[tuple[NoiseSettings, ...]]:
    """Group distinct noise arms so that each group fits into one study with the control and the other methods.

    Raises:
        InvalidSetting: If no strength is above 0.
    """
    distinct = list({noise.name: noise for noise in noises}.values())
    room = max(1, most_arms - (len(study.arms) - len(study.noise)))
    if not distinct:
        if study.methods:
            return [()]
        words = say("The only strength of this sweep is 0, which is the control: add at least one above 0.")
        raise InvalidSetting(words)
    groups = math.ceil(len(distinct) / room)
    size = math.ceil(len(distinct) / groups)
    return [tuple(distinct[start : start + size]) for start in range(0, len(distinct), size)]


def _study(base: StudySettings, varied: Point, noise: tuple[NoiseSettings, ...]) -> StudySettings:
    changed: dict[str, Any] = {}
    for part, prefix in (("training", TRAINING), ("data", DATA)):
        values = {name.removeprefix(prefix): value for name, value in varied.items() if name.startswith(prefix)}
        changed[part] = _with_changes(getattr(base, part), values, varied)
    return parse(StudySettings, {**dict(base), **changed, "noise": noise, "seeds": 1})


def _with_changes(base: S, changes: Mapping[str, Any], point: Point) -> S:
    """Return `base` with `changes`.

    Raises:
        InvalidSetting: If a value is not valid; the message names the whole combination.
    """
    if not changes:
        return base
    try:
        return parse(type(base), {**base.model_dump(), **changes})
    except InvalidSetting as error:
        combination, reason = ", ".join(f"{name} {value}" for name, value in point.items()), str(error)
        reason = reason[:1].lower() + reason[1:]
        words = later("The combination {combination} is invalid: {reason}")
        raise InvalidSetting(say(words, combination=combination, reason=reason)) from None


def size_text(sweep: SweepSettings) -> str:
    """Describe the size of a sweep, without a full stop.

    Raises:
        InvalidSetting: If a combination is not valid.
        DoesNotFit: If there are too many.
    """
    seeds, studies = len(sweep.seeds), [cell.study for cell in cells(sweep)]
    counts = [len(study.arms) for study in studies[: len(studies) // seeds]]
    words = later(
        "{settings:,} arms (controls included), {seeds}: {trainings:,} training runs, in {studies} with {arms} "
        "trained together"
    )
    exact, most = plural(max(counts), "{count} arm", "{count} arms"), later("up to {count} arms")
    parts = {
        "seeds": say(plural(seeds, "1 seed", "{count} seeds"), count=seeds),
        "studies": say(plural(len(studies), "1 study", "{count:,} studies"), count=len(studies)),
        "arms": say(exact if len(set(counts)) == 1 else most, count=max(counts)),
    }
    return say(words, settings=sum(counts), trainings=sum(counts) * seeds, **parts)


EXAMPLE_SWEEP = SweepSettings(
    title="An example: four strengths on the bundled model, three seeds",
    keep_adapters=False,
    axes={"noise.strength": (0, 2, 5, 12)},
    study=EXAMPLE.model_copy(update={"title": "", "seed": 1, "seeds": 3}),
)
"""Printed by `neftune sweep --example`; takes about a minute on two cores."""
