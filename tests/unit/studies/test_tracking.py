"""Events of a study in a tracker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from as_written import NEFTUNE

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.settings import to_toml
from neftune_core.space.profiles import host_profile
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.tracking import (
    TRACKERS,
    installed_trackers,
    logged,
    require_tracker,
    track_events,
    tracked,
    tracking_failure,
)
from neftune_core.ui import page
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import state_text

READ = """
import json
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps({run: SQLiteStorage.get_logs("neftune-lab", run) for run in SQLiteStorage.get_runs("neftune-lab")}))
"""

AGAIN = """
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.tracking import track_events

record = create(EXAMPLE, "", folder=Path(sys.argv[1]))
for steps in ((1, 2, 3), (2, 3, 4)):
    arms = {"control": {"loss": 1.0}}
    told = [{"event": "step", "step": step, "seed": 0, "learning_rate": 1.0, "arms": arms} for step in steps]
    list(track_events(record, iter(told), "trackio"))
"""


def test_steps_that_are_made_again_after_a_kill_are_logged_once(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "NEFTUNE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "runs")]
    subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=300)
    read = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True, env=environment)
    (logs,) = json.loads(read.stdout.strip().splitlines()[-1]).values()
    assert [log["step"] for log in logs] == [1, 2, 3, 4]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> type:
    """A tracker whose runs record their calls; its disk is full at step 3."""

    class Notebook:
        lines: ClassVar[list[tuple[Any, ...]]] = []
        tracker = None

        def __init__(self, project: str, name: str) -> None:
            self.name = name.partition("-seed-")[0].rpartition("-")[2] + name.partition("-seed-")[2]

        def start(self) -> None:
            self.lines.append((self.name, "start"))

        def log(self, values: dict[str, float], step: int) -> None:
            self.lines.append((self.name, step, values))
            if step == 3:
                raise OSError("the tracker's disk is full")

        def finish(self) -> None:
            self.lines.append((self.name, "finish"))
            raise RuntimeError("and cannot be closed")

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    monkeypatch.setitem(TRACKERS, "notebook", lambda name, group, config: {"name": name})
    return Notebook


def told(step: int, seed: int = 0) -> dict[str, Any]:
    arms = {"control": {"loss": 1.0, "words": "no"}, "noise": {"loss": 2.0}}
    return {"event": "step", "step": step, "seed": seed, "learning_rate": 0.5, "arms": arms}


def test_a_run_gets_the_numbers_of_its_arm_and_is_finished_though_the_study_is_interrupted(
    tmp_path: Path, notebook: Any
) -> None:
    events = track_events(create(EXAMPLE, "", folder=tmp_path), iter([{"event": "started"}, told(1)]), "notebook")
    assert [next(events)["event"] for _ in range(2)] == ["started", "step"]
    events.close()  # type: ignore[attr-defined]
    control, noise = {"loss": 1.0, "learning_rate": 0.5}, {"loss": 2.0, "learning_rate": 0.5}
    wanted = [("control0", "start"), ("control0", 1, control), ("noise0", "start"), ("noise0", 1, noise)]
    assert notebook.lines == [*wanted, ("control0", "finish"), ("noise0", "finish")]


def test_a_tracker_with_one_open_run_gets_all_arms_in_one_run_per_seed(
    tmp_path: Path, notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_core.studies.tracking.ONE_OPEN_RUN", ("notebook",))
    monkeypatch.setattr(notebook, "finish", lambda self: self.lines.append("finish"))
    record = create(EXAMPLE, "", folder=tmp_path)
    list(track_events(record, iter([told(1), told(2), told(1, seed=7)]), "notebook"))
    names = {"control/loss", "control/learning_rate", "noise/loss", "noise/learning_rate"}
    assert all(set(line[2]) == names for line in notebook.lines if len(line) == 3)
    assert [line if line == "finish" else line[1] for line in notebook.lines] == [
        "start", 1, 2, "finish", "start", 1, "finish"
    ]  # fmt: skip


def test_every_arm_is_a_run_with_its_steps_and_losses(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "NEFTUNE_HOME": str(tmp_path / "home")}
    training = EXAMPLE.training.model_copy(update={"steps": 3, "evaluations": 1, "evaluation_rows": 4})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 0, "robustness": False})
    study = EXAMPLE.model_copy(update={"training": training, "measuring": measuring})
    (tmp_path / "study.toml").write_text(to_toml(study), encoding="utf-8")
    command = [NEFTUNE, "train", str(tmp_path / "study.toml"), "--track", "trackio"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    read = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True, env=environment)
    runs = json.loads(read.stdout.strip().splitlines()[-1])
    assert {name.split("-", 3)[3] for name in runs} >= {f"{arm}-seed-0" for arm in EXAMPLE.arms}
    control = next(logs for name, logs in runs.items() if "-control-" in name)
    assert [log["step"] for log in control if "loss" in log] == [1, 2, 3]
    assert any("held_out_loss" in log for log in control)


def test_an_unknown_tracker_gets_a_sentence() -> None:
    with pytest.raises(InvalidSetting, match="choose one of trackio, tensorboard, wandb, mlflow, swanlab"):
        require_tracker("abacus")


@pytest.mark.parametrize(
    ("tracker", "place"),
    [
        ("trackio:owner/space", {"space_id": "owner/space"}),
        ("trackio:http://127.0.0.1:7861/?write_token=x", {"server_url": "http://127.0.0.1:7861/?write_token=x"}),
    ],
)
def test_trackio_gets_the_space_or_server_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, place: dict[str, str]
) -> None:
    given: list[dict[str, Any]] = []

    class Silent:
        tracker = None

        def __init__(self, project: str, **options: Any) -> None:
            given.append(options)

        def start(self) -> None:
            pass

        def log(self, values: dict[str, float], step: int) -> None:
            pass

        finish = start

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "trackio", Silent)
    record = create(EXAMPLE, "", folder=tmp_path)
    run = logged(lambda record, number: iter([told(number)]), tracker)
    assert list(run(record, 1)) == [told(1)]
    assert len(given) == len(told(1)["arms"])
    assert all(place.items() <= options.items() for options in given)


@pytest.mark.parametrize("tracker", ["trackio:space", "wandb:owner/space", "trackio:file:///etc", "trackio:a/b/c"])
def test_a_destination_that_no_tracker_has_gets_a_sentence(tracker: str) -> None:
    with pytest.raises(InvalidSetting, match="trackio:OWNER/SPACE, or trackio:URL"):
        require_tracker(tracker)


def test_studies_are_run_unchanged_without_a_tracker(tmp_path: Path) -> None:
    events = iter([told(1)])
    assert logged(lambda record: events, "")(create(EXAMPLE, "", folder=tmp_path)) is events


def test_a_tracker_that_fails_is_left_out_and_the_study_continues_and_says_so(tmp_path: Path, notebook: Any) -> None:
    events = [told(step) for step in (1, 2, 3, 4)]
    record = create(EXAMPLE, "", folder=tmp_path)
    assert list(track_events(record, iter(events), "notebook")) == events
    why = "The tracker notebook failed at step 3 (the tracker's disk is full) and receives no more values."
    assert tracking_failure(record).startswith(why)
    shown = state_text(record, Lab().jobs.status(record), record.log())
    assert "The tracker notebook failed at step 3" in shown
    assert [line[1] for line in notebook.lines if line[0] == "control0"] == ["start", 1, 2, 3, "finish"]


@pytest.fixture
def installed(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tracker `notebook`, as if its package were installed."""
    module = types.ModuleType("notebook")
    module.__spec__ = ModuleSpec("notebook", None)
    monkeypatch.setitem(sys.modules, "notebook", module)
    return notebook


def test_a_study_that_is_queued_with_a_tracker_is_logged_there_and_others_are_not(
    tmp_path: Path, installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    assert "notebook" in installed_trackers()
    lab = Lab()
    lab.jobs.run = logged(lambda record, *given: iter([told(1), {"event": "finished", "seed": 0}]), "")
    with tracked("notebook"):
        record = lab.jobs.submit(EXAMPLE, "key")
    other = lab.jobs.submit(EXAMPLE, "key")
    for one in (record, other):
        lab.jobs.wait(one, 60)
    assert [line[:2] for line in installed.lines] == [
        ("control0", "start"), ("control0", 1), ("noise0", "start"), ("noise0", 1), ("control0", "finish"),
        ("noise0", "finish"),
    ]  # fmt: skip


def test_the_tracker_of_the_host_stays_beside_that_of_the_page(
    tmp_path: Path, installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def follow(record: object, events: Any, name: str) -> Any:
        seen.append(name)
        return events

    monkeypatch.setattr("neftune_core.studies.tracking.track_events", follow)
    for host in ("tensorboard", "notebook"):
        with tracked("notebook"):
            list(logged(lambda record: iter([told(1)]), host)(create(EXAMPLE, "", folder=tmp_path)))
    assert seen == ["tensorboard", "notebook", "notebook"]


def test_a_tracker_that_cannot_be_used_is_refused_before_the_study_is_queued(installed: Any) -> None:
    with pytest.raises(InvalidSetting, match="no tracker called 'abacus'"), tracked("abacus"):
        pass
    with pytest.raises(InvalidSetting, match="trackio:OWNER/SPACE"), tracked("notebook", "owner/space"):
        pass
    monkey = "wandb" if "wandb" not in installed_trackers() else "swanlab"
    with pytest.raises(NotAvailable, match=f"pip install {monkey}"), tracked(monkey):
        pass


def _of_profile(**environment: str) -> Callable[[], Lab]:
    return lambda: Lab(host=host_profile(environment))


@pytest.mark.parametrize(
    ("lab", "offered"),
    [
        pytest.param(lambda: Lab(), True, id="own"),
        pytest.param(lambda: Lab(shared=True), False, id="shared"),
        pytest.param(_of_profile(NEFTUNE_PROFILE="cpu-space"), False, id="space", marks=pytest.mark.slow),
        pytest.param(_of_profile(NEFTUNE_PUBLIC="1"), False, id="public", marks=pytest.mark.slow),
    ],
)
def test_visitors_of_a_public_host_cannot_send_data_to_a_tracker(
    lab: Any, offered: bool, installed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    built = page.build(lab())
    ids = {getattr(block, "elem_id", None) for block in built.blocks.values()}
    assert ("train-tracker" in ids) is offered
    assert "train-seeds" in ids
    links = json.dumps(built.config, default=str)
    assert "train.tracker" not in links  # a link must not choose where numbers go


def test_tensorboard_gets_one_folder_per_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    record = create(EXAMPLE, "", folder=tmp_path / "runs")
    for steps in ((1, 2, 3), (2, 3, 4)):  # resumed at step 2
        list(track_events(record, iter([told(step) for step in steps]), "tensorboard"))
    (folder,) = (tmp_path / "tensorboard").rglob("*-noise-seed-0")
    found = accumulator.EventAccumulator(str(folder)).Reload().Scalars("loss")
    assert [(one.step, one.value) for one in found] == [(step, 2.0) for step in (1, 2, 3, 4)]
