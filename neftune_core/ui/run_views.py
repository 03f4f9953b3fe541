"""A study in words: where it stands, for the Train tab, the Runs tab and the strip."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.moves import move_curves
from neftune_core.training.log import Log
from neftune_core.training.record import Record
from neftune_core.ui.views import bar, duration, open_bar, quiet

if TYPE_CHECKING:
    from neftune_core.training.progress import Status


OPEN_ENDED = {
    "preparing": "The model and the data are loaded",
    "answering": "The arms answer the prompts of the study",
    "stopping": "The step under way is broken off",
}
"""Work whose length nobody knows beforehand: its bar moves and says no share."""
VIEWS = {"losses": "Losses", "moves": "Gradients and weights"}


def curves_of(record: Record, log: Log, view: str) -> Figure:
    """The figure of a study in one of `VIEWS`."""
    if view != "moves":
        return loss_curves(log.events, record.arms)
    try:
        clip_norm = record.study.training.clip_norm
    except RecordError:
        clip_norm = 0.0
    return move_curves(log.events, record.arms, clip_norm)


def state_words(record: Record, status: Status, log: Log) -> str:
    """Where the study stands, in one unambiguous word and the numbers behind it, and what is wrong with its record."""
    from neftune_core.training.damage import damages
    from neftune_core.training.progress import WORDS

    listed = " and ".join(str(words) for words in record.said_of("samples").values())
    measured = quiet(f"Losses with noise off are measured on {listed}.") if listed else ""
    message = f"<p>{html.escape(status.message)}</p>" if status.message else ""
    wrong = "".join(f"<li>{html.escape(words)}</li>" for words in damages(record, log))
    broken = f'<ul class="lab-damages">{wrong}</ul>' if wrong else ""
    return (
        f'<div class="lab-state" data-state="{status.state}"><p><b>{WORDS[status.state]}</b> '
        f"<span>{' · '.join(_numbers(status))}</span></p>{quiet(about_words(record))}{message}{broken}{measured}</div>"
    )


def _numbers(status: Status) -> list[str]:
    numbers = []
    if status.place:
        numbers.append(f"place {status.place} in the queue")
    if status.seeds > 1 and status.seed_number and status.state != "finished":
        numbers.append(f"seed {status.seed_number} of {status.seeds}")
    if status.steps and not (status.state == "finished" and status.step == status.steps):
        numbers.append(f"step {status.step:,} of {status.steps:,}")
    elif status.steps:
        seeds = f", {status.seeds} seeds" if status.seeds > 1 else ""
        numbers.append(f"{status.steps:,} steps{seeds}")
    if status.state == "running" and status.seconds_left is not None:
        numbers.append(f"{duration(status.seconds_left)} left")
    if status.tokens_per_second and not status.is_over:
        numbers.append(f"{status.tokens_per_second:,.0f} tokens a second, all arms together")
    return numbers


def progress_words(record: Record, status: Status) -> str:
    """The watched study in a short line for the strip, with a bar while there is something to wait for."""
    from neftune_core.training.progress import WORDS

    parts = [f"<b>{WORDS[status.state]}</b>"]
    if status.place:
        parts.append(f"place {status.place}")
    if status.state == "running":
        share = status.step / status.steps if status.steps else 0
        parts.append(f"{bar(share, 'Progress')} {share:.0%}")
        left = "time left not known yet" if status.seconds_left is None else f"{duration(status.seconds_left)} left"
        parts.append(left)
    elif status.state in OPEN_ENDED:
        parts.append(open_bar(OPEN_ENDED[status.state]))
    about = html.escape(about_words(record))
    return (
        f'<span class="lab-progress" data-state="{status.state}"><span class="lab-progress-about">{about}</span>'
        f"<span>{' · '.join(parts)}</span></span>"
    )


def when(record: Record) -> str:
    """When the study was asked for, in this machine's time."""
    created = record.about.get("created")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else record.id


def about_words(record: Record) -> str:
    """A study in one line: its title or model, and its data; as far as the record tells."""
    model, data = record.said_of("model").get("name"), record.said_of("data").get("title")
    try:
        study = record.study
    except RecordError:
        return f"{model or 'a study'} on {data or 'unknown data'}"
    title = study.title or model or study.model.source.rstrip("/").rpartition("/")[2]
    title = f"Sweep: {title}" if record.is_sweep else title
    return f"{title} on {data or study.data.source.partition(':')[2].rpartition('/')[2]}"
