"""Names of arms as words."""

from __future__ import annotations

from typing import Any

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
        ("gaussian-std-0.1-linear", "Gaussian std 0.1 (linear decay)", "高斯 标准差 0.1 (线性衰减)"),
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


@pytest.mark.parametrize(
    ("settings", "english", "chinese"),
    [
        ({"length_rule": "padded", "tokens": "prompt"}, "padded length, prompt only", "填充长度，只加提示"),
        ({"tokens": "response", "special_tokens": False}, "response only, no special tokens", "只加回答，不含特殊词元"),
        ({"sites": "embedding, 2, 4-6", "schedule": "cosine"}, "at embedding, 2, 4-6, cosine decay",
         "位置 embedding, 2, 4-6，余弦衰减"),
        ({"schedule": "warm-up", "schedule_point": 0.3}, "warm-up until 30% of the run", "预热至全程的 30%"),
        ({"schedule": "switch-off", "schedule_point": 0.105}, "until 10.5% of the run", "至全程的 10.5% 为止"),
        ({"schedule": "exponential", "equal_energy": True}, "exponential decay, equal energy", "指数衰减，等能量"),
        ({"schedule": "adaptive"}, "adaptive", "自适应"),
        ({"kind": "adversarial", "ascent_steps": 3, "ascent_rate": 0.2}, "ascent steps: 3, rate 0.2",
         "上升 3 步，步长 0.2"),
    ],
)  # fmt: skip
def test_what_follows_the_strength_is_read_as_words(settings: dict[str, Any], english: str, chinese: str) -> None:
    name = NoiseSettings(strength=7, **settings).name
    assert arm_words(name).partition("(")[2] == f"{english})"
    with in_language(CHINESE):
        assert arm_words(name).partition("(")[2] == f"{chinese})"


def test_the_unknown_part_of_a_name_is_unchanged() -> None:
    assert arm_words("uniform-alpha-5-linear-seen") == "alpha 5 (linear decay, seen)"


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
