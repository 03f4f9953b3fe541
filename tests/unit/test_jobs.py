"""A study as a job: its record on disk, its queue, its stop, and whose it is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DoesNotFit, LabError, RecordError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.trees import weights_hash
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.training.comparison import compare, read_prompts, saved_arms
from neftune_core.training.jobs import Jobs
from neftune_core.training.lockstep import Event, Lockstep, Step, Stop
from neftune_core.training.record import Record, create, find, owned_records
from neftune_core.training.settings import StudySettings, TrainingSettings

ANN, BEN = "key-of-ann", "key-of-ben"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"instruction": f"Say the number {n}.", "input": "", "output": f"It is {n}."} for n in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _study(rows: Path, **training: object) -> StudySettings:
    settings = {"epochs": 1, "evaluations": 1, "evaluation_rows": 4} | training
    return StudySettings(
        data=DataSettings(source=f"file:{rows}"),
        training=TrainingSettings(**settings),
        answers=AnswerSettings(new_tokens=4),
        noise=(NoiseSettings(strength=5),),
    )


def _until(record: Record, event: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(found["event"] == event for found in record.events()):
            return
        time.sleep(0.02)
    raise AssertionError(f"no event {event} within {seconds} s")


def test_a_finished_study_is_whole_on_disk_and_can_be_asked_again(rows: Path) -> None:
    before = weights_hash(load(ModelSettings()).model)
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    assert jobs.wait(record, 120).state == "finished"
    names = [event["event"] for event in record.events()]
    assert names[:2] == ["started", "evaluated"]
    assert names[-3:] == ["saved", "answered", "finished"]
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    rows.unlink()  # the record keeps its own copy of the rows
    kept = Path(record.study.data.source.removeprefix("file:"))
    assert kept.is_file()
    assert kept.name == rows.name
    assert record.about["data"]["title"] == rows.name
    lines: list[dict] = []
    for lines in compare(record, AnswerSettings(prompts=("Say the number 3.",), new_tokens=4), Limits()):  # noqa: B007
        pass
    assert list(lines[0]["arms"]) == ["base", "control", "uniform-alpha-5"]
    assert weights_hash(load(ModelSettings()).model) == before
    about = json.loads((record.folder / "record.json").read_text(encoding="utf-8"))
    assert ANN not in json.dumps(about)
    assert {"owner", "created", "machine", "model", "data", "samples"} <= set(about)


def test_answers_kept_by_a_study_are_those_that_its_record_gives_later(rows: Path) -> None:
    jobs = Jobs(Limits())
    study = _study(rows, epochs=2, learning_rate=5e-3)
    answers = AnswerSettings(prompts=("Say the number 3.",), new_tokens=8)
    record = jobs.submit(study.model_copy(update={"answers": answers}), ANN)
    assert jobs.wait(record, 120).state == "finished"
    lines: list[dict] = []
    for lines in compare(record, answers, Limits()):  # noqa: B007
        pass
    assert lines[0]["arms"] == record.answers()[0]["arms"]


def test_a_stopped_study_keeps_its_arms_and_the_next_job_starts(rows: Path) -> None:
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows, epochs=500), ANN)
    waiting = jobs.submit(_study(rows), ANN)
    assert jobs.status(waiting).place == 1
    _until(record, "step")
    asked = time.monotonic()
    jobs.stop(record.id, ANN)
    assert jobs.wait(record, 30).state == "stopped"
    assert time.monotonic() - asked < 2
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    assert jobs.wait(waiting, 120).state == "finished"


def test_a_waiting_study_can_be_stopped(rows: Path) -> None:
    jobs = Jobs(Limits())
    running = jobs.submit(_study(rows, epochs=500), ANN)
    waiting = jobs.submit(_study(rows), ANN)
    jobs.stop(waiting.id, ANN)
    assert jobs.status(waiting).state == "stopped"
    jobs.stop(running.id, ANN)
    assert jobs.wait(running, 60).is_over


def test_visitors_see_and_stop_only_their_own(rows: Path) -> None:
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows, epochs=500), ANN)
    with pytest.raises(RecordError, match="another visitor"):
        jobs.stop(record.id, BEN)
    with pytest.raises(RecordError, match="another visitor"):
        find(record.id, BEN)
    assert record not in owned_records(BEN)
    assert record in owned_records(ANN)
    jobs.stop(record.id, ANN)
    jobs.wait(record, 60)


def test_visitors_take_turns(rows: Path) -> None:
    jobs = Jobs(Limits())
    first = jobs.submit(_study(rows, epochs=500), ANN)
    _until(first, "started")
    second, third = jobs.submit(_study(rows), ANN), jobs.submit(_study(rows), BEN)
    assert (jobs.status(third).place, jobs.status(second).place) == (1, 2)
    jobs.stop(first.id, ANN)
    for record in (second, third):
        assert jobs.wait(record, 120).state == "finished"
    started = {record.id: record.events()[0]["time"] for record in (second, third)}
    assert started[third.id] < started[second.id]


def test_a_damaged_record_is_nobodys(rows: Path) -> None:
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    jobs.wait(record, 120)
    (record.folder / "record.json").write_text("{", encoding="utf-8")
    for owner in (ANN, BEN, ""):
        with pytest.raises(RecordError):
            find(record.id, owner)
    with pytest.raises(RecordError, match="no longer says whose"):
        record.update_about(model={})


def test_a_failure_in_mid_run_keeps_what_was_trained(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Lockstep.step

    def failing(self: Lockstep, planned: Step, rate: float, should_stop: Stop) -> Event:
        if planned.number == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return step(self, planned, rate, should_stop)

    monkeypatch.setattr(Lockstep, "step", failing)
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    status = jobs.wait(record, 120)
    assert status.state == "failed"
    assert "memory of this machine ran out" in status.message
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    monkeypatch.undo()
    jobs.resume(record.id, ANN)
    assert jobs.wait(record, 120).state == "finished"


def test_a_study_ends_at_the_time_limit_and_keeps_its_arms(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(Limits(study_minutes=1))
    monkeypatch.setattr(
        "neftune_core.training.study._Deadline.__call__", lambda self: self.minutes == 1 and _late(record)
    )
    record = create(_study(rows, epochs=500), ANN)
    jobs.resume(record.id, ANN)
    status = jobs.wait(record, 120)
    assert status.state == "stopped"
    assert "1 minutes, the longest" in status.message
    assert saved_arms(record) == ["control", "uniform-alpha-5"]


def _late(record: Record) -> bool:
    return sum(event["event"] == "step" for event in record.events()) >= 3


def test_a_visitor_may_not_fill_the_queue(rows: Path) -> None:
    jobs = Jobs(Limits(waiting_jobs=1))
    first = jobs.submit(_study(rows, epochs=500), ANN)
    _until(first, "started")
    second = jobs.submit(_study(rows), ANN)
    with pytest.raises(DoesNotFit, match="already have 1"):
        jobs.submit(_study(rows), ANN)
    for record in (second, first):
        jobs.stop(record.id, ANN)
    jobs.wait(first, 60)


def test_a_failed_study_says_why_and_the_worker_goes_on(rows: Path, tmp_path: Path) -> None:
    jobs = Jobs(Limits())
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"nothing": "here"}\n', encoding="utf-8")
    record = jobs.submit(_study(broken), ANN)
    status = jobs.wait(record, 60)
    assert status.state == "failed"
    assert "nothing" in status.message
    assert "Traceback" not in status.message
    assert jobs.wait(jobs.submit(_study(rows), ANN), 120).state == "finished"


def test_a_study_that_does_not_fit_is_refused_with_what_would_help(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.models.device.available_memory", lambda device="cpu": 1000)
    load(ModelSettings())  # is kept in memory already, so only the study itself asks for room
    jobs = Jobs(Limits())
    status = jobs.wait(jobs.submit(_study(rows), ANN), 60)
    assert status.state == "failed"
    message = status.message
    assert "smaller batch" in message
    assert "fewer arms" in message


def test_a_loss_that_is_no_number_ends_the_study_with_a_sentence(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.training.lockstep.rate_at", lambda *_: float("inf"))
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows, epochs=3), ANN)
    status = jobs.wait(record, 120)
    assert status.state == "failed"
    assert "choose a smaller learning rate" in status.message
    assert {"step", "diverged", "saved", "answered"} <= {event["event"] for event in record.events()}
    assert "NaN" not in (record.folder / "events.jsonl").read_text(encoding="utf-8")  # JSON has no such word


def test_a_record_whose_process_died_is_told_as_interrupted(rows: Path) -> None:
    jobs = Jobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    jobs.wait(record, 120)
    log = record.folder / "events.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + '{"event": "st', encoding="utf-8")  # cut in the middle of a line
    assert jobs.status(record).state == "interrupted"
    assert len(record.events()) == 4


@pytest.mark.parametrize("name", ["../../etc", "20260101-000000-abcdef", "", "x" * 5000, "a\0b"])
def test_a_record_that_is_not_there_gets_a_sentence(name: str) -> None:
    with pytest.raises(RecordError, match="no record called"):
        find(name, ANN)


def test_prompts_are_read_from_text_and_jsonl_and_refused_with_their_line(tmp_path: Path) -> None:
    text, lines = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_text("one\n\ntwo\n", encoding="utf-8")
    lines.write_text('{"prompt": "one"}\n{"question": 3}\n', encoding="utf-8")
    assert read_prompts(text, Limits()) == ("one", "two")
    with pytest.raises(LabError, match="Line 2"):
        read_prompts(lines, Limits())
