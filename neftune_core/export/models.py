"""One arm as a folder that others load: the adapter with its card, or the whole model with the adapter merged in."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from neftune_core.arms.saving import load_arm
from neftune_core.arms.stack import AdapterStack
from neftune_core.errors import InvalidSetting
from neftune_core.export.card import card, require_arm
from neftune_core.models.quiet import quietly
from neftune_core.training.record import Record
from neftune_core.training.study import base_of

if TYPE_CHECKING:
    from torch import nn

FORMS = {"adapter": "The adapter alone (PEFT)", "merged": "The whole model (transformers)"}
SLOT = 1


def write_model(record: Record, arm: str, seed: int, form: str, folder: Path) -> None:
    """Write one arm into the new `folder`, as one of `FORMS`, with its card. Raises a `LabError`."""
    if form not in FORMS:
        raise InvalidSetting(f"An arm is written as one of {', '.join(FORMS)} (given {form[:40]!r}).")
    require_arm(record, arm, seed)
    if form == "adapter":
        shutil.copytree(record.arm_folder(arm, seed), folder)
    else:
        _write_merged(record, arm, seed, folder)
    (folder / "README.md").write_text(card(record, arm, seed, form), encoding="utf-8")


def _write_merged(record: Record, arm: str, seed: int, folder: Path) -> None:
    """The model with the adapter added to its weights, its tokenizer and the lab's way of writing answers.

    The sum is taken in float32 and kept in the precision of the base; the base itself is not changed.
    """
    loaded = base_of(record)
    model = merged(record, arm, seed)
    settings = model.generation_config
    if settings is not None:
        settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None
        settings.repetition_penalty = record.study.answers.repetition_penalty
        settings.max_new_tokens = record.study.answers.new_tokens
    with quietly():
        model.save_pretrained(folder, safe_serialization=True)
        loaded.tokenizer.save_pretrained(folder)


def merged(record: Record, arm: str, seed: int) -> Any:
    """A model of its own with the weights of the base and, added to them, the adapter of one arm."""
    import torch

    loaded, training = base_of(record), record.study.training
    stack = AdapterStack(
        loaded, SLOT, rank=training.lora_rank, alpha=training.lora_alpha, targets=training.lora_targets
    )
    load_arm(stack, SLOT, record.arm_folder(arm, seed))
    model = copy.deepcopy(loaded.model)
    for name, module in stack.adapted.items():
        weight = cast(Any, model.get_submodule(name)).weight
        with torch.no_grad():
            change = module.scale * (module.up[SLOT].T @ module.down[SLOT])
            change = change if _is_linear(module.base) else change.T
            weight.copy_((weight.float() + change).to(weight.dtype))
    return model


def _is_linear(base: nn.Module) -> bool:
    """Whether its weight is `[out, in]`; GPT-2's maps keep it the other way round."""
    from torch import nn

    return isinstance(base, nn.Linear)
