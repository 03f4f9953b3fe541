"""Slowdown of a study under load from a busy process, or from the pages on which two studies are watched."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from statistics import median

from neftune_core.bench.page import serve_lab
from neftune_core.bench.table import ResultTable
from neftune_core.bench.train import run_side
from neftune_core.bench.train_sides import Sizes
from neftune_core.models.settings import BUNDLED

SPINNING = {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": "300000"}
"""OpenMP's default for waiting threads, set explicitly so that the lab does not override it."""
WATCHERS = 2


@contextmanager
def _busy() -> Iterator[None]:
    """Run a process that keeps one core busy."""
    with _killed_after(subprocess.Popen([sys.executable, "-c", "while True: pass"])):
        yield


@contextmanager
def _pages() -> Iterator[None]:
    """Serve a lab with visitors who each watch a study and move the noise slider."""
    with tempfile.TemporaryDirectory() as folder, serve_lab(NEFTUNE_HOME=folder) as (address, _):
        command = [sys.executable, "-m", "neftune_core.bench.company", address]
        with _killed_after(subprocess.Popen(command, stdout=subprocess.PIPE)) as watching:
            assert watching.stdout is not None
            watching.stdout.readline()  # by now the visitors' studies have ended, and only the polling continues
            yield


@contextmanager
def _killed_after(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


COMPANY: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "alone": nullcontext,
    "with one busy process": _busy,
    "with the pages of two studies": _pages,
}
RATIOS = (
    ("alone over spinning", "alone", "spinning, alone", "<= 1.1"),
    ("with one busy process over alone", "with one busy process", "alone", "<= 1.5"),
    ("with the pages of two studies over alone", "with the pages of two studies", "alone", ""),
)
"""Label, numerator, denominator and target of each ratio of median durations."""


def measure_company(sizes: Sizes, runs: int, precisions: tuple[str, ...]) -> ResultTable:
    """Measure a study alone, with spinning threads, and under load.

    Args:
        sizes: The model and the number of rows. For the bundled model, a whole study is measured instead (`study` in
            `train_sides`).
        runs: Runs of each measurement, interleaved.
        precisions: Number formats to train in.

    Returns:
        A table with the median, minimum and maximum durations in seconds, and the ratios to the duration without load.
    """
    table = ResultTable(f"Studies under load: {sizes.model}")
    side = "study" if sizes.model == BUNDLED else "lora"
    for precision in precisions:
        asked = replace(sizes, precision=precision)
        found: dict[str, list[float]] = {name: [] for name in ("spinning, alone", *COMPANY)}
        for _ in range(runs):
            found["spinning, alone"].append(_seconds(side, asked, SPINNING))
            for name, company in COMPANY.items():
                with company():
                    found[name].append(_seconds(side, asked))
        for name, seconds in found.items():
            table.add(f"{precision}, {name}, s", seconds)
        for what, name, base, goal in RATIOS:
            ratio = median(found[name]) / median(found[base])
            table.rows.append({"what": f"{precision}: {what}", "median": ratio, "to reach": goal})
    return table


def _seconds(side: str, sizes: Sizes, environment: dict[str, str] | None = None) -> float:
    """Return the training time in seconds; for a whole study, with evaluations but without loading."""
    found = run_side(side, sizes, environment or {})
    parts = found.get("parts")
    return float(parts["training"] + parts["held-out and training loss"] if parts else found["seconds"])


def watch(address: str) -> None:
    """Act as visitors who each run a short study, and then poll its state and preview noise like an open page."""
    import secrets

    from gradio_client import Client

    lab = Client(address, verbose=False)
    training = {"steps": 4, "batch_size": 8, "evaluations": 2}
    watched = []
    for _ in range(WATCHERS):
        key = secrets.token_hex(32)
        study = {"data": {"source": "starter:world-format"}, "training": training}
        record = lab.predict(study, key, api_name="/start_study")["record"]
        while not lab.predict(record, key, 0, api_name="/study_status")["is_over"]:
            time.sleep(0.5)
        watched.append((record, key))
    print("watching", flush=True)
    for second in range(3600):
        for record, key in watched:
            lab.predict(record, key, 0, api_name="/study_status")
            lab.predict(text=f"What is {second} times {second}?", strength=5, api_name="/preview_noise")
        time.sleep(1.0)


if __name__ == "__main__":
    watch(sys.argv[1])
