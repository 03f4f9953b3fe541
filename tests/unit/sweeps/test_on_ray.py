"""A sweep on a local Ray cluster of several nodes is complete and equals the sweep without Ray."""

from __future__ import annotations

import io
import os
import re
import socket
import sys
import threading
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from short_study import short_rows, short_study, tiny_source

from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import ENDINGS
from neftune_core.sweeps import on_ray
from neftune_core.sweeps.on_ray import OnRay
from neftune_core.sweeps.record import Sweep, create_sweep
from neftune_core.sweeps.settings import SweepSettings, cells
from neftune_core.sweeps.sweep import SweepCell, run_sweep
from neftune_core.sweeps.table import sweep_table, table_values
from neftune_core.sweeps.transfer import fetch, send

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the cluster of the test is made of Linux processes"),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own
]
NODES = 2
VERDICT = ("verdict",)  # sentences with rounded numbers in them


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """Start a cluster of a head without cores, for all tests of this file."""
    from ray.cluster_utils import Cluster

    root = Path(__file__).parents[3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_health_check_period_ms", "1000")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def cluster(head: Any) -> Any:
    """Return the cluster with two nodes of one core each; those that a test lost are replaced."""
    while len(head.worker_nodes) < NODES:
        head.add_node(num_cpus=1)
    return head


RATES: dict[str, Any] = {"training.learning_rate": (1e-3, 2e-3)}


def settings(place: Path, axes: dict[str, Any] | None = None, **training: Any) -> SweepSettings:
    """Return a sweep of four cells, or of those of `axes`."""
    model = ModelSettings(source=tiny_source(), precision="float32")
    study = short_study(short_rows(place), {"epochs": 2} | training, seeds=2, model=model)
    return SweepSettings(axes=axes or {"noise.strength": (0, 5)} | RATES, study=study, keep_adapters=False)


def table(sweep: Sweep) -> dict[str, Any]:
    return table_values(sweep_table(sweep), sweep.settings)


def leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Return every value of a table by its path, without its sentences, whose numbers are rounded."""
    if isinstance(value, dict):
        return {
            at: leaf
            for name, one in value.items()
            if name not in VERDICT
            for at, leaf in leaves(one, f"{place}/{name}").items()
        }
    if isinstance(value, list | tuple):
        return {at: leaf for number, one in enumerate(value) for at, leaf in leaves(one, f"{place}/{number}").items()}
    return {place: value}


def test_a_sweep_on_ray_loses_a_machine_and_ends_as_the_local_one(cluster: Any, tmp_path: Path) -> None:
    asked = settings(tmp_path, RATES, epochs=150)  # long enough to lose a machine in the middle of a study
    local = create_sweep(asked, "", folder=tmp_path / "local")
    assert list(run_sweep(local, Limits(), lambda: False))[-1]["event"] == "finished"
    spread = create_sweep(asked, "", folder=tmp_path / "spread")
    run = OnRay(cluster.address, store=f"file://{tmp_path / 'store'}")
    begun, over, a_node = Counter[str](), set(), next(iter(cluster.worker_nodes))

    def losing(*given: Any) -> Iterator[tuple[SweepCell, dict[str, Any]]]:
        lost = False
        for one, told in run(*given):
            begun[one.cell.name] += told["event"] == "started"
            over.update([one.cell.name] if told["event"] in ENDINGS else [])
            if len(begun.keys() - over) == NODES and not lost:  # one on each machine
                lost = True
                threading.Thread(target=cluster.remove_node, args=(a_node, False), daemon=True).start()
            yield one, told

    *_, event = run_sweep(spread, Limits(), lambda: False, losing)
    assert event["event"] == "finished", event
    assert max(begun.values()) > 1, begun  # the study of the lost machine began again
    expected, found = leaves(table(local)), leaves(table(spread))
    assert expected.keys() == found.keys()
    assert len(expected) > 100
    for place, value in expected.items():
        if isinstance(value, float):  # a different number of threads rounds differently
            assert found[place] == pytest.approx(value, rel=1e-3, abs=1e-4, nan_ok=True), place
        else:
            assert found[place] == value, place
    assert not list((tmp_path / "store").glob("*"))  # every record has come home
    assert not list(spread.folder.glob("cells/*/arms"))


def test_a_stop_ends_all_and_resume_runs_what_is_missing(cluster: Any, tmp_path: Path) -> None:
    sweep = create_sweep(settings(tmp_path, epochs=100, checkpoint_steps=5), "", folder=tmp_path / "runs")
    run, asked = OnRay(cluster.address), threading.Event()
    for event in run_sweep(sweep, Limits(), asked.is_set, run):
        if event["event"] == "step" and not asked.is_set():
            asked.set()
    assert event["event"] == "stopped"
    endings = {(state["state"], state.get("message", "")) for state in sweep.cell_endings().values()}
    assert endings
    assert {state for state, _ in endings} <= {"stopped", "finished"}, [*endings][:4]
    assert list(sweep.folder.glob("cells/*/checkpoint"))  # they go on from there
    events = list(run_sweep(sweep, Limits(), lambda: False, run))
    assert events[-1]["event"] == "finished"
    assert all(state["state"] == "finished" for state in sweep.cell_endings().values())
    assert not list(sweep.folder.glob("cells/*/checkpoint"))  # nor does an old one stay


def test_a_stop_ends_though_every_machine_is_lost(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_core.sweeps.on_ray.HEARTBEAT_TIMEOUT_SECONDS", 5)
    sweep = create_sweep(settings(tmp_path, steps=15_000), "", folder=tmp_path / "runs")
    asked, events, stepped = threading.Event(), [], threading.Event()

    def follow() -> None:
        for event in run_sweep(sweep, Limits(), asked.is_set, OnRay(cluster.address)):
            events.append(event)
            if event["event"] == "step":
                stepped.set()

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    assert stepped.wait(120)
    for worker in list(cluster.worker_nodes):
        cluster.remove_node(worker, False)
    asked.set()
    following.join(60)
    assert not following.is_alive()
    assert events[-1]["event"] == "stopped"
    states = sweep.cell_endings().values()
    assert any("no longer responds" in state.get("message", "") for state in states), states
    assert {state["state"] for state in states} == {"stopped"}


def test_rows_go_out_once_and_cells_as_places_become_free(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(tmp_path, {"training.learning_rate": (1e-3, 2e-3, 3e-3, 4e-3, 5e-3)}, epochs=1)
    sweep = create_sweep(asked, "", folder=tmp_path / "runs")
    packed, put, ahead, over = [], [], [], 0
    pack, store = on_ray.pack, ray.put
    monkeypatch.setattr(ray, "put", lambda value: put.append(value) or store(value))

    def packing(folder: Path, root: Path) -> bytes:
        found = pack(folder, root)
        if folder.name != "data":  # a cell
            ahead.append(len(packed) + 1 - over)
            packed.append(found)
        return found

    monkeypatch.setattr(on_ray, "pack", packing)
    for event in run_sweep(sweep, Limits(), lambda: False, OnRay(cluster.address)):
        over += event["event"] == "cell"
    assert event["event"] == "finished"
    assert len(packed) == over > on_ray.TASKS_PER_SLOT * NODES
    assert max(ahead) == on_ray.TASKS_PER_SLOT * NODES
    (rows,) = put
    assert names_in(rows) == {"data/source/rows.jsonl"}
    assert not any(name.startswith("data/") for one in packed for name in names_in(one))


def names_in(packed: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(packed)).namelist())


def test_a_record_travels_without_being_held_in_memory(tmp_path: Path) -> None:
    sweep = create_sweep(settings(tmp_path), "", folder=tmp_path / "runs")
    one = SweepCell(sweep, cells(sweep.settings)[0])
    kept = one.begin().folder / "checkpoint" / "weights"
    kept.parent.mkdir()
    kept.write_bytes(os.urandom(1 << 25))
    tracemalloc.start()
    send(one.record.folder, sweep.folder, f"file://{tmp_path}/store/one.zip")
    kept.unlink()
    fetch(f"file://{tmp_path}/store/one.zip", one)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept.stat().st_size == 1 << 25
    assert peak < 1 << 23
    assert not list((tmp_path / "store").iterdir())


def test_a_record_that_does_not_come_back_is_not_called_finished(cluster: Any, tmp_path: Path) -> None:
    sweep = create_sweep(settings(tmp_path, RATES), "", folder=tmp_path / "runs")
    nowhere = OnRay(cluster.address, store="memory://each-process-has-its-own")
    last = list(run_sweep(sweep, Limits(), lambda: False, nowhere))[-1]
    assert last["event"] == "failed"
    assert "was not returned" in last["message"]
    unwritable = OnRay(cluster.address, store="file:///proc/nowhere")
    last = list(run_sweep(sweep, Limits(), lambda: False, unwritable))[-1]
    assert last["event"] == "failed"
    assert "machine was lost" not in last["message"]
    greedy = OnRay(cluster.address, gpus=1)
    last = list(run_sweep(sweep, Limits(), lambda: False, greedy))[-1]
    assert "No machine of the cluster has enough GPUs (1 requested" in last["message"]


def test_no_cluster_is_one_sentence(tmp_path: Path) -> None:
    assert "There is no Ray cluster at '127.0.0.1:1'" in failure(tmp_path, OnRay("127.0.0.1:1"))


def failure(folder: Path, cluster: OnRay) -> str:
    """Return why a sweep could not run on a cluster."""
    sweep = create_sweep(settings(folder), "", folder=folder / "runs")
    last = list(run_sweep(sweep, Limits(), lambda: False, cluster))[-1]
    assert last["event"] == "failed"
    return str(last["message"])


def test_a_local_cluster_is_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def refuse(**given: Any) -> None:
        asked.update(given)
        raise ConnectionError("no room")

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray, "init", refuse)
    assert "There is no Ray cluster at 'local': no room" in failure(tmp_path, OnRay())
    assert asked["address"] == "local"  # without one, Ray goes by RAY_ADDRESS


def test_a_scoreboard_gives_the_reason_it_is_time_to_stop() -> None:
    scoreboard = on_ray.Scoreboard()
    assert not scoreboard.heartbeat("a")
    assert scoreboard.stop("Its time is over.") == {"a"}
    assert scoreboard.heartbeat("a") == "Its time is over."


def test_a_cluster_that_refuses_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("the token is missing")

    monkeypatch.setattr(ray, "init", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = failure(tmp_path, OnRay(f"127.0.0.1:{server.getsockname()[1]}"))
    assert re.search(r"RAY_AUTH_MODE=token.*the token is missing", said)
