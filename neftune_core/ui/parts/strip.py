"""The strip at the top of the page: description of the next study, start and stop, link with QR code, and theme."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import gradio as gr

from neftune_core.language import CHINESE, ENGLISH, current, later, say
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.ui.parts.plot import part, scripted

TOO_LONG = later("This link is too long for a QR code: copy it instead.")

BRAND = """<h1 class="lab-brand"><svg viewBox="0 0 24 24" width="24" height="24" aria-hidden="true">
<path d="M2 14c2.5 0 2.5-6 5-6s2.5 9 5 9 2.5-12 5-12 2.5 9 5 9" fill="none" stroke="var(--lab-warm-3)"
stroke-width="2.2" stroke-linecap="round"/>
<path d="M2 12h20" stroke="var(--lab-control)" stroke-width="2.2" stroke-linecap="round"/></svg>
NEFTune Lab</h1>"""


def _words_html() -> str:
    """Return the template of the study's description; the browser fills in the noise, and the server the rest."""
    return f"""<p class="lab-experiment" aria-label="{say("Description of the next study")}">
<b class="lab-next">{say("Next study:")}</b> <span data-word="model"></span>
<span data-word="data"></span><span data-word="noise"></span><span data-word="seed"></span></p>"""


OTHER = {
    ENGLISH: ('lang="zh-CN" aria-label="切换到中文"', "中文"),
    CHINESE: ('lang="en" aria-label="Switch to English"', "English"),
}
"""Attributes and label of the button for the other language, in that language."""


def _tools_html() -> str:
    about, other = OTHER[current()]
    switch = say("Switch between light and dark")
    return f"""<div class="lab-tools"><span role="status"></span>
<button type="button" data-do="model" aria-expanded="false" aria-controls="lab-model">{say("Model")}</button>
<button type="button" data-do="link" title="{say("Copy a link with the current settings")}">{say("Copy link")}</button>
<button type="button" data-do="language" {about}>{other}</button>
<button type="button" data-do="projector" aria-pressed="false" title="{say("Larger type, for a projector")}"
aria-label="{say("Projector mode")}"><svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true" fill="none"
stroke="currentColor" stroke-width="1.6"><path d="M2 3h16M3 3v9.5h14V3M10 12.5V15M6.5 18 10 15l3.5 3"/></svg></button>
<button type="button" data-do="theme" title="{say("Light or dark")}" aria-label="{switch}">
<svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true"><circle cx="10" cy="10" r="7.2" fill="none"
stroke="currentColor" stroke-width="1.6"/><path d="M10 2.8a7.2 7.2 0 0 1 0 14.4z" fill="currentColor"/></svg>
</button></div>"""


@dataclass(frozen=True)
class StopDialog:
    """The buttons that stop the watched study; `ask` shows `choice` in the browser while the study continues."""

    ask: gr.Button
    choice: gr.Row
    keep: gr.Button
    discard: gr.Button
    go_on: gr.Button

    def shown(self) -> list[Any]:
        """Return the components that are visible only while a study can be stopped."""
        return [self.ask, self.choice]


@dataclass(frozen=True)
class Strip:
    """The components of the strip that tabs read and write.

    Attributes:
        words: Description of the next study. Its value is a dict with any of `model`, `data` and `seed`; missing keys
            leave the text unchanged.
        tools: Buttons for model, link, language and theme; its value sends the page's state to the browser.
        kept: State stored by the browser or contained in the link, as JSON; empty if absent.
        model: The `ModelSettings` in use, set once the model has been loaded.
        watched: Id of the watched record. It is in the strip because components inside closed tabs may miss updates.
        watcher: Component that follows the watched study in the browser.
    """

    words: gr.HTML
    tools: gr.HTML
    kept: gr.Textbox
    progress: gr.HTML
    train: gr.Button
    stop: StopDialog
    model: gr.State
    watched: gr.Textbox
    watcher: gr.HTML


def _stop() -> StopDialog:
    ask = gr.Button(say("Stop"), size="md", elem_id="lab-stop", visible=False)
    with gr.Row(elem_id="lab-stopping", visible=False) as choice:
        keep = gr.Button(say("Stop and keep"), variant="primary", size="md", elem_id="lab-stop-keep")
        discard = gr.Button(say("Stop and discard"), variant="stop", size="md", elem_id="lab-stop-discard")
        go_on = gr.Button(say("Continue"), size="md", elem_id="lab-go-on")
    ask.click(None, None, None, js="() => Lab.askStop(true)")
    go_on.click(None, None, None, js="() => Lab.askStop(false)")
    return StopDialog(ask, choice, keep, discard, go_on)


def build(words: dict[str, str], model: str = BUNDLED) -> Strip:
    """Build the strip.

    Args:
        words: Initial value of `Strip.words`.
        model: Source of the initial model.

    Returns:
        The components.
    """
    with gr.Row(elem_id="lab-strip"):
        gr.HTML(BRAND, apply_default_css=False, elem_id="lab-brand")
        status = scripted("strip-words", _words_html(), words, "lab-words")
        progress = watched_text(elem_id="lab-progress")
        train = gr.Button(say("Train"), variant="primary", size="md", elem_id="lab-train")
        stop = _stop()
        tools = scripted("strip-tools", _tools_html(), {}, "lab-tools")
        kept = gr.Textbox("", visible=False, label=say("Settings last in use"), elem_id="lab-kept")
        watched = gr.Textbox("", visible=False, elem_id="lab-watched", label=say("Study"))
        places = {"arms": "train-arms", "figure": "train-curves", "view": "train-view"}
        follows = watcher("lab-watcher", state="train-state", progress="lab-progress", **places)
    return Strip(status, tools, kept, progress, train, stop, gr.State(ModelSettings(source=model)), watched, follows)


def following(record_id: str, *, on: bool = True, known: bool = False) -> dict[str, Any]:
    """Return the value that makes a watcher start or stop following a study.

    Args:
        record_id: Id of the study.
        on: Whether to follow the study.
        known: Whether buttons and tabs already show that the study is running.

    Returns:
        The value of `watcher`.
    """
    return {"id": record_id, "on": on, "known": known, "at": time.time()}


def watcher(elem_id: str, **places: str) -> gr.HTML:
    """Build the component that follows one study in the browser; its `click` event fires when the study ends.

    Without a figure, the event also fires whenever the log has grown.

    Args:
        elem_id: Element id.
        **places: Element ids of the components for `state`, `progress`, `arms`, the live `figure` and the choice of its
            `view`. All are optional.

    Returns:
        The component.
    """
    named = " ".join(f'data-{name}="{place}"' for name, place in places.items())
    return gr.HTML(
        None,
        html_template=f"<span hidden {named}></span>",
        js_on_load=part("watcher"),
        apply_default_css=False,
        container=False,
        padding=False,
        elem_id=elem_id,
        elem_classes=["visually-hidden"],
    )


def watched_text(value: str = "", *, elem_id: str, also: str = "") -> gr.HTML:
    """Build an HTML component that the server and the watcher can update.

    Args:
        value: Initial HTML.
        elem_id: Element id.
        also: Name of a further script part for the component; "" for none.

    Returns:
        The component.
    """
    scripts = part("watched") + (part(also) if also else "")
    return gr.HTML(value, js_on_load=scripts, elem_id=elem_id, apply_default_css=False)


def code_of(link: str) -> dict[str, Any]:
    """Return the QR code of a link.

    Returns:
        `{"link", "size", "path"}`, with the number of modules per side and the dark modules as an SVG path. For a link
        that is too long, `{"link", "problem"}` with an error message.
    """
    import segno

    try:
        matrix = segno.make(link, error="l", micro=False).matrix
    except segno.DataOverflowError:
        return {"link": link, "problem": say(TOO_LONG)}
    return {"link": link, "size": len(matrix), "path": "".join(_runs(matrix))}


def _runs(matrix: Any) -> list[str]:
    """Return each horizontal run of dark modules as a closed rectangle in SVG path syntax."""
    found = []
    for y, row in enumerate(matrix):
        for dark, modules in groupby(enumerate(row), key=lambda module: module[1]):
            (x, _), *others = modules
            if dark:
                found.append(f"M{x} {y}h{1 + len(others)}v1h-{1 + len(others)}z")
    return found
