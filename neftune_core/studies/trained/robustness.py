"""Measure the held-out loss and the share of correct rows under embedding noise, for the base and every arm.

The noise is the same as in the robustness measured when a seed ends: Gaussian, relative to the embeddings, with one
draw per row for all arms and strengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from neftune_core.bounded_io import read_file
from neftune_core.durable import write_whole
from neftune_core.engine.clean_loss import row_measures
from neftune_core.errors import DataError
from neftune_core.evaluation.statistics import Interval, mean_score, paired_bootstrap
from neftune_core.language import say
from neftune_core.models.accelerator import accelerator
from neftune_core.noise.batch import ArmNoise
from neftune_core.settings import Limits
from neftune_core.studies.measuring import gaussian, noise_on
from neftune_core.studies.records.record import Record
from neftune_core.studies.trained.loading import load_trained

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Standard deviations of the noise, relative to the root mean square of embedding coordinates."""

MOST_ROWS = 64
RESAMPLES = 2_000
FILE = "robustness-seed-{seed}.json"
FILE_BYTES = 4_000_000

PerRow = list[list[Annotated[float, Field(ge=0)]]]


class ArmRows(BaseModel):
    """Results of one arm, `[strengths][rows]`: response loss in nats, summed, and number of tokens ranked first."""

    model_config = ConfigDict(allow_inf_nan=False)

    losses: PerRow
    hits: PerRow


class Robustness(BaseModel):
    """Robustness of the arms of one seed, the base first, to noise of several strengths.

    `tokens` contains the number of response tokens of each held-out row.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    strengths: list[float]
    tokens: list[Annotated[int, Field(ge=1)]]
    arms: dict[str, ArmRows]

    @model_validator(mode="after")
    def _fits(self) -> Robustness:
        shapes = {np.shape(values) for arm in self.arms.values() for values in (arm.losses, arm.hits)}
        if shapes != {(len(self.strengths), len(self.tokens))}:
            raise ValueError("one number per strength and row")
        return self

    def loss(self, arm: str) -> list[Interval]:
        """Return the response loss at each strength, in nats per token, with its interval over rows."""
        return [_ratio(values, self.tokens) for values in self.arms[arm].losses]

    def right(self, arm: str) -> list[Interval]:
        """Return the share of rows in which every response token is ranked first, with its interval over rows."""
        exact = [np.equal(values, self.tokens).astype(float) for values in self.arms[arm].hits]
        return [_ratio(values, np.ones(len(values))) for values in exact]


@dataclass(frozen=True)
class Measuring:
    """Progress of a measurement.

    Attributes:
        share: Completed share, from 0 to 1.
        found: The result; None before the end.
    """

    share: float
    found: Robustness | None = None


def _ratio(values: ArrayLike, weights: ArrayLike) -> Interval:
    """Return the ratio of two sums over rows, with its interval over resampled rows."""
    rows = np.stack([np.asarray(values), np.asarray(weights)], axis=-1)[None]
    zero = np.stack([np.zeros(rows.shape[1]), rows[0, :, 1]], axis=-1)[None]
    return paired_bootstrap(rows, zero, mean_score, np.random.default_rng(0), resamples=RESAMPLES)


def measure_robustness(record: Record, seed: int, limits: Limits) -> Iterator[Measuring]:
    """Measure the stored arms of one seed on the first held-out rows, and store the result with the record.

    Args:
        record: Record of the study.
        seed: Seed with which the arms were trained.
        limits: Limits of this server.

    Yields:
        The progress, after each strength.

    Raises:
        DataError: If the study has no held-out rows.
        LabError: If the arms, the base or the rows are missing or have changed.
    """
    arms = load_trained(record, seed, limits)
    training = record.study.training
    count = min(MOST_ROWS, training.sample_rows(len(arms.prepared.train)))
    sample = arms.prepared.held_out[:count]
    if not sample:
        raise DataError(say("This study has no held-out rows, so its robustness cannot be measured."))
    slots = list(arms.names)
    by_strength = []
    for number, strength in enumerate(STRENGTHS, start=1):
        noise = noise_on([ArmNoise(gaussian(strength))] * len(slots)) if strength else None
        with accelerator.held():
            by_strength.append(row_measures(arms.stack, sample, slots, batch_size=arms.batch_size, noise=noise))
        yield Measuring(number / len(STRENGTHS))
    tokens = by_strength[0].tokens
    kept, by_arm = np.flatnonzero(tokens), dict[str, ArmRows]()
    for slot, name in arms.names.items():
        losses = [np.round(rows.losses[slot, kept], 5).tolist() for rows in by_strength]
        by_arm[name] = ArmRows(losses=losses, hits=[rows.hits[slot, kept].tolist() for rows in by_strength])
    found = Robustness(strengths=list(STRENGTHS), tokens=tokens[kept].astype(int).tolist(), arms=by_arm)
    write_whole(record.folder / FILE.format(seed=seed), found.model_dump_json())
    yield Measuring(1.0, found)


def read_robustness(record: Record, seed: int) -> Robustness | None:
    """Return the stored result of a seed.

    Args:
        record: Record of the study.
        seed: Seed with which the arms were trained.

    Returns:
        The result; None if it is missing or unreadable.
    """
    try:
        text = read_file(record.folder / FILE.format(seed=seed), FILE_BYTES)
        return Robustness.model_validate_json(text)
    except (OSError, ValueError):  # pydantic errors are ValueErrors
        return None
