"""ASGI middleware that validates every request before it reaches Gradio.

By default, Gradio serves more paths than the page uses, including one that fetches any URL for a visitor. It also
passes any value to handlers and prints tracebacks. `Gate` checks requests, and `calls.guard` checks the calls in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from typing import Any

import gradio as gr
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neftune_core.bounded_io import JSON_STRING, check_depth, count_values
from neftune_core.errors import DoesNotFit, LabError
from neftune_core.language import in_language
from neftune_core.sentences import sentence
from neftune_core.settings import Limits
from neftune_core.ui.server import addresses, connections
from neftune_core.ui.server.addresses import Hosts, header
from neftune_core.ui.server.api.mcp import Callers
from neftune_core.ui.server.api.parameters import V2, as_positional
from neftune_core.ui.server.calls import NOT_A_FILE, language_of
from neftune_core.ui.server.rate_limits import CALL_BYTES, Rates, TooManyCalls

CALLS = re.compile(r"/gradio_api/(queue/join|call/(?P<name>[^/]+))/?$", re.IGNORECASE)
LOGIN = re.compile(r"/login/?$", re.IGNORECASE)
SIGN_IN = "/login/huggingface"
"""The only path that may redirect to another host (the platform's sign-in page)."""
SESSION = re.compile(r"[\w\-]{1,100}")

HEADERS = (
    (b"x-content-type-options", b"nosniff"),  # browsers must not interpret a visitor's upload as a page
    (b"referrer-policy", b"no-referrer"),  # the URL of a page may contain a study id
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),  # the sign-in of a Space opens in a new window
)
POLICY = (
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-src 'none'; frame-ancestors {frames}"
)
"""The page's content security policy.

The scripts in the page (`first_view.FirstView`) and Gradio's combined small scripts (`framework.one_script`) carry the
nonce of the response. Gradio needs 'unsafe-eval' because it compiles event handlers from text in the browser, and
'unsafe-inline' because its scripts set styles.
"""
NONCE = "neftune.nonce"
"""Key of the response's nonce in the ASGI scope of the request."""

MOST_VALUES = 20_000
LARGEST_NUMBER = 1e15
FORM_BYTES = 1_000_000  # overhead of a form around its file

_SURROGATE = re.compile("[\ud800-\udfff]")


class RejectedRequest(Exception):
    """Raised when the gate rejects a request.

    Args:
        status: HTTP status.
        words: The reason, in one sentence.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Gate:
    """Outermost ASGI middleware, which checks every request before Gradio and its own middleware.

    Args:
        app: The application behind the gate.
        page: The Gradio page.
        limits: Limits of the server.
        hosts: Accepted host names and origins.
    """

    def __init__(self, app: ASGIApp, *, page: gr.Blocks, limits: Limits, hosts: Hosts) -> None:
        self.app, self.page, self.limits, self.hosts = app, page, limits, hosts
        self.rates, self.callers = Rates(limits), Callers()
        self.pages = [path for path, *_ in page.pages if path]
        most = connections.MOST_UNREAD_PRIVATE if limits.local_paths else connections.MOST_UNREAD
        self.open, self.unread = connections.OpenRequests(), connections.UnreadAnswers(page._queue, most)
        self._closing_idle: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started, scope = False, {**self.callers.resolved(scope), NONCE: secrets.token_urlsafe(16)}
        self._start_closing_idle()

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(self._with_security_headers(message, scope))

        query = scope.get("query_string", b"")
        try:
            with self.open.counted(addresses.address_in(scope)), self.unread.reading(scope["path"], query):
                checked = await self._checked(scope, receive)
                # Without an `Origin` header, Gradio's CORS middleware cannot allow a foreign origin.
                kept = [(name, value) for name, value in scope["headers"] if name != b"origin"]
                await self.app(self.callers.noted({**scope, "headers": kept}), checked, sending)
        except Exception as error:
            status, words = _status_and_message(error)
            if not started:
                await JSONResponse({"error": words}, status)(scope, receive, sending)
            else:
                with contextlib.suppress(RuntimeError):  # the response has already ended
                    await sending({"type": "http.response.body", "body": b"", "more_body": False})

    def _start_closing_idle(self) -> None:
        """Start the task that closes idle connections, unless the server is not running yet or the task exists."""
        if self._closing_idle is None and getattr(self.page, "server", None) is not None:
            # Behind a platform's proxy, all connections have the same peer, and each is counted on its own.
            address_of = (lambda connection: str(id(connection))) if self.hosts.anything else connections.peer_of
            self._closing_idle = asyncio.create_task(connections.close_idle(self.page.server, address_of))

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """Return the `receive` to pass to the application.

        Raises:
            RejectedRequest: If the request is rejected.
            TooManyCalls: If its IP address has reached a limit.
        """
        path, method = scope["path"], scope["method"]
        self._check_source(scope)
        if not addresses.is_open(method, path, self.pages):
            raise RejectedRequest(404, "There is nothing at this address.")
        address = addresses.address_in(scope)
        if method in addresses.READ:
            if path.startswith(f"/{addresses.STUDY_PATH}/"):
                self.rates.count_call(address)
            return receive
        if LOGIN.search(path):
            self.rates.count_password(address)
        if addresses.UPLOAD.search(path):
            most = self.limits.upload_megabytes * 1_048_576 + FORM_BYTES
            _check_length(scope, most)
            self.rates.count_call(address)
            return _limit_bytes(receive, most)
        body = await self._body(scope, receive)
        if "/gradio_api/" not in path.lower():
            return _replay(body, receive)
        if len(body) > CALL_BYTES:  # counted before the body is parsed
            self.rates.count_call(address, size=len(body) - CALL_BYTES)
        call = self._by_position(scope, parse_call(body))
        called = CALLS.search(scope["path"])
        if called is None:
            self.rates.count_call(address)
        else:
            function = self.page.fns[_check_call(self.page, call, called["name"])]
            with in_language(language_of(function)):
                self.rates.count_call(address)
                call["session_hash"] = session = call.get("session_hash") or secrets.token_hex(16)
                await self.unread.join(address, session)
        # Encoded again, so that Gradio reads the values that were checked.
        return _replay(json.dumps(call).encode(), receive)

    def _by_position(self, scope: Scope, call: dict[str, Any]) -> dict[str, Any]:
        """Convert the body of a call with named parameters to positional ones, and the path in `scope` accordingly.

        Raises:
            RejectedRequest: If there is no such endpoint.
        """
        if not V2.search(scope["path"]):
            return call
        found = as_positional(self.page, scope["path"], call)
        if found is None:
            raise RejectedRequest(404, "The lab has no such endpoint.")
        scope["path"], call = found
        scope["raw_path"] = scope["path"].encode()
        return call

    def _check_source(self, scope: Scope) -> None:
        """Raise `RejectedRequest` for an unknown host name or a cross-site request."""
        host = header(scope, b"host")
        for name in (host, header(scope, b"x-forwarded-host")):
            if name and not self.hosts.accepts(name):
                words = "The lab is not served under this host name: add the name to NEFTUNE_HOSTS on the server."
                raise RejectedRequest(421, words)
        if scope["method"] in addresses.READ:
            return
        origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
        foreign = not self.hosts.is_own(origin, host) if origin else site in ("cross-site", "same-site")
        if foreign:
            raise RejectedRequest(403, "Requests from pages of another site are refused.")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = 4 * self.limits.prompts * self.limits.prompt_characters + FORM_BYTES
        _check_length(scope, most)
        return await Request(scope, _limit_bytes(receive, most)).body()

    def _with_security_headers(self, message: Message, scope: Scope) -> Message:
        """Add security headers to the start of a response, and restrict its cookies and redirects to this host."""
        if message["type"] != "http.response.start":
            return message
        policy = POLICY.format(nonce=scope[NONCE], frames="*" if self.hosts.anything else "'self'")
        headers = [self._restrict_header(name, value, scope) for name, value in message.get("headers", [])]
        return {**message, "headers": [*headers, *HEADERS, (b"content-security-policy", policy.encode())]}

    def _restrict_header(self, name: bytes, value: bytes, scope: Scope) -> tuple[bytes, bytes]:
        if name.lower() == b"set-cookie" and not self.hosts.anything:
            return name, re.sub(rb"; *samesite=\w+", b"", value, flags=re.IGNORECASE) + b"; SameSite=Lax"
        is_redirect, host = name.lower() == b"location", header(scope, b"host")
        foreign = is_redirect and addresses.foreign_target(value.decode("latin-1"), host)
        return (name, b"/") if foreign and scope["path"] != SIGN_IN else (name, value)


def _status_and_message(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and the message for an exception; internal errors are logged."""
    while isinstance(error, ExceptionGroup):  # exceptions during streaming arrive as groups of one
        error = error.exceptions[0]
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, HTTPException):  # too late to respond
        error = error.__cause__
    if isinstance(error, RejectedRequest):
        return error.status, str(error)
    if isinstance(error, TooManyCalls):
        return 429, str(error)
    if isinstance(error, LabError):
        return 413 if isinstance(error, DoesNotFit) else 400, str(error)
    no_file = isinstance(error, TypeError) and "GradioUploadFile" in str(error)
    if no_file or (isinstance(error, AttributeError) and error.name == "filename"):  # a form field instead of a file
        return 400, "An upload must be a form with named files."
    if isinstance(error, ClientDisconnect | HTTPException):  # the visitor disconnected, or the session has ended
        return getattr(error, "status_code", 400), "The connection or the session ended before the response was sent."
    return 500, sentence(error)


def _check_length(scope: Scope, most: int) -> None:
    """Raise `RejectedRequest` if the declared length of a request is too large."""
    given = dict(scope["headers"]).get(b"content-length", b"0")
    if not given.isdigit() or len(given) >= 20 or int(given) > most:
        raise RejectedRequest(413, _too_large(most))


def _too_large(most: int) -> str:
    return f"This request exceeds the server's limit of {most / 1e6:,.0f} MB: send less data at once."


def _limit_bytes(receive: Receive, most: int) -> Receive:
    """Return a `receive` that raises `RejectedRequest` once a request exceeds its maximum size."""
    taken = 0

    async def counting() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise RejectedRequest(413, _too_large(most))
        return message

    return counting


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first replays the body."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def parse_call(body: bytes) -> dict[str, Any]:
    """Parse the body of a call.

    Raises:
        RejectedRequest: If the body is not a JSON object, or its size or content is not allowed.
    """
    if count_values(JSON_STRING.sub(b"", body)) > MOST_VALUES:
        raise RejectedRequest(413, f"A call can have at most {MOST_VALUES:,} values.")
    try:
        check_depth(body)
    except ValueError:
        raise RejectedRequest(400, "The values in this call are nested too deeply.") from None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise RejectedRequest(400, "This call is not valid JSON.") from None
    if not isinstance(value, dict):
        raise RejectedRequest(400, "A call must be a JSON object.")
    waiting: list[Any] = [value]
    while waiting:
        inner = waiting.pop()
        _check_value(inner)
        if isinstance(inner, dict | list):
            waiting += [*inner, *(inner.values() if isinstance(inner, dict) else ())]
    return value


def _check_value(value: Any) -> None:
    if isinstance(value, str) and _SURROGATE.search(value):
        raise RejectedRequest(400, "A text in this call contains an incomplete character (a lone surrogate).")
    if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:  # also NaN; an int may exceed a float
        raise RejectedRequest(400, "A number in this call is not finite or too large.")
    if isinstance(value, dict) and "path" in value:
        path = value["path"]
        if not isinstance(path, str) or not isinstance(value.get("meta", {}), dict):
            raise RejectedRequest(400, NOT_A_FILE)
        if re.match(r"\s*\w{2,10}:", path, re.ASCII):
            raise RejectedRequest(400, "The lab does not fetch files from other addresses: upload the file itself.")


def _check_call(page: gr.Blocks, call: dict[str, Any], name: str | None) -> int:
    """Return the number of the function that a call names in its path or body; raise `RejectedRequest` if malformed."""
    in_body = call.get("fn_index")
    in_path = next((number for number, fn in page.fns.items() if name and fn.api_name == name), None)
    number = in_body if name is None else in_path
    if isinstance(number, bool) or not isinstance(number, int) or number not in page.fns:
        raise RejectedRequest(404, "The page has no such function.")
    if in_body not in (None, number) or isinstance(in_body, bool):
        raise RejectedRequest(400, "The path and the body of this call name different functions.")
    if not isinstance(call.get("data"), list):
        raise RejectedRequest(400, "The values of a call must be in a list called data.")
    session = call.get("session_hash")
    is_omitted = session is None and name is not None
    if not is_omitted and not (isinstance(session, str) and SESSION.fullmatch(session)):
        raise RejectedRequest(400, "The session of a call must consist of letters, digits and hyphens.")
    trigger = call.get("trigger_id")
    if trigger is not None and (isinstance(trigger, bool) or not isinstance(trigger, int)):
        raise RejectedRequest(400, "The trigger of a call must be a number.")
    if call.get("batched") or call.get("simple_format"):
        raise RejectedRequest(400, "Calls cannot be batched.")
    return number
