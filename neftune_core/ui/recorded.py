"""The recorded study that ships with the lab: what is shown before anything is run."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.curves import loss_curves
from neftune_core.training.record import Record
from neftune_core.training.settings import StudySettings
from neftune_core.ui.answers import answer_columns
from neftune_core.ui.lab import Lab
from neftune_core.ui.views import quiet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recorded:
    """What a recorded study shows: `line` says in one sentence what it was, `answers` is HTML."""

    line: str
    curves: Figure
    answers: str

    def notice(self, then: str = "") -> str:
        """The line over a recorded study; `then` says how the visitor's own comes to its place."""
        more = quiet(then) if then else ""
        return f'<div class="lab-recorded"><p><b>A recorded study.</b> {html.escape(self.line)}</p>{more}</div>'


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
    return Recorded(_line(lab.recorded, study), curves, answers)


def _line(record: Record, study: StudySettings) -> str:
    about = record.about
    model = about.get("model", {}).get("name", study.model.source)
    data = about.get("data", {})
    rows = f" ({data['train']:,} rows)" if "train" in data else ""
    arms = _listed(list(study.arms))
    parts = [f"{model} on {data.get('title', study.data.source)}{rows}: {arms}", *_where_and_when(record)]
    return ", ".join(parts) + "."


def _where_and_when(record: Record) -> list[str]:
    about = record.about
    machine, created = about.get("machine", {}), about.get("created")
    found = []
    if "processor" in machine:
        found.append(f"on {machine.get('cores', '?')} cores of {machine['processor']}")
    if isinstance(created, int | float):
        found.append(time.strftime("%d %B %Y", time.gmtime(created)).lstrip("0"))
    return found


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
