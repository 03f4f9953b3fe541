"""Plain fine-tuning with `peft` and the model's own loss, as a reference for the lab."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from neftune_core.data.chat import EncodedExample
from neftune_core.data.preparing import PreparedData
from neftune_core.engine.lockstep import steps_after
from neftune_core.engine.settings import TrainingSettings, rate_at
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.loading import LoadedModel
from neftune_core.studies.settings import StudySettings


def peft_losses(
    study: StudySettings, loaded: LoadedModel, prepared: PreparedData, initial: Mapping[str, Tensor]
) -> list[float]:
    """Train a PEFT adapter with the learning rates and batches of a study.

    Args:
        study: Settings of the study; its seed and training settings are used.
        loaded: The model.
        prepared: The tokenised rows.
        initial: Initial `lora_A` of each adapted module, by name.

    Returns:
        The loss of each of `study.training.steps` steps.

    Raises:
        ModelError: If the layers have no linear modules.
    """
    training = study.training
    model = peft_model(loaded.model, training)
    with torch.no_grad():
        for name, down in initial.items():
            model.get_submodule(f"base_model.model.{name}").lora_A["default"].weight.copy_(down)
    lengths = [row.length for row in prepared.train]
    steps = list(steps_after(0, training.steps, lengths, training.batch_size, study.seed))
    batches = (padded_batch([prepared.train[index] for index in step.rows]) for step in steps)
    rates = (rate_at(step.number, training.steps, training) for step in steps)
    return list(train_steps(model, batches, training, rates))


def train_steps(
    model: Any,
    batches: Iterable[Mapping[str, Tensor]],
    training: TrainingSettings,
    rates: Iterable[float] | None = None,
) -> Iterator[float]:
    """Train a model with AdamW, one step per batch.

    Args:
        model: The model; parameters without gradients stay unchanged.
        batches: Arguments of the model, with `labels`.
        training: Settings with weight decay, clipping and learning rate.
        rates: Learning rate of each step; that of `training` if None.

    Yields:
        The loss of each step.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, weight_decay=training.weight_decay, fused=True)
    for batch, rate in zip(batches, rates or repeat(training.learning_rate), strict=False):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, training.clip_norm)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        yield float(loss.detach())


def lora_config(model: Any, training: TrainingSettings) -> Any:
    """Configure an adapter on all linear layers of a model.

    Args:
        model: The transformers model that gets the adapter.
        training: Settings with rank and alpha.

    Returns:
        A `peft.LoraConfig`.

    Raises:
        ModelError: If the layers have no linear modules.
    """
    from peft import LoraConfig

    targets = sorted({name.rpartition(".")[2] for name in linear_maps(model, "all")})
    return LoraConfig(r=training.lora_rank, lora_alpha=int(training.lora_alpha), target_modules=targets)


def peft_model(model: Any, training: TrainingSettings) -> Any:
    """Add the adapter of `lora_config` to a copy of a model.

    Args:
        model: The transformers model; it is not changed.
        training: Settings with rank and alpha.

    Returns:
        A `peft.PeftModel` in which only the adapter is trained.

    Raises:
        ModelError: If the layers have no linear modules.
    """
    from peft import get_peft_model

    return get_peft_model(copy.deepcopy(model), lora_config(model, training))


def padded_batch(rows: Sequence[EncodedExample]) -> dict[str, Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each `[rows, longest]`, right-padded."""
    longest = max(row.length for row in rows)
    ids, mask, labels = (torch.full((len(rows), longest), value) for value in (0, 0, -100))
    for index, row in enumerate(rows):
        tokens = torch.from_numpy(row.ids).long()
        ids[index, : len(tokens)], mask[index, : len(tokens)] = tokens, 1
        labels[index, : len(tokens)] = tokens.masked_fill(~torch.from_numpy(row.trained), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
