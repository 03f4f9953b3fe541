"""Describe one study on the page: title, state, progress, result, and the controls that change it while it trains."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

from neftune_core.data.formats.starters import data_title
from neftune_core.engine.settings import count_steps
from neftune_core.errors import LabError, RecordError
from neftune_core.evaluation.verdict import Line
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, plural, say, translate_finished
from neftune_core.noise.names import arm_words, with_arm_words
from neftune_core.studies.records.log import Log
from neftune_core.studies.records.progress import WORDS, Status
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL, StudySettings
from neftune_core.studies.steering.log import stopped_arms, strengths
from neftune_core.studies.tracking import tracking_failure
from neftune_core.ui.parts.markup import bar, duration, open_bar, quiet

OPEN_ENDED = {
    "preparing": later("Loading the model and the data"),
    "answering": later("Answering the prompts of the study"),
    "stopping": later("Aborting the current step"),
}
"""States of unknown duration, shown with an indeterminate progress bar."""


def state_text(record: Record, status: Status, log: Log, *, judged: bool = True) -> str:
    """Describe the state of a study, its numbers, and any damage to its record.

    Args:
        record: Record of the study.
        status: Status of the study.
        log: Log of the study, read so far.
        judged: Whether to include the result of a finished study, which takes time to compute.

    Returns:
        HTML.
    """
    from neftune_core.studies.records.integrity import damages

    said = with_arm_words(translate_finished(status.message), record.arms)
    message = f"<p>{html.escape(said)}</p>" if said else ""
    message += quiet(translate_finished(tracking_failure(record))) if tracking_failure(record) else ""
    wrong = "".join(f"<li>{html.escape(words)}</li>" for words in damages(record, log))
    broken = f'<ul class="lab-damages">{wrong}</ul>' if wrong else ""
    end = end_text(record, status) if judged else ""
    numbers = " · ".join([*_numbers(status), html.escape(study_text(record))])
    return (
        f'<div class="lab-state" data-state="{status.state}">'
        f"<p><b>{say(WORDS[status.state])}</b> <span>{numbers}</span></p>{end}{message}{broken}</div>"
    )


def end_text(record: Record, status: Status) -> str:
    """Summarise the result of a finished study, its certainty, and ways to make it more certain.

    Args:
        record: Record of the study.
        status: Status of the study.

    Returns:
        HTML; "" if the study has not ended or has no result.
    """
    from neftune_core.sweeps.table import judge

    if not status.is_over:
        return ""
    try:
        summary = judge(record).summary
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):  # the verdict card shows the error
        return ""
    return summary_html(summary)


def summary_html(summary: Sequence[Line]) -> str:
    """Return the summary of a verdict as HTML, its conclusion first; "" if it is empty."""
    if not summary:
        return ""
    first, *rest = summary
    more = (
        quiet(line.text()) if line.key.startswith("next.") else f"<p>{html.escape(line.text())}</p>" for line in rest
    )
    return f'<p class="lab-end">{html.escape(first.text())}</p>{"".join(more)}'


def missing_record_text(why: str) -> str:
    """Return HTML that reports a missing study, with the reason."""
    return f'<div class="lab-state" data-state="failed"><p><b>{say("Failed")}</b></p><p>{html.escape(why)}</p></div>'


def _numbers(status: Status) -> list[str]:
    numbers = []
    if status.place:
        numbers.append(say("position {place} in the queue", place=status.place))
    if status.seeds > 1 and status.seed_number and status.state != "finished":
        numbers.append(say("seed {number} of {count}", number=status.seed_number, count=status.seeds))
    if status.steps and not (status.state == "finished" and status.step == status.steps):
        numbers.append(say("step {step:,} of {steps:,}", step=status.step, steps=status.steps))
    elif status.steps:
        seeds = say("{count} seeds of ", count=status.seeds) if status.seeds > 1 else ""
        steps = status.steps // max(1, status.seeds)
        numbers.append(seeds + say(plural(steps, "{steps:,} step", "{steps:,} steps"), steps=steps))
    if status.state == "running" and status.seconds_left is not None:
        numbers.append(say("{duration} left", duration=duration(status.seconds_left)))
    if status.losses and status.state == "running":
        losses = ", ".join(f"{html.escape(arm_words(arm))} {loss:.3f}" for arm, loss in status.losses.items())
        words = later("loss of one batch, noise on (it fluctuates; compare the held-out loss): {losses}")
        numbers.append(say(words, losses=losses))
    return numbers


def progress_text(record: Record, status: Status) -> str:
    """Describe the watched study in a short line for the strip: a progress bar while it runs, then where to read on.

    Args:
        record: Record of the study.
        status: Status of the study.

    Returns:
        HTML.
    """
    parts = [f"<b>{say(WORDS[status.state])}</b>"]
    if status.place:
        parts.append(say("position {place}", place=status.place))
    if status.state == "running":
        share = status.step / status.steps if status.steps else 0
        parts.append(f"{bar(share, say('Progress'))} {share:.0%}")
        parts.append(_time_left(status.seconds_left))
    elif status.state in OPEN_ENDED:
        parts.append(open_bar(say(OPEN_ENDED[status.state])))
    about, result = html.escape(study_text(record), quote=True), ""
    if status.state in ("finished", "stopped"):
        result = f'<button type="button" data-do="result">{html.escape(say("Read the result"))}</button>'
    return (
        f'<span class="lab-progress" data-state="{status.state}" title="{about}">'
        f"<span>{' · '.join(parts)}</span>{result}</span>"
    )


def _time_left(seconds: float | None) -> str:
    """Return the time left as HTML; learn.js also shows it in the page title."""
    if seconds is None:
        return say("estimating the time left")
    words = say("{duration} left", duration=duration(seconds))
    return f'<span class="lab-progress-left" data-seconds="{seconds:.0f}">{words}</span>'


def when(record: Record) -> str:
    """Return the local time at which a study was started, or the id of its record if the time is not stored."""
    created = record.about.get("created")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else record.id


def arm_choices(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the choices of a menu of arms, with their readable names."""
    return [(arm_words(name), name) for name in names]


def study_text(record: Record) -> str:
    """Describe a study in one line: its title, or else its model, and its data."""
    model, data = record.about_table("model").get("name"), data_title(record.about_table("data").get("title"))
    try:
        study = record.study
    except RecordError:
        return say("{title} on {data}", title=say(model) if model else say("a study"), data=data or say("unknown data"))
    title = study.title or (say(model) if model else "") or study.model.source.rstrip("/").rpartition("/")[2]
    title = say("Sweep: {title}", title=title) if record.is_sweep else title
    data = data or data_title(study.data.source.partition(":")[2].rpartition("/")[2])
    return say("{title} on {data}", title=title, data=data)


def runs_text(study: StudySettings, rows: int) -> str:
    """Describe each training run of a study, such as "114 steps at learning rate 0.003", to tell its results apart.

    Args:
        study: Settings of the study.
        rows: Number of training rows.

    Returns:
        Text without a full stop; without the steps if a time budget determines them.
    """
    steps, rate = count_steps(rows, study.training), f"{study.training.learning_rate:g}"
    if not steps:
        return say("learning rate {rate}", rate=rate)
    counted = say(plural(steps, "{steps:,} step", "{steps:,} steps"), steps=steps)
    return say("{steps} at learning rate {rate}", steps=counted, rate=rate)


def arm_rows(record: Record, status: Status, log: Log) -> str:
    """List the noise and method arms of a running study, each with a button that stops it.

    Args:
        record: Record of the study.
        status: Status of the study.
        log: Log of the study, read so far.

    Returns:
        HTML; "" if the study is not running or is a sweep. Arms that diverged are left out.
    """
    if status.state != "running" or record.is_sweep:
        return ""
    try:
        arms = record.study.arms
    except RecordError:
        return ""
    colours = arm_colours(arms)
    stopped = {arm: step for own in stopped_arms(log.events).values() for arm, step in own.items()}
    diverged = {arm for event in log.events if event["event"] == "diverged" for arm in event.get("arms", {})}
    rows = [
        f'<li><span class="lab-arm" style="--arm: {colours[arm]}">{html.escape(arm_words(arm))}</span> '
        f"{_arm_action(arm, stopped.get(arm))}</li>"
        for arm in arms
        if arm != CONTROL.name and arm not in diverged
    ]
    label = html.escape(say("Arms in training"))
    return f'<ul class="lab-arm-rows" aria-label="{label}">{"".join(rows)}</ul>' if rows else ""


def _arm_action(arm: str, stopped: int | None) -> str:
    if stopped is not None:
        return f'<span class="lab-quiet">{html.escape(say("stopped after step {step:,}", step=stopped))}</span>'
    confirmation = html.escape(say("Stop this arm for good; the other arms continue"))
    label, words = html.escape(say("Stop the {arm} arm", arm=arm_words(arm))), html.escape(say("Stop this arm"))
    attributes = f'data-arm="{html.escape(arm)}" data-sure="{confirmation}" aria-label="{label}"'
    return f'<button type="button" {attributes}>{words}</button>'


def live_strength(record: Record, status: Status, log: Log, *, is_new: bool) -> Any:
    """Return the update of the slider that changes the noise of a live study; hide it for other studies.

    Args:
        record: Record of the study.
        status: Status of the study.
        log: Log of the study, read so far.
        is_new: Whether the page has just started to watch the study. Only then is the slider set to the current
            strength, so that it never moves while it is being dragged.

    Returns:
        A Gradio update.
    """
    try:
        study = record.study
    except RecordError:
        return gr.update(visible=False)
    if not study.live or status.is_over:
        return gr.update(visible=False)
    changed = strengths(log.events)
    now = changed[-1][2] if changed else study.noise[0].strength
    return gr.update(visible=True, value=now) if is_new else gr.update(visible=True)
