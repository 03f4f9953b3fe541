"""Hostile records: every part is limited in size, and an invalid field affects nothing else."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from neftune_core.bounded_io import read_toml
from neftune_core.errors import DoesNotFit, InvalidSetting, LabError, RecordError
from neftune_core.export.archive import import_record
from neftune_core.export.importing import RECORD_FILES
from neftune_core.home import assets
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.records import owners, removal, schema
from neftune_core.studies.records.integrity import damages
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import Record, create, find, owned_records
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.ui.parts.study_views import STUDY_VIEWS, curves_of
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import state_text
from neftune_core.ui.tabs import runs_tab

ANN, BEN = "key-of-ann", "key-of-ben"
ID = "20260101-000000-abcdef"
ABOUT = {"format": 1, "owner": "", "created": 1.7e9}
STEP = {"event": "step", "time": 1.7e9, "seed": 0, "step": 1, "steps": 2, "arms": {"control": {"loss": 1.5}}}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))


def zipped(folder: Path, name: str = ID, **changed: bytes) -> Path:
    """Return a zip file of a record with some parts replaced."""
    usual = {
        "study.toml": to_toml(EXAMPLE).encode(),
        "record.json": json.dumps(ABOUT).encode(),
        "events.jsonl": json.dumps(STEP).encode() + b"\n",
    }
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in (usual | changed).items():
            archive.writestr(f"{name}/{part}", content)
    return path


def refusal(path: Path, folder: Path) -> str:
    with pytest.raises(LabError) as found:
        import_record(path, ANN, folder=folder / "runs")
    assert list((folder / "runs").iterdir()) == []
    assert len(str(found.value)) < 400
    return str(found.value)


NESTED = b'{"event": "step", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}\n"
MEASURED = """
import resource, sys
from pathlib import Path
from neftune_core.export.archive import import_record
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    import_record(Path(sys.argv[1]), "key", folder=Path(sys.argv[2]))
except Exception as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("record.json", b'{"format": 1, "x": [' + b"{}," * 30_000_000 + b"0]}", "larger than the maximum of 256 kB"),
        ("events.jsonl", b'{"event": "x", "y": [' + b"[]," * 5_000_000 + b"0]}\n", ""),  # too long to be an event
        ("events.jsonl", b'{"event": ""}\n' * 1_500_000, "too many values"),
        ("events.jsonl", b"\n" * 20_000_000, "too many values"),
        ("answers.jsonl", b'{"prompt": "", "arms": {"a": [' + b"[]," * 5_000_000 + b"0]}}\n", "too many values"),
        ("examples.jsonl", b'{"kind": "rows", "samples": [' + b"[]," * 5_000_000 + b"0]}\n", "too many values"),
        ("metrics.json", b'{"seeds": {"0": [' + b"[]," * 1_200_000 + b"0]}}", "too many values"),
    ],
    ids=["record", "one event", "events", "empty lines", "answers", "row measures", "metrics"],
)
def test_a_part_made_to_exhaust_memory_costs_the_server_none(
    tmp_path: Path, part: str, content: bytes, words: str
) -> None:
    path = zipped(tmp_path, **{part: content})
    assert path.stat().st_size < 1_000_000
    command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "runs")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout.splitlines()
    assert int(said[-1]) < 60  # MB: the parent neither unpacks nor parses
    assert len(said) == 1 + bool(words)
    assert words in said[0]


def test_a_log_made_to_exhaust_memory_is_read_within_limits(tmp_path: Path) -> None:
    record = create(EXAMPLE, ANN)
    record.update_about(imported=True)
    (record.folder / "events.jsonl").write_bytes(b'{"event": "", "x": [' + b"[]," * 300_000 + b"0]}\n")
    with (record.folder / "events.jsonl").open("ab") as file:
        for _ in range(40):
            file.write(b'{"event": "y", "x": [' + b"[]," * 300_000 + b"0]}\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log = record.log()
    assert len(log.read()) <= 2
    assert log.cut
    assert any("log is too large" in words for words in damages(record, log))
    assert log.read() is log.events  # and is not read again
    of_record(record)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200  # MB


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 20_000) + " = 1",
        ".".join(['"a b"'] * 20_000) + " = 1",
        " . ".join(["a"] * 20_000) + " = 1",
        "[" + ".".join(["a"] * 20_000) + "]",
        "x = " + "[" * 20_000 + "]" * 20_000,
        "x = " + "{a = " * 9_000 + "1" + "}" * 9_000,
        "x = " + "1" * 5_000,
        "a" * 300_000,
        '"' * 200_000,
        "'''" * 60_000,
        '"""' + "\\" * 100_001,
    ],
)
def test_toml_made_to_exhaust_time_gets_a_sentence_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidSetting) as found:
        read_toml(text)
    assert time.perf_counter() - started < 2  # seconds; hundredths where nothing else runs
    assert len(str(found.value)) < 300


def test_usual_toml_is_read_as_it_is() -> None:
    text = 'a.b = [0.1, 0.2, 0.3]\nwords = "' + "One. " * 50 + '" # ' + "x." * 50 + "\n[c.d]\ne = '''\n[[[[\n'''\n"
    assert read_toml(text)["a"] == {"b": [0.1, 0.2, 0.3]}
    assert from_toml(StudySettings, to_toml(EXAMPLE, comments=True)) == EXAMPLE


def test_a_deeply_nested_event_is_not_an_event(tmp_path: Path) -> None:
    there = import_record(
        zipped(tmp_path, **{"events.jsonl": NESTED + json.dumps(STEP).encode() + b"\n"}), ANN, folder=tmp_path / "runs"
    )
    log = there.log()
    assert [event["step"] for event in log.read()] == [1]
    assert log.skipped == 1


def test_a_list_reads_no_record_of_anybody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = create(EXAMPLE, ANN)
    for number in range(5):
        other = tmp_path / f"2026010{number + 1}-000000-abcdef"
        other.mkdir()
        with (other / "record.json").open("wb") as file:
            file.write(json.dumps(ABOUT | {"owner": owner_hash(BEN)}).encode())
            file.truncate(3_000_000_000)  # mostly a hole
    assert owned_records(ANN) == [mine]
    read = []
    monkeypatch.setattr(owners, "about_of", lambda path: read.append(path) or schema.about_of(path))
    assert owned_records(ANN) == [mine]
    assert read == []
    mine.update_about(owner=owner_hash(BEN))
    assert owned_records(ANN) == []
    assert read == [mine.folder / "record.json"]


def test_what_a_killed_import_left_is_removed_and_one_under_way_is_not(tmp_path: Path) -> None:
    left, busy = tmp_path / "runs" / ".import-one", tmp_path / "runs" / ".import-two"
    for folder in (left, busy):
        folder.mkdir(parents=True)
    with Record(busy).claimed():
        removal.sweep(Limits())
        assert not left.exists()
        assert busy.exists()
    removal.sweep(Limits())
    assert not busy.exists()


def test_imports_count_as_the_visitors_disk(tmp_path: Path) -> None:
    limits = Limits(visitor_gigabytes=0.001)
    rows = {"data/source/rows.jsonl": os.urandom(400_000)}
    came = []
    with pytest.raises(DoesNotFit, match="MB that are available"):
        for number in range(4):
            path = zipped(tmp_path, f"2026010{number + 1}-000000-abcdef", **rows)
            came.append(import_record(path, ANN, limits))
    assert len(came) == 2
    assert import_record(path, BEN, limits).belongs_to(BEN)


WRONG: list[dict[str, Any]] = [
    {"created": 1e300},
    {"created": -1e300},
    {"created": "yesterday"},
    {"model": {"precision": "int3"}},
    {"model": {"name": ["x"]}},
    {"model": 7},
    {"data": {"train": "many", "title": 5}},
    {"data": {"train": 10**30}},
    {"samples": {"train_loss": 5}},
    {"sample_sizes": {"train_loss": "many"}},
    {"arms": {"control": 3}},
    {"question": {"measure": []}},
    {"machine": {"memory_bytes": 1e300}},
    {"format": "x"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_field_is_left_out_and_named_and_its_record_stays_listed(tmp_path: Path, wrong: dict[str, Any]) -> None:
    lab = Lab()
    good, bad = create(EXAMPLE, ANN), create(EXAMPLE, ANN)
    about = {**ABOUT, "owner": owner_hash(ANN), **wrong}
    (bad.folder / "record.json").write_text(json.dumps(about), encoding="utf-8")
    rows = [runs_tab.list_entry(lab, record) for record in owned_records(ANN)]
    assert {row["id"] for row in rows} == {good.id, bad.id}
    log = bad.log()
    state_text(bad, of_record(bad), log)
    assert damages(bad, log)
    with pytest.raises(LabError):
        import_record(zipped(tmp_path, **{"record.json": json.dumps(about).encode()}), ANN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 10**30},
        {"steps": 1e300},
        {"seed": 10**30},
        {"time": 1e300},
        {"tokens": "x"},
        {"learning_rate": "x"},
        {"arms": {"control": {"loss": 10**30}}},
        {"arms": {"control": {"gradient_norm": "x"}}},
        {"arms": {"control": []}},
        {"event": ["step"]},
        {"event": {}},
        {"message": 5},
        {"steps": None},
        {"tokens": None},
    ],
    ids=str,
)
def test_a_wrong_number_in_an_event_leaves_the_figures(tmp_path: Path, wrong: dict[str, Any]) -> None:
    record = create(EXAMPLE, ANN)
    with (record.folder / "events.jsonl").open("w", encoding="utf-8") as file:
        for event in (STEP, {**STEP, "step": 2, **wrong}):
            file.write(json.dumps(event) + "\n")
    log = record.log()
    assert len(log.read()) == 1
    assert log.skipped == 1
    for view in STUDY_VIEWS:
        assert curves_of(record, log.events, view)
    assert runs_tab.list_entry(Lab(), record)["word"] == "Interrupted"


@pytest.mark.parametrize(
    "answer", [{"text": "x", "tokens": 10**30}, {"text": "x", "tokens": 1, "repetition": "x"}, {"text": 1, "tokens": 1}]
)
def test_a_wrong_answer_is_left_out(tmp_path: Path, answer: dict[str, Any]) -> None:
    record = create(EXAMPLE, ANN)
    right = {"prompt": "p", "arms": {"control": {"text": "x", "tokens": 1}}}
    lines = [right, {"prompt": "p", "arms": {"control": answer}}]
    (record.folder / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert record.answers() == [right]
    assert "p" in runs_tab.results_of(Lab(), record, next(iter(STUDY_VIEWS)))[1]


@pytest.mark.parametrize("line", [b"{}\n", b"\n"])
def test_many_lines_that_are_no_answers_are_given_up_soon(
    tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = line * 500_000
    (tmp_path / "answers.jsonl").write_bytes(answers)
    looked_at: list[bytes] = []
    monkeypatch.setattr(schema, "answer_of", looked_at.append)
    assert schema.read_answers(tmp_path / "answers.jsonl") == []
    assert len(looked_at) <= schema.ANSWERS_VALUES / schema.VALUES_AN_ANSWER < 500_000
    monkeypatch.undo()
    assert "too many values" in refusal(zipped(tmp_path, **{"answers.jsonl": answers}), tmp_path)


def test_a_row_that_cannot_be_made_gives_the_reason_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = create(EXAMPLE, ANN), create(EXAMPLE, ANN)
    usual = runs_tab.when

    def broken(record: Record) -> str:
        if record == first:
            raise OverflowError("timestamp out of range")
        return usual(record)

    monkeypatch.setattr(runs_tab, "when", broken)
    rows = {record: runs_tab.list_entry(Lab(), record) for record in (first, second)}
    assert rows[first]["word"] == "Unreadable"
    assert "internal error" in rows[first]["about"]
    assert rows[second]["word"] == "Interrupted"


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 8 + b"{}", (2).to_bytes(8, "little") + b"{}" + b"left over"])
def test_a_damaged_adapter_is_refused(tmp_path: Path, content: bytes) -> None:
    weights = {"arms/control/seed-0/adapter_model.safetensors": content}
    assert "damaged" in refusal(zipped(tmp_path, **weights), tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_damaged_adapter_that_is_asked_gets_a_sentence(tmp_path: Path, content: bytes) -> None:
    from neftune_core.engine.saving import ADAPTER, read_adapter

    (tmp_path / ADAPTER).write_bytes(content)
    with pytest.raises(RecordError, match="cannot be read"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "data/source/-rf",
        "data/source/.hidden",
        "data/source/..",
        "data/source/_rows",
        "arms/-x/seed-0/adapter_config.json",
        "arms/../seed-0/adapter_config.json",
        "arms/.x/seed-0/adapter_config.json",
        "arms/control/seed-0/_.json",
    ],
)
def test_a_name_in_an_archive_begins_with_a_letter_or_digit(tmp_path: Path, name: str) -> None:
    assert "does not belong" in refusal(zipped(tmp_path, **{name: b"x"}), tmp_path)


def test_rows_with_a_chinese_name_travel() -> None:
    assert RECORD_FILES.fullmatch("data/source/数据集.jsonl")


def test_recorded_studies_of_before_are_read_whole() -> None:
    folders = [path.parent for path in assets().glob("**/record.json")]
    assert len(folders) > 30
    for folder in folders:
        record, log = Record(folder), Record(folder).log()
        assert record.read_about()[1] == []
        assert len(log.read()) > 1
        assert not log.skipped
    for path in assets().glob("**/answers.jsonl"):
        assert len(Record(path.parent).answers()) == len(path.read_bytes().splitlines()) > 0
    for path in assets().glob("**/metrics.json"):
        assert schema.metrics_of(path).keys() == json.loads(path.read_bytes())["seeds"].keys()


def test_a_record_that_came_in_is_found_and_its_owner_is_distinguished(tmp_path: Path) -> None:
    there = import_record(zipped(tmp_path), ANN)
    assert find(ID, ANN) == there
    with pytest.raises(RecordError):
        find(ID, BEN)
    assert there.is_owned
