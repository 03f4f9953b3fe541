"""Starter sets with a recorded effect of noise, and the studies that show it."""

from __future__ import annotations

import pytest

from neftune_core.language import CHINESE, in_language
from neftune_core.ui.page import effect_words, recorded_studies
from neftune_core.ui.server.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


@pytest.mark.parametrize(
    ("starter", "words"),
    [
        ("world-noisy", "Better with alpha 12, by more than chance over 8 seeds: control 0.947, alpha 12 0.979"),
        ("world-stated", "Worse with alpha 8, by more than chance over 8 seeds: control 0.887, alpha 8 0.842"),
        ("world-format", "No effect beyond chance over 8 seeds: control 0.974, alpha 5 0.974"),
        ("dialogue", ""),
    ],
)
def test_a_starter_set_says_what_noise_did_in_its_recorded_sweep(lab: Lab, starter: str, words: str) -> None:
    found = effect_words(lab, starter)
    assert words in found if words else found == ""
    if starter == "world-format":  # the control of another record of this set, with fewer steps, has another value
        assert "Recorded with this set, 152 steps at learning rate 0.004: " in found
    with in_language(CHINESE):
        assert bool(effect_words(lab, starter)) == bool(words)


def test_the_study_that_is_set_up_is_the_recorded_one_with_the_seeds_of_a_claim(lab: Lab) -> None:
    _, study = recorded_studies(lab)["world-noisy"]
    assert (study.noise[0].name, study.seeds, study.training.epochs) == ("uniform-alpha-12", 6, 20)
    assert study.data.source == "starter:world-noisy"
    assert study.measuring.primary == "exact"
    assert study.methods == ()  # a sweep with other methods is not what noise alone did
