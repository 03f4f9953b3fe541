"""What a study reached, as plain numbers that any record can be turned into, and the question asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neftune_core.errors import DataError, InvalidSetting
from neftune_core.evaluation.overlap import bleu_score, chrf_score
from neftune_core.evaluation.statistics import Floats, Score, as_statistics, mean_score
from neftune_core.language import later, say

EPOCHS = ("last", "best")
FLOORS = ("another_seed", "chaos")


@dataclass(frozen=True)
class Measure:
    """A measure of an arm.

    Attributes:
        better: Which way is better: 1 up, -1 down, 0 neither.
        of_answers: Whether it is taken from written answers.
        score: Turns sums of the examples' statistics into it.
        top: The largest value it can have, if its range is from 0 to there.
    """

    better: int
    of_answers: bool
    score: Score = mean_score
    top: float | None = None


MEASURES: dict[str, Measure] = {
    "held_out_loss": Measure(-1, of_answers=False),
    "accuracy": Measure(1, of_answers=False, top=1.0),
    "exact": Measure(1, of_answers=False, top=1.0),
    "train_loss": Measure(0, of_answers=False),
    "gap": Measure(0, of_answers=False),
    "perplexity": Measure(-1, of_answers=False),
    "noise_penalty": Measure(0, of_answers=False),
    "right": Measure(1, of_answers=True, top=1.0),
    "bleu": Measure(1, of_answers=True, score=bleu_score, top=100.0),
    "chrf": Measure(1, of_answers=True, score=chrf_score, top=100.0),
    "rouge_l": Measure(1, of_answers=True, top=1.0),
    "memorised_rouge_l": Measure(0, of_answers=True, top=1.0),
    "memorised_run": Measure(0, of_answers=True),
    "memorised_run_share": Measure(0, of_answers=True, top=1.0),
    "tokens": Measure(0, of_answers=True),
    "median_tokens": Measure(0, of_answers=True),
    "characters": Measure(0, of_answers=True),
    "median_characters": Measure(0, of_answers=True),
    "stop_rate": Measure(0, of_answers=True, top=1.0),
    "repetition": Measure(0, of_answers=True, top=1.0),
    "distinct": Measure(0, of_answers=True, top=1.0),
    "noise_loss": Measure(-1, of_answers=False),
    "noise_accuracy": Measure(1, of_answers=False, top=1.0),
    "typos_loss": Measure(-1, of_answers=False),
    "typos_accuracy": Measure(1, of_answers=False, top=1.0),
}
"""Less memorised, longer or less often ended is a change; whether it is a gain is for a person to say."""

EVERY_EPOCH = ("held_out_loss", "accuracy", "exact", "train_loss", "gap", "perplexity")
"""Measured at every evaluation, row by row, and so known at the best epoch; the others when a seed ends."""


@dataclass(frozen=True)
class Outcome:
    """What one arm reached with one seed.

    Attributes:
        last: Its measures by name after the last epoch; empty if it has none.
        best: The same at its best epoch.
        last_epoch: The number of the last epoch.
        best_epoch: The number of the best epoch.
        scores: By measure, the examples at the epoch asked about, `[examples]` or `[examples, fields]` of counts, in
            the same order for every arm and seed.
        lengths: Tokens of each answer, `[examples]`.
        base: The measures of the untouched model.
        steps: Optimizer steps that were made; 0 if unknown.
        diverged: Whether its loss stopped being a number.
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

    def __post_init__(self) -> None:
        counts = {len(kept) for kept in (*self.scores.values(), self.lengths) if kept is not None}
        if len(counts) > 1:
            raise DataError(f"The scores and lengths of one run are of {min(counts)} to {max(counts)} examples.")

    def value(self, measure: str, epoch: str) -> float:
        """The number of a measure; NaN where there is none."""
        return float((self.best if epoch == "best" else self.last).get(measure, np.nan))

    def epoch(self, which: str) -> float:
        """The number of the last or the best epoch."""
        return self.best_epoch if which == "best" else self.last_epoch

    def statistics(self, measure: str) -> Floats | None:
        """The examples' statistics `[examples, fields]`; None where they are not kept or one has no number."""
        scores = self.scores.get(measure)
        if scores is None or np.isnan(scores).any():
            return None
        return scores if scores.ndim == 2 else as_statistics(scores)


Seeds = Mapping[int, Outcome]


@dataclass(frozen=True)
class Rounding:
    """How far a study's number format moves its measures, as it was measured.

    Attributes:
        precision: The number format of the study, such as "bfloat16".
        sizes: By measure, the largest difference of any arm from the same arm measured otherwise.
    """

    precision: str = ""
    sizes: Mapping[str, float] = field(default_factory=dict)

    def of(self, measure: str) -> float | None:
        """The size for a measure; None if it was not measured."""
        return self.sizes.get(measure)


NOT_MEASURED = Rounding()


@dataclass(frozen=True)
class Outcomes:
    """The control, the arms, and the floors of a study, each by seed.

    Attributes:
        control: The arm without noise.
        arms: The other arms by name.
        floors: Comparisons of nothing with nothing, judged as the arms are: the control trained again with another
            seed (A/A, `another_seed`), or with a disturbance as small as rounding (`chaos`).
        own_controls: The control of each arm that has another one, as in a sweep over training settings.
        halves: Whether every best epoch was chosen on one half of the held-out rows and read on the other.
        rounding: What the number format moves.
    """

    control: Seeds
    arms: Mapping[str, Seeds]
    floors: Mapping[str, Seeds] = field(default_factory=dict)
    own_controls: Mapping[str, Seeds] = field(default_factory=dict)
    halves: bool = False
    rounding: Rounding = NOT_MEASURED

    def control_of(self, arm: str) -> Seeds:
        """What an arm is compared with."""
        return self.own_controls.get(arm, self.control)

    def __post_init__(self) -> None:
        unknown = [name for name in self.floors if name not in FLOORS]
        if unknown:
            raise InvalidSetting(
                say(
                    "There is no floor called {floor!r}: choose one of {choices}.",
                    floor=unknown[0],
                    choices=", ".join(FLOORS),
                )
            )


@dataclass(frozen=True)
class Question:
    """The one measure and the one epoch that are judged, named before the numbers are seen."""

    measure: str = "held_out_loss"
    epoch: str = "last"

    def __post_init__(self) -> None:
        for value, choices, what in ((self.measure, MEASURES, later("measure")), (self.epoch, EPOCHS, later("epoch"))):
            if value not in choices:
                raise InvalidSetting(
                    say(
                        "There is no {what} called {value!r}: choose one of {choices}.",
                        what=say(what),
                        value=value,
                        choices=", ".join(choices),
                    )
                )
