"""Event handlers of the page: errors become sentences, and no traceback reaches a visitor."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core import language
from neftune_core.errors import Cancelled, InvalidSetting
from neftune_core.language import say
from neftune_core.sentences import sentence

# Options of page events that are private and show no progress animation.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# The same for events that may come faster than they are answered. By default, an event is ignored while an earlier one
# of its handler is answered; here the last one is handled afterwards, but without event data: handlers that need them
# use "multiple".
LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}

# Options of handlers that validate their own settings: otherwise Gradio preprocesses every input in a thread.
UNREAD: dict[str, Any] = {**QUIET, "preprocess": False}

OWNER_KEY = "owner-key"

HIDDEN: Any = "hidden"
"""Value of `visible` for a button that appears only briefly; removing it while it is being mounted could fail."""

asked_at: ContextVar[Any] = ContextVar("asked_at", default=None)
"""The component whose event called the running handler; None for a call that names none, such as one over HTTP."""


def reports_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Show every error of a handler, or generator, as one sentence and leave the outputs unchanged.

    The language is that of the page on which it was wired. A `LabError` is shown as a warning, `Cancelled` as a note.
    Any other exception is an internal error, which `sentences.sentence` logs.
    """
    spoken = language.current()
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def reporting_generator(*given: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from _in_language(handler(*given, **named), spoken)
            except Exception as error:
                with language.in_language(spoken):
                    show_error(error)
                yield gr.skip()

        return reporting_generator

    @functools.wraps(handler)
    def reporting_function(*given: Any, **named: Any) -> Any:
        with language.in_language(spoken):
            try:
                return handler(*given, **named)
            except Exception as error:
                show_error(error)
                return gr.skip()

    return reporting_function


def _in_language(steps: Generator[Any, None, None], code: str) -> Iterator[Any]:
    """Yield the same values, each computed in that language, since every step may run in a different context."""
    try:
        while True:
            with language.in_language(code):
                value = next(steps, _OVER)
            if value is _OVER:
                return
            yield value
    finally:
        steps.close()


_OVER = object()


def show_error(error: BaseException) -> None:
    """Show the sentence of `error` beside the control that caused it."""
    words = sentence(_as_caller_error(error))
    if isinstance(error, Cancelled):
        show_note(words)
    else:
        gr.Warning(beside_control(words), duration=None)


def show_note(words: str) -> None:
    """Show a sentence beside the control whose event is being handled."""
    gr.Info(beside_control(words), duration=None)


def beside_control(words: str) -> str:
    """Return a message as HTML that names the control it is about, for assets/page/messages.js."""
    block = asked_at.get()
    escaped = html.escape(words, quote=False)
    if block is None:
        return escaped
    place = html.escape(str(getattr(block, "elem_id", None) or f"component-{block._id}"))
    return f'<span title="{block._id} {place}">{escaped}</span>'


def _as_caller_error(error: BaseException) -> BaseException:
    """Convert an exception that a malformed call can cause into the caller's error; return any other unchanged."""
    if isinstance(error, AttributeError) and isinstance(error.obj, gr.EventData):
        return InvalidSetting(
            say(
                "This call has no {name!r}, which the page always sends: reload the page, or add it to the call.",
                name=error.name,
            )
        )
    return error


def visibility(is_shown: bool) -> Any:
    """Return an update that shows or hides a component that is built with `visible=HIDDEN`."""
    return gr.update(visible=True if is_shown else HIDDEN)


def events(component: Component) -> Any:
    """Return the component typed for its events, which Gradio adds at run time and type checkers do not see."""
    return component


def owner_key() -> gr.Textbox:
    """Return the hidden component that passes this browser's secret key to handlers."""
    return gr.Textbox(visible=False, elem_id=OWNER_KEY, label=say("Owner key"))


def key_of_tab(key: gr.Textbox, name: str) -> gr.Textbox:
    """Return a hidden component whose `change` event fills a tab when the page opens.

    It gets the visitor's key if the page opens with this tab or restores an earlier state; a first visit that opens
    another tab makes no call.

    Args:
        key: Component with the visitor's key.
        name: Name of the tab, as links have it.

    Returns:
        The component.
    """
    found = gr.Textbox("", visible=False, label=say("Owner key"))
    wanted = in_browser(f"Lab.state.isKept() || Lab.currentTab() === {name!r} ? key : ''", "key")
    events(key).change(None, key, found, js=wanted)
    return found


def once_settled(changes: Sequence[Any]) -> Any:
    """Return an event that occurs once after changes that follow each other closely.

    A page that restores its state changes most controls at once; a handler of each change would be called again and
    again.

    Args:
        changes: Events, such as `component.change`.

    Returns:
        An event listener, such as `component.change`.
    """
    settled = gr.Textbox("", visible=False)
    in_turn = in_browser(f"Lab.settled({settled._id})")
    gr.on(changes, None, None, settled, js=in_turn, trigger_mode="multiple")
    return events(settled).change


def in_browser(expression: str, inputs: str = "") -> str:
    """Build a `js=` function that waits for the page's scripts and evaluates an expression.

    Args:
        expression: The JavaScript expression.
        inputs: Parameter list of the function.

    Returns:
        JavaScript source.
    """
    wait = "while (!window.Lab) await new Promise((go) => setTimeout(go, 20));"
    return f"async ({inputs}) => {{ {wait} return {expression}; }}"


def saves_text(button: gr.Button, handler: Callable[..., Any], inputs: Any) -> None:
    """Save what a handler returns as a file in the browser; after an error nothing is saved.

    Args:
        button: The button.
        handler: Returns `{"name": ..., "text": ...}`; its errors are reported.
        inputs: Its inputs.
    """
    made = gr.JSON(visible=False)
    asked = button.click(reports_errors(handler), inputs, made, **QUIET)
    asked.success(None, made, made, js="(made) => { Lab.saveText(made?.name, made?.text); return null; }")
