"""Norms, cosines and shares from three numbers per token, compared with the vectors."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from token_effects import deviation, token_effects

from neftune_core.figures.noise_views import NOISE_VIEWS, adaptive_illustration, token_layout, view_layouts
from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit
from neftune_core.noise.preview import PADDED_LENGTH, Sentence, preview
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

LENGTH, WIDTH = 7, 48
CLEAN = np.random.default_rng(0).standard_normal((LENGTH, WIDTH)).astype(np.float32)
SENTENCE = Sentence([" a", "b\n", "", "<s>", "dd", "e", "a word that is far too long"], CLEAN, np.arange(LENGTH) == 3)
PAYLOAD = preview(SENTENCE, seed=3)
SIGNAL = float(np.sqrt((CLEAN**2).mean()))
NOISES = [name for name, kind in KINDS.items() if not kind.drops]


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("strength", "unit"), [(0, "alpha"), (5, "alpha"), (0.3, "std"), (0.5, "relative")])
def test_what_is_measured_is_that_of_the_vectors(kind: str, strength: float, unit: str) -> None:
    noise = NoiseSettings(strength=strength, unit=unit, kind=kind)
    added = standard_deviation(strength, unit, LENGTH, WIDTH, SIGNAL) * draw_unit(
        kind, (3, 0, 0, EMBEDDING_SITE), LENGTH, WIDTH
    )
    noisy, before = CLEAN + added, np.linalg.norm(CLEAN, axis=1)
    found = token_effects(PAYLOAD, noise)
    # the payload has six significant digits
    assert found.before == pytest.approx(before, rel=1e-5)
    assert found.after == pytest.approx(np.linalg.norm(noisy, axis=1), rel=1e-5)
    assert found.shares == pytest.approx(np.linalg.norm(added, axis=1) / before, rel=1e-5)
    cosines = (CLEAN * noisy).sum(1) / (before * np.linalg.norm(noisy, axis=1))
    assert found.cosines == pytest.approx(cosines, rel=1e-4, abs=1e-5)


def test_token_dropout_takes_the_tokens_whose_number_is_below_its_share() -> None:
    found = token_effects(PAYLOAD, NoiseSettings(kind="token-dropout", unit="share", strength=0.5))
    gone = np.array(PAYLOAD["dropped_below"]["token-dropout"]) < 0.5
    assert gone.any()
    assert (np.array(found.after) == 0).tolist() == gone.tolist()
    assert [math.isnan(cosine) for cosine in found.cosines] == gone.tolist()


def test_special_tokens_stay_as_they_are_where_they_get_no_noise() -> None:
    found = token_effects(PAYLOAD, NoiseSettings(strength=20, special_tokens=False))
    assert found.shares[3] == 0
    assert found.after[3] == found.before[3]
    assert all(share > 0 for place, share in enumerate(found.shares) if place != 3)


def test_the_padded_rule_is_pictured_in_a_batch_of_long_rows() -> None:
    padded = deviation(PAYLOAD, NoiseSettings(strength=5, length_rule="padded"))
    assert padded == standard_deviation(5, "alpha", PADDED_LENGTH, WIDTH)
    assert padded < deviation(PAYLOAD, NoiseSettings(strength=5))


def test_tokens_are_named_so_that_they_can_be_seen() -> None:
    names = token_layout(PAYLOAD, "norm")["xaxis"]["ticktext"]
    assert names == ["a", "b↵", "␣", "&lt;s>", "dd", "e", "a word that i…"]


def test_a_long_text_names_only_some_of_its_tokens() -> None:
    payload = preview(Sentence(["x"] * 500, np.ones((500, 4), dtype=np.float32), np.zeros(500, dtype=bool)), seed=0)
    assert len(token_layout(payload, "norm")["xaxis"]["tickvals"]) <= 48


def test_every_view_has_axes_with_titles_and_a_zoom_of_its_own() -> None:
    layouts = view_layouts(PAYLOAD)
    assert list(layouts) == list(NOISE_VIEWS)
    for name, frame in layouts.items():
        assert frame["layout"]["xaxis"]["title"]["text"]
        assert frame["layout"]["yaxis"]["title"]["text"]
        assert frame["layout"]["uirevision"] == name


def test_the_illustrated_adaptive_schedule_falls_from_one_with_the_loss() -> None:
    found = adaptive_illustration()
    assert found[:2] == [1.0, 1.0]
    assert all(later <= earlier for earlier, later in pairwise(found))
    assert 0.5 < found[-1] < 0.6
