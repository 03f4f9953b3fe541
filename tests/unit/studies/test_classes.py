"""Classes: a short code, students under numbers, and only what they started after joining."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from owned_study import owned_study

from neftune_core.durable import write_whole
from neftune_core.errors import RecordError
from neftune_core.studies.sharing import classes
from neftune_core.studies.sharing.classes import (
    CODE,
    MOST_OF_TEACHER,
    end_class,
    find_class,
    join_class,
    leave_class,
    make_class,
)

TEACHER, ANN, BEN = "f0" * 32, "a1" * 32, "b2" * 32


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the records of a new home."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_a_class_shows_what_its_students_started_after_joining_under_their_numbers(runs: Path) -> None:
    before = owned_study(runs, ANN)
    code = make_class(TEACHER)
    assert CODE.fullmatch(code)
    number = join_class(code.lower(), ANN)
    assert join_class(code, ANN) == number  # joining again changes nothing
    mine, others = owned_study(runs, ANN), owned_study(runs, BEN)
    assert find_class(code).records() == [(number, mine)]
    assert join_class(code, BEN) != number
    assert {before, others}.isdisjoint(record for _, record in find_class(code).records())
    leave_class(code, ANN)
    assert find_class(code).records() == []
    assert find_class(code).student(ANN) is None


def test_a_class_keeps_no_key_and_no_study(runs: Path) -> None:
    code = make_class(TEACHER)
    join_class(code, ANN)
    record = owned_study(runs, ANN)
    kept = (runs.parent / "classes" / f"{code}.json").read_text(encoding="utf-8")
    assert all(secret not in kept for secret in (TEACHER, ANN, record.id))


def test_only_its_teacher_ends_a_class_and_its_studies_stay(runs: Path) -> None:
    code = make_class(TEACHER)
    join_class(code, ANN)
    record = owned_study(runs, ANN)
    with pytest.raises(RecordError, match="Only the teacher"):
        end_class(code, ANN)
    end_class(code, TEACHER)
    assert record.folder.is_dir()
    for wrong in (code, "", "../../x", "ABCDE0", "x" * 1000):
        with pytest.raises(RecordError, match="There is no class"):
            find_class(wrong)


def test_classes_students_studies_and_lifetime_are_bounded(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [make_class(TEACHER) for _ in range(MOST_OF_TEACHER)]
    with pytest.raises(RecordError, match=f"You already have {MOST_OF_TEACHER} classes: end one of .*{codes[0]}"):
        make_class(TEACHER)
    monkeypatch.setattr(classes, "MOST_CLASSES", MOST_OF_TEACHER)
    with pytest.raises(RecordError, match="no room for another class"):
        make_class(BEN)
    monkeypatch.setattr(classes, "MOST_STUDENTS", 1)
    monkeypatch.setattr(classes, "MOST_STUDIES", 2)
    join_class(codes[0], ANN)
    with pytest.raises(RecordError, match="full: it has 1 students"):
        join_class(codes[0], BEN)
    for _ in range(3):
        owned_study(runs, ANN)
    assert len(find_class(codes[0]).records()) == 2
    now = time.time()
    for days, is_over in ((6.9, False), (7.1, True)):
        monkeypatch.setattr(classes, "time", SimpleNamespace(time=lambda days=days: now + days * 24 * 3600))
        if is_over:
            with pytest.raises(RecordError, match="the class has ended"):
                find_class(codes[0])
        else:
            assert find_class(codes[0]).code == codes[0]
    assert make_class(BEN)  # those that are over take no room


def test_a_change_waits_for_another_one_and_says_so(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = make_class(TEACHER)
    monkeypatch.setattr(classes, "PATIENCE_SECONDS", 0.1)
    refused: list[Path] = []

    def write(path: Path, text: str) -> None:
        with pytest.raises(RecordError, match="try again in a moment"):
            join_class(code, ANN)
        refused.append(path)
        write_whole(path, text)

    with monkeypatch.context() as during:
        during.setattr(classes, "write_whole", write)
        assert join_class(code, BEN)
    assert len(refused) == 1
    assert join_class(code, ANN)
    assert len(find_class(code).students) == 2
