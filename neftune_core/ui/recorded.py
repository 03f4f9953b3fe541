"""The recorded study that ships with the lab: what is shown before anything is run."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.curves import loss_curves
from neftune_core.language import say
from neftune_core.lessons import seen
from neftune_core.training.record import Record
from neftune_core.training.settings import StudySettings
from neftune_core.ui.answers import answer_columns
from neftune_core.ui.lab import Lab
from neftune_core.ui.views import quiet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recorded:
    """What a recorded study shows: `line` says in one sentence what it was, `answers` is HTML.

    `stage` is what the Learn tab plays: the losses of every arm by step, and the norms that the arms read of one row.
    """

    line: str
    curves: Figure
    answers: str
    stage: dict[str, Any]

    def notice(self, then: str = "") -> str:
        """The line over a recorded study; `then` says how the visitor's own comes to its place."""
        more = quiet(then) if then else ""
        head = say("A recorded study.")
        return f'<div class="lab-recorded"><p><b>{head}</b> {html.escape(self.line)}</p>{more}</div>'


def recorded(lab: Lab) -> Recorded | None:
    """The study that ships with the lab; None where there is none, or where it cannot be read."""
    if lab.recorded is None:
        return None
    try:
        study = lab.recorded.study
    except RecordError as error:
        logger.warning("the recorded study is left out: %s", error)
        return None
    arms, events = study.arms, lab.recorded.events()
    curves, answers = loss_curves(events, arms), answer_columns(lab.recorded.answers(), arms)
    line = _line(lab.recorded, study)
    return Recorded(line, curves, answers, stage(lab.recorded, line))


def stage(record: Record, line: str) -> dict[str, Any]:
    """`{"about", "steps", "per_epoch", "arms": [{name, colour, train, held_out, batches}], "seen"}` of a record.

    `train` and `held_out` are `[[step, loss], ...]` with the noise off, `batches` the loss of each step as trained. The
    first seed alone is played.
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
        shown.append({"name": name, "colour": colours[name], **curves})
    last = max((event["step"] for event in steps), default=0)
    epochs = 1 + max((event.get("epoch", 0) for event in steps), default=0)
    return {"about": line, "steps": last, "per_epoch": last / epochs, "arms": shown, "seen": seen.kept(record)}


def _line(record: Record, study: StudySettings) -> str:
    about = record.about
    model = about.get("model", {}).get("name", study.model.source)
    data = about.get("data", {})
    rows = say(" ({count:,} rows)", count=data["train"]) if "train" in data else ""
    arms = _listed(list(study.arms))
    made = say("{title} on {data}", title=say(model), data=f"{data.get('title', study.data.source)}{rows}")
    return say("{made}: {rest}.", made=made, rest=say(", ").join([arms, *_where_and_when(record)]))


def _where_and_when(record: Record) -> list[str]:
    about = record.about
    machine, created = about.get("machine", {}), about.get("created")
    found = []
    if "processor" in machine:
        cores, processor = machine.get("cores", "?"), machine["processor"]
        found.append(say("on {cores} cores of {processor}", cores=cores, processor=processor))
    if isinstance(created, int | float):
        found.append(time.strftime(say("%d %B %Y"), time.gmtime(created)).lstrip("0"))
    return found


def _listed(names: Sequence[str]) -> str:
    return say(" and ").join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
