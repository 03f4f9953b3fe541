"""How the page's events meet the core: errors become sentences, and nobody sees a traceback."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core import language
from neftune_core.errors import Cancelled, InvalidSetting
from neftune_core.language import say
from neftune_core.sentences import sentence

# What an event of the page is that nobody should call from outside, and that must not blink.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# Of a handler that checks its settings itself: the framework would take every single input through a thread.
UNREAD: dict[str, Any] = {**QUIET, "preprocess": False}

OWNER_KEY = "owner-key"
SECONDS_SHOWN = 20


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Show every error of `handler` as one sentence and leave the outputs as they are; generators too.

    It speaks the language in which it was wired, that of the page it belongs to. A `LabError` is the person's to mend
    and is shown as a warning; `Cancelled` as a note. Anything else is a fault of the lab, which `sentences.sentence`
    logs.
    """
    spoken = language.current()
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def told_generator(*given: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from _spoken(handler(*given, **named), spoken)
            except Exception as error:
                with language.in_language(spoken):
                    tell(error)
                yield gr.skip()

        return told_generator

    @functools.wraps(handler)
    def told_function(*given: Any, **named: Any) -> Any:
        with language.in_language(spoken):
            try:
                return handler(*given, **named)
            except Exception as error:
                tell(error)
                return gr.skip()

    return told_function


def _spoken(steps: Generator[Any, None, None], code: str) -> Iterator[Any]:
    """The same values, each of them made in that language: every step may come in a context of its own."""
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


def tell(error: BaseException) -> None:
    """The sentence of `error` as a toast of the page."""
    words = html.escape(sentence(_as_theirs(error)), quote=False)
    if isinstance(error, Cancelled):
        gr.Info(words, title=say("Stopped"), duration=SECONDS_SHOWN)
    else:
        gr.Warning(words, title=say("That did not work"), duration=SECONDS_SHOWN)


def _as_theirs(error: BaseException) -> BaseException:
    """What a call from outside the page can cause, as a mistake of who made it; the rest as it is."""
    if isinstance(error, AttributeError) and isinstance(error.obj, gr.EventData):
        return InvalidSetting(say("This call does not say {name!r}, as the page does.", name=error.name))
    return error


def events(component: Component) -> Any:
    """The component for its events, which the framework adds to each class as it runs, unseen by type checkers."""
    return component


def owner_key() -> gr.Textbox:
    """The hidden component that carries this browser's unguessable key to handlers; see `fill_owner_key`."""
    return gr.Textbox(visible=False, elem_id=OWNER_KEY, label="Owner key")


def fill_owner_key(page: gr.Blocks, key: gr.Textbox) -> None:
    """Fill `key` in the browser as soon as the page is there, without a call to the server."""
    page.load(None, outputs=key, js=in_browser("Lab.ownerKey()"))


def in_browser(expression: str, inputs: str = "") -> str:
    """A `js=` function of `inputs` that waits for the page's own scripts, then gives `expression`."""
    wait = "while (!window.Lab) await new Promise((go) => setTimeout(go, 20));"
    return f"async ({inputs}) => {{ {wait} return {expression}; }}"
