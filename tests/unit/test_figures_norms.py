"""Norms before and after noise from three numbers a token, against the vectors themselves."""

from __future__ import annotations

import numpy as np
import pytest

from neftune_core.figures import token_norms
from neftune_core.noise.kinds import KINDS, draw_unit
from neftune_core.noise.preview import noise_key, preview
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

CLEAN = np.random.default_rng(0).standard_normal((7, 48)).astype(np.float32)
PAYLOAD = preview(CLEAN, [" a", "b\n", "", "<s>", "dd", "e", "a word that is far too long"], seed=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("strength", "unit"), [(0, "alpha"), (5, "alpha"), (0.3, "std")])
def test_the_bars_are_the_norms_of_the_vectors(kind: str, strength: float, unit: str) -> None:
    noise = NoiseSettings(strength=strength, unit=unit, kind=kind)
    deviation = standard_deviation(strength, unit, *CLEAN.shape)
    noisy = CLEAN + deviation * draw_unit(kind, noise_key(3, 0, 0), *CLEAN.shape)
    before, after = token_norms(PAYLOAD, noise)["data"]
    # the payload has six significant digits
    assert before["y"] == pytest.approx(np.linalg.norm(CLEAN, axis=1), rel=1e-5)
    assert after["y"] == pytest.approx(np.linalg.norm(noisy, axis=1), rel=1e-5)


def test_tokens_are_named_so_that_they_can_be_seen() -> None:
    names = token_norms(PAYLOAD, NoiseSettings())["layout"]["xaxis"]["ticktext"]
    assert names == ["a", "b↵", "␣", "&lt;s>", "dd", "e", "a word that i…"]


def test_a_long_text_names_only_some_of_its_tokens() -> None:
    payload = preview(np.ones((500, 4), dtype=np.float32), ["x"] * 500, seed=0)
    assert len(token_norms(payload, NoiseSettings())["layout"]["xaxis"]["tickvals"]) <= 48
