"""A lab in a separate process, and visitors of its page in Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from processes import ended

LAB = str(Path(__file__).parents[2] / "app.py")


PATIENCE = 60_000
"""Milliseconds that a page may take for one thing on a machine that does others."""


@contextmanager
def served(command: list[str], home: Path) -> Iterator[str]:
    """Serve a page from a separate process, because warnings are errors in this one; yield its address."""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "NEFTUNE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        with ended(server):
            yield server.stdout.readline().strip().rpartition(" ")[2]


class SharedLab:
    """One lab for many tests. A test that failed may have left a study running, so the next one gets a new lab."""

    def __init__(self, new_home: Callable[[], Path]) -> None:
        self._new_home, self._failed = new_home, -1
        self._stack = ExitStack()

    def opened(self, failed: int) -> tuple[str, Path]:
        """Return the address and the home folder; `failed` is the number of tests that have failed so far."""
        if failed != self._failed:
            self.close()
            home = self._new_home()
            self._failed, self._found = failed, (self._stack.enter_context(served([LAB], home)), home)
        return self._found

    def close(self) -> None:
        """End the lab and what it runs."""
        self._stack.close()


# Nothing moves by itself, since moving pictures would take much of the machine.
LOOKS = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"}
_SHARED: dict[Any, Any] = {}


def shared_context(browser: Any) -> Any:
    """Return the context whose cache the tests share: a new one would fetch and compile all scripts again."""
    if browser not in _SHARED:
        _SHARED[browser] = browser.new_context(**LOOKS)
    return _SHARED[browser]


@contextmanager
def visiting(
    browser: Any,
    address: str,
    *,
    key: str = "",
    link: str = "",
    alone: bool = False,
    prepare: Callable[[Any], object] | None = None,
) -> Iterator[Any]:
    """Yield the open page of a new visitor, or of the one with `key`.

    Args:
        browser: The browser.
        address: Address of the lab.
        key: Key of the visitor.
        link: A query such as `?job=...`.
        alone: Whether the page gets a context of its own, for example for a clock, which belongs to a context.
        prepare: Called with the page before it opens.
    """
    context = browser.new_context(**LOOKS) if alone else shared_context(browser)
    before = list(context.pages)
    try:
        with opened_page(context, address, link, key=key, prepare=prepare) as opened:
            yield opened
    except BaseException:
        _SHARED.pop(browser, None)  # what a failed test left behind
        context.close()
        raise
    for page in context.pages:
        if page not in before:
            page.close()
    context.clear_cookies()
    if alone:
        context.close()


# What the framework says of a call that was under way as the page was loaded again.
BROKEN_OFF = ("AbortError", "Unexpected error Connection errored out")


@contextmanager
def opened_page(
    context: Any, address: str, link: str = "", *, key: str = "", prepare: Callable[[Any], object] | None = None
) -> Iterator[Any]:
    """Yield the open page; fail on page errors and on requests to other hosts. Nothing stays stored.

    Args:
        context: The context of the page.
        address: Address of the lab.
        link: A query such as `?job=...`.
        key: Key of the visitor.
        prepare: Called with the page before it opens.
    """
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    if prepare:
        prepare(opened)
    if key:
        opened.add_init_script(f"localStorage.setItem('neftune-lab-owner', '{key}')")
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: faults.append(request.url) if _leaves(request.url, address) else None)
    with opened.expect_response(lambda response: "queue/join" in response.url):  # what the page asks as it opens
        opened.goto(address + link)
    opened.wait_for_function("window.Lab && document.body.dataset.labOpened")
    yield opened
    opened.evaluate("Lab.state.forget(); localStorage.clear()")  # a page that is closed would store its state again
    opened.close()
    faults = [fault for fault in faults if not fault.startswith(BROKEN_OFF)]
    assert not faults, faults


@contextmanager
def blank_page(browser: Any, *, alone: bool = False) -> Iterator[Any]:
    """Yield an empty page whose errors do not matter, such as those of calls that fail on purpose.

    Args:
        browser: The browser.
        alone: Whether the page gets a context of its own, so that no other page has its visitor.
    """
    context = browser.new_context(**LOOKS) if alone else shared_context(browser)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    try:
        yield page
        if not page.is_closed():  # another test that failed has closed the shared context
            page.evaluate("window.Lab?.state.forget(); localStorage.clear()")
            page.close()
    except BaseException:
        if not alone:
            _SHARED.pop(browser, None)
        context.close()
        raise
    if alone:
        context.close()
    else:
        context.clear_cookies()


def _leaves(url: str, address: str) -> bool:
    return url.startswith(("http:", "https:")) and not url.startswith(address)
