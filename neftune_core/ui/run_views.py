"""A study in words: where it stands, for the Train tab, the Runs tab and the strip."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING, Any

from neftune_core.training.record import Record
from neftune_core.ui.views import bar, duration, quiet

if TYPE_CHECKING:
    from neftune_core.training.progress import Status


def state_words(record: Record, status: Status) -> str:
    """Where the study stands, in one unambiguous word and the numbers behind it, as HTML."""
    from neftune_core.training.progress import WORDS

    samples = record.about.get("samples", {})
    listed = " and ".join(str(words) for words in samples.values())
    measured = quiet(f"Losses with noise off are measured on {listed}.") if listed else ""
    message = f"<p>{html.escape(status.message)}</p>" if status.message else ""
    return (
        f'<div class="lab-state" data-state="{status.state}"><p><b>{WORDS[status.state]}</b> '
        f"<span>{' · '.join(_numbers(status))}</span></p>{quiet(about_words(record))}{message}{measured}</div>"
    )


def _numbers(status: Status) -> list[str]:
    numbers = []
    if status.place:
        numbers.append(f"place {status.place} in the queue")
    if status.steps and not (status.state == "finished" and status.step == status.steps):
        numbers.append(f"step {status.step:,} of {status.steps:,}")
    elif status.steps:
        numbers.append(f"{status.steps:,} steps")
    if status.state == "running" and status.seconds_left is not None:
        numbers.append(f"{duration(status.seconds_left)} left")
    if status.tokens_per_second and not status.is_over:
        numbers.append(f"{status.tokens_per_second:,.0f} tokens a second, all arms together")
    return numbers


def progress_words(status: Status) -> str:
    """A short line for the strip, with a bar while there is something to wait for."""
    from neftune_core.training.progress import WORDS

    word = WORDS[status.state]
    if status.is_over:
        return f'<span class="lab-progress" data-state="{status.state}">{word}</span>'
    if status.state != "running":
        place = f", place {status.place}" if status.place else ""
        return f'<span class="lab-progress" data-state="{status.state}">{word}{place}</span>'
    share = status.step / status.steps if status.steps else 0
    left = f" · {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    return f'<span class="lab-progress" data-state="running">{bar(share, "Progress")} {share:.0%}{left}</span>'


def when(record: Record) -> str:
    """When the study was asked for, in this machine's time."""
    created = record.about.get("created")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else record.id


def about_words(record: Record) -> str:
    """A study in one line: its title or model, and its data."""
    study, about = record.study, record.about
    model: Any = about.get("model", {}).get("name", study.model.source)
    data: Any = about.get("data", {}).get("title", study.data.source.partition(":")[2].rpartition("/")[2])
    return f"{study.title or model} on {data}"
