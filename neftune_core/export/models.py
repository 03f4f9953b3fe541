"""One arm as a folder that others load: the adapter with its card, or the whole model with the adapter merged in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from neftune_core.errors import InvalidSetting
from neftune_core.export.card import card, require_arm
from neftune_core.language import say
from neftune_core.models.quiet import quietly
from neftune_core.training.methods import make_arms
from neftune_core.training.record import Record
from neftune_core.training.study import base_of

FORMS = {"adapter": "The adapter alone (PEFT)", "merged": "The whole model (transformers)"}
SLOT = 1


def write_model(record: Record, arm: str, seed: int, form: str, folder: Path) -> None:
    """Write one arm into the new `folder`, as one of `FORMS`, with its card. Raises a `LabError`."""
    if form not in FORMS:
        raise InvalidSetting(
            say("An arm is written as one of {choices} (given {form!r}).", choices=", ".join(FORMS), form=form[:40])
        )
    require_arm(record, arm, seed)
    if form == "adapter" and record.study.training.method == "full":
        raise InvalidSetting(say("This study trained all weights, so that there is no adapter: take the whole model."))
    if form == "adapter":
        shutil.copytree(record.arm_folder(arm, seed), folder)
    else:
        _write_merged(record, arm, seed, folder)
    (folder / "README.md").write_text(card(record, arm, seed, form), encoding="utf-8")


def _write_merged(record: Record, arm: str, seed: int, folder: Path) -> None:
    """The model with what the arm has learnt in its weights, its tokenizer and the lab's way of writing answers.

    In the precision of the base, which itself is not changed.
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
    """A model of its own with all that one arm has learnt in its weights."""
    stack = make_arms(base_of(record), SLOT, record.study.training)
    stack.load(SLOT, record.arm_folder(arm, seed))
    return stack.merged(SLOT)
