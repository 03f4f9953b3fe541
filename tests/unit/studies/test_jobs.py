"""A study as a job: record, queue, stopping, and ownership."""

from __future__ import annotations

import contextvars
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from short_study import short_rows, short_study, tiny_source

from neftune_core.data.preparing import prepare
from neftune_core.engine.lockstep import Event, Lockstep, Step, Stop
from neftune_core.engine.passes import Passes
from neftune_core.errors import DoesNotFit, LabError, RecordError
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.models.accelerator import accelerator
from neftune_core.models.architecture.module_trees import weights_hash
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.checkpoint import saved_step
from neftune_core.studies.comparison import compare, saved_arms, saved_seeds
from neftune_core.studies.jobs import NICENESS
from neftune_core.studies.planning import disk_bytes, memory_and_time, require_disk, require_memory
from neftune_core.studies.prompts import read_prompts
from neftune_core.studies.records import removal
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import Record, asked_from, create, find, owned_records
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study
from neftune_core.sweeps.queue import LabJobs
from neftune_core.ui.parts.study_form import plan_text, require_fit
from neftune_core.ui.server.lab import Lab

ANN, BEN = "key-of-ann", "key-of-ben"


def _model() -> ModelSettings:
    return ModelSettings(source=tiny_source())


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return short_rows(tmp_path, 20)


def _study(rows: Path, *, seeds: int = 1, **training: object) -> StudySettings:
    more = {"answers": AnswerSettings(new_tokens=4), "noise": (NoiseSettings(strength=5),)}
    return short_study(rows, training, seeds=seeds, **more)


def _until(record: Record, event: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(found["event"] == event for found in record.events()):
            return
        time.sleep(0.02)
    raise AssertionError(f"no event {event} within {seconds} s")


def test_a_finished_study_is_whole_on_disk_and_can_be_asked_again(rows: Path) -> None:
    before = weights_hash(load(_model()).model)
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    assert jobs.wait(record, 120).state == "finished"
    names = [event["event"] for event in record.events()]
    assert names[:2] == ["started", "evaluated"]
    assert names[-4:] == ["saved", "measured", "answered", "finished"]
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
    assert weights_hash(load(_model()).model) == before
    about = json.loads((record.folder / "record.json").read_text(encoding="utf-8"))
    assert ANN not in json.dumps(about)
    assert {"owner", "created", "machine", "model", "data", "samples"} <= set(about)


def test_answers_kept_by_a_study_are_those_that_its_record_gives_later(rows: Path) -> None:
    jobs = LabJobs(Limits())
    study = _study(rows, epochs=2, learning_rate=5e-3)
    answers = AnswerSettings(prompts=("Say the number 3.",), new_tokens=8)
    record = jobs.submit(study.model_copy(update={"answers": answers}), ANN)
    assert jobs.wait(record, 120).state == "finished"
    lines: list[dict] = []
    for lines in compare(record, answers, Limits()):  # noqa: B007
        pass
    assert lines[0]["arms"] == record.answers()[0]["arms"]


def test_a_stopped_study_keeps_its_arms_and_the_next_job_starts(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows, epochs=500), ANN)
    _until(record, "step")
    waiting = jobs.submit(_study(rows), ANN)
    assert jobs.status(waiting).place == 1
    jobs.stop(record.id, ANN)
    asked = of_record(record).step
    assert jobs.wait(record, 30).state == "stopped"
    assert of_record(record).step - asked <= 1  # a step that had ended when the stop came may be written after it
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    assert jobs.wait(waiting, 120).state == "finished"


def test_a_waiting_study_can_be_stopped(rows: Path) -> None:
    jobs = LabJobs(Limits())
    running = jobs.submit(_study(rows, epochs=500), ANN)
    waiting = jobs.submit(_study(rows), ANN)
    jobs.stop(waiting.id, ANN)
    assert jobs.status(waiting).state == "stopped"
    jobs.stop(running.id, ANN)
    assert jobs.wait(running, 60).is_over


def test_visitors_see_and_stop_only_their_own(rows: Path) -> None:
    jobs = LabJobs(Limits())
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
    jobs = LabJobs(Limits())
    first = jobs.submit(_study(rows, epochs=500), ANN)
    _until(first, "started")
    second, third = jobs.submit(_study(rows), ANN), jobs.submit(_study(rows), BEN)
    assert (jobs.status(third).place, jobs.status(second).place) == (1, 2)
    jobs.stop(first.id, ANN)
    for record in (second, third):
        assert jobs.wait(record, 120).state == "finished"
    started = {record.id: record.events()[0]["time"] for record in (second, third)}
    assert started[third.id] < started[second.id]


def test_a_damaged_record_has_no_owner(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows), ANN)
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
    record = jobs.submit(_study(rows), ANN)
    status = jobs.wait(record, 120)
    assert status.state == "failed"
    assert "memory of this machine ran out" in status.message
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    monkeypatch.undo()
    jobs.resume(record.id, ANN)
    assert jobs.wait(record, 120).state == "finished"


def test_a_study_ends_at_the_time_limit_and_keeps_its_arms(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = LabJobs(Limits(study_minutes=1))
    monkeypatch.setattr(
        "neftune_core.studies.study.Deadline.__call__", lambda self: self.minutes == 1 and _late(record)
    )
    record = create(_study(rows, epochs=500), ANN)
    jobs.resume(record.id, ANN)
    status = jobs.wait(record, 120)
    assert status.state == "stopped"
    assert "1 minute, the longest" in status.message
    assert saved_arms(record) == ["control", "uniform-alpha-5"]


def _late(record: Record) -> bool:
    return sum(event["event"] == "step" for event in record.events()) >= 3


def test_a_visitor_may_not_fill_the_queue(rows: Path) -> None:
    jobs = LabJobs(Limits(waiting_jobs=1))
    first = jobs.submit(_study(rows, epochs=500), ANN)
    _until(first, "started")
    second = jobs.submit(_study(rows), ANN)
    with pytest.raises(DoesNotFit, match="in the queue: 1"):
        jobs.submit(_study(rows), ANN)
    for record in (second, first):
        jobs.stop(record.id, ANN)
    jobs.wait(first, 60)


def test_new_keys_of_one_address_do_not_fill_the_queue_and_some_places_stay_for_others(rows: Path) -> None:
    hold, admitted = threading.Event(), list[str]()

    def run(*_: object) -> Iterator[Event]:
        hold.wait(60)
        yield {"event": "finished"}

    jobs = LabJobs(Limits(queue_places=8, address_jobs=4), run, admitted.append)

    def ask(address: str, owner: str) -> Record:
        asked_from.set(address)
        return jobs.submit(_study(rows), owner)

    def ask_as(address: str, owner: str) -> Record:
        return contextvars.copy_context().run(ask, address, owner)

    running = ask_as("a", "running")
    while jobs.status(running).state == "waiting":
        time.sleep(0.01)
    for number in range(4):
        ask_as("a", f"a{number}")
    with pytest.raises(DoesNotFit, match="from your network address: 4"):
        ask_as("a", "a5")
    ask_as("b", "b0")
    ask_as("b", "b1")
    with pytest.raises(DoesNotFit, match="places are reserved for others"):
        ask_as("b", "b2")  # 6 of 8 wait, and a quarter is reserved
    ask_as("c", "c0")
    ask_as("d", "d0")
    with pytest.raises(DoesNotFit, match=r"full \(8 waiting\)"):
        ask_as("e", "e0")
    assert admitted == ["a"] * 5 + ["b"] * 2 + ["c", "d"]  # what is refused is not counted
    hold.set()


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads are Linux's")
def test_a_study_runs_with_less_priority_than_what_answers_the_page(rows: Path) -> None:
    found: list[int] = []

    def run(*_: object) -> Iterator[Event]:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        yield {"event": "finished"}

    jobs = LabJobs(Limits(), run)
    jobs.wait(jobs.submit(_study(rows), ANN), 60)
    assert found == [os.getpriority(os.PRIO_PROCESS, 0) + NICENESS]


def test_a_failed_study_gives_the_reason_and_the_worker_continues(rows: Path, tmp_path: Path) -> None:
    jobs = LabJobs(Limits())
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
    load(_model())  # is kept in memory already, so only the study itself asks for room
    jobs = LabJobs(Limits())
    status = jobs.wait(jobs.submit(_study(rows), ANN), 60)
    assert status.state == "failed"
    message = status.message
    assert "smaller batch" in message
    assert "fewer arms" in message


def test_a_loss_of_nan_ends_the_study_with_a_sentence(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.engine.lockstep.rate_at", lambda *_: float("inf"))
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows, epochs=3), ANN)
    status = jobs.wait(record, 120)
    assert status.state == "failed"
    assert "choose a smaller learning rate" in status.message
    assert {"step", "diverged", "saved", "answered"} <= {event["event"] for event in record.events()}
    assert ": NaN" not in (record.folder / "events.jsonl").read_text(encoding="utf-8")  # JSON has no such number


def test_a_record_whose_process_died_is_reported_as_interrupted(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    jobs.wait(record, 120)
    log = record.folder / "events.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + '{"event": "st', encoding="utf-8")  # cut in the middle of a line
    assert jobs.status(record).state == "interrupted"
    assert len(record.events()) == 4


def _numbers(record: Record, seed: int) -> list[Event]:
    """Return the log of one seed from its first measurement on, without times."""
    mine = [event for event in record.events() if event["seed"] == seed and event["event"] in ("step", "evaluated")]
    return [{name: value for name, value in event.items() if name != "time"} for event in mine]


def test_seeds_run_one_after_another_each_as_if_it_were_alone(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record, alone = jobs.submit(_study(rows, seeds=2), ANN), create(_study(rows), ANN)
    other = create(_study(rows).model_copy(update={"seed": 1}), ANN)
    assert jobs.wait(record, 120).state == "finished"
    for single in (alone, other):
        list(run_study(single, Limits(), lambda: False))
    assert [event["seed"] for event in record.events() if event["event"] == "started"] == [0, 1]
    assert _numbers(record, 0) == _numbers(alone, 0)
    assert _numbers(record, 1) == _numbers(other, 1)
    assert _numbers(record, 0)[1]["arms"] != _numbers(record, 1)[1]["arms"]
    assert saved_seeds(record) == [0, 1]
    assert record.answers(1) == other.answers(1)
    status = jobs.status(record)
    assert (status.step, status.steps, status.seed_number, status.seeds) == (8, 8, 2, 2)
    answers = AnswerSettings(prompts=("Say the number 3.",), new_tokens=4)
    assert list(compare(record, answers, Limits(), seed=1))[-1] == list(compare(other, answers, Limits()))[-1]


def test_a_study_interrupted_in_its_second_seed_continues_there(rows: Path) -> None:
    expected, record = create(_study(rows, seeds=2), ANN), create(_study(rows, seeds=2, checkpoint_steps=2), ANN)
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
    assert [_numbers(record, seed) for seed in (0, 1)] == [_numbers(expected, seed) for seed in (0, 1)]


def test_with_a_time_budget_every_seed_makes_as_many_steps_as_the_first(rows: Path) -> None:
    record = create(_study(rows, seeds=2, time_budget_seconds=0.5), ANN)
    list(run_study(record, Limits(), lambda: False))
    planned = [event["steps"] for event in record.events() if event["event"] == "planned"]
    made = [len([event for event in _numbers(record, seed) if event["event"] == "step"]) for seed in (0, 1)]
    assert made == planned * 2


def test_a_study_is_discarded_whatever_it_is_doing(rows: Path) -> None:
    jobs = LabJobs(Limits())
    finished = jobs.submit(_study(rows), ANN)
    jobs.wait(finished, 120)
    running, waiting = jobs.submit(_study(rows, epochs=500), ANN), jobs.submit(_study(rows), ANN)
    _until(running, "step")
    with pytest.raises(RecordError, match="another visitor"):
        jobs.discard(finished.id, BEN)
    for record in (finished, waiting, running):
        jobs.discard(record.id, ANN)
    jobs.wait(running, 60)
    assert not any(record.folder.exists() for record in (finished, waiting, running))
    assert jobs.is_idle


def test_a_discarded_study_can_be_restored_by_its_owner_for_a_while(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    jobs.wait(record, 120)
    events = record.events()
    jobs.discard(record.id, ANN)
    assert record.id not in [found.id for found in owned_records(ANN)]
    for stranger in (BEN, ""):
        with pytest.raises(RecordError, match="can no longer be restored"):
            removal.restore(record.id, stranger)
    with pytest.raises(RecordError, match="can no longer be restored"):
        removal.restore("../runs", ANN)
    removal.sweep(Limits())
    assert removal.restore(record.id, ANN).events() == events
    assert record.id in [found.id for found in owned_records(ANN)]
    jobs.discard(record.id, ANN)
    monkeypatch.setattr(removal, "UNDO_SECONDS", -1)
    removal.sweep(Limits())
    with pytest.raises(RecordError, match="can no longer be restored"):
        removal.restore(record.id, ANN)
    assert not list(record.folder.parent.glob(f"*{record.id}*"))


def test_a_discard_in_the_moment_in_which_a_study_ends_is_not_lost(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = LabJobs(Limits())
    asked: list[str] = []

    def late(*_: object) -> None:  # the study has ended, and its job is not over yet
        if record.ending() is not None and not asked:
            asked.append("discard")
            jobs.discard(record.id, ANN)

    record = create(_study(rows), ANN)
    monkeypatch.setattr("neftune_core.studies.jobs.removal.sweep", late)
    jobs.resume(record.id, ANN)
    jobs.wait(record, 120)
    assert asked == ["discard"]
    assert not record.folder.exists()


def test_what_the_command_line_made_is_not_discarded_from_the_page(rows: Path) -> None:
    record = create(_study(rows), owner="")
    with pytest.raises(RecordError, match="runs remove"):
        LabJobs(Limits()).discard(record.id, ANN)
    assert record.folder.exists()


def test_strangers_do_not_change_what_the_command_line_made(rows: Path) -> None:
    finished, broken = (create(_study(rows), "") for _ in range(2))
    list(run_study(finished, Limits(), lambda: False))
    list(run_study(broken, Limits(), lambda: True))
    before = finished.settings_file.read_bytes(), finished.events(), broken.events()
    jobs = LabJobs(Limits(local_paths=False))
    for change in (lambda: jobs.add_seeds(finished.id, ANN), lambda: jobs.resume(broken.id, ANN)):
        with pytest.raises(RecordError, match="visitors cannot change it"):
            change()
    assert jobs.is_idle
    assert before == (finished.settings_file.read_bytes(), finished.events(), broken.events())
    own = LabJobs(Limits())  # whose host is its only visitor
    own.resume(broken.id, ANN)
    assert own.wait(broken, 60).state == "finished"


def test_a_study_of_another_process_is_reported_as_running_and_is_not_touched(rows: Path) -> None:
    record = create(_study(rows), ANN)
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


def test_a_queue_that_is_closed_stops_the_running_study_and_leaves_the_others_to_be_resumed(rows: Path) -> None:
    jobs = LabJobs(Limits())
    running, waiting = jobs.submit(_study(rows, epochs=500), ANN), jobs.submit(_study(rows), ANN)
    _until(running, "step")
    jobs.close(60)
    assert of_record(running).state == "stopped"
    assert saved_step(running.folder) == of_record(running).step
    assert of_record(waiting).state == "interrupted"
    later = LabJobs(Limits())  # as the server is started again
    later.resume(waiting.id, ANN)
    assert later.wait(waiting, 120).state == "finished"


def test_the_queue_has_an_end_for_all_visitors_together(rows: Path) -> None:
    jobs = LabJobs(Limits(queue_places=1))
    first = jobs.submit(_study(rows, epochs=500), ANN)
    _until(first, "started")
    second = jobs.submit(_study(rows), BEN)
    with pytest.raises(DoesNotFit, match="The queue is full"):
        jobs.submit(_study(rows), ANN)
    jobs.stop(second.id, BEN)
    jobs.stop(first.id, ANN)
    jobs.wait(first, 60)


def test_an_end_that_cannot_be_written_is_reported_nevertheless(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = Record.append

    def full(record: Record, event: Event) -> None:
        if event["event"] not in ("started", "evaluated"):
            raise OSError(28, "No space left on device")
        append(record, event)

    monkeypatch.setattr(Record, "append", full)
    jobs = LabJobs(Limits())
    record = jobs.submit(_study(rows), ANN)
    status = jobs.wait(record, 120)
    assert (status.state, record.ending()) == ("failed", None)
    assert "disk is full" in status.message
    monkeypatch.undo()
    jobs.resume(record.id, ANN)
    assert jobs.wait(record, 120).state == "finished"


def test_somebody_else_gets_the_accelerator_between_two_parts_of_a_step(rows: Path) -> None:
    record = create(_study(rows, accumulation=4), ANN)
    running = run_study(record, Limits(), lambda: False)
    seen, taken = list[bool](), threading.Event()

    def take() -> None:
        with accelerator.held():
            taken.set()

    backward = Passes.backward

    def counting(self: Passes, *given: Any) -> Any:
        seen.append(taken.is_set())
        if len(seen) == 2:  # somebody asks in the middle of the first step
            threading.Thread(target=take, daemon=True).start()
            while not accelerator._waiting:
                time.sleep(0.001)
        return backward(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passes, "backward", counting)
        assert list(running)[-1]["event"] == "finished"
    assert seen[:4] == [False, False, True, True]


def test_what_would_fit_is_given_in_numbers(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, loaded = _study(rows, batch_size=8), load(_model())
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    long = study.model_copy(update={"measuring": MeasuringSettings(new_tokens=800)})
    needed = memory_and_time(long, loaded, prepared).memory_bytes
    monkeypatch.setattr("neftune_core.models.device.available_memory", lambda device="cpu": int(0.8 * needed))
    with pytest.raises(DoesNotFit, match="4 answers measured"):
        require_memory(long, loaded, prepared)
    study = study.model_copy(update={"measuring": MeasuringSettings(prompts=0)})
    needed = memory_and_time(study, loaded, prepared).memory_bytes
    with pytest.raises(DoesNotFit, match=r"It would fit with gradient accumulation \d+ \(the same result"):
        require_memory(study, loaded, prepared)


def test_the_estimate_counts_what_the_floors_train_as_well(rows: Path) -> None:
    study, loaded = _study(rows), load(_model())
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    floored = study.model_copy(update={"measuring": MeasuringSettings(another_seed=True)})
    once, more = (memory_and_time(asked, loaded, prepared) for asked in (study, floored))
    assert more.seconds == pytest.approx(1.5 * once.seconds, rel=0.05)  # the control of two arms once more
    assert more.memory_bytes == once.memory_bytes


def test_copies_of_all_weights_that_the_disk_cannot_hold_are_refused_before_the_first_step(
    rows: Path, tmp_path: Path
) -> None:
    study, loaded = _study(rows, method="full"), load(_model())
    needed = disk_bytes(study, loaded)
    numbers = sum(weight.numel() for weight in loaded.model.parameters())
    assert needed == len(study.arms) * (24 + (2 * study.seeds + 1) * loaded.model.dtype.itemsize) * numbers
    record = create(study, "", folder=tmp_path / "runs")
    require_disk(study, loaded, record.folder, Limits(disk_gigabytes=1.1 * needed / 1e9))
    (tmp_path / "runs" / "another").write_bytes(bytes(needed // 5))
    tight = Limits(disk_gigabytes=1.1 * needed / 1e9)
    assert list(run_study(record, tight, lambda: False))[-1]["event"] == "failed"
    assert "are left for it: train adapters" in record.events()[-1]["message"]


def test_the_page_refuses_what_does_not_fit_before_it_is_started(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Limits())
    require_fit(lab, _study(rows, seeds=3))
    words, fits = plan_text(lab, _study(rows, seeds=3, time_budget_seconds=30.0))
    assert words.startswith("3 seeds of about 30 seconds of training, 2 arms.")
    assert fits
    monkeypatch.setattr("neftune_core.models.device.available_memory", lambda device="cpu": 1000)
    with pytest.raises(DoesNotFit, match="No smaller study of this model would fit"):
        require_fit(lab, _study(rows))


@pytest.mark.parametrize("name", ["../../etc", "20260101-000000-abcdef", "", "x" * 5000, "a\0b"])
def test_a_record_that_is_not_there_gets_a_sentence(name: str) -> None:
    with pytest.raises(RecordError, match="no record called"):
        find(name, ANN)


def test_prompts_are_read_from_text_and_jsonl_and_refused_with_their_line(tmp_path: Path) -> None:
    text, lines = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_text("one\n\ntwo\n", encoding="utf-8")
    lines.write_text('{"prompt": "one"}\n{"question": 3}\n', encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(text, Limits())] == ["one", "two"]
    with pytest.raises(LabError, match="Line 2"):
        read_prompts(lines, Limits())
