"""Discarded studies: whose may be discarded, when, and how they are restored."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_study import ANN, BEN, two_arms, until_event

from neftune_core.errors import RecordError
from neftune_core.settings import Limits
from neftune_core.studies.records import removal
from neftune_core.studies.records.record import create, owned_records
from neftune_core.sweeps.queue import LabJobs


def test_a_study_is_discarded_whatever_it_is_doing(rows: Path) -> None:
    jobs = LabJobs(Limits())
    finished = jobs.submit(two_arms(rows), ANN)
    jobs.wait(finished, 120)
    running, waiting = jobs.submit(two_arms(rows, epochs=500), ANN), jobs.submit(two_arms(rows), ANN)
    until_event(running, "step")
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
    record = jobs.submit(two_arms(rows), ANN)
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

    record = create(two_arms(rows), ANN)
    monkeypatch.setattr("neftune_core.sweeps.queue.removal.sweep", late)
    jobs.resume(record.id, ANN)
    jobs.wait(record, 120)
    assert asked == ["discard"]
    assert not record.folder.exists()


def test_what_the_command_line_made_is_not_discarded_from_the_page(rows: Path) -> None:
    record = create(two_arms(rows), owner="")
    with pytest.raises(RecordError, match="runs remove"):
        LabJobs(Limits()).discard(record.id, ANN)
    assert record.folder.exists()
