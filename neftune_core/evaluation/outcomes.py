"""The results of a study as plain numbers, and the question that its verdict answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neftune_core.errors import DataError, InvalidSetting
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.statistics import Floats, as_statistics
from neftune_core.language import later, say

EPOCHS = ("last", "best")
FLOORS = ("another_seed", "chaos")


@dataclass(frozen=True)
class Outcome:
    """The results of one arm with one seed.

    Attributes:
        last: Measures by name after the last epoch; empty if there are none.
        best: Measures by name at the best epoch.
        scores: Statistics of each example at the judged epoch, by measure: `[examples]`, or `[examples, fields]` for
            counts. The order of the examples is the same for every arm and seed.
        lengths: Tokens per answer, `[examples]`.
        steps: Number of optimizer steps; 0 if unknown.
        frequency_loss: Training loss of guessing each token by its frequency in the responses; NaN if unknown.
    """

    last: Mapping[str, float]
    best: Mapping[str, float] = field(default_factory=dict)
    last_epoch: float = 0.0
    best_epoch: float = 0.0
    scores: Mapping[str, Floats] = field(default_factory=dict)
    lengths: Floats | None = None
    base: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    diverged: bool = False
    frequency_loss: float = np.nan

    def __post_init__(self) -> None:
        counts = {len(kept) for kept in (*self.scores.values(), self.lengths) if kept is not None}
        if len(counts) > 1:
            raise DataError(
                f"The scores and lengths of a run cover {min(counts)} to {max(counts)} examples: give the same number "
                "for all of them."
            )

    def value(self, measure: str, epoch: str) -> float:
        """Return the value of a measure.

        Args:
            measure: Name of the measure.
            epoch: "last" or "best".

        Returns:
            The value; NaN if absent.
        """
        return float((self.best if epoch == "best" else self.last).get(measure, np.nan))

    def epoch(self, which: str) -> float:
        """Return the number of the "last" or "best" epoch."""
        return self.best_epoch if which == "best" else self.last_epoch

    def statistics(self, measure: str) -> Floats | None:
        """Return the statistics of each example, `[examples, fields]`; None if they were not stored or one is NaN."""
        scores = self.scores.get(measure)
        if scores is None or np.isnan(scores).any():
            return None
        return scores if scores.ndim == 2 else as_statistics(scores)


Seeds = Mapping[int, Outcome]


@dataclass(frozen=True)
class Rounding:
    """The measured effect of a study's number format on its measures.

    Attributes:
        precision: The number format, such as "bfloat16".
        sizes: By measure, the largest difference between an arm and the same arm evaluated again in another precision
            or batch size.
    """

    precision: str = ""
    sizes: Mapping[str, float] = field(default_factory=dict)

    def of(self, measure: str) -> float | None:
        """Return the effect on a measure; None if the effect was not measured."""
        return self.sizes.get(measure)


NOT_MEASURED = Rounding()


@dataclass(frozen=True)
class Outcomes:
    """The control, the arms and the floors of a study, each by seed.

    Attributes:
        floors: Null comparisons, judged like arms: the control trained again with other seeds (A/A, "another_seed"),
            or with a disturbance as small as rounding ("chaos").
        own_controls: Controls of arms that have their own, as in a sweep over training settings.
        halves: Whether every best epoch was chosen on one half of the held-out rows and measured on the other.
        early: Last and planned step of each seed whose training was ended by early stopping.
        continued: Record and step of each continuation that was started after the result of the study could be seen.
        stopped: For each arm that the user stopped, the step of the stop and the step of the comparison, by seed.
    """

    control: Seeds
    arms: Mapping[str, Seeds]
    floors: Mapping[str, Seeds] = field(default_factory=dict)
    own_controls: Mapping[str, Seeds] = field(default_factory=dict)
    halves: bool = False
    rounding: Rounding = NOT_MEASURED
    early: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stopped: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)
    continued: tuple[tuple[str, int], ...] = ()

    def control_of(self, arm: str) -> Seeds:
        """Return the control of an arm."""
        return self.own_controls.get(arm, self.control)

    def __post_init__(self) -> None:
        for name in self.floors:
            _require_choice(later("floor"), name, FLOORS)


@dataclass(frozen=True)
class Question:
    """What a verdict judges, fixed before the results are seen.

    Attributes:
        measure: A key of `MEASURES`.
        epoch: "last" or "best".
    """

    measure: str = "held_out_loss"
    epoch: str = "last"

    def __post_init__(self) -> None:
        _require_choice(later("measure"), self.measure, MEASURES)
        _require_choice(later("epoch"), self.epoch, EPOCHS)


def _require_choice(what: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        words = later("There is no {what} called {value!r}: choose one of {choices}.")
        raise InvalidSetting(say(words, what=say(what), value=value, choices=", ".join(choices)))


def merge_seeds(parts: Sequence[Outcomes]) -> Outcomes:
    """Merge the outcomes of one study with different seeds; for a repeated seed, the last outcome is used."""

    def union(field: str) -> dict[str, dict[int, Any]]:
        tables: list[Mapping[str, Mapping[int, Any]]] = [getattr(part, field) for part in parts]
        names = dict.fromkeys(name for table in tables for name in table)
        return {name: {seed: one for table in tables for seed, one in table.get(name, {}).items()} for name in names}

    return Outcomes(
        control={seed: one for part in parts for seed, one in part.control.items()},
        arms=union("arms"),
        floors=union("floors"),
        own_controls=union("own_controls"),
        halves=all(part.halves for part in parts),
        rounding=_largest_rounding(parts),
        early={seed: steps for part in parts for seed, steps in part.early.items()},
        stopped=union("stopped"),
        continued=tuple(one for part in parts for one in part.continued),
    )


def _largest_rounding(parts: Iterable[Outcomes]) -> Rounding:
    known = [part.rounding for part in parts if part.rounding.sizes]
    sizes = {name: max(part.sizes.get(name, 0.0) for part in known) for part in known for name in part.sizes}
    return Rounding(", ".join(dict.fromkeys(part.precision for part in known)), sizes)


def combine_cells(cells: Mapping[str, Outcomes]) -> Outcomes:
    """Combine the arms of several sweep cells in one comparison, under the names `cell: arm`.

    Each arm is paired with the control of its cell, and Holm's correction covers all arms. The result contains the
    control and the floors of the first cell.
    """
    first = next(iter(cells.values()))
    return Outcomes(
        control=first.control,
        arms={f"{cell}: {name}": arm for cell, part in cells.items() for name, arm in part.arms.items()},
        floors=first.floors,
        own_controls={f"{cell}: {name}": part.control_of(name) for cell, part in cells.items() for name in part.arms},
        halves=all(part.halves for part in cells.values()),
        rounding=_largest_rounding(cells.values()),
        early={f"{cell}: {seed}": steps for cell, part in cells.items() for seed, steps in part.early.items()},
        stopped={f"{cell}: {name}": steps for cell, part in cells.items() for name, steps in part.stopped.items()},
    )
