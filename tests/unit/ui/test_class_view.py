"""The class of a link: what its teacher, its students and others see, and no guessing of codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from neftune_core.settings import Limits
from neftune_core.studies.records.record import asked_from
from neftune_core.studies.sharing.classes import find_class, make_class
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.sharing import class_view

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # how a sentence is shown where there is no page

TEACHER, ANN = "f0" * 32, "a1" * 32
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
    assert call("look", "", 0)[0] == NOTHING
    first = call("look", code, 0)
    assert "<b>0</b> students" in first[1]
    assert call("look", code, first[0])[:4] == [NOTHING] * 4
    call("end", TEACHER, code)
    assert call("look", code, first[0])[-1].active is False


def test_a_host_without_sharing_has_no_classes(call: Callable[..., Any]) -> None:
    code = make_class(TEACHER)
    assert "does not let visitors share" in functions_of(Limits(sharing=False))("open_class", ANN, code)[3]
