"""Compute the results of a sweep so far: measures of every setting by seed, and effects relative to the control."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neftune_core.durable import write_whole
from neftune_core.errors import RecordError
from neftune_core.evaluation.measures import EVERY_EPOCH, MEASURES
from neftune_core.evaluation.outcomes import (
    EPOCHS,
    NOT_MEASURED,
    Outcome,
    Outcomes,
    Question,
    Rounding,
    Seeds,
    combine_cells,
    merge_seeds,
)
from neftune_core.evaluation.paired_comparison import Comparison, compare_arms
from neftune_core.evaluation.validity import obstacles
from neftune_core.evaluation.verdict import Verdict, verdict
from neftune_core.language import ENGLISH, in_language, later, say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.judging import outcomes_of, question_of, verdict_of
from neftune_core.studies.records.log import csv_text
from neftune_core.studies.records.record import Record
from neftune_core.studies.results import mean_results
from neftune_core.studies.settings import CONTROL
from neftune_core.sweeps.record import Sweep, describe_training
from neftune_core.sweeps.settings import Cell, Point, SweepSettings, cells


@dataclass(frozen=True)
class TableRow:
    """One setting of a sweep.

    Attributes:
        varied: Varied training and data settings, by dotted name.
        effects: Comparison with the control by measure and epoch; empty for controls, the base, and arms that cannot be
            judged.
    """

    varied: Point
    arm: str
    noise: NoiseSettings
    seeds: Seeds
    effects: Mapping[str, Mapping[str, Comparison]]
    rounding: Rounding = NOT_MEASURED

    @property
    def cell(self) -> str:
        """Description of the varied training and data settings; "" if only the noise varies."""
        return describe_training(self.varied)

    @property
    def is_control(self) -> bool:
        """Whether the arm is a control."""
        return self.arm == CONTROL.name

    def mean(self, measure: str, epoch: str) -> float:
        """Return the mean over the seeds that have a value; NaN if none has.

        Args:
            measure: Name of the measure.
            epoch: "last" or "best".

        Returns:
            The mean.
        """
        values = [outcome.value(measure, epoch) for outcome in self.seeds.values()]
        known = [value for value in values if np.isfinite(value)]
        return float(np.mean(known)) if known else float("nan")

    def is_significant(self, measure: str, epoch: str) -> bool:
        """Return whether an effect is significant: its interval excludes zero, and it is not smaller than rounding.

        Args:
            measure: Name of the measure.
            epoch: "last" or "best".

        Returns:
            Whether the effect is significant; False if it was not computed.
        """
        found = self.effects.get(measure, {}).get(epoch)
        if found is None or found.interval is None or not found.interval.excludes_zero:
            return False
        return abs(found.difference) >= (self.rounding.of(measure) or 0.0)

    @property
    def counted(self) -> int:
        """Number of seeds that have results."""
        return sum(bool(outcome.last) for outcome in self.seeds.values())

    def has(self, measure: str) -> bool:
        """Return whether any seed has a value for a measure."""
        return any(np.isfinite(self.mean(measure, epoch)) for epoch in EPOCHS)


@dataclass(frozen=True)
class SweepTable:
    """Results of a sweep.

    Attributes:
        rows: The settings in the order of the sweep, including controls.
        verdict: The verdict; None without results.
    """

    question: Question
    rows: tuple[TableRow, ...]
    verdict: Verdict | None
    studies: int
    done: int
    base: TableRow | None = None
    rounding: Rounding = NOT_MEASURED

    @property
    def shown(self) -> tuple[TableRow, ...]:
        """Rows for display, the base first."""
        return (self.base, *self.rows) if self.base else self.rows

    @property
    def measures(self) -> list[str]:
        """Measures with any value, the question's first."""
        known = [name for name in MEASURES if any(row.has(name) for row in self.rows)]
        return sorted(known, key=lambda name: name != self.question.measure)


def sweep_table(sweep: Sweep, question: Question | None = None) -> SweepTable:
    """Compute the table of a sweep.

    Effects are paired by seed, with Holm's correction over all arms of the sweep. Unreadable cells are ignored.

    Args:
        sweep: Record of the sweep.
        question: Question to judge, which counts as chosen after the run; None for the sweep's own.

    Returns:
        The table.

    Raises:
        LabError: If the settings of the sweep are not valid, or its results cannot be compared.
    """
    settings = sweep.settings
    every = cells(settings)
    asked = question or _question(sweep, every)
    done = sum(state.get("state") == "finished" for state in sweep.cell_endings().values())
    groups = _outcomes_by_cell(sweep, every, asked)
    if not groups:
        return SweepTable(asked, (), None, len(every), done)
    outcomes = combine_cells({name: found for name, (_, found) in groups.items()})
    effects = {
        measure: {epoch: _compare_arms(outcomes, Question(measure, epoch)) for epoch in EPOCHS}
        for measure in _measures_with_values(outcomes)
    }
    rows = tuple(row for name, (cell, found) in groups.items() for row in _rows(name, cell, found, effects))
    judged = verdict(_with_readable_names(outcomes, groups), asked)
    return SweepTable(asked, rows, judged, len(every), done, _base(outcomes.control), outcomes.rounding)


def _compare_arms(outcomes: Outcomes, question: Question) -> dict[str, Comparison]:
    """Compare each arm with its control; leave out the arms that cannot be judged."""
    void = obstacles(outcomes, question)
    compared = compare_arms(outcomes, question.measure, question.epoch)
    return {name: found for name, found in compared.items() if name not in void}


def _base(control: Seeds) -> TableRow | None:
    """Return the untrained model, which is the same for all seeds, as a row."""
    measured = next((outcome.base for outcome in control.values() if outcome.base), None)
    return TableRow({}, "base", CONTROL, {0: Outcome(measured, measured)}, {}) if measured else None


Groups = Mapping[str, tuple[Cell, Outcomes]]
"""The first cell of each cell number, and the outcomes of all its seeds."""


def _outcomes_by_cell(sweep: Sweep, every: list[Cell], question: Question) -> Groups:
    parts: dict[str, tuple[Cell, list[Outcomes]]] = {}
    for cell in every:
        record = sweep.record_of(cell)
        try:
            found = outcomes_of(record, question) if record.settings_file.is_file() else None
        except RecordError:
            found = None
        if found is not None and found.control:
            parts.setdefault(cell.name.partition("-")[0], (cell, []))[1].append(found)
    return {name: (cell, merge_seeds(outcomes)) for name, (cell, outcomes) in parts.items()}


def _question(sweep: Sweep, every: list[Cell]) -> Question:
    """Return the question in the record of the first cell that has one, or else the question in the settings."""
    for cell in every:
        record = sweep.record_of(cell)
        if record.settings_file.is_file() and record.about_table("question"):
            return question_of(record)
    return question_of(sweep)


def _measures_with_values(outcomes: Outcomes) -> list[str]:
    every = [outcome for seeds in (outcomes.control, *outcomes.arms.values()) for outcome in seeds.values()]
    return [name for name in MEASURES if any(np.isfinite(one.value(name, epoch)) for one in every for epoch in EPOCHS)]


def _rows(
    name: str, cell: Cell, found: Outcomes, effects: Mapping[str, Mapping[str, Mapping[str, Comparison]]]
) -> list[TableRow]:
    rows = [TableRow(cell.varied, CONTROL.name, CONTROL, found.control, {})]
    for arm, seeds in found.arms.items():
        key = f"{name}: {arm}"
        own = {
            measure: {epoch: compared[key] for epoch, compared in by_epoch.items() if key in compared}
            for measure, by_epoch in effects.items()
        }
        rows.append(TableRow(cell.varied, arm, cell.study.arms[arm], seeds, own, found.rounding))
    return rows


def _with_readable_names(outcomes: Outcomes, groups: Groups) -> Outcomes:
    """Name arms by their training settings instead of the cell number."""
    names: dict[str, str] = {}
    for number, (cell, found) in groups.items():
        words = describe_training(cell.varied)
        for arm in found.arms:
            readable = f"{words}: {arm}" if words else arm
            names[f"{number}: {arm}"] = readable if readable not in names.values() else f"{number}: {arm}"

    def renamed(by_arm: Mapping[str, Any]) -> dict[str, Any]:
        return {names[name]: value for name, value in by_arm.items()}

    arms, controls, stopped = map(renamed, (outcomes.arms, outcomes.own_controls, outcomes.stopped))
    return replace(outcomes, arms=arms, own_controls=controls, stopped=stopped)


def table_values(table: SweepTable, settings: SweepSettings) -> dict[str, Any]:
    """Convert the table to JSON values.

    Args:
        table: Results of the sweep.
        settings: The sweep.

    Returns:
        Title, question, numbers of all and of finished studies, measures of the base, effects of rounding, verdict, and
        each setting with its effects and the results of its seeds.
    """
    return {
        "title": settings.title,
        "question": {"measure": table.question.measure, "epoch": table.question.epoch},
        "studies": table.studies,
        "finished": table.done,
        "base": _finite(table.base.seeds[0].last, table.measures) if table.base else {},
        "rounding": {"precision": table.rounding.precision, **_finite(table.rounding.sizes, table.measures)},
        "settings": [_row_values(row, table.measures) for row in table.rows],
        "verdict": table.verdict.text().splitlines() if table.verdict else [],
    }


def judge(record: Record, question: Question | None = None) -> Verdict:
    """Judge a study or a sweep.

    Args:
        record: Record of the study or sweep.
        question: Question to judge, which counts as chosen after the run; None for the record's own.

    Returns:
        The verdict.

    Raises:
        RecordError: If a sweep has no results yet, the settings cannot be read, or the study is live.
        DataError: If the runs were measured on different numbers of examples.
    """
    if not record.is_sweep:
        return verdict_of(record, question)
    found = sweep_table(Sweep(record.folder), question).verdict
    if found is None:
        words = later("The sweep {record} has no results yet: run the sweep first.")
        raise RecordError(say(words, record=record.id))
    return found


def named_question(record: Record) -> Question:
    """Return the original question of a study or a sweep."""
    if not record.is_sweep:
        return question_of(record)
    sweep = Sweep(record.folder)
    return _question(sweep, cells(sweep.settings))


def means_by_arm(record: Record, question: Question | None = None) -> dict[str, dict[str, float]]:
    """Return the mean over the seeds of every measure after the final epoch, by arm (for a sweep, by setting).

    Args:
        record: Record of the study or sweep.
        question: Measure and epoch; None for the record's own.

    Returns:
        Means by arm and measure.

    Raises:
        LabError: If the settings of the sweep are not valid, or its results cannot be compared.
    """
    if not record.is_sweep:
        return {name: dict(means) for name, means in mean_results(record, question).last.items()}
    rows = sweep_table(Sweep(record.folder), question).shown
    named = {f"{row.cell}: {row.arm}" if row.cell else row.arm: row for row in rows}
    means = {name: {measure: row.mean(measure, "last") for measure in MEASURES} for name, row in named.items()}
    return {name: _finite(found, list(MEASURES)) for name, found in means.items()}


def table_csv(table: SweepTable) -> str:
    """Return the table as CSV: one line per setting and seed, with one column per measure and epoch."""
    columns = [(name, epoch) for name in table.measures for epoch in (EPOCHS if name in EVERY_EPOCH else ("last",))]
    lines: list[list[Any]] = [["training", "arm", "seed", *(f"{name}_{epoch}" for name, epoch in columns)]]
    for row in table.shown:
        for seed, outcome in sorted(row.seeds.items()):
            values = [outcome.value(name, epoch) for name, epoch in columns]
            trained = None if row is table.base else seed
            lines.append([row.cell, row.arm, trained, *(one if np.isfinite(one) else None for one in values)])
    return csv_text(lines)


def write_table(record: Record, path: Path) -> Path:
    """Write the table of a sweep as JSON.

    Args:
        record: Record of the sweep.
        path: Target file.

    Returns:
        The path.

    Raises:
        LabError: If the settings of the sweep are not valid, or its results cannot be compared.
    """
    sweep = Sweep(record.folder)
    with in_language(ENGLISH):  # machine-readable output
        values = table_values(sweep_table(sweep), sweep.settings)
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False))
    return path


def _row_values(row: TableRow, measures: list[str]) -> dict[str, Any]:
    return {
        "training": row.cell,
        "arm": row.arm,
        "noise": row.noise.model_dump(),
        "seeds": [
            {"seed": seed, "last": _finite(outcome.last, measures), "best": _finite(outcome.best, measures)}
            for seed, outcome in sorted(row.seeds.items())
        ],
        "effects": {
            measure: {epoch: _effect(found) for epoch, found in by_epoch.items() if found.seeds}
            for measure, by_epoch in row.effects.items()
        },
    }


def _finite(values: Mapping[str, float], measures: list[str]) -> dict[str, float]:
    return {name: values[name] for name in measures if name in values and np.isfinite(values[name])}


def _effect(found: Comparison) -> dict[str, Any]:
    interval = found.interval
    ends = {} if interval is None else {"low": interval.low, "high": interval.high, "level": interval.level}
    tests = {"t": found.t_p, "sign_flip": found.flip_p, "holm_t": found.holm_t_p, "holm_sign_flip": found.holm_flip_p}
    return {"difference": found.difference, **ends, "seeds": len(found.seeds), "p": tests if interval else {}}
