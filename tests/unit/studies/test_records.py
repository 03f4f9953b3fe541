"""A record on disk: its log while growing and after damage, its removal, and retention on a host."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from neftune_core.commands import records
from neftune_core.durable import write_whole
from neftune_core.errors import DoesNotFit, RecordError
from neftune_core.home import remove_models, storage
from neftune_core.settings import Limits
from neftune_core.studies.records import removal
from neftune_core.studies.records.integrity import damages
from neftune_core.studies.records.log import Log, RecentLogs, append
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import Record, create, find, owned_records
from neftune_core.studies.settings import EXAMPLE
from neftune_core.sweeps.queue import LabJobs

ANN, BEN = "key-of-ann", "key-of-ben"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))


def _step(number: int, seed: int = 0) -> dict[str, object]:
    return {"event": "step", "seed": seed, "step": number, "steps": 9, "arms": {"control": {"loss": 1.5}}}


def _damages(record: Record) -> list[str]:
    log = record.log()
    log.read()
    return damages(record, log)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Return a record with three steps in its log."""
    made = create(EXAMPLE, ANN)
    for event in ({"event": "started", "seed": 0, "steps": 9}, *map(_step, (1, 2, 3))):
        made.append(event)
    return made


def test_a_log_is_read_from_where_it_was_left_off(record: Record) -> None:
    log = record.log()
    assert len(log.read()) == 4
    record.append(_step(4))
    before = log.events
    assert [event.get("step") for event in log.read()] == [None, 1, 2, 3, 4]
    assert len(before) == 4  # what a reader holds does not grow under it


def test_a_log_that_was_cut_back_is_read_again(record: Record) -> None:
    log = record.log()
    log.read()
    assert record.rewind(0, 2) == set()
    for number in (3, 4, 5):
        record.append(_step(number))
    assert [event.get("step") for event in log.read()] == [None, 1, 2, 3, 4, 5]
    (record.folder / "events.jsonl").unlink()
    assert log.read() == []


def test_all_readers_of_a_record_share_one_reader_of_its_log(record: Record) -> None:
    first = record.events()
    record.append(_step(4))
    assert Record(record.folder).events()[:4] == first
    assert all(new is old for new, old in zip(record.events(), first, strict=False))  # no line was parsed again
    assert [event.get("step") for event in record.events()] == [None, 1, 2, 3, 4]
    record.rewind(0, 1)
    record.append(_step(2))
    assert [event.get("step") for event in record.events()] == [None, 1, 2]


def test_a_log_that_is_replaced_or_edited_in_place_is_read_again(record: Record) -> None:
    path = record.folder / "events.jsonl"
    assert len(record.events()) == 4
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"step": 2', '"step": 7'), encoding="utf-8")
    assert [event.get("step") for event in record.events()] == [None, 1, 7, 3]
    write_whole(path, text.replace('"step": 2', '"step": 8'))
    record.append(_step(9))
    assert [event.get("step") for event in record.events()] == [None, 1, 8, 3, 9]


def test_the_log_of_an_imported_record_has_its_own_limits_also_in_place_of_another(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_core.studies.records.record.LOG_VALUES", 25)
    assert (len(record.events()), record.read_log().cut) == (4, False)
    record.update_about(imported=True)
    assert (len(record.events()), record.read_log().cut) == (2, True)


@pytest.mark.parametrize(("most", "most_bytes", "made"), [(8, 10_000, 2), (1, 10_000, 4), (8, 150, 3), (0, 0, 4)])
def test_readers_of_logs_are_limited_in_number_and_size(tmp_path: Path, most: int, most_bytes: int, made: int) -> None:
    logs, readers = RecentLogs(most, most_bytes), []
    for name in ("a", "b"):
        append(tmp_path / name, {"event": "started", "text": "x" * 60})
    for name in ("a", "b", "a", "b"):
        readers.append(logs.shared(Log(tmp_path / name)))
        assert [event["event"] for event in readers[-1].read()] == ["started"]
    assert len(set(map(id, readers))) == made


def test_owner_and_status_of_a_record_that_changed_on_disk_are_read_again(record: Record) -> None:
    assert (of_record(record).step, record.belongs_to(ANN), record.belongs_to(BEN)) == (3, True, False)
    record.append(_step(4))
    write_whole(record.folder / "record.json", json.dumps(record.about | {"owner": owner_hash(BEN)}))
    assert (of_record(record).step, record.belongs_to(ANN), record.belongs_to(BEN)) == (4, False, True)
    write_whole(record.folder / "record.json", "[")
    assert (record.belongs_to(ANN), record.belongs_to(BEN), record.belongs_to("")) == (False, False, False)
    for name in ("events.jsonl", "record.json"):
        (record.folder / name).unlink()
    assert (of_record(record).step, record.belongs_to(ANN), record.belongs_to(BEN)) == (0, False, False)


def test_a_rewind_does_not_affect_the_other_seeds(record: Record) -> None:
    for event in ({"event": "answered", "seed": 0}, {"event": "started", "seed": 1}, _step(1, 1), _step(2, 1)):
        record.append(event)
    record.append({"event": "stopped", "seed": 0})
    record.rewind(1, 1)
    kept = [(event["event"], event["seed"], event.get("step")) for event in record.events()]
    assert kept[-3:] == [("answered", 0, None), ("started", 1, None), ("step", 1, 1)]
    record.rewind(1, 0)
    assert {event["seed"] for event in record.events()} == {0}


def test_half_a_line_waits_until_the_rest_follows(record: Record) -> None:
    path = record.folder / "events.jsonl"
    with path.open("ab") as file:
        file.write(b'{"event": "st')
    log = record.log()
    assert len(log.read()) == 4
    append(path, _step(4))  # the disk had been full, and has room again
    assert [event.get("step") for event in log.read()][-1] == 4
    assert log.skipped == 1
    assert _damages(record) == ["One line of the log cannot be read and was skipped."]


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[1]",
        b"NaN",
        b'{"step": 4}',
        b'{"event": "step", "step": "4", "arms": {}}',
        b'{"event": "step", "step": 4}',
        b'{"event": "step", "step": 4, "arms": {"control": {"loss": "low"}}}',
        b'{"event": "step", "step": 4, "arms": {"control": {"loss": NaN}}}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_not_an_event_is_skipped_and_counted(record: Record, line: bytes) -> None:
    path = record.folder / "events.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes() + line + b"\n")
    assert len(record.events()) == 4
    assert _damages(record) == ["2 lines of the log cannot be read and were skipped."]


def test_doubled_lines_count_once(record: Record) -> None:
    path = record.folder / "events.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    record.append(_step(3))  # with a different time
    assert len(record.events()) == 4
    assert _damages(record) == ["5 lines of the log are duplicated and were counted once."]


def test_a_record_of_a_newer_version_is_read_as_far_as_it_goes(record: Record) -> None:
    arms = {"control": {"strength": 0}, "pink-5": {"strength": 5, "kind": "pink", "colour": "pink"}}
    record.update_about(format=2, arms=arms)
    study = record.folder / "study.toml"
    study.write_text("colour = 'pink'\n" + study.read_text(encoding="utf-8"), encoding="utf-8")
    assert list(record.arms) == ["control", "pink-5"]
    assert len(record.events()) == 4
    said = _damages(record)
    assert "newer version" in said[0]
    assert "'colour'" in said[1]
    with pytest.raises(RecordError, match="newer version"):
        record.require_usable()


def test_a_half_deleted_record_is_still_its_owners_and_lists_what_is_missing(record: Record) -> None:
    record.append({"event": "saved", "seed": 0, "arms": {"control": {}}})
    record.append({"event": "answered", "seed": 0, "prompts": 3, "arms": {}})
    (record.folder / "study.toml").unlink()
    assert find(record.id, ANN) == record
    said = " ".join(_damages(record))
    for words in ("settings of record", "weights of control (seed 0) are missing", "answers generated at the end"):
        assert words in said
    (record.folder / "record.json").unlink()
    assert owned_records(ANN) == []


def test_old_records_of_visitors_go_and_those_of_the_command_line_stay(tmp_path: Path) -> None:
    old, new, made = (create(EXAMPLE, owner) for owner in (ANN, ANN, ""))
    running, waiting = create(EXAMPLE, BEN), create(EXAMPLE, BEN)
    for record in (old, made, running, waiting):
        record.append(_step(1))
        long_ago = time.time() - 8 * removal.DAY_SECONDS
        os.utime(record.folder / "events.jsonl", (long_ago, long_ago))
    with running.claimed():
        assert removal.sweep(Limits()) == []
        assert removal.sweep(Limits(record_days=7), {waiting.id}) == [old.id]
    assert not old.folder.exists()
    assert new.folder.exists()
    assert list(removal.remove_old(7)) == sorted((r.id for r in (made, running, waiting)), reverse=True)


def test_a_visitor_over_the_size_loses_the_oldest_and_keeps_the_newest() -> None:
    limits = Limits(visitor_gigabytes=1.5e-3)
    records = {}
    for day in range(1, 5):
        record = create(EXAMPLE, ANN)
        record = Record(record.folder.rename(record.folder.with_name(f"2026010{day}-000000-abcdef")))
        (record.folder / "large").write_bytes(bytes(700_000))
        records[day] = record
    others = create(EXAMPLE, BEN)
    assert sorted(removal.sweep(limits, {records[2].id})) == [records[1].id]
    assert sorted(removal.sweep(limits)) == [records[2].id]
    assert owned_records(ANN) == [records[4], records[3]]
    assert others.folder.exists()
    (records[4].folder / "large").write_bytes(bytes(3_000_000))
    assert removal.sweep(limits) == [records[3].id]
    with pytest.raises(DoesNotFit, match=r"Your records take up 3 MB, more than the 0\.0015 GB allowed per visitor"):
        create(EXAMPLE, ANN, limits)
    assert create(EXAMPLE, BEN, limits).folder.exists()


def test_a_removal_that_was_interrupted_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = create(EXAMPLE, ANN)
    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", lambda *_, **__: None)
        removal.remove(record)
    assert owned_records(ANN) == []
    removal.sweep(Limits())
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_sweep_runs_as_the_queue_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    record = create(EXAMPLE, ANN)
    record.append(_step(1))
    os.utime(record.folder / "events.jsonl", (0, 0))
    LabJobs(Limits(record_days=30))
    assert not record.folder.exists()


def test_storage_is_measured_and_models_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    for name in ("models/one", "models/converted/two", "models/.unfinished-three"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_bytes(bytes(100))
    (tmp_path / "lab.log").write_bytes(bytes(7))
    assert storage() == {"records": 0, "models": 300, "other": 7}
    assert remove_models() == 200
    assert (tmp_path / "models/.unfinished-three/config.json").exists()


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Log(tmp_path / "none").read() == []


def test_the_command_line_lists_and_removes_records(capsys: pytest.CaptureFixture[str]) -> None:
    made, old = create(EXAMPLE, ""), create(EXAMPLE, ANN)
    made.append(_step(1))
    old.append(_step(1))
    os.utime(old.folder / "events.jsonl", (0, 0))
    assert records.runs(records.RunsCommand()) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(made.id))
    assert "Interrupted" in line
    assert "uniform-alpha-5" in line
    assert records.runs(records.RunsCommand(action="remove", record=made.id)) == 0
    assert records.runs(records.RunsCommand(action="clean", days=30)) == 0
    assert not made.folder.exists()
    assert not old.folder.exists()
    assert records.runs(records.RunsCommand(action="clean")) == 1


def test_many_arms_without_weights_are_counted_instead_of_named(record: Record) -> None:
    def said(count: int) -> list[str]:
        record.append({"event": "saved", "seed": 0, "arms": {f"uniform-alpha-{number}": {} for number in range(count)}})
        return [sentence for sentence in _damages(record) if "weights" in sentence]

    assert said(2) == [
        "The weights of alpha 0 (seed 0), alpha 1 (seed 0) are missing, so answers cannot be generated with them."
    ]
    assert said(30) == ["30 sets of trained weights are missing, so answers cannot be generated with them."]
