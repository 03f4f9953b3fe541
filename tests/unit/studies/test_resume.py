"""A resumed run has bit-identical numbers to an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from as_written import NEFTUNE
from command_line import neftune_here
from processes import ended
from short_study import broken_off, short_rows, short_study
from tiny import random_rows

from neftune_core.commands.records import runs_table
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import RecordError
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.export.report import write_report
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, to_toml
from neftune_core.studies import checkpoint
from neftune_core.studies.judging import verdict_of
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study
from neftune_core.sweeps.more_seeds import find_same
from neftune_core.sweeps.queue import LabJobs
from tests.stress.faults.setup import numbers


@pytest.fixture
def study(tmp_path: Path) -> StudySettings:
    """Return a study of twelve steps with adapter dropout and a checkpoint every three steps."""
    noise = (NoiseSettings(strength=5), NoiseSettings(strength=1, unit="std", kind="laplace"))
    training = {"epochs": 3, "evaluations": 4, "lora_dropout": 0.2, "checkpoint_steps": 3}
    return short_study(short_rows(tmp_path, 20), training, answers=AnswerSettings(new_tokens=4), noise=noise)


def _whole(study: StudySettings) -> Record:
    record = create(study, owner="")
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    return record


@pytest.mark.parametrize("at", [("started", None), ("step", 2), ("evaluated", 6)])
def test_a_run_that_died_continues_as_if_it_had_not(study: StudySettings, at: tuple[str, int]) -> None:
    expected = _whole(study)
    record = create(study, owner="")
    broken_off(record, at)
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert numbers(record) == numbers(expected)
    assert record.answers() == expected.answers()
    assert not (record.folder / "checkpoint").exists()


ADDED = {"model": ("revision", "note"), "data": ("duplicates", "report", "reasoning")}
"""What newer versions of the lab write into record.json beside what the first ones wrote."""


def _as_before(record: Record) -> Record:
    """Return the record as the first versions of the lab wrote it, with fewer fields and settings."""
    about = json.loads((record.folder / "record.json").read_text(encoding="utf-8"))
    del about["date"]
    for part, names in ADDED.items():
        for name in names:
            del about[part][name]
    (record.folder / "record.json").write_text(json.dumps(about), encoding="utf-8")
    lines = record.settings_file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(("trained_turns", "checkpoint_seconds"))]
    assert len(kept) == len(lines) - 2
    record.settings_file.write_text("".join(kept), encoding="utf-8")
    return Record(record.folder)


def test_a_record_of_an_older_lab_is_opened_and_continues_as_if_nothing_had_happened(
    study: StudySettings, tmp_path: Path
) -> None:
    expected = _whole(study)
    begun = create(study, owner="")
    broken_off(begun, ("step", 7))
    record = _as_before(begun)
    assert checkpoint.saved_step(record.folder) == 6
    assert runs_table([record])[1].startswith(record.id)
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert numbers(record) == numbers(expected)
    assert verdict_of(record).text() == verdict_of(expected).text()
    assert "<h2>" in write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")


def test_long_steps_are_kept_by_time_and_continue_as_if_nothing_had_happened(
    study: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _whole(study)
    monkeypatch.setattr("neftune_core.studies.checkpoint.SHARE", 0)
    often = study.training.model_copy(update={"checkpoint_steps": 1000, "checkpoint_seconds": 1e-6})
    record = create(study.model_copy(update={"training": often}), owner="")
    broken_off(record, ("step", 5))
    assert checkpoint.saved_step(record.folder) == 4
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert numbers(record) == numbers(expected)


def test_a_checkpoint_that_takes_long_to_write_is_not_written_again_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, kept = SimpleNamespace(now=0.0), []

    def save(run: Any, folder: Path) -> None:
        kept.append(run.done)
        clock.now += 10

    monkeypatch.setattr("neftune_core.studies.checkpoint.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(checkpoint, "save", save)
    run: Any = SimpleNamespace(done=0, total=500, study=StudySettings(training=TrainingSettings(checkpoint_steps=1000)))
    keeper = checkpoint.CheckpointWriter(run, tmp_path)
    for run.done in range(1, 100):
        clock.now += 7
        keeper()
    assert kept[:3] == [5, 34, 63]  # after 30 s, then every 200: a twentieth of the time


def test_a_stopped_run_is_resumed_by_its_owner_and_ends_like_an_unbroken_one(study: StudySettings) -> None:
    expected = _whole(study)
    jobs = LabJobs(Limits())
    record = jobs.submit(study, "ann")
    while not any(event["event"] == "step" for event in record.events()):
        time.sleep(0.01)
    jobs.stop(record.id, "ann")
    assert jobs.wait(record, 60).state == "stopped"
    with pytest.raises(RecordError):
        jobs.resume(record.id, "ben")
    jobs.resume(record.id, "ann")
    assert jobs.wait(record, 120).state == "finished"
    assert numbers(record) == numbers(expected)
    with pytest.raises(RecordError, match="nothing to resume"):
        jobs.resume(record.id, "ann")


def test_a_killed_process_is_resumed_from_the_command_line(study: StudySettings, tmp_path: Path) -> None:
    expected = _whole(study)
    file, home = tmp_path / "study.toml", tmp_path / "home"
    file.write_text(to_toml(study), encoding="utf-8")
    command = [NEFTUNE, "train", str(file), "--resume", "--home", str(home)]
    said = tmp_path / "said"
    with (
        said.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True) as process,
        ended(process),
    ):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            logs = list(home.glob("runs/*/events.jsonl"))
            if logs and '"step": 5' in logs[0].read_text(encoding="utf-8"):
                break
            time.sleep(0.005)
        assert process.poll() is None, said.read_text(encoding="utf-8")
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert "so a new record is started" in said.read_text(encoding="utf-8")
    again = neftune_here(*command[1:])
    assert again.returncode == 0, again.stderr
    assert "a new record is started" not in again.stderr
    (folder,) = (home / "runs").iterdir()
    assert [event for event in numbers(Record(folder)) if event["event"] in ("step", "evaluated")] == [
        event for event in numbers(expected) if event["event"] in ("step", "evaluated")
    ]
    once_more = neftune_here(*command[1:])
    assert once_more.returncode == 0
    assert "already finished" in once_more.stdout


def test_a_command_that_is_asked_to_end_stops_with_a_checkpoint(study: StudySettings, tmp_path: Path) -> None:
    expected = _whole(study)
    file, home = tmp_path / "study.toml", tmp_path / "home"
    file.write_text(to_toml(study), encoding="utf-8")
    command = [NEFTUNE, "train", str(file), "--resume", "--home", str(home)]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
        ended(process),
    ):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if any('"step": 5' in log.read_text(encoding="utf-8") for log in home.glob("runs/*/events.jsonl")):
                break
            time.sleep(0.005)
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "Stopped on request." in said
    assert "Traceback" not in said
    record = Record(next((home / "runs").iterdir()))
    ending, last = record.ending(), max(event["step"] for event in record.events() if event["event"] == "step")
    assert ending is not None
    assert ending["event"] == "stopped"
    assert checkpoint.saved_step(record.folder) == last  # which no checkpoint of every third step need be
    assert not record.is_running()
    again = neftune_here(*command[1:])
    assert again.returncode == 0, again.stderr
    assert [event for event in numbers(record) if event["event"] in ("step", "evaluated")] == [
        event for event in numbers(expected) if event["event"] in ("step", "evaluated")
    ]


def test_a_full_disk_fails_with_its_sentence_and_keeps_the_last_good_checkpoint(
    study: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = create(study, owner="")
    save = checkpoint.save_file
    calls = []

    def full(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(checkpoint, "save_file", full)
    ending = list(run_study(record, Limits(), lambda: False))[-1]
    assert ending["event"] == "failed"
    assert "disk is full" in ending["message"]
    assert checkpoint.saved_step(record.folder) == 3
    monkeypatch.undo()
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert numbers(record) == numbers(_whole(study))


def test_a_checkpoint_of_other_data_is_refused(study: StudySettings) -> None:
    record = create(study, owner="")
    broken_off(record, ("step", 5))
    rows = record.folder / "data" / "source" / "rows.jsonl"
    rows.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[:10]), encoding="utf-8")
    ending = list(run_study(record, Limits(), lambda: False))[-1]
    assert ending["event"] == "failed"
    assert "has changed since this study started" in ending["message"]


def test_a_checkpoint_of_an_edited_row_is_refused(study: StudySettings) -> None:
    record = create(study, owner="")
    broken_off(record, ("step", 5))
    rows = record.folder / "data" / "source" / "rows.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace("It is 7.", "It is 8."), encoding="utf-8")
    ending = list(run_study(record, Limits(), lambda: False))[-1]
    assert ending["event"] == "failed"
    assert "data" in ending["message"]
    assert checkpoint.saved_step(record.folder) == 3


def test_a_model_whose_weights_have_changed_is_refused(study: StudySettings) -> None:
    record = create(study, owner="")
    broken_off(record, ("step", 5))
    record.update_about(model=record.about_table("model") | {"fingerprint": "0" * 16})
    ending = list(run_study(record, Limits(), lambda: False))[-1]
    assert ending["event"] == "failed"
    assert "have changed since this study was trained" in ending["message"]


def test_the_previous_checkpoint_serves_if_the_process_died_between_two_renames(study: StudySettings) -> None:
    record, expected = create(study, owner=""), _whole(study)
    broken_off(record, ("step", 8))
    (record.folder / checkpoint.NAME).rename(record.folder / checkpoint.OLD)
    assert checkpoint.saved_step(record.folder) == 6
    assert list(run_study(record, Limits(), lambda: False))[-1]["event"] == "finished"
    assert numbers(record) == numbers(expected)


def test_a_diverged_arm_and_the_loss_scale_are_restored(tiny: LoadedModel, tmp_path: Path) -> None:
    study = StudySettings(training=TrainingSettings(steps=4), noise=(NoiseSettings(strength=1),))
    prepared = SimpleNamespace(train=random_rows(8), held_out=random_rows(4, seed=1))
    run, resumed = (Lockstep(study, AdapterStack(tiny, len(study.arms), rank=4, alpha=8), prepared) for _ in range(2))
    assert run.alive == resumed.alive == [1, 2]
    run.plan(4)
    run.done, run.alive = 2, [1]
    run.scale.value, run.scale.steps_without_overflow = 512.0, 7
    checkpoint.save(run, tmp_path)
    checkpoint.restore(resumed, tmp_path)
    assert (resumed.done, resumed.alive) == (2, [1])
    assert (resumed.scale.value, resumed.scale.steps_without_overflow) == (512.0, 7)


def test_the_same_study_is_found_again_and_another_is_not(study: StudySettings) -> None:
    record = create(study, owner="ann")
    assert find_same(study, "ann") == record
    assert find_same(study, "ben") is None
    assert find_same(study.model_copy(update={"seed": 7}), "ann") is None


def test_a_run_is_bit_identical_when_resumed_whatever_its_noise_dropout_and_schedule(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    study = StudySettings(
        training=TrainingSettings(
            steps=8, evaluations=2, learning_rate=5e-2, lora_dropout=0.2, model_dropout=0.1, accumulation=2
        ),
        noise=(
            NoiseSettings(strength=1, schedule="adaptive"),
            NoiseSettings(strength=1, kind="symmetric", schedule="cosine", equal_energy=True),
            NoiseSettings(strength=1, kind="adversarial", sites="embedding, 1"),
            NoiseSettings(strength=0.3, unit="share", kind="token-dropout"),
        ),
        methods=(MethodSettings(lora_dropout=0.5, weight_decay=0.1),),
    )
    prepared = SimpleNamespace(train=random_rows(2) * 6, held_out=random_rows(4, seed=1))  # two rows are soon learnt

    def fresh() -> Lockstep:
        return Lockstep(study, AdapterStack(tiny, len(study.arms), rank=4, alpha=8), prepared)

    unbroken, broken_off, resumed = fresh(), fresh(), fresh()
    expected = list(unbroken.run(lambda: False))
    for event in broken_off.run(lambda: False):
        if (event["event"], event["step"]) == ("step", 6):
            break
    checkpoint.save(broken_off, tmp_path)
    checkpoint.restore(resumed, tmp_path)
    assert resumed.noise.at(7, [2])[2].multiplier < 1
    assert list(resumed.run(lambda: False)) == [event for event in expected if event["step"] > 6]
    for one, other in zip(resumed.stack.parameters(), unbroken.stack.parameters(), strict=True):
        assert torch.equal(one, other)
