"""Allow lists of paths, host names and origins.

A path that a new Gradio release adds stays closed until it is listed in `OPEN`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Scope

from neftune_core.space.profiles import named_hosts

READ, SEND = ("GET", "HEAD"), ("POST",)
FORWARDED = "x-forwarded-for"
LONGEST_ADDRESS = 60
STUDY_PATH = "page-study"
"""First part of the path that pages poll for updates of a study."""
UPLOAD = re.compile(r"/gradio_api/upload/?$", re.IGNORECASE)

OPEN: tuple[tuple[tuple[str, ...], str], ...] = (
    (READ, r"/"),
    (READ, r"/config/?"),
    (READ, r"(/gradio_api)?/theme\.css"),
    (READ, r"/(robots\.txt|favicon\.ico|manifest\.json)"),
    (READ, r"/(static|assets|svelte)/.+"),
    (READ, r"/page-files/[^/]+/[^/]+"),
    (READ, rf"/{STUDY_PATH}/[^/]+"),
    (READ, r"/login/(huggingface|callback)"),
    (READ, r"/logout"),
    (SEND, r"/login/?"),
    (READ, r"/gradio_api/(app_id|startup-events)/?"),
    (READ, r"/gradio_api/(info|openapi\.json)/?"),
    (READ, r"/gradio_api/heartbeat/[^/]+"),
    (READ, r"/gradio_api/queue/data"),
    (READ, r"/gradio_api/call/(v2/[^/]+|(?!v2/)[^/]+)/[^/]+"),
    (READ, r"/gradio_api/upload_progress"),
    (READ, r"/gradio_api/file(=|/)(?!\s*(https?|ftp):).+"),
    (SEND, r"/gradio_api/queue/join"),
    (SEND, r"/gradio_api/call/(v2/)?[^/]+/?"),
    (SEND, r"/gradio_api/mcp(/http)?/?"),
    (READ, r"/gradio_api/mcp/schema"),
    (SEND, r"/gradio_api/(cancel|reset|upload)/?"),
)
"""Methods and paths that the page and `gradio_client` use; all others are closed."""

_OPEN = tuple((frozenset(methods), re.compile(pattern, re.IGNORECASE)) for methods, pattern in OPEN)


def is_open(method: str, path: str, pages: Iterable[str] = ()) -> bool:
    """Return whether a request is on the allow list.

    Args:
        method: HTTP method.
        path: Path of the URL.
        pages: Paths of further pages.

    Returns:
        Whether the lab responds to it.
    """
    if "\0" in path or "\\" in path or ".." in path.split("/"):
        return False
    if method in READ and path.strip("/") in pages:
        return True
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in _OPEN)


@dataclass(frozen=True)
class Hosts:
    """Host names and origins that a server accepts.

    Another site can let its host name resolve to this machine (DNS rebinding). Requests from its pages then have that
    name in the `Host` header, and are rejected because the name is not listed. IP addresses cannot be misused this way.

    Attributes:
        own: Names of this machine, without ports.
        public: Names under which a proxy serves the page, without ports. Origins with these names may have any port.
        suffixes: Suffixes of further public names.
        loopback_only: Whether only loopback IP addresses are accepted.
        anything: Whether every host is accepted, as on a Space, where all requests come through the platform's proxy.
    """

    own: frozenset[str] = frozenset()
    public: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    loopback_only: bool = True
    anything: bool = False

    def accepts(self, host: str) -> bool:
        """Return whether this `Host` header is accepted."""
        name = _name(host)
        return self.anything or name in {"localhost", *self.own} or self._is_public(name) or self._is_own_address(name)

    def is_own(self, origin: str, host: str) -> bool:
        """Return whether a request comes from a page of this server.

        Args:
            origin: `Origin` header of the request.
            host: `Host` header of the request.

        Returns:
            Whether the headers match, or the origin has a public name of this server.
        """
        try:
            found = urlsplit(origin)
        except ValueError:
            return False
        if found.scheme not in ("http", "https") or not found.netloc:
            return False
        same = _with_port(found.netloc, found.scheme) == _with_port(host, found.scheme)
        return same or self._is_public(_name(found.netloc))

    def _is_public(self, name: str) -> bool:
        return name in self.public or (bool(self.suffixes) and name.endswith(self.suffixes))

    def _is_own_address(self, name: str) -> bool:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback_only


def hosts_of(host: str | None, root_path: str | None = None, *, share: bool = False) -> Hosts:
    """Return the accepted hosts of a server.

    Args:
        host: Listening address; `GRADIO_SERVER_NAME` or the loopback interface if None.
        root_path: URL or URL path under which a proxy serves the page; `GRADIO_ROOT_PATH` if None.
        share: Whether Gradio's tunnel is used.

    Returns:
        The hosts.

    Raises:
        InvalidSetting: If a name in `NEFTUNE_HOSTS` is malformed.
    """
    listens = host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    root = root_path or os.environ.get("GRADIO_ROOT_PATH") or ""
    machine = socket.gethostname().lower()
    loopback = _is_loopback(listens)
    own = {_name(listens)} | (set() if loopback else {machine, f"{machine}.local"})
    public = frozenset({*named_hosts(), _name(urlsplit(root).netloc)} - {""})
    suffixes = (".gradio.live",) if share else ()
    if "SPACE_ID" not in os.environ:
        return Hosts(frozenset(own), public, suffixes, loopback)
    space = {_name(found.strip()) for found in os.environ.get("SPACE_HOST", "").split(",") if found.strip()}
    return Hosts(frozenset(own), public | space, suffixes if space else (".hf.space",), loopback, anything=True)


def foreign_target(location: str, host: str) -> bool:
    """Return whether a redirect leaves this server.

    Args:
        location: Target of the redirect.
        host: `Host` header of the request.

    Returns:
        Whether the target is on another host.
    """
    found = urlsplit(location.replace("\\", "/").strip())
    return bool(found.netloc or found.scheme) and found.netloc.lower() != host.lower()


def header(scope: Scope, name: bytes) -> str:
    """Return the value of a request header.

    Args:
        scope: ASGI scope of the request.
        name: Name of the header in lower case.

    Returns:
        The value; "" if absent.
    """
    return dict(scope["headers"]).get(name, b"").decode("latin-1")


def address_of(client: str, headers: Mapping[str, str]) -> str:
    """Return the IP address to which a call is attributed.

    On a Space all calls come from the platform's proxy, which passes the visitor's address in a header. An IPv6 address
    is reduced to its first four groups, which usually identify one household.

    Args:
        client: Address of the connection.
        headers: Headers of the request.

    Returns:
        The address.
    """
    if "SPACE_ID" in os.environ:
        client = headers.get(FORWARDED, "").partition(",")[0].strip()[:LONGEST_ADDRESS] or client
    return ":".join(client.split(":")[:4]) if client.count(":") > 1 else client


def address_in(scope: Scope) -> str:
    """Return the IP address to which a request is attributed."""
    return address_of((scope.get("client") or ("", 0))[0], {FORWARDED: header(scope, FORWARDED.encode())})


def _name(host: str) -> str:
    """Return the host of a `Host` header or URL, in lower case and without port."""
    inside = re.fullmatch(r"\[([^\]]*)\](:\d*)?", host)
    if inside:
        return inside[1].lower()
    return re.sub(r":\d*$", "", host).rstrip(".").lower() if host.count(":") < 2 else host


def _with_port(host: str, scheme: str) -> tuple[str, str]:
    found = re.search(r"(?<=[^:]):(\d+)$|\]:(\d+)$", host)
    return _name(host), (found[1] or found[2]) if found else {"http": "80", "https": "443"}[scheme]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(_name(host)).is_loopback
    except ValueError:
        return _name(host) == "localhost"
