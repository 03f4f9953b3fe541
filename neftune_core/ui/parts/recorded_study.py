"""The recorded study that ships with the lab, which the page shows until the visitor has trained one."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.data.formats.starters import data_title
from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.curves import loss_curves
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words, unit_words
from neftune_core.studies.records.record import Record
from neftune_core.ui.parts.answers import answer_columns, answers_of, of_bundled_model
from neftune_core.ui.parts.markup import machine_text, recorded_notice
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import runs_text

logger = logging.getLogger(__name__)

CLEAR_DIFFERENCE = 0.05
"""Minimum difference between two losses that is described as an increase or a decrease, in nats per token."""

EFFECTS = {
    "train": {
        1: later(
            "With the strongest noise, the model memorised less: its loss on the training examples ended at "
            "{noisy:.2f}, compared with {control:.2f} for the control."
        ),
        0: later(
            "With the strongest noise, the model memorised about as much: its loss on the training examples ended at "
            "{noisy:.2f}, compared with {control:.2f} for the control."
        ),
        -1: later(
            "With the strongest noise, the model memorised more: its loss on the training examples ended at "
            "{noisy:.2f}, compared with {control:.2f} for the control."
        ),
    },
    "held_out": {
        1: later("On new examples, it did worse (loss {noisy:.2f}, compared with {control:.2f})."),
        0: later(
            "On new examples, it did about as well as the control (loss {noisy:.2f}, compared with {control:.2f})."
        ),
        -1: later("On new examples, it did better (loss {noisy:.2f}, compared with {control:.2f})."),
    },
}
"""Effect of the strongest noise on the final loss, by kind of loss and the result of `_direction`."""

NORMS = "seen.json"
"""File with the token norms of one training row, stored with a record by `python -m tests.tools.recorded_norms`."""


@dataclass(frozen=True)
class RecordedStudy:
    """The content of a recorded study, in the current language.

    Attributes:
        line: Description in one sentence.
        model: Name of the model.
        data: Title of the data.
        curves: Figure of the losses.
        answers: Stored answers as HTML.
        stage: Data of the Learn tab's animation, from the function `stage`.
    """

    line: str
    model: str
    data: str
    curves: Figure
    answers: str
    stage: dict[str, Any]

    def notice(self, then: str = "") -> str:
        """Return the notice above a recorded study; `then` is an optional sentence below it."""
        return recorded_notice(say("A recorded study."), self.line, then)


def read_recorded_study(lab: Lab) -> RecordedStudy | None:
    """Return the study that ships with the lab; None if absent or unreadable."""
    if lab.recorded is None:
        return None
    try:
        study = lab.recorded.study
    except RecordError as error:
        logger.warning("the recorded study was skipped: %s", error)
        return None
    arms, events = study.arms, lab.recorded.events()
    curves, answers = (
        loss_curves(events, arms),
        answer_columns(answers_of(lab.recorded), arms, bundled=of_bundled_model(lab.recorded)),
    )
    about = lab.recorded.about
    model = say(about.get("model", {}).get("name", study.model.source))
    data = data_title(about.get("data", {}).get("title", study.data.source))
    line = _describe(lab.recorded, model, data)
    return RecordedStudy(line, model, data, curves, answers, stage(lab.recorded, line))


def stage(record: Record, line: str) -> dict[str, Any]:
    """Build the data of the Learn tab's animation from the first seed of a study.

    Args:
        record: Record of the study.
        line: Description in one sentence.

    Returns:
        `{"about", "lead", "result", "sure", "best", "steps", "per_epoch", "seen", "arms"}`, with the arms as
        `[{name, label, colour, train, held_out, batches}]`. The texts are `about`, `lead` (an introduction), `result`
        (the effect of the noise), `sure` (the certainty of the result) and `best` (a better alternative, or "").
        `train` and `held_out` are `[[step, loss], ...]` with noise off; `batches` is the training loss of each step in
        the same form.
    """
    arms, colours = record.arms, arm_colours(record.arms)
    events = [event for event in record.events() if event.get("seed") == record.study.seed]
    steps = [event for event in events if event["event"] == "step"]
    shown = []
    for name in arms:
        curves: dict[str, list[list[float]]] = {"train": [], "held_out": [], "batches": []}
        for event in events:
            numbers = event.get("arms", {}).get(name, {}) if event["event"] in ("step", "evaluated") else {}
            for part, kind in (("train", "train_loss"), ("held_out", "held_out_loss"), ("batches", "loss")):
                if numbers.get(kind) is not None:
                    curves[part].append([event["step"], round(numbers[kind], 4)])
        shown.append({"name": name, "label": arm_words(name), "colour": colours[name], **curves})
    last = max((event["step"] for event in steps), default=0)
    epochs = 1 + max((event.get("epoch", 0) for event in steps), default=0)
    texts = {"about": line, "lead": _lead(record), **_result(record, shown)}
    return {**texts, "steps": last, "per_epoch": last / epochs, "arms": shown, "seen": stored_norms(record)}


def _lead(record: Record) -> str:
    noise = record.study.noise
    return say(
        "NEFTune adds small random numbers to a model's word embeddings, only during "
        "fine-tuning. Here one small model learns the same {count} examples {times} times: "
        "without noise (the control), and with noise of {strengths}.",
        count=record.about.get("data", {}).get("train", "?"),
        times=len(noise) + 1,
        strengths=_list_names([f"{unit_words(one.unit)} {one.strength:g}" for one in noise]),
    )


def _result(record: Record, arms: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Describe the effect of the strongest noise, its certainty, and whether early stopping would have been better."""
    control, strongest = arms[0], arms[-1]
    if any(not arm[part] for arm in arms for part in ("train", "held_out")):
        return dict.fromkeys(("result", "sure", "best"), "")
    ends = {part: (strongest[part][-1][1], control[part][-1][1]) for part in ("train", "held_out")}
    step, best = min(control["held_out"], key=lambda point: point[1])
    others = min(value for arm in arms[1:] for _, value in arm["held_out"])
    early = say(
        "The control's loss on new examples was lowest at step {step} ({best:.2f}): stopping there would have been "
        "better than adding noise.",
        step=step,
        best=best,
    )
    words = [say(EFFECTS[part][_direction(*pair)], noisy=pair[0], control=pair[1]) for part, pair in ends.items()]
    sure = say(
        "One run and {count} new examples are too few for a conclusion; lesson 7 explains why.",
        count=record.about.get("data", {}).get("held_out", 0),
    )
    return {
        "result": say("{one} {other}", one=words[0], other=words[1]),
        "sure": sure,
        "best": early if best < others else "",
    }


def _direction(noisy: float, control: float) -> int:
    """Return 1 if the loss is clearly higher with noise, -1 if it is clearly lower, and 0 otherwise."""
    return (noisy > control + CLEAR_DIFFERENCE) - (noisy < control - CLEAR_DIFFERENCE)


def _describe(record: Record, model: str, title: str) -> str:
    """Describe a study in one sentence: model, data, arms, seed and, if known, run, machine and date."""
    about, data = record.about, record.about.get("data", {})
    rows = say(" ({count:,} rows)", count=data["train"]) if "train" in data else ""
    parts = [_list_names([arm_words(name) for name in record.study.arms])]
    parts.append(say("seed {seed}", seed=record.study.seed))
    if "train" in data:
        parts.append(runs_text(record.study, data["train"]))
    machine, created = about.get("machine", {}), about.get("created")
    if "processor" in machine:
        parts.append(machine_text(machine))
    if isinstance(created, int | float):
        parts.append(time.strftime(say("%d %B %Y"), time.gmtime(created)).lstrip("0"))
    made = say("{title} on {data}", title=model, data=f"{title}{rows}")
    return say("{made}: {rest}.", made=made, rest=say(", ").join(parts))


def _list_names(names: Sequence[str]) -> str:
    return say(" and ").join([say(", ").join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def stored_norms(record: Record) -> dict[str, Any] | None:
    """Return the token norms stored with a record; None if absent or unreadable."""
    try:
        found = json.loads((record.folder / NORMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"tokens", "response", "clean", "epochs"} <= set(found) else None
