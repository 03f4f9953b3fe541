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
from short_study import ANN, BEN, numbers_of_seed, tiny_settings, two_arms, until_event

from neftune_core.engine.lockstep import Event
from neftune_core.engine.passes import Passes
from neftune_core.errors import DoesNotFit, LabError, RecordError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.accelerator import accelerator
from neftune_core.models.loading import load
from neftune_core.settings import Limits
from neftune_core.studies.checkpoint import saved_step
from neftune_core.studies.comparison import compare_arms, comparison_request, saved_arms, saved_seeds
from neftune_core.studies.prompts import read_prompts
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import Record, asked_from, create, find, owned_records
from neftune_core.studies.study import run_study
from neftune_core.sweeps.queue import LabJobs
from tests.weights import weights_hash


def _compared(record: Record, asked: AnswerSettings, **chosen: Any) -> list[dict[str, Any]]:
    *_, last = compare_arms(*comparison_request(record, asked, **chosen), asked, Limits())
    return last


def test_a_finished_study_is_whole_on_disk_and_can_be_asked_again(rows: Path) -> None:
    before = weights_hash(load(tiny_settings()).model)
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows), ANN)
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
    lines = _compared(record, AnswerSettings(prompts=("Say the number 3.",), new_tokens=4))
    assert list(lines[0]["arms"]) == ["base", "control", "uniform-alpha-5"]
    assert weights_hash(load(tiny_settings()).model) == before
    about = json.loads((record.folder / "record.json").read_text(encoding="utf-8"))
    assert ANN not in json.dumps(about)
    assert {"owner", "created", "machine", "model", "data", "samples", "sample_sizes"} <= set(about)


def test_answers_kept_by_a_study_are_those_that_its_record_gives_later(rows: Path) -> None:
    jobs = LabJobs(Limits())
    study = two_arms(rows, epochs=2, learning_rate=5e-3)
    answers = AnswerSettings(prompts=("Say the number 3.",), new_tokens=8)
    record = jobs.submit(study.model_copy(update={"answers": answers}), ANN)
    assert jobs.wait(record, 120).state == "finished"
    assert _compared(record, answers)[0]["arms"] == record.answers()[0]["arms"]


def test_a_stopped_study_keeps_its_arms_and_the_next_job_starts(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows, epochs=500), ANN)
    until_event(record, "step")
    waiting = jobs.submit(two_arms(rows), ANN)
    assert jobs.status(waiting).place == 1
    jobs.stop(record.id, ANN)
    asked = of_record(record).step
    assert jobs.wait(record, 30).state == "stopped"
    assert of_record(record).step - asked <= 1  # a step that had ended when the stop came may be written after it
    assert saved_arms(record) == ["control", "uniform-alpha-5"]
    assert jobs.wait(waiting, 120).state == "finished"


def test_a_waiting_study_can_be_stopped(rows: Path) -> None:
    jobs = LabJobs(Limits())
    running = jobs.submit(two_arms(rows, epochs=500), ANN)
    waiting = jobs.submit(two_arms(rows), ANN)
    jobs.stop(waiting.id, ANN)
    assert jobs.status(waiting).state == "stopped"
    jobs.stop(running.id, ANN)
    assert jobs.wait(running, 60).is_over


def test_visitors_see_and_stop_only_their_own(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record = jobs.submit(two_arms(rows, epochs=500), ANN)
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
    first = jobs.submit(two_arms(rows, epochs=500), ANN)
    until_event(first, "started")
    second, third = jobs.submit(two_arms(rows), ANN), jobs.submit(two_arms(rows), BEN)
    assert (jobs.status(third).place, jobs.status(second).place) == (1, 2)
    jobs.stop(first.id, ANN)
    for record in (second, third):
        assert jobs.wait(record, 120).state == "finished"
    started = {record.id: record.events()[0]["time"] for record in (second, third)}
    assert started[third.id] < started[second.id]


def test_a_visitor_may_not_fill_the_queue(rows: Path) -> None:
    jobs = LabJobs(Limits(waiting_jobs=1))
    first = jobs.submit(two_arms(rows, epochs=500), ANN)
    until_event(first, "started")
    second = jobs.submit(two_arms(rows), ANN)
    with pytest.raises(DoesNotFit, match="You have 1 study in the queue"):
        jobs.submit(two_arms(rows), ANN)
    for record in (second, first):
        jobs.stop(record.id, ANN)
    jobs.wait(first, 60)


def test_new_keys_of_one_address_do_not_fill_the_queue_and_some_places_stay_for_others(rows: Path) -> None:
    began, hold, admitted = threading.Event(), threading.Event(), list[str]()

    def run(*_: object) -> Iterator[Event]:
        began.set()
        hold.wait(60)
        yield {"event": "finished"}

    jobs = LabJobs(Limits(queue_places=8, address_jobs=4), run, admitted.append)

    def ask(address: str, owner: str) -> Record:
        asked_from.set(address)
        return jobs.submit(two_arms(rows), owner)

    def ask_as(address: str, owner: str) -> Record:
        return contextvars.copy_context().run(ask, address, owner)

    ask_as("a", "running")
    assert began.wait(60)
    for number in range(4):
        ask_as("a", f"a{number}")
    with pytest.raises(DoesNotFit, match="from your IP address: 4"):
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


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes of single threads are Linux's")
def test_a_study_yields_to_the_page_but_not_to_other_processes(rows: Path) -> None:
    found: list[tuple[int, int]] = []

    def run(*_: object) -> Iterator[Event]:
        thread = threading.get_native_id()
        found.append((os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)))
        yield {"event": "finished"}

    jobs = LabJobs(Limits(), run)
    jobs.wait(jobs.submit(two_arms(rows), ANN), 60)
    assert found == [(os.SCHED_BATCH, os.getpriority(os.PRIO_PROCESS, 0))]


def test_seeds_run_one_after_another_each_as_if_it_were_alone(rows: Path) -> None:
    jobs = LabJobs(Limits())
    record, alone = jobs.submit(two_arms(rows, seeds=2), ANN), create(two_arms(rows), ANN)
    other = create(two_arms(rows).model_copy(update={"seed": 1}), ANN)
    assert jobs.wait(record, 120).state == "finished"
    for single in (alone, other):
        list(run_study(single, Limits(), lambda: False))
    assert [event["seed"] for event in record.events() if event["event"] == "started"] == [0, 1]
    assert numbers_of_seed(record, 0) == numbers_of_seed(alone, 0)
    assert numbers_of_seed(record, 1) == numbers_of_seed(other, 1)
    assert numbers_of_seed(record, 0)[1]["arms"] != numbers_of_seed(record, 1)[1]["arms"]
    assert saved_seeds(record) == [0, 1]
    assert record.answers(1) == other.answers(1)
    status = jobs.status(record)
    assert (status.step, status.steps, status.seed_number, status.seeds) == (8, 8, 2, 2)
    answers = AnswerSettings(prompts=("Say the number 3.",), new_tokens=4)
    assert _compared(record, answers, seed=1) == _compared(other, answers)


def test_with_a_time_budget_every_seed_makes_as_many_steps_as_the_first(rows: Path) -> None:
    record = create(two_arms(rows, seeds=2, time_budget_seconds=0.5), ANN)
    list(run_study(record, Limits(), lambda: False))
    planned = [event["steps"] for event in record.events() if event["event"] == "planned"]
    made = [len([event for event in numbers_of_seed(record, seed) if event["event"] == "step"]) for seed in (0, 1)]
    assert made == planned * 2


def test_strangers_do_not_change_what_the_command_line_made(rows: Path) -> None:
    finished, broken = (create(two_arms(rows), "") for _ in range(2))
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


def test_a_queue_that_is_closed_stops_the_running_study_and_leaves_the_others_to_be_resumed(rows: Path) -> None:
    jobs = LabJobs(Limits())
    running, waiting = jobs.submit(two_arms(rows, epochs=500), ANN), jobs.submit(two_arms(rows), ANN)
    until_event(running, "step")
    jobs.close(60)
    assert of_record(running).state == "stopped"
    assert saved_step(running.folder) == of_record(running).step
    assert of_record(waiting).state == "interrupted"
    later = LabJobs(Limits())  # as the server is started again
    later.resume(waiting.id, ANN)
    assert later.wait(waiting, 120).state == "finished"


def test_the_queue_has_an_end_for_all_visitors_together(rows: Path) -> None:
    jobs = LabJobs(Limits(queue_places=1))
    first = jobs.submit(two_arms(rows, epochs=500), ANN)
    until_event(first, "started")
    second = jobs.submit(two_arms(rows), BEN)
    with pytest.raises(DoesNotFit, match="The queue is full"):
        jobs.submit(two_arms(rows), ANN)
    jobs.stop(second.id, BEN)
    jobs.stop(first.id, ANN)
    jobs.wait(first, 60)


def test_somebody_else_gets_the_accelerator_between_two_parts_of_a_step(rows: Path) -> None:
    record = create(two_arms(rows, accumulation=4), ANN)
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
            while not accelerator.waiting:
                time.sleep(0.001)
        return backward(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passes, "backward", counting)
        assert list(running)[-1]["event"] == "finished"
    assert seen[:4] == [False, False, True, True]


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
