"""Confine a process that reads untrusted data, with a permanent audit hook.

Python reports opened and listed files, connections and new processes to audit hooks. The hook refuses those that a
reader does not need. It guards against libraries that access more than necessary, for example by searching the disk for
a pattern. It does not confine untrusted code in the process.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

HUB_DOMAINS = ("huggingface.co", "hf.co")
SYSTEM = ("/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev")
FILES = {"open", "os.listdir", "os.scandir"}
PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}


def hub_hosts() -> set[str]:
    """Return the hosts that a hub reader may reach: those of the hub and of configured proxies."""
    addresses = [os.environ.get("HF_ENDPOINT") or "https://huggingface.co", *getproxies().values()]
    return {host for host in (urlsplit(address).hostname for address in addresses) if host}


def confine(hosts: Collection[str]) -> None:
    """Permanently refuse the reader access to files, hosts and processes that it does not need.

    Files may be opened in the folders of Python, its packages, temporary files and the system. A refused call raises
    `PermissionError`.

    Args:
        hosts: Host names that may be reached, in addition to those in `HUB_DOMAINS`.
    """
    folders = [*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, tempfile.gettempdir(), *filter(None, sys.path)]
    roots = {Path(os.path.realpath(folder)) for folder in folders}
    reachable: set[str] = set()
    getaddrinfo = socket.getaddrinfo

    def recording_getaddrinfo(*arguments: Any, **named: Any) -> Any:
        """Resolve a host name, and allow connections to its addresses.

        Args:
            *arguments: As for `socket.getaddrinfo`.
            **named: As for `socket.getaddrinfo`.

        Returns:
            The result of `socket.getaddrinfo`.
        """
        found = getaddrinfo(*arguments, **named)
        reachable.update(str(entry[4][0]) for entry in found)
        return found

    socket.getaddrinfo = recording_getaddrinfo

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse an audit event of the interpreter unless it is allowed.

        Args:
            event: Name of the event.
            arguments: Arguments of the event.

        Raises:
            PermissionError: If the file, host or process is not allowed.
        """
        if event in FILES:
            _require_inside(arguments[0] if arguments else None, roots)
        elif event == "socket.getaddrinfo":
            _require_host(arguments[0], hosts)
        elif event == "socket.connect":
            address = arguments[1]
            if not isinstance(address, tuple) or str(address[0]) not in reachable:
                raise PermissionError("the reader may not open this connection")
        elif event in PROCESSES:
            raise PermissionError("the reader may not start processes")

    sys.addaudithook(guard)


def _require_inside(path: Any, roots: Collection[Path]) -> None:
    if isinstance(path, int) or path is None:  # already open
        return
    real = Path(os.path.realpath(os.fsdecode(path)))
    if not any(real.is_relative_to(root) for root in roots):
        raise PermissionError("the reader may not open this file")


def _require_host(host: Any, hosts: Collection[str]) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in hosts and not any(name == domain or name.endswith(f".{domain}") for domain in HUB_DOMAINS):
        raise PermissionError("the reader may not connect to this host")
