"""Noise settings: invalid values, parsing of sites, and distinct names."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_core.errors import InvalidSetting
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.schedules import SCHEDULES
from neftune_core.noise.settings import TOKENS, NoiseSettings
from neftune_core.noise.strength import LENGTH_RULES, SHARE, UNITS
from neftune_core.settings import flat, from_query, from_toml, parse, to_toml

SITES = st.sampled_from(["embedding", "2", "4", "2,4", "2-4", "embedding,2-4", "embedding, 1, 3-5", "4-4"])


@st.composite
def settings(draw: st.DrawFn) -> NoiseSettings:
    """Return any valid settings."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    drops = KINDS[kind].drops
    schedule = draw(st.sampled_from(sorted(SCHEDULES)))
    return NoiseSettings(
        kind=kind,
        unit=SHARE if drops else draw(st.sampled_from(sorted(UNITS))),
        strength=draw(st.floats(0, 1 if drops else 10_000)),
        length_rule=draw(st.sampled_from(sorted(LENGTH_RULES))),
        tokens=draw(st.sampled_from(sorted(TOKENS))),
        special_tokens=draw(st.booleans()),
        sites=draw(SITES),
        schedule=schedule,
        schedule_point=draw(st.floats(0, 1)),
        equal_energy=schedule != "adaptive" and draw(st.booleans()),
        ascent_steps=draw(st.integers(0, 20)),
        ascent_rate=draw(st.floats(0, 10)),
    )


@given(settings())
def test_settings_survive_toml_and_a_link(noise: NoiseSettings) -> None:
    assert from_toml(NoiseSettings, to_toml(noise, comments=True)) == noise
    assert from_query(NoiseSettings, {name: str(value) for name, value in flat(noise.model_dump()).items()}) == noise


@given(settings())
def test_a_name_is_safe_in_files_and_links_and_short_enough_for_them(noise: NoiseSettings) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", noise.name)
    assert len(noise.name) < 250
    assert noise.is_silent == (noise.name == "control") == (noise.strength == 0)


CHANGES: list[dict[str, Any]] = [
    {"strength": 5.0000001},
    {"unit": "std"},
    {"unit": "relative"},
    {"kind": "gaussian"},
    {"kind": "bernoulli"},
    {"kind": "symmetric"},
    {"kind": "adversarial"},
    {"kind": "adversarial", "ascent_steps": 3},
    {"kind": "adversarial", "ascent_rate": 0.25},
    {"length_rule": "padded"},
    {"tokens": "prompt"},
    {"tokens": "response"},
    {"special_tokens": False},
    {"sites": "2,4"},
    {"sites": "2-4"},
    {"sites": "embedding, 2"},
    {"schedule": "linear"},
    {"schedule": "linear", "equal_energy": True},
    {"schedule": "warm-up"},
    {"schedule": "warm-up", "schedule_point": 0.25},
    {"schedule": "switch-off"},
    {"kind": "token-dropout", "unit": SHARE, "strength": 0.5},
]


def test_settings_that_add_different_noise_have_different_names() -> None:
    names = [NoiseSettings(**change).name for change in [{}, *CHANGES]]
    assert len(set(names)) == len(names)
    assert names[0] == "uniform-alpha-5"
    assert {name for change in CHANGES for name in change} == set(NoiseSettings.model_fields)


@pytest.mark.parametrize(
    ("sites", "numbers"),
    [
        ("embedding", (0,)),
        ("3", (3,)),
        ("embedding, 2, 4-6", (0, 2, 4, 5, 6)),
        ("6, 4-5,embedding", (0, 4, 5, 6)),
        ("2 - 3, 3-4", (2, 3, 4)),
    ],
)
def test_sites_are_read_as_numbers_in_order(sites: str, numbers: tuple[int, ...]) -> None:
    assert NoiseSettings(sites=sites).site_numbers(layers=6) == numbers


@pytest.mark.parametrize("sites", ["", ",", "layer 2", "0", "5-3", "-1", "1-", "embedding 2", "2;4", "٣", "1-2-3"])
def test_sites_that_cannot_be_read_get_one_sentence(sites: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse(NoiseSettings, {"sites": sites})
    assert str(caught.value).count(".") == 1


def test_a_layer_that_the_model_does_not_have_gets_a_sentence() -> None:
    with pytest.raises(InvalidSetting, match="layer 7, but this model has 6 layers"):
        NoiseSettings(sites="embedding, 7").site_numbers(layers=6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "token-dropout"}, "share"),
        ({"unit": SHARE}, "can only be used with token dropout"),
        ({"kind": "token-dropout", "unit": SHARE, "strength": 1.5}, "from 0 to 1"),
        ({"schedule": "adaptive", "equal_energy": True}, "follows the loss"),
        ({"strength": -1}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"kind": "pink"}, "one of uniform"),
        ({"volume": 11}, "no setting called 'volume'"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        parse(NoiseSettings, values)
