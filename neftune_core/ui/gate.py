"""What stands between the network and the page: addresses, sizes and values are checked before anything acts on them.

The framework answers more addresses than the page uses (it would fetch any web address for a visitor), calls handlers
with any value, and prints what goes wrong with a traceback. `Gate` looks at requests, `guard` at the calls in them.
"""

from __future__ import annotations

import contextlib
import html
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.exceptions import ComponentProcessingError, InvalidPathError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neftune_core.errors import Cancelled, DoesNotFit, InvalidSetting, LabError
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.ui.rates import Rates, TooMany

logger = logging.getLogger(__name__)

# What the framework would answer and the page never asks: other people's addresses, files it writes, code it edits.
CLOSED = re.compile(
    r"/gradio_api/(file(=|/|%3d)\s*(https?|ftp):|proxy=|stream/|vibe|undo-vibe|process_recording|component_server|"
    r"custom_component|deep_link|runs|run-history|profiling|dev/|call/v2/)|/(monitoring|docs|redoc)\b",
    re.IGNORECASE,
)
CALLS = re.compile(r"/gradio_api/(queue/join|(call|run|api)/(?P<name>[^/]+))/?$")
UPLOAD = re.compile(r"/gradio_api/upload/?$")
SESSION = re.compile(r"[\w\-]{1,100}")
BEGIN = ("start", "start_study", "resume", "more")  # the functions that begin a study

HEADERS = (
    (b"x-content-type-options", b"nosniff"),  # no browser may guess that what a visitor uploaded is a page
    (b"referrer-policy", b"no-referrer"),  # a link in a page may hold the id of a study
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),  # the sign-in of a Space is a window of its own
)

MOST_VALUES = 20_000
DEEPEST = 40
LARGEST_NUMBER = 1e15
NOT_A_FILE = "An uploaded file is not described as the page does it: upload it first."
FORM_BYTES = 1_000_000  # what a form may add to the file in it

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")


class Refused(Exception):
    """A request that is not let through: its status and one sentence."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Gate:
    """An ASGI application before the framework's. `make_room(bytes)` is asked before an upload; it may raise."""

    def __init__(self, app: ASGIApp, *, page: gr.Blocks, limits: Limits, make_room: Callable[[int], None]) -> None:
        self.app, self.page, self.limits, self.make_room = app, page, limits, make_room
        self.rates = Rates(limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(_with_headers(message))

        try:
            await self.app(scope, await self._checked(scope, receive), sending)
        except Exception as error:
            status, words = _answer(error)
            if not begun:
                await JSONResponse({"error": words}, status)(scope, receive, sending)
            else:
                with contextlib.suppress(RuntimeError):  # of an answer that had ended when this was raised
                    await sending({"type": "http.response.body", "body": b"", "more_body": False})

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        path = scope["path"]
        if CLOSED.search(path) or "\0" in path or "\\" in path or ".." in path.split("/"):
            raise Refused(404, "There is nothing at this address.")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return receive
        if UPLOAD.search(path):
            most = self.limits.upload_megabytes * 1_048_576 + FORM_BYTES
            self.make_room(_announced(scope, most))
            return _counted(receive, most)
        body = await self._body(scope, receive)
        said = _object(body) if "/gradio_api/" in path else {}
        call = CALLS.search(path)
        if call is not None:
            number = check_call(self.page, said, call["name"])
            self.rates.count(scope, begins=self.page.fns[number].name in BEGIN)
        return _replayed(body, receive)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = 4 * self.limits.prompts * self.limits.prompt_characters + FORM_BYTES
        _announced(scope, most)
        counted, body, more = _counted(receive, most), bytearray(), True
        while more:
            message = await counted()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)


def _answer(error: Exception) -> tuple[int, str]:
    """The status and the sentence for what was raised; a fault of the lab is logged."""
    while isinstance(error, ExceptionGroup):  # what is raised while an answer is streamed comes in groups of one
        error = error.exceptions[0]
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, HTTPException):  # too late to be answered
        error = error.__cause__
    if isinstance(error, Refused):
        return error.status, str(error)
    if isinstance(error, TooMany):
        return 429, str(error)
    if isinstance(error, LabError):
        return 413 if isinstance(error, DoesNotFit) else 400, str(error)
    if isinstance(error, TypeError) and "GradioUploadFile" in str(error):  # a field of a form where a file is wanted
        return 400, "An upload is a form with files that have names."
    if isinstance(error, ClientDisconnect | HTTPException):  # a visitor who left, or asks for a session that is over
        return getattr(error, "status_code", 400), "This was over before it was answered."
    return 500, sentence(error)


def _with_headers(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message.get("headers", []), *HEADERS]}


def _announced(scope: Scope, most: int) -> int:
    """The length that a request says it has; raises `Refused` where that is too much."""
    given = dict(scope["headers"]).get(b"content-length", b"0")
    length = int(given) if given.isdigit() and len(given) < 20 else most + 1
    if length > most:
        raise Refused(413, f"This is larger than the {most / 1e6:,.0f} MB that this server takes at once.")
    return length


def _counted(receive: Receive, most: int) -> Receive:
    taken = 0

    async def counting() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise Refused(413, f"This is larger than the {most / 1e6:,.0f} MB that this server takes at once.")
        return message

    return counting


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, of few values, not deep, without odd numbers or half characters; raises `Refused`."""
    bare = _STRING.sub(b"", body)
    if sum(bare.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise Refused(413, f"A call has at most {MOST_VALUES:,} values.")
    depth = 0
    for mark in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if mark in b"[{" else -1
        if depth > DEEPEST:
            raise Refused(400, "The values of this call are nested too deeply.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "This call is not valid JSON.") from None
    if not isinstance(value, dict):
        raise Refused(400, "A call is a JSON object.")
    for inner in _every(value):
        _require_plain(inner)
    return value


def _every(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        yield found
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list):
            waiting += found


def _require_plain(value: Any) -> None:
    if isinstance(value, str) and _HALF.search(value):
        raise Refused(400, "A text of this call holds half a character (a lone surrogate).")
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= LARGEST_NUMBER):
        raise Refused(400, "A number of this call is no number, or too large.")
    if isinstance(value, dict) and "path" in value:
        path, marks = value["path"], value.get("meta", {})
        if not isinstance(path, str) or not isinstance(marks, dict):
            raise Refused(400, NOT_A_FILE)
        if re.match(r"\s*\w{2,10}:", path, re.ASCII):
            raise Refused(400, "The lab fetches nothing from other addresses: upload the file itself.")


def check_call(page: gr.Blocks, call: dict[str, Any], name: str | None) -> int:
    """The number of the function that `call` names; raises `Refused` unless it is made as the page makes calls."""
    number = call.get("fn_index")
    if number is None:
        number = next((known for known, fn in page.fns.items() if name and fn.api_name == name), None)
    if isinstance(number, bool) or not isinstance(number, int) or number not in page.fns:
        raise Refused(404, "The page has no such function.")
    if not isinstance(call.get("data"), list):
        raise Refused(400, "A call has its values in a list called data.")
    session = call.get("session_hash")
    if not (session is None and name is not None) and not (isinstance(session, str) and SESSION.fullmatch(session)):
        raise Refused(400, "A call names its session in letters, digits and hyphens.")
    trigger = call.get("trigger_id")
    if trigger is not None and (isinstance(trigger, bool) or not isinstance(trigger, int)):
        raise Refused(400, "A call names what triggered it by its number.")
    if call.get("batched") or call.get("simple_format"):
        raise Refused(400, "Calls are made one by one.")
    return number


# ---------------------------------------------------------------- the calls themselves

_SCALAR = (str, int, float, type(None))
_NUMBER = (int, float)

# What a component may send, the most particular class first; those that are not named send what they like.
ACCEPTED: tuple[tuple[type[Component], tuple[type, ...], str], ...] = (
    (gr.Slider, _NUMBER, "a number"),
    (gr.Number, (*_NUMBER, type(None)), "a number"),
    (gr.Checkbox, (bool, type(None)), "true or false"),
    (gr.CheckboxGroup, (list, type(None)), "a list"),
    (gr.Radio, _SCALAR, "one of its choices"),
    (gr.Dropdown, _SCALAR, "one of its choices"),
    (gr.Textbox, (str, type(None)), "text"),
    (gr.Code, (str, type(None)), "text"),
    (gr.File, (dict, type(None)), "an uploaded file"),
)


def guard(page: gr.Blocks, limits: Limits) -> None:
    """Let every call of `page` check its values first, and tell in one sentence what goes wrong, whatever it is."""
    inner = page.process_api
    longest = limits.prompts * limits.prompt_characters

    async def process_api(block_fn: Any, inputs: list[Any], *rest: Any, **named: Any) -> dict[str, Any]:
        fn = page.fns[block_fn] if isinstance(block_fn, int) else block_fn
        event = named.get("event_data")
        if event is not None and not isinstance(event._data, dict):
            event._data = {}
        try:
            if not (named.get("iterator") or fn.cancels):
                inputs = checked_values(fn.inputs, inputs, longest)
            return await inner(fn, inputs, *rest, **named)
        except Exception as error:
            words = _words(error)
            raise gr.Error(html.escape(words, quote=False), duration=20, print_exception=False) from None

    page.process_api = process_api  # type: ignore[method-assign]


def checked_values(blocks: Sequence[Any], values: Sequence[Any], longest: int) -> list[Any]:
    """The values, each of a kind that its component can send; no text is an empty one. Raises `InvalidSetting`."""
    if len(values) < len(blocks):
        raise InvalidSetting(f"This call gives {len(values)} values where {len(blocks)} are wanted.")
    return [_checked_value(block, value, longest) for block, value in zip(blocks, values, strict=False)]


def _checked_value(block: Any, value: Any, longest: int) -> Any:
    kinds, words = next((row[1:] for row in ACCEPTED if isinstance(block, row[0])), ((), ""))
    if not kinds:
        return value
    several = isinstance(block, gr.Dropdown) and block.multiselect and isinstance(value, list)
    odd = isinstance(value, bool) and bool not in kinds
    if not several and (odd or not isinstance(value, kinds)):
        raise InvalidSetting(f"{_label(block)} takes {words}.")
    most = getattr(block, "max_length", None) or longest
    if isinstance(value, str) and len(value) > most:
        raise InvalidSetting(f"{_label(block)} takes at most {most:,} characters (given {len(value):,}).")
    return "" if value is None and isinstance(block, gr.Textbox) else value


def _label(block: Any) -> str:
    return f"The field {block.label or block.elem_id or 'of this call'!r}"


def _words(error: Exception) -> str:
    """One sentence for what the framework or a handler raised; faults of the lab are logged by `sentences.sentence`."""
    if isinstance(error, LabError | Cancelled):
        return sentence(error)
    if isinstance(error, gr.Error):
        if "list of choices" in str(error.message):
            return "A choice of this call is none that its field offers."
        return " ".join(str(error.message).split())[:300]
    if isinstance(error, InvalidPathError):
        return "This is not a file that was uploaded here: upload it first."
    if isinstance(error, ValidationError):
        return NOT_A_FILE
    if isinstance(error, ComponentProcessingError) and "Could not preprocess" in str(error):
        return "A value of this call is none that its field can have."
    return sentence(error)
