"""The Depth and Next word views: the data sent to the page, and the message when a sentence cannot be measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from neftune_core.figures.noise_views import NOISE_VIEWS, view_layouts
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import EMBEDDING, NoiseSettings
from neftune_core.ui.server.previews import FIRST_SENTENCE, FirstPreview
from neftune_core.ui.tabs.noise_tab import FIRST_STRENGTH, SLIDERS, strengths_at
from neftune_core.ui.tabs.views.noise_inside import MEASURED_AT, measure_inside

MODEL = ModelSettings(precision="float32")


def test_the_numbers_belong_to_the_preview_of_the_same_sentence_and_draw() -> None:
    found = measure_inside(FIRST_SENTENCE, MODEL, 3, NoiseSettings(kind="gaussian", strength=77))
    preview = FirstPreview().previewer(FIRST_SENTENCE, MODEL, 3)
    assert found["key"] == preview["key"]
    assert found["tokens"] == preview["tokens"]
    assert found["asked"]["kind"] == "gaussian"
    assert found["strengths"] == [2, 5, 10, 15, 30, 60, 100]
    assert "problem" not in found
    json.dumps(found, allow_nan=False)
    # The embedding's disturbance is that of the first preview: the mean over draws is near the one that is shown there.
    signal, square = (np.array(values) for values in (preview["signal"], preview["draws"]["gaussian"]["square"]))
    length, width = preview["length"], preview["width"]
    shown = np.sqrt(square / signal) * 2 / np.sqrt(3 * length * width)
    assert found["depth"]["sizes"][0][0] == pytest.approx(shown, rel=0.25)  # four draws of 224 coordinates each


def test_strengths_are_those_of_the_slider() -> None:
    for unit, slider in SLIDERS.items():
        found = strengths_at(MEASURED_AT, unit)
        assert len(found) == 7
        assert found == sorted(found)
        assert found[-1] == slider["maximum"]
    assert {FIRST_STRENGTH, 5.0, 10.0, 15.0} <= set(strengths_at(MEASURED_AT, "alpha"))


@pytest.mark.parametrize(
    ("text", "noise", "words"),
    [("  ", NoiseSettings(), "at least one word"), ("owl", NoiseSettings(sites="99"), "layer 99")],
)
def test_what_cannot_be_followed_is_said_in_one_sentence(text: str, noise: NoiseSettings, words: str) -> None:
    found = measure_inside(text, MODEL, 0, noise)
    assert set(found) == {"key", "asked", "problem"}
    assert words in found["problem"]


def test_a_dropped_token_is_no_number_in_json() -> None:
    found = measure_inside("the owl sleeps", MODEL, 0, NoiseSettings(kind="token-dropout", unit="share", strength=1))
    json.dumps(found, allow_nan=False)
    assert found["strengths"][-1] == 1
    assert found["depth"]["cosines"][-1][0][1] is None


def test_the_words_are_those_of_the_tokenizer() -> None:
    found = measure_inside("the owl sleeps", MODEL, 0, NoiseSettings(sites=EMBEDDING))
    tokenizer = load(MODEL).tokenizer
    known = {tokenizer.decode([number]) for number in range(len(tokenizer))}
    assert set(found["next"]["words"]) <= known


def test_both_views_have_a_layout() -> None:
    layouts = view_layouts(FirstPreview().previewer("the owl", MODEL, 0))
    assert {"depth", "next"} <= set(NOISE_VIEWS)
    assert layouts["depth"]["layout"]["xaxis2"]["domain"][0] > layouts["depth"]["layout"]["xaxis"]["domain"][1]
    assert layouts["next"]["name"] == "noise-next"
