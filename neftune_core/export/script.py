"""Export a study as a folder with a standalone script that trains it on another machine. The folder contains:

READ-ME.txt  requirements.txt  standalone.py  study.json  train.jsonl  held_out.jsonl  losses.json (the lab's numbers)
initial/ (adapter)  base/ (a model not available elsewhere)  neftune_core/ (draws the noise)  study.toml  data/
"""

from __future__ import annotations

import ast
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neftune_core.data.chat import EncodedExample
from neftune_core.data.preparing import PreparedData, prepare
from neftune_core.durable import atomic_write
from neftune_core.engine.arm_factory import make_arms
from neftune_core.engine.lockstep import steps_after
from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import count_steps
from neftune_core.errors import NotAvailable, RecordError
from neftune_core.export.archive import pack
from neftune_core.export.bases import FOLDER, Base, base_of, copy_model
from neftune_core.export.card import requirements
from neftune_core.export.models import name_base, require_free
from neftune_core.home import assets, folder_bytes
from neftune_core.language import say
from neftune_core.models.loading import LoadedModel
from neftune_core.models.settings import BUNDLED
from neftune_core.noise.kinds import KINDS, STEP_MODES
from neftune_core.noise.schedules import SCHEDULES
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.log import STEERED
from neftune_core.studies.study import base_of as loaded_base_of

NOT_A_LABEL = -100
SUPPORTED = ("weight_decay", "lora_dropout")
"""Methods other than noise that the script supports."""
MOST_COPIED_BYTES = 100_000_000
ROOTS = (
    "neftune_core.version",
    "neftune_core.noise.attach",
    "neftune_core.noise.settings",
    "neftune_core.models.architecture.anatomy",
)
"""Modules of this package that the script needs, in addition to the modules that they import."""
PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy", "pydantic", "tomlkit", "filelock")


def script_folder(record: Record, folder: Path, limits: Limits | None = None) -> Path:
    """Write the script for the first seed of a record, with all files that it reads.

    Args:
        record: Record of the study.
        folder: The folder to create.
        limits: Limits on the rows; the defaults if None.

    Returns:
        `folder`.

    Raises:
        InvalidSetting: If something exists at `folder`.
        NotAvailable: If the model is not a plain causal model, or the study was live or trained further.
        RecordError: If the rows or the model have changed since the study was run.
    """
    require_free(folder)
    loaded = loaded_base_of(record)
    if loaded.encoder_decoder:
        raise NotAvailable(say("The script supports only decoder-only models, but this model has an encoder."))
    if loaded.published is not None and not loaded.published.causal:
        raise NotAvailable(
            say("The script needs a model that AutoModelForCausalLM can load, but this model also reads images.")
        )
    if record.study.live:
        raise NotAvailable(
            say("The script cannot reproduce a live study, because its noise was changed during training.")
        )
    if record.study.training.restarts:
        raise NotAvailable(
            say("The script cannot reproduce a study that was trained further, because its schedules restarted.")
        )
    prepared = _prepare_rows(record, loaded, limits or Limits())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as aside:
        aside.mkdir()
        base = _write_base(record, loaded, aside)
        _write_study(record, loaded, prepared, base, aside)
        measured = record.study.training.sample_rows(len(prepared.train))
        for part, rows in (("train", prepared.train), ("held_out", prepared.held_out[:measured])):
            (aside / f"{part}.jsonl").write_text(_rows_as_jsonl(rows), encoding="utf-8")
        if record.study.training.method == "lora":
            arms = make_arms(loaded, 1, record.study.training)
            arms.start(record.study.seed)
            arms.save(1, aside / "initial")
            name_base(record, aside / "initial")
        _copy_package(aside)
        (aside / "requirements.txt").write_text("\n".join(requirements(PACKAGES)) + "\n", encoding="utf-8")
        (aside / "READ-ME.txt").write_text(_readme(record, base, loaded.precision), encoding="utf-8")
    return folder


def _readme(record: Record, base: Base, precision: str) -> str:
    text = (assets() / "report" / "script-readme.txt").read_text(encoding="utf-8")
    commands = [f"    {command}\n" for command in base.commands]
    fetched = [line for line in commands if not line.startswith("    pip install")]
    return text.format(commands="".join(commands), fetched="".join(fetched), notes=_notes(record, base, precision))


def _write_base(record: Record, loaded: LoadedModel, folder: Path) -> Base:
    """Copy the base if it is small and only available here; write the settings and the data files of the study."""
    base, model = base_of(record), Path(str(getattr(loaded.model, "name_or_path", "")))
    study = from_toml(StudySettings, (record.folder / "study.toml").read_text(encoding="utf-8"))
    if base.place == FOLDER and model.is_dir() and folder_bytes(model) <= MOST_COPIED_BYTES:
        copy_model(model, folder / FOLDER)
        base = replace(base, words="")
    if base.place == FOLDER and study.model.source != BUNDLED:
        study = study.model_copy(update={"model": study.model.model_copy(update={"source": FOLDER})})
    (folder / "study.toml").write_text(to_toml(study, comments=True), encoding="utf-8")
    if (record.folder / "data").is_dir():
        shutil.copytree(record.folder / "data", folder / "data")
    return base


def _write_study(record: Record, loaded: LoadedModel, prepared: PreparedData, base: Base, folder: Path) -> None:
    """Write the script, the settings and row order that it reads, and the losses to compare its own with."""
    study = record.study
    against = reasons_against(study)
    arms = {
        name: {"noise": noise.model_dump(), **{method: study.method_of(name).values[method] for method in SUPPORTED}}
        for name, noise in study.arms.items()
        if not against[name]
    }
    about = {
        "base": {"place": base.place, "options": dict(base.options), "rounded": base.rounded},
        "precision": "float32" if study.training.method == "full" else loaded.precision,
        "pad": loaded.tokenizer.pad_token_id or 0,
        "seed": study.seed,
        "training": study.training.model_dump(),
        "order": _order(record, study, prepared),
        "arms": arms,
    }
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "losses.json").write_text(json.dumps(_losses(record, arms), indent=1), encoding="utf-8")
    script = Path(__file__).with_name("standalone.py").read_text(encoding="utf-8")
    (folder / "standalone.py").write_text(_metadata(base) + script, encoding="utf-8")


def _metadata(base: Base) -> str:
    """Return inline script metadata (PEP 723), from which `uv run` installs what the script needs."""
    needs = [*requirements(PACKAGES), *(["gguf>=0.17"] if base.rounded else [])]
    lines = ["/// script", 'requires-python = ">=3.11"', f"dependencies = {json.dumps(needs)}", "///"]
    return "".join(f"# {line}\n" for line in lines)


def _losses(record: Record, arms: Iterable[str]) -> dict[str, Any]:
    """Return the loss of every step and the final held-out loss of each arm, for the first seed, as in the record."""
    mine = [event for event in record.events() if event.get("seed") == record.study.seed]
    steps, measured = ([event["arms"] for event in mine if event["event"] == name] for name in ("step", "evaluated"))
    return {
        name: {
            "losses": [numbers[name]["loss"] for numbers in steps if name in numbers],
            "held_out_loss": measured[-1].get(name, {}).get("held_out_loss") if measured else None,
        }
        for name in arms
    }


def _copy_package(folder: Path) -> None:
    """Copy the modules of this package that the script needs, because no package index has them."""
    package, found, left = Path(__file__).parents[1], set[Path](), list(ROOTS)
    while left:
        file = package.parent / f"{left.pop().replace('.', '/')}.py"
        if file in found or not file.is_file():
            continue
        found |= {file, *(parent / "__init__.py" for parent in file.parents if package in (parent, *parent.parents))}
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        left += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    for file in found:
        target = folder / file.relative_to(package.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def script_archive(record: Record, archive: Path, limits: Limits | None = None) -> Path:
    """Write the folder of `script_folder` as one zip file.

    Args:
        record: Record of the study.
        archive: The zip file to write.
        limits: Limits on the rows; the defaults if None.

    Returns:
        `archive`.

    Raises:
        LabError: If the study cannot be written as a script; see `script_folder`.
    """
    with tempfile.TemporaryDirectory() as aside:
        folder = script_folder(record, Path(aside) / archive.stem, limits)
        return pack(folder, archive, archive.stem)


def reason_against(noise: NoiseSettings) -> str:
    """Explain in a few words why another training loop cannot apply this noise; "" if it can."""
    extra = STEP_MODES[KINDS[noise.kind].passes].extra
    if extra and not noise.is_silent:
        return f"it needs {extra}"
    if SCHEDULES[noise.schedule].multiplier is None and not noise.is_silent:
        return "its schedule follows the loss"
    return ""


def reasons_against(study: StudySettings) -> dict[str, str]:
    """Explain why the script cannot train an arm, by the name of the arm; "" if the script can."""
    found = {name: reason_against(noise) for name, noise in study.arms.items()}
    for name in found:
        used = [
            METHODS[key].words for key, value in study.method_of(name).values.items() if value and key not in SUPPORTED
        ]
        if used:
            found[name] = f"other training loops do not have {' and '.join(used)}"
    return found


def _prepare_rows(record: Record, loaded: LoadedModel, limits: Limits) -> PreparedData:
    prepared = prepare(record.study.data.within(loaded.context), loaded.tokenizer, limits)
    if record.about_table("data").get("sha256", prepared.sha256) != prepared.sha256:
        raise RecordError(
            say(
                "The rows of this record have changed since the study was run, so the script would train on other rows."
            )
        )
    return prepared


def _order(record: Record, study: StudySettings, prepared: PreparedData) -> list[tuple[int, list[int]]]:
    """Return the epoch and row indices of every step of the first seed, including steps that were not taken."""
    recorded = [event["steps"] for event in record.events() if event.get("seed") == study.seed and event.get("steps")]
    total = recorded[-1] if recorded else count_steps(len(prepared.train), study.training)
    lengths = [row.length for row in prepared.train]
    steps = steps_after(0, total, lengths, study.training.batch_size, study.seed)
    return [(step.epoch, step.rows) for step in steps]


def _rows_as_jsonl(rows: Sequence[EncodedExample]) -> str:
    labels = (np.where(row.trained, row.ids, NOT_A_LABEL).tolist() for row in rows)
    labelled = zip(rows, labels, strict=True)
    return "".join(json.dumps({"ids": row.ids.tolist(), "labels": found}) + "\n" for row, found in labelled)


def _notes(record: Record, base: Base, precision: str) -> str:
    """Return the differences from the original study, and the source of the base, as paragraphs."""
    study, note = record.study, str(record.about_table("model").get("note") or "")
    ended = [event for event in record.events() if event["event"] in ("ended_early", STEERED)]
    found = [f"The arm {name} is left out: {reason}." for name, reason in reasons_against(study).items() if reason]
    if study.training.model_dropout or any(study.method_of(name).values["lora_dropout"] for name in study.arms):
        found.append(
            "The study has dropout. The script uses the same rates but draws its own masks, from the same seed in "
            "every run, so its losses agree only approximately."
        )
    if ended:
        found.append("In the lab, some arms ended before the last step. The script trains every arm to the last step.")
    if study.training.method == "full" and precision != "float32":
        found.append(
            f"The study computed in {precision}, but the script computes in float32, so its losses agree only "
            "approximately."
        )
    elif precision != "float32":
        found.append(
            f"The study computes in {precision}. Rounding then depends on the order of summation, so losses agree only "
            "approximately."
        )
    if base.place == FOLDER and base.words:
        found.append(f"The base is {base.words}.")
    return "".join(f"\n{line}\n" for line in [*found, *([note] if note else [])])
