"""Controls that change a running study: buttons that stop an arm, and the strength of a live study."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from neftune_core.errors import RecordError
from neftune_core.figures.colours import arm_colours
from neftune_core.language import say
from neftune_core.noise.names import arm_label
from neftune_core.studies.records.log import Log
from neftune_core.studies.records.progress import Status
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL
from neftune_core.studies.steering.log import stopped_arms, strengths


def arm_rows(record: Record, status: Status, log: Log) -> str:
    """List the noise and method arms of a running study, each with a button that stops it.

    Args:
        record: The study.
        status: Its status.
        log: Its log.

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
    lost = {arm for event in log.events if event["event"] == "diverged" for arm in event.get("arms", {})}
    rows = [
        f'<li><span class="lab-arm" style="--arm: {colours[arm]}">{html.escape(arm_label(arm))}</span> '
        f"{_arm_action(arm, stopped.get(arm))}</li>"
        for arm in arms
        if arm != CONTROL.name and arm not in lost
    ]
    label = html.escape(say("Arms in training"))
    return f'<ul class="lab-arm-rows" aria-label="{label}">{"".join(rows)}</ul>' if rows else ""


def _arm_action(arm: str, stopped: int | None) -> str:
    if stopped is not None:
        return f'<span class="lab-quiet">{html.escape(say("stopped after step {step:,}", step=stopped))}</span>'
    sure = html.escape(say("Stop this arm for good; the other arms continue"), quote=True)
    named = html.escape(say("Stop the {arm} arm", arm=arm_label(arm)), quote=True)
    words = html.escape(say("Stop this arm"))
    name = html.escape(arm, quote=True)
    return f'<button type="button" data-arm="{name}" data-sure="{sure}" aria-label="{named}">{words}</button>'


def live_strength(record: Record, status: Status, log: Log, *, anew: bool) -> Any:
    """Return the update of the slider that changes the noise of a live study; hide it for other studies.

    Args:
        record: The study.
        status: Its status.
        log: Its log.
        anew: Whether the page has just started to watch the study. Only then is the slider set to the current
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
    return gr.update(visible=True, value=now) if anew else gr.update(visible=True)
