"""The measures of single rows travel with a record, and hostile ones break no verdict."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from owned_study import six_seed_study

from neftune_core.errors import LabError
from neftune_core.evaluation.outcomes import EPOCHS, Question
from neftune_core.evaluation.verdict import Verdict
from neftune_core.export import archive
from neftune_core.export.archive import import_record, pack_record
from neftune_core.export.study_report import study_content
from neftune_core.home import assets
from neftune_core.studies.judging import outcomes_of, overlaps_of, verdict_of
from neftune_core.studies.records import schema
from neftune_core.studies.records.numbers import EXAMPLES, answer_scores, rows_by_step
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.results import mean_results, measured_rows
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.parts.verdict_card import evidence_of, verdict_card

MEASURES = ("held_out_loss", "exact", "train_loss", "right", "bleu", "memorised_rouge_l", "tokens")
QUESTIONS = [Question(measure, epoch) for measure in MEASURES for epoch in EPOCHS]
HALVES, SAME_ROWS = "on one half of the held-out rows", "is optimistic for every arm"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return six_seed_study(tmp_path_factory.mktemp("runs"), "key")


@pytest.fixture(scope="module")
def packed(original: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_record(original, tmp_path_factory.mktemp("zip") / "record.zip")


@pytest.fixture
def imported(packed: Path, tmp_path: Path) -> Record:
    return import_record(packed, "another key", folder=tmp_path / "runs")


def verdicts(record: Record) -> list[Verdict]:
    return [verdict_of(record, question) for question in QUESTIONS]


def test_an_imported_record_has_the_verdict_and_evidence_of_the_original(original: Record, imported: Record) -> None:
    assert (imported.folder / EXAMPLES).read_bytes() == (original.folder / EXAMPLES).read_bytes()
    for here, there in zip(verdicts(original), verdicts(imported), strict=True):
        assert there.text() == here.text()
        assert str(there.arms) == str(here.arms)  # as text, because NaN differs from itself
    assert any(arm.examples for arm in verdict_of(imported).arms.values())
    assert HALVES in verdict_of(imported).text()
    assert outcomes_of(imported).halves
    assert overlaps_of(imported) == overlaps_of(original) != {}
    assert evidence_of(imported) == evidence_of(original)
    assert measured_rows(imported) == measured_rows(original)


def test_a_record_exported_without_row_measures_says_what_it_lacks(packed: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.zip"
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(before, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(EXAMPLES):
                target.writestr(entry, source.read(entry))
    there = import_record(before, "", folder=tmp_path / "runs")
    assert SAME_ROWS in verdict_of(there).text()
    assert not any(arm.examples for arm in verdict_of(there).arms.values())


def test_row_measures_too_large_to_import_are_not_exported(
    original: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "EXAMPLES_BYTES", (original.folder / EXAMPLES).stat().st_size - 1)
    smaller = pack_record(original, tmp_path / "smaller.zip")
    assert f"{original.id}/{EXAMPLES}" not in zipfile.ZipFile(smaller).namelist()
    assert import_record(smaller, "", folder=tmp_path / "runs").id == original.id


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n" * 20_001, "too many values"),
        (b"[" + b"0," * 1_000_000, "too many values"),
        (b" " * (schema.EXAMPLES_BYTES + 1), "larger than the maximum of 32,000 kB"),
    ],
    ids=["empty lines", "values", "bytes"],
)
def test_row_measures_over_the_limits_are_refused(packed: Path, tmp_path: Path, content: bytes, words: str) -> None:
    with (
        zipfile.ZipFile(packed) as source,
        zipfile.ZipFile(tmp_path / "large.zip", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry, content if entry.filename.endswith(EXAMPLES) else source.read(entry))
    with pytest.raises(LabError, match=words):
        import_record(tmp_path / "large.zip", "", folder=tmp_path / "runs")


Line = dict[str, Any]


def _changed(change: Callable[[str, list[Any]], list[Any]]) -> Callable[[list[Line]], list[Line]]:
    """Return a function that changes every list of numbers, given its place such as `held_out/arms/control/loss`."""

    def of(value: Any, place: str = "") -> Any:
        if isinstance(value, dict):
            return {key: of(inner, f"{place}/{key}") for key, inner in value.items()}
        return change(place, value) if isinstance(value, list) else value

    return lambda lines: [of(line) for line in lines]


def _same(value: Any, part: str = "") -> Callable[[list[Line]], list[Line]]:
    return _changed(lambda place, numbers: [value] * len(numbers) if part in place else numbers)


def _with(**fields: Any) -> Callable[[list[Line]], list[Line]]:
    return lambda lines: [{**line, **fields} for line in lines]


def _without(arm: str) -> Callable[[list[Line]], list[Line]]:
    def of(value: Any) -> Any:
        return {key: of(inner) for key, inner in value.items() if key != arm} if isinstance(value, dict) else value

    return lambda lines: [of(line) for line in lines]


def _two_hundred_arms(lines: list[Line]) -> list[Line]:
    kept = lines[1]["samples"]["held_out"]["arms"]["control"]
    arms = {f"arm {number}": kept for number in range(199)} | {"control": kept}
    return [{**line, "samples": {"held_out": {"tokens": kept["hits"], "arms": arms}}} for line in lines]


WRONG: dict[str, Callable[[list[Line]], list[Line]]] = {
    "no rows": _changed(lambda place, numbers: []),
    "two columns": _changed(lambda place, numbers: [[number, number] for number in numbers]),
    "strings": _same("1.5"),
    "booleans": _same(True),
    "whole numbers out of range": _same(10**30),
    "numbers out of range": _same(1e300),
    "negative tokens": _same(-1, "tokens"),
    "text as seed": _with(seed="61"),
    "boolean as seed": _with(seed=True),
    "huge seed": _with(seed=10**30),
    "another kind": _with(kind=["rows"]),
    "samples as list": _with(samples=[]),
    "sample without content": _with(samples={"held_out": {}}),
    "long name": lambda lines: [{**line, "samples": {"x" * 300: {}} | line["samples"]} for line in lines],
}
ODD: dict[str, Callable[[list[Line]], list[Line]]] = {
    "one row": _changed(lambda place, numbers: numbers[:1]),
    "fewer rows of the control": _changed(lambda place, numbers: numbers[: 5 if "control" in place else None]),
    "fewer rows of one step": lambda lines: [*_changed(lambda place, numbers: numbers[:5])(lines[:2]), *lines[2:]],
    "no control": _without("control"),
    "no arms": _without("arms"),
    "two hundred arms": _two_hundred_arms,
    "nothing": _same(None),
    "huge losses": _same(1e100, "loss"),
    "huge scores": _same(1e9, "scores"),
    "huge tokens": _same(1e9, "tokens"),
    "tiny tokens": _same(1e-300, "tokens"),
    "tiny scores": _same(5e-324, "scores"),
    "no tokens": _same(0, "tokens"),
    "fraction as step": _with(step=0.5),
    "negative step": _with(step=-1),
}


def judged(record: Record) -> list[str]:
    """Return what every reader of the row measures makes of a record, within seconds."""
    started = time.perf_counter()
    texts = [found.text() for found in verdicts(record)]
    overlaps_of(record), mean_results(record), measured_rows(record), study_content(record)
    assert "cannot be read" not in verdict_card(record)
    assert time.perf_counter() - started < 30
    return texts


@pytest.fixture(scope="module")
def absent(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the verdicts without row measures."""
    there = import_record(packed, "", folder=tmp_path_factory.mktemp("absent"))
    (there.folder / EXAMPLES).unlink()
    return judged(there)


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_wrong_row_measures_count_as_absent(
    imported: Record, absent: list[str], change: Callable[[list[Line]], list[Line]]
) -> None:
    _rewrite(imported, change)
    assert judged(imported) == absent


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_row_measures_are_judged(imported: Record, change: Callable[[list[Line]], list[Line]]) -> None:
    _rewrite(imported, change)
    judged(imported)


def test_a_repeated_line_counts_once(original: Record, imported: Record) -> None:
    _rewrite(imported, lambda lines: lines * 2)
    assert judged(imported) == [found.text() for found in verdicts(original)]


def _rewrite(record: Record, change: Callable[[list[Line]], list[Line]]) -> None:
    path = record.folder / EXAMPLES
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    path.write_text("\n".join(map(json.dumps, change(lines))), encoding="utf-8")


@pytest.mark.parametrize(
    "junk",
    [
        b"\n" * 5_000,
        b"{}\n" * 2_000,
        b"[" * 100_000 + b"\n",
        b'{"kind": "' + b"x" * 1_000_000 + b'"}\n',
        b"\xff\0\n",
        b"NaN\n",
    ],
    ids=["empty", "objects", "deep", "long", "bytes", "NaN"],
)
def test_lines_that_are_no_measures_are_ignored(original: Record, imported: Record, junk: bytes) -> None:
    path = imported.folder / EXAMPLES
    path.write_bytes(junk + path.read_bytes() + junk)
    assert judged(imported) == [found.text() for found in verdicts(original)]


def test_row_measures_are_read_up_to_the_limits(tmp_path: Path) -> None:
    record = create(EXAMPLE, "", folder=tmp_path)
    line = b'{"kind": "rows", "seed": 0, "step": 1, "samples": {}}\n'
    (record.folder / EXAMPLES).write_bytes(b"\n" * 20_000 + line)
    assert rows_by_step(record) == {(0, 1): {}}  # its own measures have no such limit
    record.update_about(imported=True)
    assert rows_by_step(record) == {}
    assert schema.fits_import(record.folder / EXAMPLES, schema.EXAMPLES_BYTES) is False


def test_row_measures_of_before_are_read_whole() -> None:
    paths = list(assets().glob(f"**/{EXAMPLES}"))
    assert len(paths) > 30
    for path in paths:
        lines = list(map(json.loads, path.read_bytes().splitlines()))
        record = Record(path.parent)
        steps = {(line["seed"], line["step"]): line["samples"] for line in lines if line["kind"] == "rows"}
        assert {
            key: {name: [*arms] for name, arms in found.items()} for key, found in rows_by_step(record).items()
        } == {key: {name: [*sample["arms"]] for name, sample in samples.items()} for key, samples in steps.items()}
        for line in (line for line in lines if line["kind"] == "answers"):
            found = answer_scores(record)[line["seed"]]
            stored = {part: sample["scores"] for part, sample in line["samples"].items()}
            assert {part: {arm: [*kept] for arm, kept in arms.items()} for part, arms in found.items()} == {
                part: {arm: [*kept] for arm, kept in arms.items()} for part, arms in stored.items()
            }
