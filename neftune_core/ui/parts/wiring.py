"""Helpers for the events of the page; handlers show errors as sentences without tracebacks."""

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
from neftune_core.language import later, say
from neftune_core.sentences import sentence

# Options of page events that are private and show no progress animation.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# The same options, for events that may fire faster than they are handled. By default, Gradio ignores an event while
# its handler is running. Here the last such event is handled afterwards, but without its event data; handlers that need
# event data use "multiple".
LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}

# Options of handlers that validate their own inputs. Otherwise Gradio preprocesses every input in a thread.
UNREAD: dict[str, Any] = {**QUIET, "preprocess": False}

OWNER_KEY = "owner-key"

HIDDEN: Any = "hidden"
"""Value of `visible` for a button that appears only briefly; removing it while it is being mounted could fail."""

triggered_by: ContextVar[Any] = ContextVar("triggered_by", default=None)
"""The component that triggered the running handler; None if the call does not name one, as in the HTTP API."""


def reports_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler so that it shows errors as one sentence and leaves its outputs unchanged.

    The handler may be a function or a generator. Messages are in the language of the page that is being built.
    `Cancelled` is shown as a note, and all other errors as warnings. `sentences.sentence` logs internal errors.
    """
    code = language.current()

    def reporting_generator(*given: Any, **named: Any) -> Iterator[Any]:
        """Call the handler in its language, and show its error on the page.

        Args:
            *given: Values of the inputs.
            **named: Further arguments of the handler.

        Yields:
            The handler's values; no update after an error.
        """
        try:
            yield from _in_language(handler(*given, **named), code)
        except Exception as error:
            with language.in_language(code):
                show_error(error)
            yield gr.skip()

    def reporting_function(*given: Any, **named: Any) -> Any:
        """Call the handler in its language, and show its error on the page.

        Args:
            *given: Values of the inputs.
            **named: Further arguments of the handler.

        Returns:
            The handler's result; no update after an error.
        """
        with language.in_language(code):
            try:
                return handler(*given, **named)
            except Exception as error:
                show_error(error)
                return gr.skip()

    reporting = reporting_generator if inspect.isgeneratorfunction(handler) else reporting_function
    functools.update_wrapper(reporting, handler)
    reporting.__name__ = handler.__name__.lstrip("_")  # Gradio derives endpoint names from it
    return reporting


def _in_language(steps: Generator[Any, None, None], code: str) -> Iterator[Any]:
    """Yield the values of a generator; set the language for each step, since steps may run in different contexts."""
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
    """Show an error as one sentence next to the control that caused it."""
    if isinstance(error, AttributeError) and isinstance(error.obj, gr.EventData):  # from a malformed call
        words = later("This call has no {name!r}, which the page always sends: reload the page, or add it to the call.")
        error = InvalidSetting(say(words, name=error.name))
    words = sentence(error)
    if isinstance(error, Cancelled):
        show_note(words)
    else:
        gr.Warning(beside_control(words), duration=None)


def show_note(words: str) -> None:
    """Show a sentence next to the control whose event is being handled."""
    gr.Info(beside_control(words), duration=None)


def beside_control(words: str) -> str:
    """Return a message as HTML that identifies the control of the current event, for assets/page/messages.js."""
    block = triggered_by.get()
    escaped = html.escape(words, quote=False)
    if block is None:
        return escaped
    place = html.escape(str(getattr(block, "elem_id", None) or f"component-{block._id}"))
    return f'<span title="{block._id} {place}">{escaped}</span>'


def visibility(is_shown: bool) -> Any:
    """Return an update that shows or hides a component built with `visible=HIDDEN`."""
    return gr.update(visible=True if is_shown else HIDDEN)


def shown_among(names: Sequence[str]) -> Callable[[str], list[Any]]:
    """Return a handler that shows the component of the chosen name, and hides those of the other names."""
    return lambda chosen: [gr.update(visible=name == chosen) for name in names]


def events(component: Component) -> Any:
    """Return the component as `Any`, since Gradio adds its events at run time and type checkers do not see them."""
    return component


def owner_key() -> gr.Textbox:
    """Return the hidden component that passes this browser's secret key to handlers."""
    return gr.Textbox(visible=False, elem_id=OWNER_KEY, label=say("Owner key"))


def key_of_tab(key: gr.Textbox, name: str) -> gr.Textbox:
    """Build a hidden component that fires `change` if a tab must be filled when the page opens.

    It receives the visitor's key if the page opens on this tab or restores an earlier state. Otherwise nothing is
    called.

    Args:
        key: Component with the visitor's key.
        name: Name of the tab, as in links.

    Returns:
        The component.
    """
    found = gr.Textbox("", visible=False, label=say("Owner key"))
    wanted = in_browser(f"Lab.state.isKept() || Lab.currentTab() === {name!r} ? key : ''", "key")
    events(key).change(None, key, found, js=wanted)
    return found


def once_settled(changes: Sequence[Any]) -> Any:
    """Return an event listener, such as `component.change`, that fires once after several changes in quick succession.

    A page that restores its state changes most controls at once; a handler of each change would run once per control.
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


KEY_ALONE, KEY_FIRST = in_browser("Lab.ownerKey()"), in_browser("[Lab.ownerKey(), ...others]", "_, ...others")
"""`js=` functions for events whose only or first input is the visitor's key; a tab may be opened before the key's
component is filled."""


def saves_text(button: gr.Button, handler: Callable[..., Any], inputs: Any) -> None:
    """Make a button save a handler's result as a file in the browser; nothing is saved after an error.

    Args:
        button: The button that a visitor presses.
        handler: Returns `{"name": ..., "text": ...}`; its errors are reported.
        inputs: Components whose values the handler receives.
    """
    made = gr.JSON(visible=False)
    asked = button.click(reports_errors(handler), inputs, made, **QUIET)
    asked.success(None, made, made, js="(made) => { Lab.saveText(made?.name, made?.text); return null; }")
