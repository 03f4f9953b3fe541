"""How threads wait, how many a study uses, and estimates from the last study."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from neftune_core.data.preparing import prepare
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.models import estimates, threads
from neftune_core.models.estimates import TimeCalibration, store_calibration, stored_calibration
from neftune_core.models.loading import load
from neftune_core.models.threads import IdlePool, adapts, default_threads, fixed_threads, prepare_waiting
from neftune_core.settings import Limits
from neftune_core.studies import planning
from neftune_core.studies.planning import StepTimer, memory_and_time
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study

SHORT = EXAMPLE.model_copy(
    update={
        "training": EXAMPLE.training.model_copy(update={"steps": 12, "evaluations": 1, "evaluation_rows": 8}),
        "measuring": MeasuringSettings(prompts=2, new_tokens=2),
        "model": EXAMPLE.model.model_copy(update={"precision": "float32"}),
    }
)


def test_an_environment_that_says_how_threads_wait_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    for given in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "0"}):
        environment = dict(given)
        prepare_waiting(environment)
        assert environment == given
    environment = {"OMP_NUM_THREADS": "1"}
    prepare_waiting(environment)
    assert environment == {"OMP_NUM_THREADS": "1", **threads.WAITING}


def test_noise_under_another_loop_changes_no_variable() -> None:
    code = (
        "import os; before = dict(os.environ); from neftune_core import NoiseSettings, noisy_embeddings; "
        "import torch; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not adapts(), reason="threads wait as the environment or another OpenMP runtime has it")
def test_threads_do_not_spin_while_the_idle_pool_is_there() -> None:
    """Measured in CPU time, which other load does not change: a spinning thread uses it in each gap."""
    pool = IdlePool()
    spinning = _processor_seconds_of_gaps()
    pool.keep()
    try:
        waiting = _processor_seconds_of_gaps()
    finally:
        pool.release()
    again = _processor_seconds_of_gaps()
    assert waiting < 0.5 * spinning
    assert waiting < 0.5 * again


def _processor_seconds_of_gaps() -> float:
    numbers = torch.zeros(2**17)
    with fixed_threads(2):
        numbers.add_(1)
        before = time.process_time()
        for _ in range(60):
            numbers.add_(1)
            time.sleep(0.004)
        return time.process_time() - before


def test_waiting_for_a_core_is_read_from_the_system(tmp_path: Path) -> None:
    for name, waited in (("11", 2_000_000_000), ("12", 500_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(f"123456 {waited} 99\n")
    (tmp_path / "13").mkdir()  # a thread that has ended meanwhile
    machine = tmp_path / "stat"
    machine.write_text("cpu  10 20 30 40 50 60 70 150 0 0\ncpu0 1 2 3\n")
    assert threads.run_queue_seconds(tmp_path, machine) == pytest.approx(2.5 + 1.5)


def test_the_watch_keeps_the_pool_while_others_want_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter([0.0, 0.0, 1.0, 2.0, *[2.0] * (threads.CALM_CHECKS + 1)])
    clock = iter(float(second) for second in range(100))
    kept: list[bool] = []

    class Stop:
        def wait(self, seconds: float) -> bool:
            kept.append(pool.is_kept)
            return len(kept) > threads.CALM_CHECKS + 3

    class Pool:
        is_kept = False

        def keep(self) -> None:
            self.is_kept = True

        def release(self) -> None:
            self.is_kept = False

    pool = Pool()
    monkeypatch.setattr(threads, "IdlePool", lambda: pool)
    monkeypatch.setattr(threads, "run_queue_seconds", lambda: next(waited))
    monkeypatch.setattr(threads.time, "monotonic", lambda: next(clock))
    threads.watch_run_queue(Stop())  # type: ignore[arg-type]
    assert kept == [False, False, *[True] * (threads.CALM_CHECKS + 1), False]


def test_a_study_keeps_its_number_of_threads_and_uses_it_again() -> None:
    record, usual = create(SHORT, ""), default_threads()
    assert set(_threads_of_steps(record, most=6)) == {usual}
    assert record.about_table("machine")["threads"] == usual
    other = usual + 1
    record.update_about(machine=record.about_table("machine") | {"threads": other})
    rest = _threads_of_steps(Record(record.folder), most=100)
    assert rest == [other] * len(rest) != []
    assert torch.get_num_threads() == usual


def _threads_of_steps(record: Record, most: int) -> list[int]:
    """Return the number of threads at each step, until the study ends or after `most` steps."""
    seen: list[int] = []

    def is_enough() -> bool:
        return len(seen) >= most

    for event in run_study(record, Limits(), is_enough):
        seen += [torch.get_num_threads()] if event["event"] == "step" else []
    return seen


def test_an_estimate_follows_the_last_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    loaded = load(SHORT.model)
    prepared = prepare(SHORT.data, loaded.tokenizer, Limits())
    monkeypatch.setattr("neftune_core.models.device.matrix_speed", lambda *_: 1e9)  # far slower than this machine
    before = memory_and_time(SHORT, loaded, prepared).seconds
    list(run_study(create(SHORT, ""), Limits(), lambda: False))
    assert memory_and_time(SHORT, loaded, prepared).seconds < before / 10
    double = SHORT.model_copy(update={"training": SHORT.training.model_copy(update={"steps": 24})})
    ratio = memory_and_time(double, loaded, prepared).seconds / memory_and_time(SHORT, loaded, prepared).seconds
    assert 1 < ratio < 2  # evaluations, measures and answers take the same time


def timed_run(timer: StepTimer, clock: list[float], *, step: float, evaluation: float, end: float) -> None:
    """Let a stand-in clock pass over a run of SHORT: an evaluation at both ends, the first step slow, and the end."""

    def events() -> Iterator[dict[str, Any]]:
        evaluated = ("evaluated", evaluation)
        for name, seconds in [evaluated, ("step", 9 * step), *[("step", step)] * 11, evaluated]:
            clock[0] += seconds
            yield {"event": name}

    for _ in timer.timed(events()):
        clock[0] += 0.01  # of whoever reads the events
    clock[0] += end
    timer.keep(finished=True)


def test_an_estimate_moves_with_the_last_run_and_its_two_parts_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    loaded = load(SHORT.model)
    prepared = prepare(SHORT.data, loaded.tokenizer, Limits())
    clock, share = [100.0], [1.0]
    processor = lambda: share[0] * clock[0]  # noqa: E731
    monkeypatch.setattr(planning, "time", SimpleNamespace(perf_counter=lambda: clock[0], process_time=processor))
    stack = SimpleNamespace(loaded=loaded)
    run: Any = SimpleNamespace(study=SHORT, prepared=prepared, names=list(SHORT.arms), stack=stack, total=12)

    def seconds(**training: Any) -> float:
        study = SHORT.model_copy(update={"training": SHORT.training.model_copy(update=training)})
        return memory_and_time(study, loaded, prepared).seconds

    timed_run(StepTimer(run), clock, step=0.5, evaluation=2.0, end=6.0)
    rest = 2 * 2.0 + 6.0 + 14 * 0.01
    assert seconds() == pytest.approx(12 * 0.5 + rest)
    assert seconds(steps=120) == pytest.approx(120 * 0.5 + rest)
    assert 4.0 < seconds(time_budget_seconds=4.0) < 4.0 + rest  # the budget covers the evaluations
    three = SHORT.model_copy(update={"seeds": 3})
    assert memory_and_time(three, loaded, prepared).seconds == pytest.approx(3 * (12 * 0.5 + rest))
    timed_run(StepTimer(run), clock, step=1.5, evaluation=1.0, end=2.0)
    assert seconds() == pytest.approx(12 * 1.5 + 2 * 1.0 + 2.0 + 14 * 0.01)
    timer = StepTimer(run)  # an interrupted run says nothing about how long the end takes
    for _ in timer.timed(iter([{"event": "step"}] * 3)):
        clock[0] += 1
    timer.last.extend([(0.1, 0.1)] * 49)
    timer.keep(finished=False)
    assert seconds() < 12 * 1.5
    assert seconds() > 2 * 1.0 + 2.0
    share[0] = 0.01  # a run that waited for the CPU nearly all the time
    timed_run(StepTimer(run), clock, step=50.0, evaluation=100.0, end=200.0)
    assert seconds() == pytest.approx(12 * 0.5 + 2 * 1.0 + 2.0, rel=0.01)
    evaluated = SHORT.model_copy(update={"measuring": SHORT.measuring.model_copy(update={"prompts": 0})})
    assert memory_and_time(evaluated, loaded, prepared).seconds < seconds(), "what is left out takes no time"


def test_a_damaged_pace_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    store_calibration("a", TimeCalibration(2.0, 1.5))
    assert stored_calibration("a") == TimeCalibration(2.0, 1.5)
    store_calibration("a", TimeCalibration(float("nan"), 1.0))
    store_calibration("a", TimeCalibration(float("inf"), 1.0))
    assert stored_calibration("a") == TimeCalibration(2.0, 1.5)
    of_earlier = '{"a": {"steps": 1, "whole": 1.5}}'
    wrong = '{"a": {"steps": "x", "rest": 1}}', '{"a": {"steps": -1, "rest": 1}}', '{"a": {"steps": 1, "rest": -1}}'
    for text in ("[1]", "{", '{"a": 3}', of_earlier, *wrong):
        (tmp_path / estimates.FILE).write_text(text)
        assert stored_calibration("a") is None
    for number in range(estimates.MOST_KEPT + 5):
        store_calibration(f"model-{number}", TimeCalibration())
    assert stored_calibration("model-0") is None
    assert stored_calibration(f"model-{estimates.MOST_KEPT + 4}") == TimeCalibration()
