"""The page looks records up with the visitor's key, and only the command line without one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from neftune_core import ui
from neftune_core.engine.saving import ADAPTER
from neftune_core.errors import RecordError
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.trained.comparison_session import column_id, selected_columns
from neftune_core.sweeps.record import find_study
from neftune_core.ui import page
from neftune_core.ui.server.lab import Lab

ANN, BEN = "a1" * 32, "b2" * 32
KEYS = {"require_key(key)", "require_key(request.key)", "checked_key(key)", "_key(key)", "key", "owner"}
LOOK_UPS = {"find", "find_study"}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Return Ann's study, with a trained control."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    made = create(EXAMPLE, ANN)
    made.arm_folder("control", EXAMPLE.seed).mkdir(parents=True)
    (made.arm_folder("control", EXAMPLE.seed) / ADAPTER).touch()
    return made


def test_every_look_up_of_the_page_has_the_key_of_its_visitor() -> None:
    found = {
        f"{path.name}:{call.lineno}": ast.unparse(call.args[1]) if len(call.args) > 1 else ""
        for path in Path(ui.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in LOOK_UPS
    }
    assert len(found) >= 15
    assert {place: key for place, key in found.items() if key not in KEYS} == {}


BUTTON = "runs-clean-models"


@pytest.mark.parametrize(
    "lab", [Lab(Limits(local_paths=False)), Lab(shared=True), Lab()], ids=["public", "shared", "own"]
)
def test_only_the_page_of_ones_own_machine_removes_its_models(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    model = tmp_path / "models" / "owner--name" / "config.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    functions = page.build(lab).fns.values()
    removing = [found for found in functions if found.name == "remove" and not found.inputs]
    measuring = [found.fn for found in functions if found.name == "measure" and found.outputs[-1].elem_id == BUTTON]
    assert len(removing) == (0 if lab.has_strangers else 2)  # in two languages
    assert {measure(ANN)[1]["visible"] for measure in measuring} == {not lab.has_strangers}
    for found in removing:
        assert not found.fn()[1]["visible"]
    assert model.exists() == lab.has_strangers
    if not lab.has_strangers:  # none is left, so none can be removed
        assert {measure(ANN)[1]["visible"] for measure in measuring} == {False}


def test_columns_of_another_visitors_study_cannot_be_asked(record: Record) -> None:
    column = f"{record.id}/{EXAMPLE.seed}/control"
    (chosen,) = selected_columns([column], ANN)
    assert column_id(chosen) == column
    for stranger in (BEN, ""):
        with pytest.raises(RecordError, match="another visitor"):
            selected_columns([column], stranger)


def test_a_record_is_found_by_its_owner_and_by_the_command_line_alone(record: Record) -> None:
    assert find_study(record.id, ANN) == find_study(record.id, None) == record
    for stranger in (BEN, "", ANN[:-1]):
        with pytest.raises(RecordError, match="another visitor"):
            find_study(record.id, stranger)
