"""Expected values, computed in Python, for the tests of the page's JavaScript (page_modules.mjs)."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from token_effects import token_effects
from torch.distributions import Laplace, Normal, Uniform

from neftune_core.figures.base import changes
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.noise_views import adaptive_illustration
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import (
    DRAWS,
    PADDED_LENGTH,
    RESOLUTION,
    Sentence,
    plane_axes,
    preview,
    spread,
    unit_draw,
)
from neftune_core.noise.schedules import LAST_SHARE, SCHEDULES, multipliers
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import UNITS, standard_deviation
from neftune_core.ui.tabs.noise_tab import SLIDERS, strength_of

SEED, WIDTH = 3, 48


def equivalents(strength: float, unit: str, length: int, width: int, signal: float) -> dict[str, float]:
    """Convert a strength to every unit; infinity for "relative" if `signal` is 0."""
    deviation = standard_deviation(strength, unit, length, width, signal)
    scales = {name: other.scale(length, width, signal) for name, other in UNITS.items()}
    return {name: deviation / scale if scale else math.inf for name, scale in scales.items()}


def numbers() -> dict[str, Any]:
    """Return the inputs and expected outputs of every test as values for JSON."""
    sentence = _sentence()
    payload = {**preview(sentence, SEED), "padded_length": PADDED_LENGTH, "fineness": RESOLUTION}
    return {
        "payload": payload,
        "noises": [_noise(payload, noise) for noise in _settings()],
        "band": _band(sentence),
        "schedules": _schedules(),
        "densities": _densities(),
        "sliders": _sliders(),
        "means": _means(),
        "inside": _inside(),
        "growth": _growth(),
    }


def _growth() -> list[dict[str, Any]]:
    """Return figures of a growing log of two seeds, and the changes between consecutive figures."""
    events = [
        {"event": "step", "seed": seed, "step": step, "steps": 700, "arms": {"control": {"loss": 1 / step}}}
        for seed in (0, 1)
        for step in range(1, 701)
    ]
    figures = [
        loss_curves(events[:count], {"control": NoiseSettings(strength=0)}) for count in (0, 1, 5, 599, 650, 705, 1400)
    ]
    return [{"old": old, "changes": changes(old, new), "new": new} for old, new in pairwise(figures)]


def _inside() -> dict[str, Any]:
    """Return sizes and cosines at three strengths, and interpolated values."""
    strengths = [5.0, 10.0, 40.0]
    generator = np.random.default_rng(SEED)
    sizes, cosines = generator.uniform(0, 2, (3, 2, 4)), generator.uniform(-1, 1, (3, 2, 4))
    looked_at = [0.0, 1.0, 5.0, 7.5, 10.0, 33.0, 40.0, 90.0]

    def between(values: Any, clean: float) -> list[Any]:
        every = np.concatenate([np.full((1, 2, 4), clean), values]).reshape(4, 8).T
        found = [[np.interp(strength, [0, *strengths], column) for column in every] for strength in looked_at]
        return np.array(found).reshape(-1, 2, 4).tolist()

    return {
        "strengths": strengths,
        "looked_at": looked_at,
        "sizes": {"measured": sizes.tolist(), "expected": between(sizes, 0.0)},
        "cosines": {"measured": cosines.tolist(), "expected": between(cosines, 1.0)},
        "nearest": [0, 1, 1, 1, 2, 3, 3, 3],
    }


def _sentence() -> Sentence:
    generator = np.random.default_rng(SEED)
    clean = (0.1 * generator.standard_normal((7, WIDTH))).astype(np.float32)
    clean[4] = 0  # a zero vector has no direction
    special = np.array([True, *[False] * 6])
    return Sentence(tokens=list("abcdefg"), clean=clean, special=special)


def _settings() -> list[NoiseSettings]:
    kinds = [NoiseSettings(kind=kind) for kind, known in KINDS.items() if not known.drops]
    strengths = [NoiseSettings(unit="std", strength=strength) for strength in (0, 0.001, 0.2, 3)]
    rules = [NoiseSettings(length_rule="padded"), NoiseSettings(unit="relative", strength=0.7, special_tokens=False)]
    dropping = [kind for kind, known in KINDS.items() if known.drops]
    return [*kinds, *strengths, *rules, *(NoiseSettings(kind=kind, unit="share", strength=0.4) for kind in dropping)]


def _noise(payload: dict[str, Any], noise: NoiseSettings) -> dict[str, Any]:
    found = token_effects(payload, noise)
    length = max(payload["length"], PADDED_LENGTH) if noise.length_rule == "padded" else payload["length"]
    signal = payload["root_mean_square"]
    expected = {} if KINDS[noise.kind].drops else equivalents(noise.strength, noise.unit, length, WIDTH, signal)
    return {
        "controls": noise.model_dump(),
        "before": found.before,
        "after": found.after,
        "shares": found.shares,
        "cosines": [None if np.isnan(cosine) else cosine for cosine in found.cosines],
        "equivalents": expected,
    }


def _band(sentence: Sentence, deviation: float = 0.05) -> dict[str, Any]:
    """Return the second lowest and second highest norm over all draws, computed from the noisy vectors."""
    draws = [unit_draw(sentence, "uniform", SEED, epoch) for epoch in range(DRAWS)]
    norms = np.sort([np.linalg.norm(sentence.clean.astype(float) + deviation * draw, axis=1) for draw in draws], axis=0)
    axes, _ = plane_axes(sentence.clean)
    plane = draws[1] @ axes
    return {
        "details": {"key": "", "spread": spread(sentence, SEED)},
        "deviation": deviation,
        "low": norms[1].tolist(),
        "high": norms[-2].tolist(),
        "second": {"x": plane[:, 0].tolist(), "y": plane[:, 1].tolist()},
    }


def _schedules() -> dict[str, Any]:
    adaptive = adaptive_illustration()
    names = [name for name, schedule in SCHEDULES.items() if schedule.multiplier is not None]
    cases = [
        {
            "schedule": name,
            "schedule_point": point,
            "equal_energy": equal,
            "factors": multipliers(name, len(adaptive), point=point, equal_energy=equal),
        }
        for name, point, equal in product(names, (0.0, 0.3, 1.0), (False, True))
    ]
    return {"adaptive": adaptive, "last_share": LAST_SHARE, "cases": cases}


def _densities() -> dict[str, dict[str, list[float]]]:
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    known: dict[str, Any] = {
        "uniform": Uniform(-(3**0.5) * one, 3**0.5 * one, validate_args=False),
        "gaussian": Normal(zero, one),
        "laplace": Laplace(zero, one / 2**0.5),
    }
    at = torch.linspace(-3, 3, 25, dtype=torch.float64)
    return {name: {"x": at.tolist(), "y": density.log_prob(at).exp().tolist()} for name, density in known.items()}


def _sliders() -> list[dict[str, Any]]:
    strengths = (0.0, 0.000321, 0.05, 0.1234, 5.0, 7.5, 250.0)
    cases = product([unit for unit in SLIDERS if unit != "share"], strengths)
    return [
        {"range": SLIDERS[unit], "value": value, "step": strength_of(NoiseSettings(unit=unit, strength=value))["step"]}
        for unit, value in cases
    ]


def _means(past: float = 0.8) -> dict[str, Any]:
    """Return running means, computed as weighted sums over all values so far instead of recursively."""
    values = np.random.default_rng(SEED).standard_normal(12)
    weights = [past ** np.arange(end, -1, -1) for end in range(len(values))]
    means = [float(np.average(values[: end + 1], weights=weights[end])) for end in range(len(values))]
    return {"past": past, "values": values.tolist(), "means": means, "median": float(np.median(values))}
