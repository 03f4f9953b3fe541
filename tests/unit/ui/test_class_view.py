"""The class of a link: what its teacher, its students and others see, and no guessing of codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from owned_study import owned_study

from neftune_core.settings import Limits
from neftune_core.studies.records.record import asked_from
from neftune_core.studies.sharing.classes import find_class, join_class, make_class
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.sharing import class_view

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # how a sentence is shown where there is no page

TEACHER, ANN, BEN = "f0" * 32, "a1" * 32, "b2" * 32
NOTHING = {"__type__": "update"}
BUTTONS = ("join", "show", "hide", "leave", "end")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a function of the class by name; return its answer."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    return functions_of(Limits())


def functions_of(limits: Limits) -> Callable[..., Any]:
    with gr.Blocks(analytics_enabled=False) as blocks:
        class_view.build(Lab(limits), gr.Textbox())

    def call(name: str, *values: Any) -> Any:
        return next(found for found in blocks.fns.values() if found.name == name).fn(*values)

    return call


def offered(shown: list[Any]) -> set[str]:
    """Return the names of the visible buttons."""
    return {name for name, update in zip(BUTTONS, shown[4:9], strict=True) if update["visible"]}


def test_teacher_student_and_others_have_their_own_buttons(call: Callable[..., Any]) -> None:
    code = make_class(TEACHER)
    assert offered(call("open_class", TEACHER, code)) == {"hide", "end"}
    shown = call("open_class", ANN, code)
    assert offered(shown) == {"join", "show"}
    assert "under a number" in shown[3]
    assert shown[1] == ""  # the browser keeps the code of who has joined
    shown = call("join", ANN, code)
    assert (offered(shown), shown[1]) == ({"show", "leave"}, code)
    assert call("end", ANN, code) == NOTHING  # a sentence
    assert find_class(code).student(ANN) is not None
    assert offered(call("leave", ANN, code)) == {"join", "show"}
    shown = call("end", TEACHER, code)
    assert (offered(shown), "has ended" in shown[3]) == (set(), True)


def test_an_address_opens_so_many_classes_a_minute(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked_from.set("192.0.2.1")
    for _ in range(class_view.LOOKS_A_MINUTE):
        assert "There is no class" in call("open_class", ANN, "ABCDEF")[3]
    assert call("open_class", ANN, "ABCDEF") == NOTHING  # a sentence
    asked_from.set("192.0.2.2")
    assert "There is no class" in call("open_class", ANN, "ABCDEF")[3]
    asked_from.set("")


def test_a_board_that_was_never_opened_is_not_read_and_one_that_ended_stops(call: Callable[..., Any]) -> None:
    code = make_class(TEACHER)
    assert call("update", "", "")[0] == NOTHING
    first = call("update", code, "")
    assert "<b>0</b> students" in first[0]
    assert call("update", code, first[1]["tag"])[:3] == [NOTHING] * 3
    call("end", TEACHER, code)
    assert call("update", code, first[1]["tag"])[-1].active is False


def test_a_page_gets_what_is_new_and_one_that_missed_something_gets_all(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_view, "BOARD_SECONDS", 0.0)
    code = make_class(TEACHER)
    for key in (ANN, BEN):
        join_class(code, key)
        record = owned_study(tmp_path / "runs", key)
    _, whole, _, _ = call("update", code, "")
    last = [event for event in record.events() if event["event"] == "evaluated"][-1]
    record.append({**last, "step": last["step"] + 1})
    _, news, differences, _ = call("update", code, whole["tag"])
    assert news["since"] == differences["since"] == whole["tag"]
    assert news["rest"]["tag"] != whole["tag"]
    changed = [one for one in news["traces"].values() if one.get("lists")]
    assert len(changed) == 3, "the three curves of one study have a new point"
    assert all(len(more) == 1 for one in changed for _, more in one["lists"].values())
    assert len(json.dumps(news)) < len(json.dumps(whole)) / 3
    owned_study(tmp_path / "runs", ANN)  # the newest comes first, and only it is sent whole
    _, more, _, _ = call("update", code, news["rest"]["tag"])
    assert sum("whole" in one for one in more["traces"].values()) == 3
    for unknown in ("", "12", "no number"):
        assert call("update", code, unknown)[1]["data"]


def test_a_host_without_sharing_has_no_classes(call: Callable[..., Any]) -> None:
    code = make_class(TEACHER)
    assert "does not let visitors share" in functions_of(Limits(sharing=False))("open_class", ANN, code)[3]
