"""Timings of the page in Chromium: start-up, first visit, first figure, redraws on slider moves, and live curves."""

from __future__ import annotations

import os
import secrets
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neftune_core.bench.table import ResultTable
from neftune_core.errors import NotAvailable

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record

MOVES = 50
LOG_SECONDS, EVENTS_A_SECOND, MOST_EVENTS_A_SECOND = 20, 5.0, 200.0

LATENCY_MILLISECONDS = 40
RESTING_SECONDS = 3.0
PROBES = Path(__file__).with_name("probes.js")
"""Functions that measure inside the page, as `labProbes`."""


class LiveUpdateTimes(NamedTuple):
    """Delays between the events of a growing log and their points in a figure on the page.

    Attributes:
        late: Seconds from each event to its point on the screen.
        was_remade: Whether the figure was recreated instead of updated.
    """

    late: list[float]
    was_remade: bool


class FirstVisit(NamedTuple):
    """Requests and times of a visit with an empty cache, without user actions, until the page is idle.

    Attributes:
        requests: Number of requests.
        size: Bytes received, headers included.
        calls: Number of calls to the server, excluding event stream and heartbeat.
        picture: Seconds until the first figure and its slider are shown.
        opened: Seconds until every tab can be opened.
        megabits: Network speed in megabits per second, measured afterwards with one large file.
    """

    requests: int
    size: int
    calls: int
    picture: float
    opened: float
    megabits: float


def first_visit(browser: Any, address: str, megabits: float = 0.0) -> FirstVisit:
    """Measure a first visit to the page.

    Args:
        browser: The Playwright browser.
        address: URL of the page.
        megabits: Speed of an emulated network with 40 ms latency, in megabits per second; 0 emulates none.

    Returns:
        The counts and times.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    client = context.new_cdp_session(page)
    client.send("Network.enable")
    if megabits:
        speed = megabits * 1e6 / 8
        limits = {"offline": False, "downloadThroughput": speed, "uploadThroughput": speed}
        client.send("Network.emulateNetworkConditions", {**limits, "latency": LATENCY_MILLISECONDS})
    asked: list[str] = []
    sizes: list[int] = []
    # `data:` and `blob:` URLs cause no network request.
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.add_init_script(path=PROBES)
    page.add_init_script("labProbes.wait()")
    page.goto(address, wait_until="commit")
    page.wait_for_function("window.labWaited?.opened && window.labWaited?.picture", timeout=60_000)
    page.wait_for_timeout(1000 * RESTING_SECONDS)
    waited, requests, size = page.evaluate("window.labWaited"), len(asked), sum(sizes)
    calls = sum("/queue/join" in url for url in asked)
    network = page.evaluate("labProbes.speed()")
    context.close()
    return FirstVisit(requests, size, calls, waited["picture"] / 1000, waited["opened"] / 1000, network)


def follow_log(page: Any, record: Record, *, events: int, rate: float) -> LiveUpdateTimes:
    """Write steps to a log, and measure the delays until the Train tab shows them.

    Args:
        page: The Playwright page.
        record: The claimed record.
        events: Number of steps.
        rate: Steps per second.

    Returns:
        The delays.
    """
    record.append({"seed": 0, "event": "started", "steps": events, "seeds": 1})
    page.locator("#train-state [data-state=running]").wait_for()
    page.evaluate(PROBES.read_text(encoding="utf-8") + "labProbes.points()")
    writer = LogWriter(record, events, rate)
    writer.start()
    page.wait_for_function("(last) => (window.labSeen.at(-1)?.[0] ?? 0) >= last", arg=events, timeout=120_000)
    writer.join()
    seen = page.evaluate("window.labSeen")
    same = page.evaluate("document.querySelector('#train-curves .lab-figure-plot').labFirst === true")
    late = [next(at for last, at in seen if last >= step) - when for step, when in writer.written.items()]
    return LiveUpdateTimes(late, was_remade=not same)


class LogWriter(threading.Thread):
    """A thread that appends steps of two arms to a record.

    Attributes:
        written: Unix time of each step.

    Args:
        record: The record, claimed by this process.
        events: Number of steps.
        rate: Steps per second.
    """

    def __init__(self, record: Record, events: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.record, self.events, self.rate = record, events, rate
        self.written: dict[int, float] = {}

    def run(self) -> None:
        """Write every step at its scheduled time."""
        started = time.monotonic()
        for step in range(1, self.events + 1):
            time.sleep(max(0.0, started + step / self.rate - time.monotonic()))
            losses = {"control": {"loss": 1 / step}, "uniform-alpha-5": {"loss": 2 / step}}
            event = {"seed": 0, "event": "step", "step": step, "steps": self.events, "tokens": 9, "arms": losses}
            self.written[step] = time.time()
            self.record.append(event)


@contextmanager
def serve_lab(**variables: str) -> Iterator[tuple[str, float]]:
    """Serve the lab in a child process with these environment variables.

    Yields:
        The URL, and the start-up time in seconds.
    """
    started = time.perf_counter()
    command = [sys.executable, "-c", "from neftune_core.ui.server.serve import serve; serve()"]
    environment = {**os.environ, "GRADIO_SERVER_NAME": "127.0.0.1", **variables}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        seconds = time.perf_counter() - started
        try:
            yield line.strip().rpartition(" ")[2], seconds
        finally:
            server.terminate()


def measure_page(runs: int, megabits: float = 0.0) -> ResultTable:
    """Measure the page with a new server in every run. This needs Playwright and a system Chromium.

    Args:
        runs: Number of runs over which the table shows medians.
        megabits: Speed of an emulated network for the first visit, in megabits per second; 0 emulates none.

    Returns:
        The table.
    """
    table = ResultTable("The page")
    found = [_one_run(megabits) for _ in range(runs)]
    for what in found[0]:
        table.add(what, [run[what] for run in found])
    return table


def _one_run(megabits: float) -> dict[str, float]:
    own = _own_import_seconds()
    with serve_lab() as (address, started):
        time.sleep(10)  # models load in the background; the visit is measured afterwards
        with automated_browser() as browser:
            visit = first_visit(browser, address, megabits)
        picture, moves = _time_noise_tab(address)
        point = _first_point(address)
        late, late_most = (
            statistics.median(_measure_live_updates(address, rate).late)
            for rate in (EVENTS_A_SECOND, MOST_EVENTS_A_SECOND)
        )
    network = f" at {megabits:g} Mbit/s and {LATENCY_MILLISECONDS} ms" if megabits else ""
    return {
        "first visit, requests": visit.requests,
        "first visit, kB": visit.size / 1000,
        "first visit, calls to the server": visit.calls,
        f"first visit until first picture and slider, s{network}": visit.picture,
        f"first visit until every tab can be opened, s{network}": visit.opened,
        "network speed for one large file, Mbit/s": visit.megabits,
        "app.py to a served page, s": started,
        "of which the lab's own code, s": own,
        "page load until first picture, s": picture,
        "slider to redrawn norms, ms (median of 50 moves)": statistics.median(moves),
        "Train pressed to the first point of the curve, s": point,
        f"training event to its point on the screen, s ({EVENTS_A_SECOND:.0f} events per second)": late,
        f"the same at {MOST_EVENTS_A_SECOND:.0f} events per second": late_most,
    }


def _own_import_seconds() -> float:
    """Time the import of the lab's modules and the build of the page, in a new process that has imported Gradio."""
    code = (
        "import os, time; os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'; import gradio, pydantic, tomlkit, numpy; "
        "start = time.perf_counter(); from neftune_core.ui import page; "
        "from neftune_core.ui.server import serve; page.build(); "
        "print(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


@contextmanager
def automated_browser() -> Iterator[Any]:
    """Start a Chromium browser, and close it at the end of the block.

    Raises:
        NotAvailable: If Chromium is not installed.
    """
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not path:
        raise NotAvailable("Chromium was not found: install it, or set CHROMIUM to its path.")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


def _open(browser: Any, address: str, script: str = "") -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.add_init_script(path=PROBES)
    page.add_init_script(script)
    page.goto(address)
    return page


def _time_noise_tab(address: str) -> tuple[float, list[float]]:
    with automated_browser() as browser:
        page = _open(browser, address)
        picture = page.wait_for_function("labProbes.picture()", timeout=60_000).json_value() / 1000
        page.get_by_role("tab", name="Noise").click()
        page.wait_for_selector("#noise-figure .lab-figure-plot svg")
        times = page.evaluate(f"labProbes.slider({MOVES})")
    return picture, times


def _first_point(address: str) -> float:
    """Return the seconds from pressing Train to the first point of the curve, and discard the study."""
    with automated_browser() as browser:
        page = _open(browser, f"{address}?tab=Train")
        page.wait_for_selector("#train-plan .lab-plan")
        page.wait_for_selector("#train-curves .lab-figure-plot svg")
        page.evaluate("labProbes.firstPoint()")
        page.locator("#lab-train").click()
        seconds = page.wait_for_function("window.labPoint", timeout=60_000).json_value() / 1000
        page.locator("#lab-stop").click()
        page.locator("#lab-stop-discard").click()
        page.locator("#lab-stop-discard").wait_for(state="hidden")
    return float(seconds)


def _measure_live_updates(address: str, rate: float) -> LiveUpdateTimes:
    """Measure the delays until the page shows the steps of a simulated study, and remove its record afterwards."""
    from neftune_core.studies.records import removal
    from neftune_core.studies.records.record import create
    from neftune_core.studies.settings import EXAMPLE

    key = secrets.token_hex(32)  # like the keys that the page creates
    record = create(EXAMPLE, key)
    try:
        with record.claimed(), automated_browser() as browser:
            page = _open(browser, f"{address}?job={record.id}", f"localStorage.setItem('neftune-lab-owner', '{key}')")
            return follow_log(page, record, events=round(LOG_SECONDS * rate), rate=rate)
    finally:
        removal.remove(record)
