"""The strip at the top of the page: the next study, its start and stop, and buttons for link, language and theme."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.language import CHINESE, ENGLISH, current, later, say
from neftune_core.models.settings import BUNDLED, ModelSettings
from neftune_core.ui.parts.markup import page_html
from neftune_core.ui.parts.plot import part, scripted

TOO_LONG = later("This link is too long for a QR code: copy it instead.")

LANGUAGE_BUTTONS = {
    ENGLISH: {"attributes": 'lang="zh-CN" aria-label="切换到中文"', "label": "中文"},
    CHINESE: {"attributes": 'lang="en" aria-label="Switch to English"', "label": "English"},
}
"""The button that switches to the other language, by current language."""


@dataclass(frozen=True)
class StopDialog:
    """The buttons that stop the watched study.

    Attributes:
        ask: Shows `choice` in the browser, while the study continues.
        choice: Row with the next three buttons.
        keep: Stops the study and keeps it.
        discard: Stops the study and discards it.
        go_on: Hides `choice`; the study continues.
    """

    ask: gr.Button
    choice: gr.Row
    keep: gr.Button
    discard: gr.Button
    go_on: gr.Button


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

    def buttons(self) -> list[Any]:
        """Return the buttons that `buttons_for` updates."""
        return [self.stop.ask, self.stop.choice, self.train]


def buttons_for(*, is_running: bool) -> list[Any]:
    """Return updates of `Strip.buttons`.

    Args:
        is_running: Whether the watched study runs or waits, so that it can be stopped, and a further one is queued.

    Returns:
        One update per component.
    """
    words, variant = (say("Queue another study"), "secondary") if is_running else (say("Train"), "primary")
    return [*[gr.update(visible=is_running)] * 2, gr.update(value=words, variant=variant)]


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
        gr.HTML(page_html("brand"), apply_default_css=False, elem_id="lab-brand")
        status = scripted("strip-words", page_html("strip-words"), words, "lab-words")
        progress = watched_text(elem_id="lab-progress")
        train = gr.Button(say("Train"), variant="primary", size="md", elem_id="lab-train")
        stop = _stop()
        tools = scripted("strip-tools", page_html("strip-tools", **LANGUAGE_BUTTONS[current()]), {}, "lab-tools")
        kept = gr.Textbox("", visible=False, label=say("Settings last in use"), elem_id="lab-kept")
        watched = gr.Textbox("", visible=False, elem_id="lab-watched", label=say("Study"))
        shown = {"state": "train-state", "arms": "train-arms", "figure": "train-curves", "view": "train-view"}
        follower = watcher("lab-watcher", progress="lab-progress", **shown)
    return Strip(status, tools, kept, progress, train, stop, gr.State(ModelSettings(source=model)), watched, follower)


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


def watcher(elem_id: str, **shown: str) -> gr.HTML:
    """Build the component that follows one study in the browser; its `click` event fires when the study ends.

    Without a figure, the event also fires whenever the log has grown.

    Args:
        elem_id: Element id.
        **shown: Element ids of the components for `state`, `progress`, `arms`, the live `figure` and the choice of its
            `view`. All are optional.

    Returns:
        The component.
    """
    named = " ".join(f'data-{name}="{id_shown}"' for name, id_shown in shown.items())
    return scripted("watcher", f"<span hidden {named}></span>", None, elem_id, elem_classes=["visually-hidden"])


def watched_text(value: str = "", *, elem_id: str, also: str = "") -> gr.HTML:
    """Build an HTML component that the server and the watcher can update.

    Args:
        value: Initial HTML.
        elem_id: Element id.
        also: Name of another script part for the component; "" for none.

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
    from segno.utils import matrix_to_lines  # type: ignore[attr-defined]

    try:
        matrix = segno.make(link, error="l", micro=False).matrix
    except segno.DataOverflowError:
        return {"link": link, "problem": say(TOO_LONG)}
    runs = matrix_to_lines(matrix, 0, 0)
    path = "".join(f"M{left} {top}h{right - left}v1h{left - right}z" for (left, top), (right, _) in runs)
    return {"link": link, "size": len(matrix), "path": path}
