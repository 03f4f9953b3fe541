"""A study in words: where it stands, for the Train tab, the Runs tab and the strip."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.moves import move_curves
from neftune_core.figures.rates import rate_curves
from neftune_core.language import later, retold, say
from neftune_core.training.log import Log
from neftune_core.training.record import Record
from neftune_core.ui.views import bar, duration, open_bar, quiet

if TYPE_CHECKING:
    from neftune_core.training.progress import Status


OPEN_ENDED = {
    "preparing": later("The model and the data are loaded"),
    "answering": later("The arms answer the prompts of the study"),
    "stopping": later("The step under way is broken off"),
}
"""Work whose length nobody knows beforehand: its bar moves and says no share."""
VIEWS = {"losses": later("Losses"), "moves": later("Gradients and weights"), "rates": later("Noise, rate and speed")}


def curves_of(record: Record, log: Log, view: str) -> Figure:
    """The figure of a study in one of `VIEWS`."""
    if view == "rates":
        return rate_curves(log.events, record.arms)
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

    rows = [retold(str(words)) for words in record.said_of("samples").values()]
    listed = say("{one} and {other}", one=rows[0], other=rows[1]) if len(rows) == 2 else ", ".join(rows)
    measured = quiet(say("Losses with noise off are measured on {rows}.", rows=listed)) if listed else ""
    message = f"<p>{html.escape(retold(status.message))}</p>" if status.message else ""
    wrong = "".join(f"<li>{html.escape(words)}</li>" for words in damages(record, log))
    broken = f'<ul class="lab-damages">{wrong}</ul>' if wrong else ""
    return (
        f'<div class="lab-state" data-state="{status.state}"><p><b>{say(WORDS[status.state])}</b> '
        f"<span>{' · '.join(_numbers(status))}</span></p>{quiet(about_words(record))}{message}{broken}{measured}</div>"
    )


def gone_words(why: str) -> str:
    """A study whose record is not there any more, and why."""
    return f'<div class="lab-state" data-state="failed"><p><b>{say("Failed")}</b></p><p>{html.escape(why)}</p></div>'


def _numbers(status: Status) -> list[str]:
    numbers = []
    if status.place:
        numbers.append(say("place {place} in the queue", place=status.place))
    if status.seeds > 1 and status.seed_number and status.state != "finished":
        numbers.append(say("seed {number} of {count}", number=status.seed_number, count=status.seeds))
    if status.steps and not (status.state == "finished" and status.step == status.steps):
        numbers.append(say("step {step:,} of {steps:,}", step=status.step, steps=status.steps))
    elif status.steps:
        seeds = say("{count} seeds of ", count=status.seeds) if status.seeds > 1 else ""
        numbers.append(seeds + say("{steps:,} steps", steps=status.steps // max(1, status.seeds)))
    if status.state == "running" and status.seconds_left is not None:
        numbers.append(say("{duration} left", duration=duration(status.seconds_left)))
    if status.tokens_per_second and not status.is_over:
        numbers.append(say("{speed:,.0f} tokens a second, all arms together", speed=status.tokens_per_second))
    if status.losses and status.state == "running":
        losses = ", ".join(f"{html.escape(arm)} {loss:.3f}" for arm, loss in status.losses.items())
        numbers.append(say("loss: {losses}", losses=losses))
    return numbers


def progress_words(record: Record, status: Status) -> str:
    """The watched study in a short line for the strip, with a bar while there is something to wait for."""
    from neftune_core.training.progress import WORDS

    parts = [f"<b>{say(WORDS[status.state])}</b>"]
    if status.place:
        parts.append(say("place {place}", place=status.place))
    if status.state == "running":
        share = status.step / status.steps if status.steps else 0
        parts.append(f"{bar(share, say('Progress'))} {share:.0%}")
        parts.append(_left(status.seconds_left))
    elif status.state in OPEN_ENDED:
        parts.append(open_bar(say(OPEN_ENDED[status.state])))
    about = html.escape(about_words(record))
    return (
        f'<span class="lab-progress" data-state="{status.state}"><span class="lab-progress-about">{about}</span>'
        f"<span>{' · '.join(parts)}</span></span>"
    )


def _left(seconds: float | None) -> str:
    """The time left; the title of the page reads it from here (learn.js)."""
    if seconds is None:
        return say("time left not known yet")
    words = say("{duration} left", duration=duration(seconds))
    return f'<span class="lab-progress-left" data-seconds="{seconds:.0f}">{words}</span>'


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
        return say("{title} on {data}", title=say(model) if model else say("a study"), data=data or say("unknown data"))
    title = study.title or (say(model) if model else "") or study.model.source.rstrip("/").rpartition("/")[2]
    title = say("Sweep: {title}", title=title) if record.is_sweep else title
    return say("{title} on {data}", title=title, data=data or study.data.source.partition(":")[2].rpartition("/")[2])
