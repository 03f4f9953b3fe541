"""Export one arm as a folder: the adapter with its card, or the whole model with the adapter merged."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from neftune_core.durable import atomic_write
from neftune_core.engine.arm_factory import make_arms
from neftune_core.errors import InvalidSetting
from neftune_core.export.bases import FOLDER, base_of, copy_model
from neftune_core.export.card import CAUSAL, SEQ2SEQ, TEXT_AND_IMAGES, card, require_arm
from neftune_core.home import assets
from neftune_core.language import say
from neftune_core.models.settings import BUNDLED
from neftune_core.models.silence_warnings import silence_transformers
from neftune_core.studies.records.record import Record
from neftune_core.studies.study import base_of as loaded_base_of

FORMS = {"adapter": "The adapter alone (PEFT)", "merged": "The whole model (transformers)"}
SLOT = 1


def write_model(record: Record, arm: str, seed: int, form: str, folder: Path) -> None:
    """Write one arm into a new folder, with its model card.

    Args:
        record: Record of the study.
        arm: Name of the arm.
        seed: Seed of the arm.
        form: One of `FORMS`: "adapter" or "merged".
        folder: The folder to create.

    Raises:
        InvalidSetting: If the form is unknown or not available, or something exists at `folder`.
        RecordError: If the record has no such trained arm.
    """
    if form not in FORMS:
        raise InvalidSetting(
            say("There is no export form {form!r}: choose one of {choices}.", form=form[:40], choices=", ".join(FORMS))
        )
    require_arm(record, arm, seed)
    require_free(folder)
    if form == "adapter" and record.study.training.method == "full":
        raise InvalidSetting(say("This study trained all weights and has no adapter: export the whole model."))
    with atomic_write(folder) as aside:
        kind = (_write_adapter if form == "adapter" else _write_merged_model)(record, arm, seed, aside)
        (aside / "README.md").write_text(card(record, arm, seed, form, kind), encoding="utf-8")


def require_free(target: Path) -> None:
    """Check that nothing exists at `target`: an export never overwrites.

    Raises:
        InvalidSetting: If something exists there.
    """
    if target.exists():
        raise InvalidSetting(say("{target} already exists: choose another path.", target=target.absolute()))


def _write_adapter(record: Record, arm: str, seed: int, folder: Path) -> str:
    """Write the adapter with the public name of its base; return the transformers class of the base."""
    shutil.copytree(record.arm_folder(arm, seed), folder)
    if record.study.model.source.strip() == BUNDLED:
        copy_model(assets() / "model", folder / FOLDER)
    return name_base(record, folder)


def name_base(record: Record, folder: Path) -> str:
    """Replace the base model's name in the adapter's configuration with one that is valid on other machines.

    Args:
        record: Record of the study.
        folder: The folder of the adapter.

    Returns:
        The transformers class that loads the base.
    """
    base, file = base_of(record), folder / "adapter_config.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    about |= {"base_model_name_or_path": base.hub or base.place, "revision": base.revision or None}
    if find_spec("peft"):  # otherwise PEFT fills it in
        about["peft_version"] = version("peft")
    file.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    if about.get("auto_mapping"):  # AutoModelForCausalLM cannot load the published model
        return TEXT_AND_IMAGES
    return SEQ2SEQ if about["task_type"] == "SEQ_2_SEQ_LM" else CAUSAL


def _write_merged_model(record: Record, arm: str, seed: int, folder: Path) -> str:
    """Write the merged model in the number format of its base, with tokenizer and chat template.

    Return the transformers class that loads the model. The loaded base stays unchanged.
    """
    loaded = loaded_base_of(record)
    model = merged_model(record, arm, seed)
    settings = model.generation_config
    if settings is not None:
        settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None
        settings.repetition_penalty = record.study.answers.repetition_penalty
        settings.max_new_tokens = record.study.answers.new_tokens
    with silence_transformers():
        model.save_pretrained(folder, safe_serialization=True)
        loaded.tokenizer.save_pretrained(folder)
    return SEQ2SEQ if loaded.encoder_decoder else CAUSAL


def merged_model(record: Record, arm: str, seed: int) -> Any:
    """Return a separate model with the trained weights of one arm merged into it.

    Args:
        record: Record of the study.
        arm: Name of the arm.
        seed: Seed of the arm.

    Returns:
        A transformers model.

    Raises:
        RecordError: If the adapter is missing, or the model has changed since training.
        LabError: If the model cannot be loaded.
    """
    stack = make_arms(loaded_base_of(record), SLOT, record.study.training)
    stack.load(SLOT, record.arm_folder(arm, seed))
    return stack.merged(SLOT)
