"""Plain fine-tuning with `peft` and the model's own loss, as a reference for the lab."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from neftune_core.data.chat import EncodedExample
    from neftune_core.data.preparing import PreparedData
    from neftune_core.engine.settings import TrainingSettings
    from neftune_core.models.loading import LoadedModel
    from neftune_core.studies.settings import StudySettings


def peft_losses(
    study: StudySettings, loaded: LoadedModel, prepared: PreparedData, initial: Mapping[str, Tensor]
) -> list[float]:
    """Train a PEFT adapter in a plain loop.

    Args:
        study: The study.
        loaded: The model.
        prepared: The rows.
        initial: Initial `lora_A` of each adapted module, by name.

    Returns:
        The loss of each of `study.training.steps` steps.
    """
    import torch

    from neftune_core.engine.lockstep import steps_after
    from neftune_core.engine.settings import rate_at

    training = study.training
    model = peft_model(loaded.model, training)
    with torch.no_grad():
        for name, down in initial.items():
            model.get_submodule(f"base_model.model.{name}").lora_A["default"].weight.copy_(down)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, weight_decay=training.weight_decay)
    lengths = [row.length for row in prepared.train]
    found = []
    for step in steps_after(0, training.steps, lengths, training.batch_size, study.seed):
        loss = model(**padded_batch([prepared.train[place] for place in step.rows])).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, training.clip_norm)
        optimizer.param_groups[0]["lr"] = rate_at(step.number, training.steps, training)
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def peft_model(model: Any, training: TrainingSettings) -> Any:
    """Add a PEFT adapter on all linear maps to a copy of a model.

    Args:
        model: The model.
        training: Settings with rank and alpha.

    Returns:
        A `peft.PeftModel` in which only the adapter is trained.
    """
    from peft import LoraConfig, get_peft_model

    from neftune_core.models.architecture.anatomy import linear_maps

    targets = sorted({name.rpartition(".")[2] for name in linear_maps(model, "all")})
    adapter = LoraConfig(r=training.lora_rank, lora_alpha=int(training.lora_alpha), target_modules=targets)
    return get_peft_model(copy.deepcopy(model), adapter)


def padded_batch(rows: Sequence[EncodedExample]) -> dict[str, Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each `[rows, longest]`, right-padded."""
    import torch

    longest = max(row.length for row in rows)
    ids, mask, labels = (torch.full((len(rows), longest), value) for value in (0, 0, -100))
    for place, row in enumerate(rows):
        tokens = torch.from_numpy(row.ids).long()
        ids[place, : len(tokens)], mask[place, : len(tokens)] = tokens, 1
        labels[place, : len(tokens)] = tokens.masked_fill(~torch.from_numpy(row.trained), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
