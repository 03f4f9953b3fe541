"""The board of a class: right numbers, no texts, and no more work than twice a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from owned_study import owned_study

from neftune_core.figures.class_overlay import class_curves, class_differences
from neftune_core.studies.sharing import classes
from neftune_core.studies.sharing.classes import find_class, join_class, make_class
from neftune_core.ui.sharing import class_view
from neftune_core.ui.sharing.class_view import ClassBoards, class_study

TEACHER, ANN, BEN = "f0" * 32, "a1" * 32, "b2" * 32


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a class of Ann and Ben, each with one study."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    made = make_class(TEACHER)
    for key in (ANN, BEN):
        join_class(made, key)
        owned_study(tmp_path / "runs", key)
    return made


def test_curves_and_differences_are_those_of_the_log(code: str) -> None:
    ((number, record), _) = find_class(code).records()
    study = class_study(number, record)
    measured = [event for event in record.events() if event["event"] == "evaluated"]
    for arm in study.arms:
        known = [(one["step"], one["arms"][arm]["held_out_loss"]) for one in measured if arm in one["arms"]]
        assert list(zip(*study.curves[arm], strict=True)) == known
    last = measured[-1]["arms"]
    for arm, difference in study.differences.items():
        assert difference == pytest.approx(last[arm]["held_out_loss"] - last["control"]["held_out_loss"], abs=1e-9)
    assert set(study.differences) == {"uniform-alpha-5", "uniform-alpha-15"}


def test_the_figures_have_a_curve_and_a_point_of_every_study_and_no_text(code: str) -> None:
    board = ClassBoards().of(find_class(code))
    assert (board.students, len(board.studies), board.over, board.unmeasured) == (2, 2, 2, 0)
    curves, differences = class_curves(board.studies), class_differences(board.studies)
    assert len(curves["data"]) == 2 * 3
    assert sum(trace["showlegend"] for trace in curves["data"]) == 3
    assert len({trace["uid"] for trace in curves["data"]}) == 2 * 3
    points = [trace for trace in differences["data"] if trace["mode"] == "markers"]
    assert [len(trace["y"]) for trace in points] == [2, 2]
    assert "on average in 2 studies" in differences["summary"]
    (_, record), _ = find_class(code).records()
    said = json.dumps([curves, differences])
    for answer in record.answers():
        assert answer["prompt"] not in said
    assert record.id not in said
    assert record.study.title not in said


def test_a_board_is_made_at_most_twice_a_second_and_a_study_is_read_once(
    code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    boards, now, read = ClassBoards(), [0.0], []
    monkeypatch.setattr(class_view.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        class_view, "class_study", lambda number, record: (read.append(record), class_study(number, record))[1]
    )
    first = boards.of(find_class(code))
    assert len(read) == 2
    owned_study(tmp_path / "runs", ANN)
    now[0] = 0.49
    assert boards.of(find_class(code)) is first
    now[0] = 0.5
    second = boards.of(find_class(code))
    assert (len(second.studies), len(read)) == (3, 3)
    assert second.version != first.version
    now[0] = 1.0
    assert boards.of(find_class(code)).version == second.version
    assert boards.shown(code, first.version) is first
    boards._shown.most = 1
    now[0] = 2.0
    boards.of(find_class(code))
    assert boards.shown(code, first.version) is None


def test_what_a_class_shows_is_at_most_two_seconds_old() -> None:
    on_the_way = 0.5
    assert class_view.BOARD_SECONDS + class_view.SECONDS + on_the_way <= 2.0


def test_a_damaged_study_leaves_the_others(code: str) -> None:
    (_, record), _ = find_class(code).records()
    (record.folder / "events.jsonl").write_bytes(b"\xff\x00{")
    board = ClassBoards().of(find_class(code))
    assert (len(board.studies), board.unmeasured) == (1, 1)


def test_students_and_studies_of_a_class_without_any_are_none(code: str) -> None:
    assert classes.find_class(code).is_of(TEACHER)
    assert class_differences([])["summary"] == "No study of the class has finished yet."
    assert class_curves([])["data"] == []
