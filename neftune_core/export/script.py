"""A study as code: its study.toml with the command, and a folder with a script that trains it again elsewhere.

study.toml  standalone.py  study.json  train.jsonl  held_out.jsonl  initial/ (adapter)  READ-ME.txt
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neftune_core.data.chat import Encoded
from neftune_core.data.preparing import Prepared, prepare
from neftune_core.errors import NotAvailable, RecordError
from neftune_core.home import assets
from neftune_core.language import say
from neftune_core.models.loading import LoadedModel
from neftune_core.models.settings import BUNDLED
from neftune_core.noise.attach import EXTRA_PASSES
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.schedules import SCHEDULES
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.training.lockstep import count_steps, steps_after
from neftune_core.training.methods import make_arms
from neftune_core.training.record import Record
from neftune_core.training.settings import StudySettings
from neftune_core.training.study import base_of

NOT_A_LABEL = -100
READ_ME = """This is a study of the NEFTune Lab.

With the lab itself:    neftune train study.toml
With your own machine:  pip install neftune-lab peft, then: python standalone.py

standalone.py reads the study's rows, their order and its initial adapter (where it trains adapters) from the files
here, draws the same noise, and so finds the same losses (losses.json), up to the rounding of another machine.
{notes}"""


def script_folder(record: Record, folder: Path, limits: Limits | None = None) -> Path:
    """Write the script of the first seed of `record` with everything it reads into `folder`, and give it back.

    Raises `NotAvailable` where no arm can be trained by another loop, or the model is an encoder-decoder, and
    `RecordError` where the rows or the model have changed since.
    """
    study = record.study
    arms = {name: noise for name, noise in study.arms.items() if not reason_against(noise)}
    loaded = base_of(record)
    if loaded.encoder_decoder:
        raise NotAvailable(say("The script is for models that write on from the prompt: this one has an encoder."))
    prepared = _prepared(record, loaded, limits or Limits())
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "model": _model(study, loaded),
        "revision": study.model.revision,
        "precision": "float32" if study.training.method == "full" else loaded.precision,
        "pad": loaded.tokenizer.pad_token_id or 0,
        "seed": study.seed,
        "training": study.training.model_dump(),
        "order": _order(record, study, prepared),
        "arms": {name: _arm(study, name, noise) for name, noise in arms.items()},
    }
    (folder / "study.json").write_text(json.dumps(about), encoding="utf-8")
    measured = study.training.sample_rows(len(prepared.train))
    for part, rows in (("train", prepared.train), ("held_out", prepared.held_out[:measured])):
        (folder / f"{part}.jsonl").write_text(_lines(rows), encoding="utf-8")
    if study.training.method == "lora":
        arms_of_study = make_arms(loaded, 1, study.training)
        arms_of_study.start(study.seed)
        arms_of_study.save(1, folder / "initial")
    shutil.copyfile(Path(__file__).with_name("standalone.py"), folder / "standalone.py")
    shutil.copyfile(record.folder / "study.toml", folder / "study.toml")
    (folder / "READ-ME.txt").write_text(READ_ME.format(notes=_notes(study, loaded.precision)), encoding="utf-8")
    return folder


def script_archive(record: Record, archive: Path, limits: Limits | None = None) -> Path:
    """The folder of `script_folder` as one zip file."""
    with tempfile.TemporaryDirectory() as aside:
        folder = script_folder(record, Path(aside) / archive.stem, limits)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                file.write(path, path.relative_to(folder.parent))
    return archive


def reason_against(noise: NoiseSettings) -> str:
    """Why another loop cannot train with this noise, in a few words; empty where it can."""
    passes = KINDS[noise.kind].passes
    if passes in EXTRA_PASSES and not noise.is_silent:
        return f"it needs {EXTRA_PASSES[passes]}"
    if SCHEDULES[noise.schedule].multiplier is None and not noise.is_silent:
        return "its schedule follows the loss"
    return ""


def _prepared(record: Record, loaded: LoadedModel, limits: Limits) -> Prepared:
    prepared = prepare(record.study.data.within(loaded.context), loaded.tokenizer, limits)
    if record.said_of("data").get("sha256", prepared.sha256) != prepared.sha256:
        raise RecordError(
            say("The rows of this record have changed since it was trained, so its script would be another.")
        )
    return prepared


def _model(study: StudySettings, loaded: LoadedModel) -> str:
    """What transformers loads: a hub id, or a folder of this machine."""
    if study.model.source == BUNDLED:
        return str(assets() / "model")
    return str(getattr(loaded.model, "name_or_path", "") or study.model.source)


def _order(record: Record, study: StudySettings, prepared: Prepared) -> list[tuple[int, list[int]]]:
    """The epoch and the places of the rows of every step that the first seed made or was to make."""
    said = [event["steps"] for event in record.events() if event.get("seed") == study.seed and event.get("steps")]
    total = said[-1] if said else count_steps(len(prepared.train), study.training)
    lengths = [row.length for row in prepared.train]
    steps = steps_after(0, total, lengths, study.training.batch_size, study.seed)
    return [(step.epoch, step.rows) for step in steps]


def _arm(study: StudySettings, name: str, noise: NoiseSettings) -> dict[str, Any]:
    return {"noise": noise.model_dump(), "weight_decay": study.regulariser_of(name).weight_decay}


def _lines(rows: Sequence[Encoded]) -> str:
    labelled = (
        {
            "ids": row.ids.tolist(),
            "labels": [int(i) if t else NOT_A_LABEL for i, t in zip(row.ids, row.trained, strict=True)],
        }
        for row in rows
    )
    return "".join(json.dumps(row) + "\n" for row in labelled)


def _notes(study: StudySettings, precision: str) -> str:
    """What the script does not do as the study did, a line each."""
    against = {name: reason_against(noise) for name, noise in study.arms.items()}
    found = [f"The arm {name} is left out: {reason}." for name, reason in against.items() if reason]
    dropped = study.training.model_dropout or any(study.regulariser_of(name).lora_dropout for name in study.arms)
    if dropped:
        found.append("The study has dropout, which the script leaves out: its losses are others.")
    if study.training.method == "full" and precision != "float32":
        found.append(f"The study computed in {precision}, and the script computes in float32: its losses are near.")
    return "\n".join(found)
