"""The read-only page of a shared study: its curves, verdict, settings and answers."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from neftune_core.errors import LabError, RecordError
from neftune_core.language import say
from neftune_core.studies.sharing.shares import GONE, find_shared
from neftune_core.ui.parts.plot import live_figure
from neftune_core.ui.parts.verdict_card import verdict_card
from neftune_core.ui.parts.wiring import QUIET, events, in_browser, reports_errors
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import end_text, study_text, when
from neftune_core.ui.tabs.runs_tab import results_of, settings_html

CURVES = "losses"


def build(lab: Lab, key: gr.Textbox) -> None:
    """Build the view of a study shared by a link such as `?shared=...`.

    The view replaces the tabs. Without such a link the server is not called.

    Args:
        lab: The state shared by all visitors.
        key: Component with the visitor's key; its `change` event makes the browser read the link.
    """
    with gr.Column(elem_id="lab-shared", visible=False) as box:
        about = gr.HTML(elem_id="shared-about", apply_default_css=False)
        curves = live_figure(elem_id="shared-curves")
        evidence = gr.HTML(elem_id="shared-evidence", apply_default_css=False)
        answers = gr.HTML(elem_id="shared-answers", apply_default_css=False)
        settings = gr.HTML(elem_id="shared-settings", apply_default_css=False)
    asked = gr.Textbox("", visible=False, label=say("Study in the link"))

    @reports_errors
    def show(link: str) -> list[Any]:
        try:
            return [gr.update(visible=True), *content(lab, link)]
        except LabError as error:
            return [gr.update(visible=True), _about_html(str(error)), None, "", "", ""]

    events(key).change(None, None, asked, js=in_browser("Lab.parameter('shared') || ''"))
    events(asked).change(show, asked, [box, about, curves, evidence, answers, settings], **QUIET)


def content(lab: Lab, link: str) -> list[Any]:
    """Return the content of a shared study.

    The content reveals nothing about the owner, and none of the owner's rows except the answered prompts.

    Args:
        lab: The state shared by all visitors.
        link: Text returned by `shares.share`.

    Returns:
        The description, the curves, the verdict, the answers and the settings.

    Raises:
        RecordError: If the link does not lead to a study, or the server does not allow sharing.
    """
    if not lab.limits.sharing:
        raise RecordError(say(GONE))
    record = find_shared(link)
    figure, answers = results_of(lab, record, CURVES, is_own=False)
    end = end_text(record, lab.jobs.status(record))
    words = say("{study}, trained {when}", study=study_text(record), when=when(record))
    settings = f'<details class="lab-more"><summary>{say("Settings")}</summary>{settings_html(record)}</details>'
    return [_about_html(words, end), figure, verdict_card(record), answers, settings]


def _about_html(words: str, end: str = "") -> str:
    head = say("A study shared with you (read-only)")
    own = say("Open the lab")
    return (
        f'<div class="lab-state"><h2>{head}</h2><p class="lab-quiet">{html.escape(words)} '
        f'<a href="?">{own}</a></p>{end}</div>'
    )
