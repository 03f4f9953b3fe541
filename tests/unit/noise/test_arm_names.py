"""Names of arms as words."""

from __future__ import annotations

import pytest

from neftune_core.engine.settings import MethodSettings
from neftune_core.evaluation.verdict_words import Line
from neftune_core.figures.curves import loss_curves
from neftune_core.language import CHINESE, in_language
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings

ARMS = {"control": NoiseSettings(strength=0)}


@pytest.mark.parametrize(
    ("name", "english", "chinese"),
    [
        ("uniform-alpha-15", "alpha 15", "alpha 15"),
        ("gaussian-std-0.1-linear", "Gaussian std 0.1 (linear)", "高斯 标准差 0.1 (linear)"),
        ("token-dropout-0.1", "token dropout 0.1", "词元丢弃 0.1"),
        ("weight-decay-0.05", "weight decay 0.05", "权重衰减 0.05"),
        ("control", "control", "对照"),
        ("learning_rate=0.003", "learning_rate=0.003", "learning_rate=0.003"),
    ],
)
def test_the_name_of_an_arm_is_read_as_words(name: str, english: str, chinese: str) -> None:
    assert arm_words(name) == english
    with in_language(CHINESE):
        assert arm_words(name) == chinese


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_noise_has_words(kind: str) -> None:
    name = NoiseSettings(kind=kind, strength=1, unit="share" if KINDS[kind].drops else "std").name
    assert arm_words(name) not in (name, "")
    with in_language(CHINESE):
        assert arm_words(name).isascii() is False


def test_every_method_has_words() -> None:
    assert arm_words(MethodSettings(lora_dropout=0.1).name) == "adapter dropout 0.1"


def test_tables_and_verdicts_name_arms_in_words_of_the_language_of_the_page() -> None:
    line = Line(
        "one_seed", {"arm": "gaussian-alpha-5", **dict.fromkeys(("control", "value", "difference"), 1.0), "measure": ""}
    )
    assert line.text().startswith("Gaussian alpha 5: no claim, because a single seed")
    with in_language(CHINESE):
        assert line.text().startswith("高斯 alpha 5：不下结论，因为只有一个种子")
        figure = loss_curves(
            [{"event": "step", "step": 1, "steps": 1, "seed": 0, "arms": {"control": {"loss": 1.0}}}], ARMS
        )
        assert [trace["name"] for trace in figure["data"]] == ["对照"]
