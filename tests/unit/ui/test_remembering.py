"""Settings are restored: from the browser after a reload, and from a record by its link."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import MethodSettings
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.home import home
from neftune_core.lessons.files import lessons
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page, page_state, study_state
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs import train_form

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # how the framework shows a sentence where there is no page
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of its event loops, never closed
]
KEY = "5a" * 32
NOTHING = {"__type__": "update"}


OTHERS = tuple(
    MethodSettings(**{name: value})
    for name, value in {"lora_dropout": 0.3, "weight_decay": 0.1, "prompt_loss": 0.5}.items()
)


@pytest.fixture(scope="module")
def built() -> Any:
    return page.build(Lab())


@pytest.fixture(scope="module")
def restored(built: Any) -> Callable[..., dict[str, Any]]:
    """Call the one of the two functions that takes this many values; return its outputs by elem_id."""

    def call(*values: Any) -> dict[str, Any]:
        functions = [found for found in built.fns.values() if found.name == "restore"]
        found = next(one for one in functions if len(one.inputs) == len(values))
        shown = found.fn(*values)
        if shown == NOTHING:
            return {}
        assert len(shown) == len(found.outputs)
        named = {part.elem_id: value for part, value in zip(found.outputs, shown, strict=True) if part.elem_id}
        return {name: value for name, value in named.items() if value != NOTHING}

    return call


def test_the_link_of_a_study_fills_every_form_and_shows_what_has_no_place_there(
    restored: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "own-rows.jsonl"
    rows.write_text("".join(f'{{"instruction": "Name {n}.", "output": "It is {n}."}}\n' for n in range(6)))
    noise = [NoiseSettings(strength=strength, unit="std") for strength in (0.25, 0.5, 1)]
    changes = {"seed": 11, "noise": (*noise, NoiseSettings(strength=3)), "data": DataSettings(source=f"file:{rows}")}
    changes |= {"methods": (*OTHERS, MethodSettings(consistency=2, noise=noise[0]))}
    changes["methods"] += (MethodSettings(weight_noise=0.1, noise=noise[0]),)
    changes["measuring"] = MeasuringSettings(primary="held_out_loss", epoch="best")
    record = create(EXAMPLE.model_copy(update=changes), KEY)
    said: list[str] = []
    monkeypatch.setattr(study_state, "show_note", said.append)
    shown = restored(KEY, record.id)
    assert len(said) == 1
    others = "alpha 3, weight noise 0.1 with uniform std 0.25"  # a different unit, and noise that its box lacks
    assert f"arms of the study: {others}." in said[0]
    values = {name: value["value"] for name, value in shown.items() if isinstance(value, dict) and "value" in value}
    assert (values["noise-unit"], values["noise-strength"]) == ("std", 0.25)
    boxes = ("strengths", "dropouts", "decays", "prompt_loss", "consistency", "weight_noise")
    assert [values[f"train-{name}"] for name in boxes] == ["0.5, 1", "0.3", "0.1", "0.5", "2", ""]
    assert (values["train-seed"], values["train-epochs"], values["train-learning-rate"]) == (11, 6.0, 0.003)
    assert (values["measuring-train-primary"], values["measuring-train-epoch"]) == ("held_out_loss", "best")
    assert (shown["data-source"], Path(values["data-file"]).name) == ("file", "own-rows.jsonl")
    assert "own-rows.jsonl" in shown["data-report"]
    assert restored("another key", record.id) == {}


@pytest.mark.parametrize("tab", ["Compare", "Sweep", "Runs"])
def test_lists_of_own_records_are_filled_once_the_browser_has_told_its_key(built: Any, tab: str) -> None:
    told = [found for found in built.fns.values() if f"Lab.currentTab() === '{tab}'" in str(found.js)]
    assert len(told) == 2  # one for each language
    for known in told:
        filled = [found for found in built.fns.values() if (known.outputs[0]._id, "change") in found.targets]
        assert filled
        assert all("owner-key" in [field.elem_id for field in found.inputs] for found in filled)


@pytest.mark.parametrize("number", [one.number for one in lessons() if one.preset])
def test_a_lesson_sets_values_of_the_state_and_puts_the_others_back(built: Any, number: int) -> None:
    presets = [found for found in built.fns.values() if _is_preset(found)]
    numbers = [one.number for one in lessons() if one.preset]
    found = presets[numbers.index(number)]
    outputs = [part.elem_id for part in found.outputs]
    shown = dict(zip(outputs, found.fn(""), strict=True))
    values = {name: one.get("value") if isinstance(one, dict) else one for name, one in shown.items()}
    assert values["train-preset"] == train_form.USUAL
    assert values["measuring-train-primary"] == "automatic"
    for name, value in lessons()[number - 1].preset.items():
        elem_id = {"view": "noise-view", "data": "data-starter"}.get(name, name.replace(".", "-").replace("_", "-"))
        wanted = value.removeprefix("starter:") if isinstance(value, str) else value
        assert values[elem_id] == wanted, name


def _is_preset(found: Any) -> bool:
    return {"train-preset", "data-starter", "train-state"} <= {part.elem_id for part in found.outputs}


def kept(model: ModelSettings, data: Any, **values: Any) -> str:
    """What a browser keeps."""
    return json.dumps({**values, "in_use": json.dumps({"model": model.model_dump(), "data": data.model_dump()})})


def test_the_model_and_the_data_of_a_reload_come_back(restored: Callable[..., dict[str, Any]]) -> None:
    data = EXAMPLE.data.model_copy(update={"source": "starter:dialogue"})
    said = kept(ModelSettings(), data)
    assert "dialogue" in restored(said, ModelSettings(), EXAMPLE.data)["data-report"]
    assert restored(said, ModelSettings(), data) == {}  # in use already


def test_what_was_set_comes_back_and_what_does_not_fit_is_told(
    restored: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(page_state, "show_note", said.append)
    noise = {"noise.unit": "std", "noise.strength": 0.3, "noise.kind": "gaussian", "view": "angles"}
    train = {"train.epochs": 250.0, "train.preset": "the paper's", "train.strengths": "0.5", "train.seeds": 6}
    others = {"measuring.primary": "held_out_loss", "compare.blind": True, "sweep.vary-2": "training.epochs"}
    values = {**noise, **train, **others}
    shown = restored(kept(ModelSettings(), EXAMPLE.data, **values), ModelSettings(), EXAMPLE.data)
    assert said == []
    assert shown["noise-figure"]["controls"]["view"]["value"] == "angles"  # the figure is of the view that is chosen
    assert shown["noise-figure"]["controls"]["strength"]["value"] == 0.3
    assert shown["train-epochs"] == {"value": 250.0, "maximum": 250.0, "__type__": "update"}
    told = {name: value["value"] for name, value in shown.items() if name not in ("noise-figure", "train-preset-about")}
    assert (told["train-preset"], told["train-strengths"], told["train-seeds"]) == ("the paper's", "0.5", 6)
    assert (told["measuring-train-primary"], told["compare-blind"]) == ("held_out_loss", True)
    assert told["sweep-axis-2"] == "training.epochs"
    assert "2310.05914" in shown["train-preset-about"]

    wrong = {"train.epochs": "many", "sweep.vary-1": "nothing.known", "train.view": "x", "compare.rows": "1e99"}
    shown = restored(json.dumps({**wrong, "train.seed": "7", "unknown": 1}), ModelSettings(), EXAMPLE.data)
    assert shown["train-seed"]["value"] == 7
    assert "sweep-axis-1" not in shown
    (words,) = said
    assert all(text in words for text in ("Epochs cannot be", "nothing.known", "1e99"))


def test_a_link_with_nan_is_told_so_and_its_other_values_are_set(
    restored: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(page_state, "show_note", said.append)
    wrong = ("noise.strength", "train.epochs", "train.learning_rate", "train.seeds", "compare.rows")
    link = dict.fromkeys(wrong, "nan") | {"noise.kind": "gaussian", "train.batch_size": "8"}
    shown = restored(json.dumps(link), ModelSettings(), EXAMPLE.data)
    (words,) = said
    assert words.count("cannot be 'nan'") == len(wrong)
    values = {name: value["value"] for name, value in shown.items() if isinstance(value, dict) and "value" in value}
    assert (values["noise-kind"], values["train-batch-size"]) == ("gaussian", 8)
    assert not [name for name, value in values.items() if value != value]


def test_a_link_brings_a_starter_set_but_loads_no_model(
    restored: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(page_state, "show_note", said.append)
    link = {"data": "dialogue", "data.rows": "40", "model.source": "someone/model"}
    shown = restored(json.dumps(link), ModelSettings(), EXAMPLE.data)
    assert "dialogue" in shown["data-report"]
    assert "someone/model" in said[0]
    assert restored(json.dumps({"data.source": "file:/etc/passwd"}), ModelSettings(), EXAMPLE.data) == {}
    assert restored(json.dumps({"data.source": "hub:someone/rows"}), ModelSettings(), EXAMPLE.data) == {}


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
        '{"model": {}, "data": {"source": "file:UPLOADS2/rows.jsonl"}}',
        '{"model": {}, "data": {"source": "starter:world-format", "held_out_source": "file:/etc/passwd"}}',
    ],
)
def test_nothing_but_an_upload_is_read_for_what_a_browser_says(
    restored: Callable[..., dict[str, Any]], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (home() / "uploads").mkdir(exist_ok=True)
    (home() / "lab.log").write_text("{}", encoding="utf-8")
    (home() / "uploads2").mkdir(exist_ok=True)
    rows = "".join(f'{{"instruction": "Name {n}.", "output": "It is {n}."}}\n' for n in range(6))
    (home() / "uploads2" / "rows.jsonl").write_text(rows, encoding="utf-8")
    in_use = said.replace("UPLOADS", str(home() / "uploads"))
    state = json.dumps({"in_use": in_use, "train.seed": 5})
    shown = restored(state, ModelSettings(), EXAMPLE.data)
    assert list(shown) == ["train-seed"]  # everything else is kept all the same
    assert restored(said, ModelSettings(), EXAMPLE.data) == {}
    assert "unexpected error" not in caplog.text


def test_no_event_that_may_come_twice_is_ignored_while_the_first_is_answered(built: Any) -> None:
    fast = {"change", "input", "select", "blur", "submit"}
    ignored = [
        (found.name, sorted({name for _, name in found.targets} & fast))
        for found in built.fns.values()
        if found.fn and found.trigger_mode == "once" and {name for _, name in found.targets} & fast
    ]
    assert ignored == []
    with_data = {"open_record", "stop_one", "vote"}  # handlers of a click on one of several things
    assert {found.trigger_mode for found in built.fns.values() if found.name in with_data} == {"multiple"}
