"""All measures, read from `assets/measures.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from neftune_core.evaluation.overlap import CHARACTER_ORDERS, ORDERS, bleu_score, chrf_score
from neftune_core.evaluation.statistics import Score, mean_score
from neftune_core.home import assets

ANSWER_GROUPS = ("Text", "Memorisation", "Length")
"""Groups of measures that are computed from generated answers."""


@dataclass(frozen=True)
class Measure:
    """Definition of a measure.

    Attributes:
        label: Column heading.
        phrase: Name of the measure inside a sentence.
        group: Group in which the measure is listed.
        words: Definition, with range and unit.
        better: 1 if higher is better, -1 if lower is better, 0 if neither direction is better in itself.
        top: Maximum of a measure with a range from 0 to `top`; None for other measures.
        score: Maps statistics summed over examples to the measure.
        counts: Number of counts per example from which a corpus measure is computed; 0 for a mean over examples.
        every_epoch: Whether the measure is computed row by row at every evaluation, and is therefore known at the best
            epoch. Other measures are computed after the last epoch of a seed.
    """

    label: str
    phrase: str
    group: str
    words: str
    better: int = 0
    top: float | None = None
    score: Score = mean_score
    counts: int = 0
    every_epoch: bool = False

    @property
    def is_share(self) -> bool:
        """Whether the measure is a share, so that its differences are shown in percentage points."""
        return self.phrase.startswith("the share of ")

    @property
    def of_answers(self) -> bool:
        """Whether the measure is computed from generated answers."""
        return self.group in ANSWER_GROUPS


_CORPUS_SCORES = {"bleu": (bleu_score, 2 + 2 * ORDERS), "chrf": (chrf_score, 3 * CHARACTER_ORDERS)}

MEASURES: dict[str, Measure] = {
    name: Measure(**fields, score=score, counts=counts)
    for name, fields in tomllib.loads((assets() / "measures.toml").read_text(encoding="utf-8")).items()
    for score, counts in [_CORPUS_SCORES.get(name, (mean_score, 0))]
}

EVERY_EPOCH = tuple(name for name, measure in MEASURES.items() if measure.every_epoch)
FIRST = ("held_out_loss", "exact", "right", "train_loss")
"""Measures that the page shows initially, in addition to the tested one."""
BESIDE = ("held_out_loss", "accuracy", "exact", "right", "bleu", "rouge_l", "tokens")
"""Measures that the table of a sweep lists in addition to the chosen one, as means after the last epoch."""
