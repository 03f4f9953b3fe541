"""Load the trained arms of a record and the rows of its study."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.engine.arm_factory import make_arms
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.settings import evaluation_batch
from neftune_core.models.loading import LoadedModel
from neftune_core.settings import Limits
from neftune_core.studies.comparison import BASE, selected_arms
from neftune_core.studies.metadata import require_same_rows
from neftune_core.studies.prompts import fitting_rows, tokenised_study_prompts
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.tokens import read_tokens, write_tokens
from neftune_core.studies.study import base_of
from neftune_core.studies.trained.rows import TokenLosses


@dataclass(frozen=True, eq=False)
class TrainedArms:
    """The trained arms of one seed of a record, with their base model.

    Attributes:
        loaded: The base model.
        stack: The set of arms, with the stored weights.
        names: Names by slot of `stack`; slot 0 is the base.
        limits: Limits of this server.
    """

    record: Record
    seed: int
    loaded: LoadedModel
    stack: ArmSet
    names: dict[int, str]
    limits: Limits

    @cached_property
    def prepared(self) -> PreparedData:
        """The rows of the study.

        Raises:
            RecordError: If the rows have changed since training.
            LabError: If the rows cannot be read.
        """
        data = self.record.study.data.within(self.loaded.context)
        found = prepare(data, self.loaded.tokenizer, self.limits)
        require_same_rows(self.record, found)
        return found

    @property
    def batch_size(self) -> int:
        """Rows per batch of an evaluation."""
        return evaluation_batch(self.record.study.training)


def load_trained(record: Record, seed: int, limits: Limits) -> TrainedArms:
    """Load the stored arms of one seed.

    Args:
        record: Record of the study.
        seed: Seed with which the arms were trained.
        limits: Limits of this server.

    Returns:
        The arms.

    Raises:
        RecordError: If the record has no trained arm with this seed, or the model has changed since training.
        LabError: If the model cannot be loaded.
    """
    chosen = selected_arms([record], seeds=[seed])
    loaded = base_of(record)
    stack = make_arms(loaded, len(chosen), record.study.training)
    for slot, one in enumerate(chosen, start=1):
        stack.load(slot, record.arm_folder(one.arm, seed))
    return TrainedArms(record, seed, loaded, stack, dict(enumerate([BASE, *(one.arm for one in chosen)])), limits)


def measure_tokens(record: Record, seed: int, limits: Limits) -> list[dict[str, Any]]:
    """Measure the loss of every stored arm at every answer token, and store the losses with the record.

    Args:
        record: Record of the study.
        seed: Seed with which the arms were trained.
        limits: Limits of this server.

    Returns:
        The stored lines, see `TokenLosses`. The losses of generated answers are those of their stored text.

    Raises:
        RecordError: If the rows or the model have changed since training.
        LabError: If the model cannot be loaded, or the rows or prompts cannot be used.
    """
    arms = load_trained(record, seed, limits)
    losses = TokenLosses(arms.stack, arms.names, arms.batch_size)
    lines = losses.of_data(arms.prepared)
    if answers := record.answers(seed):
        _, prompts = fitting_rows(*tokenised_study_prompts(record.study, arms.prepared, arms.loaded))
        lines += losses.of_answers(prompts, answers)
    write_tokens(record, seed, lines)
    return read_tokens(record, seed)
