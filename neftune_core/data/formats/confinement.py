"""Confinement of a process that reads untrusted data, by a permanent audit hook.

Python reports opened or listed files, connections and new processes to audit hooks. The hook refuses those that a
reader does not need. It guards against libraries that access more than necessary, for example by searching the disk for
a pattern. It is not a sandbox for untrusted code in the process.
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


def confine(hosts: Collection[str], domains: Collection[str] = HUB_DOMAINS) -> None:
    """Permanently refuse files, hosts and processes that a reader does not need.

    Files may be opened in the folders of Python, its packages, temporary files and the system. A refused call raises
    `PermissionError`.

    Args:
        hosts: Host names that may be reached.
        domains: Domains in which all hosts may be reached.
    """
    roots = _roots()
    reachable: set[str] = set()
    real = socket.getaddrinfo

    def resolved(host: Any, *more: Any, **named: Any) -> Any:
        found = real(host, *more, **named)
        reachable.update(str(one[4][0]) for one in found)
        return found

    socket.getaddrinfo = resolved

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILES:
            _require_inside(arguments[0] if arguments else None, roots)
        elif event == "socket.getaddrinfo":
            _require_host(arguments[0], hosts, domains)
        elif event == "socket.connect":
            address = arguments[1]
            if not isinstance(address, tuple) or str(address[0]) not in reachable:
                raise PermissionError("the reader may not open this connection")
        elif event in PROCESSES:
            raise PermissionError("the reader may not start processes")

    sys.addaudithook(guard)


def _roots() -> tuple[Path, ...]:
    named = [*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, tempfile.gettempdir(), *filter(None, sys.path)]
    return tuple({Path(os.path.realpath(root)) for root in named})


def _require_inside(path: Any, roots: tuple[Path, ...]) -> None:
    if isinstance(path, int) or path is None:  # already open
        return
    real = Path(os.path.realpath(os.fsdecode(path)))
    if not any(real.is_relative_to(root) for root in roots):
        raise PermissionError("the reader may not open this file")


def _require_host(host: Any, hosts: Collection[str], domains: Collection[str]) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name not in hosts and not any(name == domain or name.endswith(f".{domain}") for domain in domains):
        raise PermissionError("the reader may not connect to this host")
