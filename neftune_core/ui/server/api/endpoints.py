"""The HTTP API: named endpoints, validated like the page's calls; assets/docs/api.md has an example of each."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
import numpy as np

from neftune_core.data.preparing import preview
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, InvalidSetting
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import DRAWN_AS, unit_draw
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import SHARE, standard_deviation
from neftune_core.settings import Settings, parse
from neftune_core.studies.records.log import finite
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.records.user_rows import FILE, SOURCE_SETTINGS
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering import requests
from neftune_core.sweeps.record import find_study, require_single
from neftune_core.sweeps.table import judge
from neftune_core.ui.parts.study_form import plan_text, require_fit
from neftune_core.ui.server.api.parameters import describe, of_settings, with_settings
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.previews import read_sentence
from neftune_core.ui.server.uploads import asked_as, upload_quota

MOST_EVENTS = 2_000
LONGEST_TEXT = 2_000
ROW_CHARACTERS = 4_000
SHORTEST_KEY = 20
ENDPOINTS: dict[str, tuple[type[Settings] | None, int | None]] = {
    "preview_noise": (NoiseSettings, 4),
    "read_instructions": (DataSettings, 2),
    "start_study": (None, None),
    "study_status": (None, 4),
    "stop_study": (None, 4),
    "stop_arm": (None, 4),
    "set_strength": (None, 4),
    "continue_study": (None, None),
    "answers": (None, 2),
    "verdict": (None, 4),
}
"""For each endpoint, the class of the settings among its parameters (or None) and the limit on concurrent calls."""


def build(lab: Lab) -> None:
    """Add the endpoints to the page that is being built."""
    page = gr.context.Context.root_block
    assert page is not None, "the page is open"
    methods = _Endpoints(lab)
    for name, (settings, at_once) in ENDPOINTS.items():
        method = getattr(methods, name)
        handler = with_settings(method, settings) if settings else method
        gr.api(handler, api_name=name, concurrency_limit=at_once)
        inputs = dict(zip(inspect.signature(handler).parameters, page.fns[max(page.fns)].inputs, strict=True))
        describe(inputs, settings, {"settings": of_settings(StudySettings)} if "settings" in inputs else {})


class _Endpoints:
    """The endpoints, as methods with their names; clients see the docstrings. An invalid call raises a `LabError`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def preview_noise(self, text: str, model: str = "bundled", draw: int = 0, **values: Any) -> dict[str, Any]:
        """Add one random draw of the noise to the vectors of a text's tokens.

        Args:
            text: One or more sentences.
            model: Name of the model.
            draw: Seed of the noise.
            **values: Noise settings, by name.

        Returns:
            For each token, its text, the norms of its vector without and with noise, and the angle between the two; the
            noise's standard deviation; the signal-to-noise ratio; and whether this is only the initial draw of a step.
        """
        noise = parse(NoiseSettings, values)
        return _add_noise(_text(text, "text", LONGEST_TEXT), _model(model), _whole(draw, "draw"), noise)

    def read_instructions(self, file: dict | None = None, model: str = "bundled", **values: Any) -> dict[str, Any]:
        """Read and tokenise a data set.

        Args:
            file: An uploaded file, which replaces `source`.
            model: Name of the model that provides the tokenizer.
            **values: Data settings, by name.

        Returns:
            The `source` to pass to start_study; title, licence, layout and columns; numbers of training, held-out and
            cut rows; why rows were refused; the first training row; and the number of tokens of the longest one.
        """
        given = {name: value for name, value in values.items() if value is not None}
        data = parse(DataSettings, {**given, "source": f"{FILE}{_upload_path(file)}"} if file else given)
        self._require_own_rows(data)

        prepared, tokenizer = self.lab.prepared(data, _model(model))
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

    def start_study(self, settings: dict, key: str) -> dict:
        """Start a study, which trains a control and other arms on the same batches at the same time.

        Call study_status until is_over is true, then call verdict and answers.

        Args:
            settings: The settings of study.toml as nested tables; omitted settings keep their defaults.
            key: A long secret that you choose; anyone who has it can see the study, stop it and read its answers.

        Returns:
            The id of the study as `record`, the names of its arms, and its place in the queue (0 if it is not waiting).
        """
        owner, study = _key(key), parse(StudySettings, _checked(settings, "settings", Mapping, "a table of settings"))
        asked_as.set(owner_hash(owner))
        self._require_own_rows(study.data)
        plan_text(self.lab, study)  # raises if the study is too long, even while the server is busy
        require_fit(self.lab, study)
        record = self.lab.jobs.submit(study, owner)
        return self._started(record, owner)

    def study_status(self, record: str, key: str, since: int = 0) -> dict:
        """Return the state and the events of a study.

        Args:
            record: Id of the study.
            key: The key used to start the study.
            since: Number of the first event to return; pass `next` from the previous result.

        Returns:
            The state, `is_over`, the place in the queue, steps done and planned, a message, the time left in seconds,
            the losses by arm, and up to 2,000 events with their `total` and the `next` number to request.
        """
        found, first = find(_text(record, "record", 100), _key(key)), _whole(since, "since")
        status, events = self.lab.jobs.status(found), found.read_log().events
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

    def stop_study(self, record: str, key: str) -> dict:
        """Stop a study and keep its results up to the last complete step.

        Args:
            record: Id of the study.
            key: The key used to start the study.

        Returns:
            The state of the study.
        """
        found = find(_text(record, "record", 100), _key(key))
        self.lab.jobs.stop(found.id, key)
        return {"state": self.lab.jobs.status(found).state}

    def stop_arm(self, record: str, key: str, arm: str) -> dict:
        """Stop one arm of a running study after its current step; the others continue.

        study_status reports the stop as a `steered` event. The verdict makes no claim about a stopped arm.

        Args:
            record: Id of the study.
            key: The key used to start the study.
            arm: Name of the arm, such as `uniform-alpha-5`; the control cannot be stopped alone.

        Returns:
            The arm, and the number of steps that the study has completed.
        """
        found = self._changeable(record, key)
        requests.stop_arm(found, _text(arm, "arm", 200))
        return {"arm": arm, "step": self.lab.jobs.status(found).step}

    def set_strength(self, record: str, key: str, strength: float) -> dict:
        """Change the strength of the first noise arm of a running live study (`live = true`) after the current step.

        study_status reports the change as a `steered` event. A live study never gets a verdict.

        Args:
            record: Id of the study.
            key: The key used to start the study.
            strength: The new strength, in the unit of the arm.

        Returns:
            The arm, the new strength, and the number of steps that the study has completed.
        """
        found, wanted = self._changeable(record, key), _number(strength, "strength")
        requests.set_strength(found, wanted)
        return {"arm": found.study.live_arm, "strength": wanted, "step": self.lab.jobs.status(found).step}

    def continue_study(self, record: str, key: str, epochs: float = 1) -> dict:
        """Train a finished study for more epochs as a new record; the learning-rate and noise schedules start again.

        Args:
            record: Id of the finished study.
            key: The key used to start the study.
            epochs: Number of additional epochs.

        Returns:
            The same as start_study, for the new record.
        """
        from neftune_core.studies.steering.going_on import go_on

        found, owner, more = self._changeable(record, key), _key(key), _number(epochs, "epochs")
        made = self.lab.jobs.submit_made(owner, lambda: go_on(found, more, owner, self.lab.limits))
        return self._started(made, owner)

    def answers(
        self,
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
            key: The key used to start the study.
            prompts: The prompts; without any, the answers stored by the study are returned.
            seed: Seed of the arms; without it, the first seed answers, and stored answers are those of all seeds.
            system: System prompt.
            new_tokens: Maximum number of tokens per answer.
            repetition_penalty: Repetition penalty for decoding.

        Returns:
            The list `answers`, with one entry per prompt: the prompt, the reference answer and the answers by arm.
        """
        from neftune_core.studies.comparison import comparison_request

        found = require_single(find_study(_text(record, "record", 100), _key(key)))
        chosen = None if seed is None else _whole(seed, "seed")
        if not prompts:
            return {"answers": found.answers(chosen)}
        given = {"prompts": prompts, "system": system, "new_tokens": new_tokens}
        asked = parse(AnswerSettings, {**given, "repetition_penalty": repetition_penalty})
        lines: list[dict[str, Any]] = []
        for lines in self.lab.answers(*comparison_request(found, asked, seed=chosen), asked):  # noqa: B007 - the last one is complete
            pass
        return {"answers": lines}

    def verdict(self, record: str, key: str) -> dict:
        """Return the verdict, which compares each arm with the control in sentences and numbers.

        Args:
            record: Id of the study or sweep.
            key: The key used to start it.

        Returns:
            `text`, `warnings` and `question`, and in `arms`, for each arm, its `status`, `lines` (sentences) and
            `numbers`.
        """
        found = judge(find_study(_text(record, "record", 100), _key(key)))
        asked, warnings = found.question, [line.text() for line in found.warnings]
        arms = {
            name: {
                "status": arm.status,
                "lines": [line.text() for line in arm.lines],
                "numbers": dataclasses.asdict(arm.epochs[asked.epoch]),
            }
            for name, arm in found.arms.items()
        }
        return finite({"text": found.text(), "warnings": warnings, "question": dataclasses.asdict(asked), "arms": arms})

    def _started(self, record: Record, owner: str) -> dict:
        """Return the result of an endpoint that starts a study; if the GPU is allocated per call, wait for its end."""
        for _ in self.lab.attended(record, owner):
            pass
        return {"record": record.id, "arms": list(record.study.arms), "place": self.lab.jobs.status(record).place}

    def _changeable(self, record: Any, key: Any) -> Record:
        """Return a record that the caller may change: their own, or on a private server one from the command line."""
        return self.lab.jobs.find_owned(_text(record, "record", 100), _key(key))

    def _require_own_rows(self, data: DataSettings) -> None:
        """Raise `DataError` if a call on a public server names a file that was not uploaded to it."""
        if self.lab.limits.local_paths:
            return
        sources: Iterator[str] = (getattr(data, name) for name in SOURCE_SETTINGS)
        files = [source.removeprefix(FILE) for source in sources if source.startswith(FILE)]
        if not all(map(upload_quota(self.lab.limits).holds, files)):
            raise DataError("This file was not uploaded here: upload it with read_instructions first.")


def _add_noise(text: str, model: ModelSettings, draw: int, noise: NoiseSettings) -> dict[str, Any]:
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


def _upload_path(file: Any) -> str:
    path = file.get("path") if isinstance(file, Mapping) else None
    if not isinstance(path, str):
        raise DataError("The file in this call is not an upload: pass it with handle_file from gradio_client.")
    return path


def _checked(value: Any, name: str, kinds: type | tuple[type, ...], what: str) -> Any:
    """Return a parameter; raise `InvalidSetting` unless it has one of the types `kinds`, described by `what`."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InvalidSetting(f"The value of {name} must be {what}.")
    return value


def _text(value: Any, name: str, longest: int) -> str:
    text: str = _checked(value, name, str, "text")
    if len(text) > longest:
        raise InvalidSetting(f"The value of {name} may have at most {longest:,} characters.")
    return text


def _number(value: Any, name: str) -> float:
    return float(_checked(value, name, (int, float), "a number"))


def _whole(value: Any, name: str) -> int:
    wanted = "a whole number of at least 0"
    number = _checked(value, name, (int, float), wanted)
    if number != int(number) or not 0 <= number < 2**31:
        raise InvalidSetting(f"The value of {name} must be {wanted}.")
    return int(number)


def _key(key: Any) -> str:
    """Return the caller's key; raise `InvalidSetting` if it is too short."""
    given = require_key(_text(key, "key", 1_000))
    if len(given) < SHORTEST_KEY:
        raise InvalidSetting(f"The key of this call is too easy to guess: use {SHORTEST_KEY} characters or more.")
    return given


def _model(model: Any) -> ModelSettings:
    return parse(ModelSettings, {"source": model})
