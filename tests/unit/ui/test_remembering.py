"""Settings are restored: from the browser after a reload, and from a record by its link."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import RegulariserSettings
from neftune_core.home import home
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page
from neftune_core.ui.parts import page_state
from neftune_core.ui.server.lab import Lab

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # how the framework shows a sentence where there is no page
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of its event loops, never closed
]
KEY = "5a" * 32
NOTHING = {"__type__": "update"}


@pytest.fixture(scope="module")
def restored() -> Callable[..., dict[str, Any]]:
    """Call the one of the two functions that takes this many values; return its outputs by elem_id."""
    built = page.build(Lab())

    def call(*values: Any) -> dict[str, Any]:
        functions = [found for found in built.fns.values() if found.name == "restore"]
        found = next(one for one in functions if len(one.inputs) == len(values))
        shown = found.fn(*values)
        if shown == NOTHING:
            return {}
        assert len(shown) == len(found.outputs)
        return {part.elem_id: value for part, value in zip(found.outputs, shown, strict=True) if part.elem_id}

    return call


def test_the_link_of_a_study_fills_every_form_and_shows_what_has_no_place_there(
    restored: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "own-rows.jsonl"
    rows.write_text("".join(f'{{"instruction": "Name {n}.", "output": "It is {n}."}}\n' for n in range(6)))
    noise = [NoiseSettings(strength=strength, unit="std") for strength in (0.25, 0.5, 1)]
    changes = {"seed": 11, "noise": (*noise, NoiseSettings(strength=3)), "data": DataSettings(source=f"file:{rows}")}
    changes |= {"regularisers": (RegulariserSettings(lora_dropout=0.3), RegulariserSettings(weight_decay=0.1))}
    record = create(EXAMPLE.model_copy(update=changes), KEY)
    said: list[str] = []
    monkeypatch.setattr(page_state.gr, "Info", lambda words, **_: said.append(words))
    shown = restored(KEY, record.id)
    assert len(said) == 1
    assert "arms of the study: uniform-alpha-3." in said[0]  # in another unit than the first
    assert shown["noise-unit"] == "std"
    assert shown["noise-strength"]["value"] == 0.25
    assert [shown[f"train-{name}"] for name in ("strengths", "dropouts", "decays")] == ["0.5, 1", "0.3", "0.1"]
    assert (shown["train-seed"], shown["train-epochs"], shown["train-learning-rate"]) == (11, 6.0, 0.003)
    assert (shown["data-source"], Path(shown["data-file"]["value"]).name) == ("file", "own-rows.jsonl")
    assert "own-rows.jsonl" in shown["data-report"]
    assert restored("another key", record.id) == {}


def test_the_model_and_the_data_of_a_reload_come_back(restored: Callable[..., dict[str, Any]]) -> None:
    data = EXAMPLE.data.model_copy(update={"source": "starter:dialogue"})
    said = json.dumps({"model": ModelSettings().model_dump(), "data": data.model_dump()})
    assert "dialogue" in restored(said, ModelSettings(), EXAMPLE.data)["data-report"]
    assert set(map(str, restored(said, ModelSettings(), data).values())) == {str(NOTHING)}  # in use already


@pytest.mark.parametrize(
    "said",
    [
        "x",
        "[" * 5000,
        "{}",
        '{"model": {"source": 3}, "data": {}}',
        '{"model": {}, "data": {"source": "file:/etc/passwd"}}',
        '{"model": {}, "data": {"source": "file:a\\u0000b"}}',
        '{"model": {}, "data": {"source": "file:UPLOADS/../lab.log"}}',
        '{"model": {}, "data": {"source": "starter:world-format", "held_out_source": "file:/etc/passwd"}}',
    ],
)
def test_nothing_but_an_upload_is_read_for_what_a_browser_says(
    restored: Callable[..., dict[str, Any]], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (home() / "uploads").mkdir(exist_ok=True)
    (home() / "lab.log").write_text("{}", encoding="utf-8")
    assert restored(said.replace("UPLOADS", str(home() / "uploads")), ModelSettings(), EXAMPLE.data) == {}
    assert "unexpected error" not in caplog.text
