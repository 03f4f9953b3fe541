"""Colours: readable in both themes, and one per arm."""

from __future__ import annotations

import pytest

from neftune_core.figures.colours import COLOURS, COOL, WARM, arm_colours, resolve_colours, token
from neftune_core.noise.settings import NoiseSettings

THEMES = ("light", "dark")


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def shade(name: str, theme: str) -> str:
    return getattr(COLOURS[name], theme)


@pytest.mark.parametrize("theme", THEMES)
def test_every_line_stands_out_from_the_page(theme: str) -> None:
    scales = {"warm": len(WARM), "cool": len(COOL)}
    steps = [f"{scale}-{step}" for scale, count in scales.items() for step in range(1, count + 1)]
    for name in ("base", "control", *steps):
        assert contrast(shade(name, theme), shade("background", theme)) >= 3, name  # WCAG 1.4.11, graphics


@pytest.mark.parametrize("theme", THEMES)
def test_every_text_can_be_read(theme: str) -> None:
    for name in ("text", "quiet", "accent"):
        for ground in ("background", "surface"):
            assert contrast(shade(name, theme), shade(ground, theme)) >= 4.5, (name, ground)  # WCAG 1.4.3, AA


@pytest.mark.parametrize("theme", THEMES)
def test_the_warm_scale_deepens_without_hue(theme: str) -> None:
    steps = [luminance(getattr(colour, theme)) for colour in WARM]
    assert steps == sorted(steps, reverse=True)


def test_stronger_arms_get_deeper_colours_whatever_their_order() -> None:
    arms = {noise.name: noise for noise in (NoiseSettings(strength=value) for value in (15, 5, 30))}
    colours = arm_colours({"control": NoiseSettings(strength=0), **arms})
    warm = [colours[f"uniform-alpha-{value}"] for value in (5, 15, 30)]
    assert warm == sorted(warm)
    assert len(set(warm)) == 3
    assert colours["control"] == token("control")
    assert colours["base"] == token("base")


def test_up_to_six_noise_arms_all_differ() -> None:
    arms = {noise.name: noise for noise in (NoiseSettings(strength=value) for value in range(1, 7))}
    assert len(set(arm_colours(arms).values())) == 7


def test_arms_of_another_method_are_neither_control_nor_noise() -> None:
    silent = NoiseSettings(strength=0)
    arms = {"control": silent, "uniform-alpha-5": NoiseSettings(), "lora-dropout-0.1": silent, "weight-decay-1": silent}
    colours = arm_colours(arms)
    assert colours["control"] == token("control")
    assert {colours["lora-dropout-0.1"], colours["weight-decay-1"]} == {token("cool-1"), token("cool-2")}


def test_resolving_leaves_no_name_behind() -> None:
    figure = {"data": [{"line": {"color": token("control")}, "y": [1.5]}], "layout": {"title": "a"}}
    assert resolve_colours(figure, "dark")["data"][0] == {"line": {"color": COLOURS["control"].dark}, "y": [1.5]}


def test_a_strength_has_the_same_colour_in_every_study() -> None:
    def colour(strength: float, *others: float) -> str:
        arms = {f"alpha-{value:g}": NoiseSettings(strength=value) for value in (strength, *others)}
        return arm_colours(arms)[f"alpha-{strength:g}"]

    for strength in (1, 2, 5, 10, 15):
        assert {colour(strength), colour(strength, 0), colour(strength, 3 * strength)} == {colour(strength)}
    assert colour(5) == colour(5, 15) == colour(5, 10, 15, 30)
    assert colour(15) == colour(15, 2) == colour(15, 5)
    assert len({colour(value) for value in (1, 5, 10, 12, 15, 30)}) == 6


def test_arms_of_nearby_strengths_take_neighbouring_colours() -> None:
    arms = {f"{value}": NoiseSettings(strength=value) for value in (100, 30, 25, 24, 23)}
    steps = [arm_colours(arms)[f"{value}"] for value in (23, 24, 25, 30, 100)]
    assert steps == [f"var(--lab-warm-{step})" for step in (2, 3, 4, 5, 6)]
    many = {f"{value}": NoiseSettings(strength=value) for value in range(1, 10)}
    assert arm_colours(many)["1"] == "var(--lab-warm-1)"
    assert arm_colours(many)["9"] == "var(--lab-warm-6)"
