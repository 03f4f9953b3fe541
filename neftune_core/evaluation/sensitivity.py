"""Loss of a base model at several noise strengths, which shows how much noise the model tolerates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from neftune_core.data.batches import Batch, collate
from neftune_core.data.chat import EncodedExample
from neftune_core.engine.loss import arm_losses
from neftune_core.engine.passes import noise_rows
from neftune_core.engine.stack import BASE_SLOT, AdapterStack
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows, initial_noise
from neftune_core.noise.kinds import KINDS, TABLES_SITE
from neftune_core.noise.settings import NoiseSettings


@dataclass
class Sensitivity:
    """Results for the rows measured so far.

    Attributes:
        noise: Kind, unit and sites of the noise.
        strengths: Strengths in the unit of `noise`, starting with 0.
        planned: Total number of rows.
        losses: Nats summed over the response tokens of each finished row, `[rows][strengths]`.
        tokens: Response tokens of each finished row, `[rows]`.
        progress: Share of all passes that is complete, 0 to 1.
    """

    noise: NoiseSettings
    strengths: Sequence[float]
    planned: int
    losses: list[list[float]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    progress: float = 0.0

    @property
    def means(self) -> list[float]:
        """Nats per response token over the finished rows, by strength."""
        total = max(1, sum(self.tokens))
        return [sum(row[index] for row in self.losses) / total for index in range(len(self.strengths))]


def measure_sensitivity(
    loaded: LoadedModel, rows: Sequence[EncodedExample], noise: NoiseSettings, strengths: Sequence[float]
) -> Iterator[Sensitivity]:
    """Measure the response loss on `rows` without noise and at each strength, row by row, without training.

    A row has the same draw at every strength: that of the first epoch of a study with seed 0. For a symmetric pair,
    the loss is the mean over both signs. Adversarial noise is found by gradient ascent, as in training.

    Args:
        loaded: The model.
        rows: Encoded rows.
        noise: Kind, unit and sites of the noise.
        strengths: Strengths above 0, in the unit of `noise`.

    Yields:
        The same object after every strength of every row, extended in place.

    Raises:
        InvalidSetting: If the model lacks one of the sites.
    """
    stack = AdapterStack(loaded, arms=0, rank=1, alpha=1.0)
    numbers = [site.number for site in stack.sites]
    sites = noise.site_numbers(layers=max(numbers), tables=TABLES_SITE in numbers)
    found = Sensitivity(noise, (0.0, *strengths), planned=len(rows))
    for index, row in enumerate(rows):
        batch = collate([row], loaded.tokenizer.pad_token_id).to(loaded.device)
        measured = _ScoredRow(stack, batch, noise_rows([row], batch, [(0, 0, index)], rows))
        sums = []
        for strength in found.strengths:
            sums.append(measured.loss(ArmNoise(noise.with_strength(strength), sites)))
            found.progress = (index + len(sums) / len(found.strengths)) / len(rows)
            if len(sums) == len(found.strengths):
                found.losses.append(sums)
                found.tokens.append(measured.tokens)
            yield found


@dataclass
class _ScoredRow:
    """One row, prepared for measuring its loss under any noise.

    Attributes:
        stack: Runs the base; it has no arms.
        batch: The row as a batch of its own.
        rows: The properties of the row that noise depends on, by component.
    """

    stack: AdapterStack
    batch: Batch
    rows: Mapping[str, Rows]

    @property
    def tokens(self) -> int:
        return int(self.batch.trained[:, 1:].sum())

    def loss(self, arm: ArmNoise) -> float:
        """Return the loss in nats, summed over the response tokens."""
        losses = {
            "one": lambda: self._once(arm),
            "pair": lambda: (self._once(arm) + self._once(replace(arm, sign=-1.0))) / 2,
            "ascent": lambda: self._once(self._ascended(arm)),
        }
        return losses[KINDS[arm.settings.kind].passes if arm.strength else "one"]()

    def _once(self, arm: ArmNoise) -> float:
        with torch.no_grad(), self._running(arm) as tree:
            return float(arm_losses(tree, self.batch, 1).sums[0])

    def _ascended(self, arm: ArmNoise) -> ArmNoise:
        adversarial = initial_noise(arm, self.stack.sites, self.stack.site_widths(), self.rows)
        arm = replace(arm, adversarial=adversarial)
        for _ in range(arm.settings.ascent_steps):
            units = [noise.unit for noise in adversarial.values()]
            with self._running(arm) as tree:
                losses = arm_losses(tree, self.batch, 1, backward_over=max(1, self.tokens), gradients_of=units)
            for noise, gradient in zip(adversarial.values(), losses.gradients, strict=True):
                noise.ascend(gradient, arm.settings.ascent_rate)
        for noise in adversarial.values():
            noise.unit.detach_()
        return arm

    def _running(self, arm: ArmNoise) -> AbstractContextManager[nn.Module]:
        noise = BatchNoise([arm], self.rows) if arm.strength else None
        return self.stack.running([BASE_SLOT], noise=noise)
