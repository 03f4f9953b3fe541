"""Events of a study in a tracker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from neftune_core.errors import InvalidSetting
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.tracking import TRACKERS, require_tracker, tracked

READ = """
import json
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps({run: SQLiteStorage.get_logs("neftune-lab", run) for run in SQLiteStorage.get_runs("neftune-lab")}))
"""

AGAIN = """
import sys
from pathlib import Path
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.tracking import tracked

record = create(EXAMPLE, "", folder=Path(sys.argv[1]))
for steps in ((1, 2, 3), (2, 3, 4)):
    arms = {"control": {"loss": 1.0}}
    told = [{"event": "step", "step": step, "seed": 0, "learning_rate": 1.0, "arms": arms} for step in steps]
    list(tracked(record, iter(told), "trackio"))
"""


def test_steps_that_are_made_again_after_a_kill_are_logged_once(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "NEFTUNE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "runs")]
    subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=300)
    read = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True, env=environment)
    (logs,) = json.loads(read.stdout.strip().splitlines()[-1]).values()
    assert [log["step"] for log in logs] == [1, 2, 3, 4]


def test_a_tracker_is_finished_though_the_study_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    notebook = SimpleNamespace(tell=lambda event: None, finish=lambda: heard.append("over"))
    monkeypatch.setitem(TRACKERS, "notebook", lambda record: notebook)
    events = tracked(create(EXAMPLE, "", folder=tmp_path), iter([{"event": "started"}, {"event": "step"}]), "notebook")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert heard == ["over"]


def test_every_arm_is_a_run_with_its_steps_and_losses(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "NEFTUNE_HOME": str(tmp_path / "home")}
    python = [sys.executable, "-m", "neftune_core", "train"]
    example = subprocess.run([*python, "--example"], capture_output=True, text=True, check=True, env=environment)
    (tmp_path / "study.toml").write_text(example.stdout, encoding="utf-8")
    short = ["--training.steps", "3", "--training.evaluations", "1", "--training.evaluation-rows", "4"]
    command = [*python, str(tmp_path / "study.toml"), *short, "--measuring.prompts", "0", "--track", "trackio"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    read = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True, env=environment)
    runs = json.loads(read.stdout.strip().splitlines()[-1])
    assert {name.split("-", 3)[3] for name in runs} >= {f"{arm}-seed-0" for arm in EXAMPLE.arms}
    control = next(logs for name, logs in runs.items() if "-control-" in name)
    assert [log["step"] for log in control if "loss" in log] == [1, 2, 3]
    assert any("held_out_loss" in log for log in control)


def test_an_unknown_tracker_gets_a_sentence() -> None:
    with pytest.raises(InvalidSetting, match="choose trackio"):
        require_tracker("abacus")


def test_only_the_named_tracker_gets_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    notebook = SimpleNamespace(tell=lambda event: heard.append(event["event"]), finish=lambda: heard.append("over"))
    monkeypatch.setitem(TRACKERS, "notebook", lambda record: notebook)
    told = [{"event": name, "step": 1} for name in ("started", "step", "evaluated", "finished")]
    assert list(tracked(create(EXAMPLE, "", folder=tmp_path), iter(told), "notebook")) == told
    assert heard == ["step", "evaluated", "over"]


def test_a_tracker_that_fails_is_left_out_and_the_study_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    class Failing:
        def log(self, values: dict[str, float], step: int) -> None:
            calls.append(step)
            if step == 2:
                raise OSError("the tracker's disk is full")

        def finish(self) -> None:
            raise RuntimeError("and cannot be closed")

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=lambda **_: Failing()))
    told = [
        {"event": "step", "step": step, "seed": 0, "learning_rate": 1.0, "arms": {"control": {"loss": 1.0}}}
        for step in (1, 2, 3)
    ]
    assert list(tracked(create(EXAMPLE, "", folder=tmp_path), iter(told), "trackio")) == told
    assert calls == [1, 2]
