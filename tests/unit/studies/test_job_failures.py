"""Studies that fail or are interrupted: what is kept, and how they continue."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_study import ANN, BEN, numbers_of_seed, tiny_settings, two_arms

from neftune_core.engine.lockstep import Event, Lockstep, Step, Stop
from neftune_core.errors import RecordError
from neftune_core.models.loading import load
from neftune_core.settings import Limits
from neftune_core.studies.comparison import saved_arms
from neftune_core.studies.records.record import Record, create, find
from neftune_core.studies.study import run_study
from neftune_core.sweeps.queue import LabJobs


def test_a_damaged_record_has_no_owner(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows), ANN)
    jobs.wait(record, 120)
    (record.folder / "record.json").write_text("{", encoding="utf-8")
    for owner in (ANN, BEN, ""):
        with pytest.raises(RecordError):
            find(record.id, owner)
    with pytest.raises(RecordError, match=r"is unknown: its record\.json is damaged"):
        record.update_about(model={})


def test_a_failure_in_mid_run_keeps_what_was_trained(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Lockstep.step

    def failing(self: Lockstep, planned: Step, rate: float, should_stop: Stop) -> Event:
        if planned.number == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return step(self, planned, rate, should_stop)

    monkeypatch.setattr(Lockstep, "step", failing)
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows), ANN)
    status = jobs.wait(record, 120)
    assert status.state == "failed"
    assert "machine ran out of memory" in status.message
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    monkeypatch.undo()
    jobs.resume(record.id, ANN)
    assert jobs.wait(record, 120).state == "finished"


def test_a_study_ends_at_the_time_limit_and_keeps_its_arms(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = LabJobs(Limits(study_minutes=1))
    monkeypatch.setattr(
        "neftune_core.studies.study.Deadline.__call__", lambda self: self.minutes == 1 and _late(record)
    )
    record = create(two_arms(rows, epochs=500), ANN)
    jobs.resume(record.id, ANN)
    status = jobs.wait(record, 120)
    assert status.state == "stopped"
    assert "1 minute, the longest" in status.message
    assert saved_arms(record) == ["control", "uniform-alpha-5"]


def _late(record: Record) -> bool:
    return sum(event["event"] == "step" for event in record.events()) >= 3


def test_a_failed_study_gives_the_reason_and_the_worker_continues(rows: Path, tmp_path: Path) -> None:
    jobs = LabJobs(Limits())
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"nothing": "here"}\n', encoding="utf-8")
    record = jobs.submit(two_arms(broken), ANN)
    status = jobs.wait(record, 60)
    assert status.state == "failed"
    assert "nothing" in status.message
    assert "Traceback" not in status.message
    assert jobs.wait(jobs.submit(two_arms(rows), ANN), 120).state == "finished"


def test_a_study_that_does_not_fit_is_refused_with_what_would_help(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.models.device.available_memory", lambda device="cpu": 1000)
    load(tiny_settings())  # is kept in memory already, so only the study itself asks for room
    jobs = LabJobs(Limits())
    status = jobs.wait(jobs.submit(two_arms(rows), ANN), 60)
    assert status.state == "failed"
    message = status.message
    assert "smaller batch" in message
    assert "fewer arms" in message


def test_a_loss_of_nan_ends_the_study_with_a_sentence(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.engine.lockstep.rate_at", lambda *_: float("inf"))
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows, epochs=3), ANN)
    status = jobs.wait(record, 120)
    assert status.state == "failed"
    assert "choose a smaller learning rate" in status.message
    assert {"step", "diverged", "saved", "answered"} <= {event["event"] for event in record.events()}
    assert ": NaN" not in (record.folder / "events.jsonl").read_text(encoding="utf-8")  # JSON has no such number


def test_a_record_whose_process_died_is_reported_as_interrupted(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows), ANN)
    jobs.wait(record, 120)
    log = record.folder / "events.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + '{"event": "st', encoding="utf-8")  # cut in the middle of a line
    assert jobs.status(record).state == "interrupted"
    assert len(record.events()) == 4


def test_a_study_interrupted_in_its_second_seed_continues_there(rows: Path) -> None:
    expected, record = create(two_arms(rows, seeds=2), ANN), create(two_arms(rows, seeds=2, checkpoint_steps=2), ANN)
    list(run_study(expected, Limits(), lambda: False))
    running = run_study(record, Limits(), lambda: False)
    next(event for event in running if event["seed"] == 1 and event.get("step") == 3)
    running.close()
    jobs = LabJobs(Limits())
    assert (jobs.status(record).state, jobs.status(record).step) == ("interrupted", 7)
    steps = []
    for event in run_study(record, Limits(), lambda: False):
        steps.append((event["seed"], event.get("step", 0)))
    assert (0, 1) not in steps
    assert min(step for seed, step in steps if seed == 1 and step) == 3  # after its checkpoint
    assert [numbers_of_seed(record, seed) for seed in (0, 1)] == [numbers_of_seed(expected, seed) for seed in (0, 1)]


def test_a_study_of_another_process_is_reported_as_running_and_is_not_touched(rows: Path) -> None:
    record = create(two_arms(rows), ANN)
    with record.claimed():
        jobs = LabJobs(Limits())
        assert jobs.status(record).state == "preparing"
        assert "another process" in jobs.status(record).message
        with pytest.raises(RecordError, match=r"already running|is running"):
            jobs.resume(record.id, ANN)
        with pytest.raises(RecordError, match=r"already running|is running"):
            jobs.discard(record.id, ANN)
        with pytest.raises(RecordError, match=r"already running|is running"):
            next(run_study(record, Limits(), lambda: False))
    assert jobs.status(record).state == "interrupted"


def test_an_end_that_cannot_be_written_is_reported_nevertheless(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = Record.append

    def full(record: Record, event: Event) -> None:
        if event["event"] not in ("started", "evaluated"):
            raise OSError(28, "No space left on device")
        append(record, event)

    monkeypatch.setattr(Record, "append", full)
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows), ANN)
    status = jobs.wait(record, 120)
    assert (status.state, record.ending()) == ("failed", None)
    assert "disk is full" in status.message
    monkeypatch.undo()
    jobs.resume(record.id, ANN)
    assert jobs.wait(record, 120).state == "finished"
