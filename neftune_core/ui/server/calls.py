"""Check the values of calls before their handlers run, and report every error as one sentence."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.exceptions import ComponentProcessingError, InvalidPathError
from pydantic import ValidationError

from neftune_core.errors import Cancelled, InvalidSetting, LabError
from neftune_core.language import ENGLISH, TAGS, in_language, later, say
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.record import asked_from
from neftune_core.ui.parts.wiring import OWNER_KEY, beside_control, triggered_by
from neftune_core.ui.server.addresses import FORWARDED, address_of
from neftune_core.ui.server.recent import Recent
from neftune_core.ui.server.uploads import asked_as, upload_quota

RELOAD = later("This page was idle for so long that the server no longer has its settings: reload the page.")
NOT_UPLOADED = later("This file was not uploaded here: upload it first.")
NOT_A_FILE = later("The description of a file in this call is malformed: upload the file first.")

SERVER = secrets.token_hex(8)
"""Identifier of this process. A page sends the identifier of the process that served it, so that a restart, which
loses the settings of the page, is detected."""
SERVER_HEADER = "x-lab-server"

_SCALAR = (str, int, float, type(None))
_NUMBER = (int, float)

_NO_NUMBER = later("The value of {field} must be a number.")
_NO_CHOICE = later("The value of {field} must be one of its choices.")
_NO_TEXT = later("The value of {field} must be text.")

# Accepted types by component class, most specific class first, with the error for other types. Values of other
# components are not checked.
ACCEPTED: tuple[tuple[type[Component], tuple[type, ...], str], ...] = (
    (gr.Slider, _NUMBER, _NO_NUMBER),
    (gr.Number, (*_NUMBER, type(None)), _NO_NUMBER),
    (gr.Checkbox, (bool, type(None)), later("The value of {field} must be true or false.")),
    (gr.CheckboxGroup, (list, type(None)), later("The value of {field} must be a list.")),
    (gr.Radio, _SCALAR, _NO_CHOICE),
    (gr.Dropdown, _SCALAR, _NO_CHOICE),
    (gr.Textbox, (str, type(None)), _NO_TEXT),
    (gr.File, (dict, type(None)), later("The value of {field} must be an uploaded file.")),
)


def guard(
    page: gr.Blocks,
    limits: Limits,
    evicted: EvictedSessions | None = None,
    note: Callable[[Any, str], None] | None = None,
) -> None:
    """Make a page check the values of every call, and report every error as one sentence.

    Handlers run with the visitor's address in `record.asked_from`. A page with an evicted session, or one opened before
    a restart of the server, must be reloaded: its settings would otherwise silently revert to the defaults.

    Args:
        page: The built page, before it is launched.
        limits: Limits of the server.
        evicted: Evicted sessions; none if None.
        note: Called with the session and the IP address of every call; None for no callback.
    """
    inner = page.process_api
    longest = limits.prompts * limits.prompt_characters
    gone, keys = evicted or EvictedSessions(), SessionKeys()

    async def process_api(block_fn: Any, inputs: list[Any], *rest: Any, **named: Any) -> dict[str, Any]:
        """Check a call and process it.

        Args:
            block_fn: The called function, or its number.
            inputs: Values of the inputs.
            *rest: As for `Blocks.process_api`.
            **named: As for `Blocks.process_api`.

        Returns:
            The result of `Blocks.process_api`.

        Raises:
            Error: If the call fails; the message is one sentence.
        """
        fn = page.fns[block_fn] if isinstance(block_fn, int) else block_fn
        event = named.get("event_data")
        if event is not None and not isinstance(event._data, dict):
            event._data = {}
        with in_language(language_of(fn)):
            try:
                trigger = getattr(event, "target", None)
                triggered_by.set(trigger if hasattr(trigger, "_id") else None)
                asked_from.set(asked_by(named.get("request")))
                session = named.get("session_hash")
                if note is not None:
                    note(session, asked_from.get())
                asked_as.set(keys.of(session, fn.inputs, inputs))
                if any(block.stateful for block in (*fn.inputs, *fn.outputs)):
                    _require_known_session(named, gone)
                if not (named.get("iterator") or fn.cancels):
                    inputs = _check_values(fn.inputs, inputs, longest)
                    require_own_files(inputs, limits)
                return await inner(fn, inputs, *rest, **named)
            except Exception as error:
                words = _error_text(error)
                raise gr.Error(beside_control(words), duration=None, print_exception=False) from None

    page.process_api = process_api  # type: ignore[method-assign]


def require_own_files(values: Sequence[Any], limits: Limits) -> None:
    """Reject files that the visitor of the current call did not upload.

    Args:
        values: The values of the call.
        limits: Limits of the server.

    Raises:
        InvalidSetting: If the visitor may not use one of the files.
    """
    for value in values:
        path = value.get("path") if isinstance(value, dict) else None
        if isinstance(path, str) and not upload_quota(limits).may_name(path):
            raise InvalidSetting(say(NOT_UPLOADED))


class SessionKeys:
    """The latest hashed key of each session, for the `MOST` sessions that sent a key most recently."""

    MOST = 10_000

    def __init__(self) -> None:
        self._known: Recent[str] = Recent(self.MOST)

    def of(self, session: Any, blocks: Sequence[Any], values: Any) -> str:
        """Return the hashed key of a call, or the last one from the same session.

        Args:
            session: Id of the session.
            blocks: Input components of the call.
            values: Their values.

        Returns:
            The hashed key; "" if the session has not sent one.
        """
        if not isinstance(session, str) or not isinstance(values, list):
            return ""
        named = zip(blocks, values, strict=False)
        key = next((value for block, value in named if getattr(block, "elem_id", "") == OWNER_KEY), None)
        if isinstance(key, str) and key:
            self._known[session] = owner_hash(key)
        return self._known.get(session, "")


def asked_by(request: Any) -> str:
    """Return the IP address of a call; "" if unknown."""
    client = getattr(getattr(request, "client", None), "host", "") or ""
    return address_of(client, {FORWARDED: str(request.headers.get(FORWARDED, ""))}) if client else ""


def language_of(fn: Any) -> str:
    """Return the language of the page that a function belongs to."""
    page = getattr(fn, "page", "")
    return page if page in TAGS else ENGLISH


def _require_known_session(named: Mapping[str, Any], gone: EvictedSessions) -> None:
    """Raise `InvalidSetting` if the server no longer has the settings of the calling page."""
    if named.get("session_hash") in gone:
        raise InvalidSetting(say(RELOAD))
    headers = getattr(named.get("request"), "headers", None) or {}
    if headers.get(SERVER_HEADER, SERVER) != SERVER:
        raise InvalidSetting(say("The server was restarted: reload this page. All your settings are kept."))


class EvictedSessions:
    """Set of evicted sessions in a bit array of 2 MB, which never loses an entry.

    After 100,000 evictions, about 0.6% of new sessions are mistaken for evicted ones and asked to reload the page.
    """

    BITS = 1 << 24

    def __init__(self) -> None:
        self._bits = bytearray(self.BITS >> 3)

    def add(self, session: str) -> None:
        """Add a session."""
        place = hash(session) % self.BITS
        self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, session: object) -> bool:
        place = hash(session) % self.BITS
        return isinstance(session, str) and bool(self._bits[place >> 3] & 1 << (place & 7))


def _check_values(blocks: Sequence[Any], values: Sequence[Any], longest: int) -> list[Any]:
    """Check that every value has a type that its component can send; None becomes "" for text.

    Raises:
        InvalidSetting: If there are too few values, or one has another type or is too long.
    """
    if len(values) < len(blocks):
        words = later("This call has too few values (expected {expected}, given {given}).")
        raise InvalidSetting(say(words, expected=len(blocks), given=len(values)))
    return [_checked_value(block, value, longest) for block, value in zip(blocks, values, strict=False)]


def _checked_value(block: Any, value: Any, longest: int) -> Any:
    kinds, words = next((row[1:] for row in ACCEPTED if isinstance(block, row[0])), ((), ""))
    if not kinds:
        return value
    several = isinstance(block, gr.Dropdown) and block.multiselect and isinstance(value, list)
    odd = isinstance(value, bool) and bool not in kinds
    if not several and (odd or not isinstance(value, kinds)):
        raise InvalidSetting(say(words, field=_label(block)))
    most = getattr(block, "max_length", None) or longest
    if isinstance(value, str) and len(value) > most:
        words = later("The value of {field} may have at most {most:,} characters (given {count:,}).")
        raise InvalidSetting(say(words, field=_label(block), most=most, count=len(value)))
    return "" if value is None and isinstance(block, gr.Textbox) else value


def _label(block: Any) -> str:
    name = block.label or block.elem_id
    return repr(name) if name else say("a field")


def _error_text(error: Exception) -> str:
    """Return one sentence for an exception; internal errors are logged by `sentences.sentence`."""
    if isinstance(error, LabError | Cancelled):
        return sentence(error)
    if isinstance(error, gr.Error):
        if "list of choices" in str(error.message):
            return say("A value in this call is not one of the choices of its field.")
        return " ".join(str(error.message).split())[:300]
    if isinstance(error, InvalidPathError):
        return say(NOT_UPLOADED)
    if isinstance(error, ValidationError):
        return say(NOT_A_FILE)
    if isinstance(error, ComponentProcessingError) and "Could not preprocess" in str(error):
        return say("A value in this call is not valid for its field.")
    return sentence(error)
