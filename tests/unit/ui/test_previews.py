"""A sentence read by the bundled model up to the noise site, and the first preview cached on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neftune_core.errors import DataError, InvalidSetting
from neftune_core.models.loading import LoadedModel, load, private_tree
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.preview import Sentence
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import UNITS
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.previews import FIRST_SENTENCE, LONGEST_TOKENS, FirstPreview, read_sentence
from neftune_core.ui.tabs.noise_tab import SLIDERS, strengths_at
from neftune_core.ui.tabs.views.noise_loss import MEASURED_AT, ROWS, measure_loss

MODEL = ModelSettings(precision="float32")


@pytest.fixture(scope="module")
def bundled() -> LoadedModel:
    return load(MODEL)


def hidden_states(bundled: LoadedModel, text: str) -> Any:
    ids = torch.tensor([bundled.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        # on a tree of its own: transformers leaves hooks where hidden states were asked for
        return private_tree(bundled.model)(input_ids=ids, output_hidden_states=True).hidden_states


@pytest.mark.parametrize(("sites", "number", "behind"), [("embedding, 3", 0, [3]), ("2-3", 2, [3]), ("1", 1, [])])
def test_a_sentence_is_read_at_the_first_place_with_noise(
    bundled: LoadedModel, sites: str, number: int, behind: list[int]
) -> None:
    found = read_sentence(FIRST_SENTENCE, MODEL, sites)
    expected = hidden_states(bundled, FIRST_SENTENCE)[number][0].numpy()
    assert found.clean == pytest.approx(expected, rel=1e-5, abs=1e-6)  # one row and a batch of one
    assert found.about["behind"] == behind
    assert found.about["layer"] == number
    assert bool(found.vocabulary_size) == (number == 0)


def test_the_vocabulary_is_that_of_the_embedding_with_its_texts(bundled: LoadedModel) -> None:
    found = read_sentence("the owl", MODEL, "embedding")
    weight = bundled.model.get_input_embeddings().weight.detach().numpy()
    vectors = np.concatenate(list(found.vocabulary()))
    assert (vectors == weight[: found.vocabulary_size]).all()
    ids = bundled.tokenizer("the owl")["input_ids"]
    assert [found.word(number) for number in ids] == found.tokens
    assert found.special.tolist() == [number in bundled.tokenizer.all_special_ids for number in ids]


def test_the_model_carries_nothing_afterwards(bundled: LoadedModel) -> None:
    read_sentence("the owl", MODEL, "2")
    assert not any(module._forward_hooks for module in bundled.model.modules())


def test_a_long_text_is_cut_and_reports_it() -> None:
    found = read_sentence("owl " * 500, MODEL, "embedding")
    assert len(found.tokens) == LONGEST_TOKENS
    assert found.about["cut"] > 0


def test_nothing_to_read_and_a_layer_that_is_not_there_are_refused() -> None:
    with pytest.raises(DataError, match="at least one word"):
        read_sentence("  ", MODEL, "embedding")
    with pytest.raises(InvalidSetting, match="layer 99"):
        read_sentence("owl", MODEL, "99")


class Counted:
    """A reader that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, text: str, model: ModelSettings, sites: str) -> Sentence:
        self.calls += 1
        vectors = np.random.default_rng(len(text)).standard_normal((3, 16)).astype(np.float32)
        return Sentence(["a", "b", "c"], vectors, np.zeros(3, dtype=bool))


def test_the_first_preview_is_made_once_and_found_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    made, found = Counted(), Counted()
    first = FirstPreview(made)
    assert first.payload is None
    payload = first.get()
    asked = made.calls
    assert first.get() is payload
    assert made.calls == asked > 0
    again = FirstPreview(found)
    assert again.get() == payload
    assert again.first_details == first.first_details
    assert found.calls == 0


def test_an_invalid_preview_on_disk_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    FirstPreview(Counted()).get()
    (file,) = (tmp_path / "previews").iterdir()
    for damaged in ("[1]", "{", '{"payload": 1}'):
        file.write_text(damaged, encoding="utf-8")
        assert FirstPreview(Counted()).payload is None


def test_details_belong_to_the_preview_of_the_same_sentence_model_draw_and_place() -> None:
    first = FirstPreview(Counted())
    asked = [("a", MODEL, 0), ("b", MODEL, 0), ("a", ModelSettings(), 0), ("a", MODEL, 1), ("a", MODEL, 0, "2")]
    keys = {first.previewer(*each)["key"] for each in asked}
    assert len(keys) == 5
    assert first.details("a", MODEL, 0)["key"] == first.previewer("a", MODEL, 0)["key"]


def test_every_unit_has_a_slider_and_strengths_to_measure_at() -> None:
    assert set(SLIDERS) == {*UNITS, "share"}
    for unit in SLIDERS:
        found = strengths_at(MEASURED_AT, unit)
        assert found == sorted(set(found))
    assert {5.0, 10.0, 15.0} <= set(strengths_at(MEASURED_AT, "alpha"))


def test_the_loss_is_measured_on_rows_of_the_data_tab(bundled: LoadedModel) -> None:
    *_, (figure, share) = measure_loss(Lab(), EXAMPLE.data, MODEL, NoiseSettings())
    *rows, level, mean = figure["data"]
    assert share == 1
    assert len(rows) == ROWS
    assert mean["y"][-1] > 1.1 * level["y"][0]  # alpha 100 on a short row drowns it
    assert "held-out rows" in figure["summary"]
