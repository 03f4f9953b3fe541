"""The progress of a study: losses and remaining time."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_core.commands import common
from neftune_core.studies.records import progress as progress_module
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.progress import StudyProgress, as_clock, of_events


class _Clock:
    """A clock that advances one second per reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "time", _Clock())


def _step(step: int, steps: int, seed: int = 0, loss: float | None = 1.0) -> Event:
    arms = {"control": {"loss": loss}, "uniform-alpha-5": {"loss": 1.5}}
    return {"event": "step", "seed": seed, "step": step, "steps": steps, "tokens": 10, "arms": arms}


STARTED: Event = {"event": "started", "seed": 0, "steps": 10, "seeds": 1}


def test_a_run_that_goes_back_to_its_checkpoint_has_no_negative_time_left() -> None:
    progress = of_events([STARTED, *(_step(step, 10) for step in range(1, 9))])
    for step in (3, 4):
        progress.follow(_step(step, 10))
    left = progress.status().seconds_left
    assert left == 6.0  # a second a step


def test_a_study_of_a_sweep_that_is_given_up_does_not_make_the_others_faster() -> None:
    progress = StudyProgress()
    progress.follow({"event": "started", "seed": 0, "studies": 2, "steps": 200})
    for step in (1, 2, 3):
        progress.follow(_step(step, 200))
    progress.follow({"event": "cell", "seed": 0, "cell": "001-seed-0", "state": "failed", "step": 100, "steps": 200})
    progress.follow(_step(101, 200))
    assert progress.status().seconds_left == 99.0


def test_more_steps_than_planned_leave_no_time() -> None:
    progress = of_events([STARTED, _step(11, 10), _step(12, 10)])
    status = progress.status()
    assert status.seconds_left == 0
    assert status.step == status.steps


def test_the_losses_are_those_of_the_last_step_and_a_lost_arm_has_none() -> None:
    progress = of_events([STARTED, _step(1, 10), _step(2, 10, loss=None)])
    assert progress.status().losses == {"uniform-alpha-5": 1.5}
    progress.follow({**STARTED, "seed": 1})
    assert progress.status().losses == {}


def test_the_bar_has_each_arms_loss_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delenv("COLUMNS", raising=False)  # how wide a line may be
    logged = [STARTED, *(_step(step, 10) for step in range(1, 9))]
    earlier: Any = SimpleNamespace(events=lambda: logged, about_table=lambda part: {})
    events = [_step(1, 10), _step(2, 10), _step(3, 10)]
    assert list(common.with_progress(earlier, iter(events))) == events
    last = shown.getvalue().replace("\r", "\n").strip().splitlines()[-1]
    assert "training:  30%" in last
    assert "3/10 steps" in last
    assert "0:07 left, batch loss: control 1.000, alpha 5 1.500" in last
    assert "-" not in last


def test_a_clock_reads_as_people_write_one() -> None:
    assert [as_clock(seconds) for seconds in (0, 59.6, 185, 3723)] == ["0:00", "1:00", "3:05", "1:02:03"]
