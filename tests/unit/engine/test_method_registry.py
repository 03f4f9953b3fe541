"""The registry of methods: found by file, declared once, named and refused as the settings say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_core.engine import methods
from neftune_core.engine.methods.registry import METHODS, find_methods
from neftune_core.engine.settings import MethodSettings
from neftune_core.errors import InvalidSetting
from neftune_core.home import assets
from neftune_core.noise.names import arm_words
from neftune_core.settings import controls, from_toml, to_toml
from neftune_core.studies.settings import StudySettings

ENTRY = """
from neftune_core.engine.methods.method import Method
from neftune_core.settings import setting

METHOD = Method(
    name="label_smoothing",
    words="label smoothing",
    setting=setting(None, "Share of the target spread over all words.", minimum=0, maximum=1),
    example="0.1",
    formula="(1 - value) * loss + value * mean loss over all words",
)
"""
STUDY = """
[[methods]]
label_smoothing = 0.25
"""


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "label_smoothing.py").write_text(ENTRY)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    yield
    sys.modules.pop(f"{methods.__name__}.label_smoothing", None)


def test_a_file_with_an_entry_is_a_method(own_file: None) -> None:
    found = find_methods()
    assert set(found) == {*METHODS, "label_smoothing"}
    assert found["label_smoothing"].field == "label_smoothing"
    assert not found["label_smoothing"].in_step


def test_a_file_with_an_entry_is_a_setting_of_a_study(own_file: None) -> None:
    """Settings are made when the registry is imported, so this needs a process of its own."""
    program = (
        f"from neftune_core.engine import methods; methods.__path__ = {list(methods.__path__)}\n"
        "from neftune_core.noise.names import arm_words\n"
        "from neftune_core.settings import from_toml\n"
        "from neftune_core.studies.settings import StudySettings\n"
        f"study = from_toml(StudySettings, '''{STUDY}''')\n"
        "(arm,) = study.methods\n"
        "print(arm.name, '|', arm_words(arm.name), '|', study.method_of('control').values['label_smoothing'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "label-smoothing-0.25 | label smoothing 0.25 | 0.0"


def test_every_method_is_declared_once_and_described() -> None:
    documented = (assets() / "docs" / "noise.md").read_text(encoding="utf-8")
    offered = {found.name: found for found in controls(MethodSettings)}
    assert [name for name in offered if not name.startswith("schedule")] == list(METHODS)
    assert len({method.field for method in METHODS.values()}) == len(METHODS)
    for name, method in METHODS.items():
        assert (offered[name].default, offered[name].minimum) == (None, 0)
        assert f"`{name}`" in documented
        assert method.formula
        assert method.paper.removeprefix("arXiv ").split(",")[0] in documented
        value = float(method.example.split(",")[0])
        arm = MethodSettings.model_construct(**{name: value})
        assert arm_words(arm.name) == f"{method.words} {value:g}"


def test_a_study_without_methods_is_written_as_before() -> None:
    study = StudySettings()
    assert "methods = []" in to_toml(study)
    assert from_toml(StudySettings, to_toml(study)) == study
    assert set(study.method_of("control").values.values()) == {0.0}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training": {"method": "full"}, "methods": ({"lora_dropout": 0.1},)}, "no adapters"),
        ({"methods": ({"noise": {"strength": 5}},)}, "is the same as the control"),
        ({"methods": ({"weight_decay": 0.1, "noise": {"strength": -1}},)}, "must be 0 or more"),
    ],
)
def test_an_arm_that_cannot_be_is_refused_in_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        StudySettings(**values)


def test_a_method_may_be_used_with_noise() -> None:
    study = StudySettings(methods=({"weight_decay": 0.1, "noise": {"strength": 5}},))
    name = "weight-decay-0.1-with-uniform-alpha-5"
    assert study.arms[name].strength == 5
    assert study.method_of(name).values["weight_decay"] == 0.1
    assert arm_words(name) == "weight decay 0.1 with alpha 5"
    assert from_toml(StudySettings, to_toml(study)) == study
