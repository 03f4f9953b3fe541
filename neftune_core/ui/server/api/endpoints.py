"""The HTTP API: named endpoints that take the settings as parameters.

Calls are validated like those of the page, and an error is one sentence. assets/docs/api.md has a working example of
each endpoint.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.home import home
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import parse
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.user_rows import FILE, FILE_PARTS
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.record import require_single
from neftune_core.ui.parts.study_form import plan_text, require_fit
from neftune_core.ui.server.api import steering
from neftune_core.ui.server.api.arguments import (
    checked_key,
    checked_table,
    checked_text,
    model_of,
    own_record,
    own_study,
    plain,
    whole_number,
)
from neftune_core.ui.server.api.schemas import describe, of_settings, with_settings
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.previews import read_sentence
from neftune_core.ui.server.uploads import asked_as, upload_quota

MOST_EVENTS = 2_000
LONGEST_TEXT = 2_000
ROW_CHARACTERS = 4_000


def build(lab: Lab) -> None:
    """Add the endpoints to the page that is being built."""
    page = gr.context.Context.root_block
    assert page is not None, "the page is open"
    for handler, settings in (
        (_preview_noise(), NoiseSettings),
        (_read_instructions(lab), DataSettings),
        (_start(lab), None),
        (_status(lab), None),
        (_stop(lab), None),
        (steering.stop_arm(lab), None),
        (steering.set_strength(lab), None),
        (steering.continue_study(lab), None),
        (_answers(lab), None),
        (_verdict(lab), None),
    ):
        made = with_settings(handler, settings) if settings else handler
        gr.api(made, api_name=handler.__name__, concurrency_limit=LIMITS.get(handler.__name__, 4))
        names = inspect.signature(made).parameters
        inputs = dict(zip(names, page.fns[max(page.fns)].inputs, strict=True))
        describe(inputs, settings, {"settings": of_settings(StudySettings)} if "settings" in names else {})


LIMITS = {"start_study": None, "continue_study": None, "answers": 2, "read_instructions": 2}
"""Maximum number of concurrent calls of an endpoint, if it is not the default; None for no limit."""


def _preview_noise() -> Callable[..., Any]:
    def preview_noise(text: str, model: str = "bundled", draw: int = 0, **values: Any) -> dict[str, Any]:
        """Draw noise for every token of a text; return the clean and noised norms, and the angles between the vectors.

        Args:
            text: The text.
            model: Name of the model.
            draw: Seed of the noise.
        """
        noise = parse(NoiseSettings, values)
        return _add_noise(checked_text(text, "text", LONGEST_TEXT), model_of(model), whole_number(draw, "draw"), noise)

    return preview_noise


def _add_noise(text: str, model: ModelSettings, draw: int, noise: NoiseSettings) -> dict[str, Any]:
    import numpy as np

    from neftune_core.noise.kinds import KINDS
    from neftune_core.noise.preview import DRAWN_AS, unit_draw
    from neftune_core.noise.strength import SHARE, standard_deviation

    sentence = read_sentence(text, model, noise.sites)
    clean = sentence.clean.astype(np.float64)
    length, width = clean.shape
    signal = float(np.sqrt((clean**2).mean()))
    unit = unit_draw(sentence, DRAWN_AS[noise.kind], draw).astype(np.float64)
    if KINDS[noise.kind].drops or noise.unit == SHARE:
        deviation, noised = None, clean * (unit[:, :1] >= noise.strength)
    else:
        deviation = standard_deviation(noise.strength, noise.unit, length, width, signal)
        noised = clean + deviation * unit
    norms, noised_norms = np.linalg.norm(clean, axis=1), np.linalg.norm(noised, axis=1)
    cosine = (clean * noised).sum(1) / np.maximum(norms * noised_norms, 1e-30)
    return {
        "tokens": sentence.tokens,
        "standard_deviation": deviation,
        "clean_norms": norms.tolist(),
        "noised_norms": noised_norms.tolist(),
        "angles_degrees": np.degrees(np.arccos(np.clip(cosine, -1, 1))).tolist(),
        "signal_to_noise": None if not deviation else signal / deviation,
        "first_draw_only": KINDS[noise.kind].passes != "one",
    }


def _read_instructions(lab: Lab) -> Callable[..., Any]:
    def read_instructions(file: dict | None = None, model: str = "bundled", **values: Any) -> dict[str, Any]:
        """Read instructions; return their layout, the number of rows, the refused rows and the first training row.

        The `source` in the result can be passed to `start_study`.

        Args:
            file: An uploaded file, which replaces `source`.
            model: Name of the model that provides the tokenizer.
        """
        given = {name: value for name, value in values.items() if value is not None}
        data = parse(DataSettings, {**given, "source": f"{FILE}{_upload_path(file)}"} if file else given)
        _require_own_rows(lab, data)
        from neftune_core.data.preparing import preview

        prepared, tokenizer = lab.prepared(data, model_of(model))
        row = prepared.train[0]
        return {
            "source": data.source,
            "title": prepared.title,
            "licence": prepared.licence,
            "layout": prepared.reading.layout,
            "columns": dict(prepared.reading.columns),
            "train": len(prepared.train),
            "held_out": len(prepared.held_out),
            "cut": prepared.cut,
            "refused": [str(refusal) for refusal in prepared.refusals[:20]],
            "first_row": "".join(text for text, _ in preview(row, tokenizer))[:ROW_CHARACTERS],
            "longest_row_tokens": max(len(found.ids) for found in prepared.train),
        }

    return read_instructions


def _upload_path(file: Any) -> str:
    path = file.get("path") if isinstance(file, Mapping) else None
    if not isinstance(path, str):
        raise DataError("The file in this call is not an upload: pass it with handle_file from gradio_client.")
    return path


def _require_own_rows(lab: Lab, data: DataSettings) -> None:
    """Raise `DataError` if a call on a public server names a file that was not uploaded to it."""
    if lab.limits.local_paths:
        return
    uploads = (home() / "uploads").resolve()
    for part in FILE_PARTS:
        source: str = getattr(data, part)
        if not source.startswith(FILE):
            continue
        path = Path(source.removeprefix(FILE))
        if not (_is_within(path, uploads) and upload_quota(lab.limits).may_name(str(path))):
            raise DataError("This file was not uploaded here: upload it with read_instructions first.")


def _is_within(path: Path, folder: Path) -> bool:
    """Return whether `path` is a normalised path without symbolic links inside `folder`."""
    try:
        return path.is_absolute() and not path.is_symlink() and path.resolve().is_relative_to(folder)
    except (OSError, ValueError):
        return False


def _start(lab: Lab) -> Callable[..., Any]:
    def start_study(settings: dict, key: str) -> dict:
        """Start a study, which trains a control and other arms on the same batches at the same time.

        Call study_status until is_over is true, then call verdict and answers.

        Args:
            settings: The settings of study.toml as nested tables; omitted settings keep their defaults.
            key: A long secret that you choose; anyone who has it can see the study, stop it and read its answers.
        """
        owner, study = checked_key(key), parse(StudySettings, checked_table(settings, "settings"))
        asked_as.set(owner_hash(owner))
        _require_own_rows(lab, study.data)
        plan_text(lab, study)  # raises if the study is too long, even while the server is busy
        require_fit(lab, study)
        record = lab.jobs.submit(study, owner)
        for _ in lab.attended(record, owner):
            pass
        return {"record": record.id, "arms": list(study.arms), "place": lab.jobs.status(record).place}

    return start_study


def _status(lab: Lab) -> Callable[..., Any]:
    def study_status(record: str, key: str, since: int = 0) -> dict:
        """Return the state of a study and its events from number `since` on.

        Args:
            record: Id of the study.
            key: The key with which the study was started.
            since: Number of the first event to return; pass `next` from the previous result.
        """
        found, first = own_record(record, key), whole_number(since, "since")
        status, events = lab.jobs.status(found), lab.log(found).events
        return {
            "state": status.state,
            "is_over": status.is_over,
            "place": status.place,
            "step": status.step,
            "steps": status.steps,
            "message": status.message,
            "seconds_left": status.seconds_left,
            "losses": dict(status.losses),
            "events": events[first : first + MOST_EVENTS],
            "next": min(first + MOST_EVENTS, len(events)),
            "total": len(events),
        }

    return study_status


def _stop(lab: Lab) -> Callable[..., Any]:
    def stop_study(record: str, key: str) -> dict:
        """Stop a study and keep its results up to the last complete step.

        Args:
            record: Id of the study.
            key: The key with which the study was started.
        """
        found = own_record(record, key)
        lab.jobs.stop(found.id, key)
        return {"state": lab.jobs.status(found).state}

    return stop_study


def _answers(lab: Lab) -> Callable[..., Any]:
    def answers(
        record: str,
        key: str,
        prompts: list | None = None,
        seed: int | None = None,
        system: str = "",
        new_tokens: int = 96,
        repetition_penalty: float = 1.2,
    ) -> dict:
        """Return the answers of the base model and every arm.

        Args:
            record: Id of the study, or `RECORD/CELL` for a study of a sweep.
            key: The key with which the study was started.
            prompts: The prompts; without any, the answers stored by the study are returned.
            seed: Seed of the arms; the first one by default.
            system: System prompt.
            new_tokens: Maximum number of tokens per answer.
            repetition_penalty: Repetition penalty for decoding.
        """
        from neftune_core.studies.comparison import comparison_request

        found = require_single(own_study(record, key))
        chosen = None if seed is None else whole_number(seed, "seed")
        if not prompts:
            return {"answers": found.answers(chosen)}
        given = {"prompts": prompts, "system": system, "new_tokens": new_tokens}
        asked = parse(AnswerSettings, {**given, "repetition_penalty": repetition_penalty})
        lines: list[dict[str, Any]] = []
        for lines in lab.answers(*comparison_request(found, asked, seed=chosen), asked):  # noqa: B007 - the last one is complete
            pass
        return {"answers": lines}

    return answers


def _verdict(lab: Lab) -> Callable[..., Any]:
    def verdict(record: str, key: str) -> dict:
        """Return the verdict, which compares each arm with the control in sentences and numbers.

        Args:
            record: Id of the study or sweep.
            key: The key with which it was started.
        """
        from neftune_core.sweeps.table import judge

        found = judge(own_study(record, key))
        asked, warnings = found.question, [line.text() for line in found.warnings]
        arms = {
            name: {
                "status": arm.status,
                "lines": [line.text() for line in arm.lines],
                "numbers": dataclasses.asdict(arm.epochs[asked.epoch]),
            }
            for name, arm in found.arms.items()
        }
        return plain({"text": found.text(), "warnings": warnings, "question": dataclasses.asdict(asked), "arms": arms})

    return verdict
