"""Draws that every earlier study has used; a change of one of these numbers changes the numbers of old studies.

numpy may change the streams of its generators in a new version: this test then fails, and the version must be excluded.
"""

from __future__ import annotations

import hashlib

import pytest

from neftune_core.data.batches import epoch_batches
from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit
from neftune_core.randomness import Purpose, torch_seed

DRAWS = {
    "uniform": "f32ff49442b9d59e",
    "gaussian": "42580d081420f986",
    "laplace": "2136a54f570d0fc5",
    "bernoulli": "7894bb38ee722cc7",
    "symmetric": "7894bb38ee722cc7",
    "adversarial": "f32ff49442b9d59e",
    "token-dropout": "9330e34e20e816b1",
}
"""By kind, the first digits of the SHA-256 of the float32 numbers, little-endian."""

SEEDS = {
    "NOISE": 7558220136855926621,
    "ORDER": 231162957434608422,
    "SPLIT": 3966269581447749433,
    "ADAPTER": 7216122291855826906,
    "DROPOUT": 1408005320684740428,
    "LIVE_NOISE": 1755521511409324574,
    "MODEL_DROPOUT": 2385477566152668769,
    "ANSWER": 3590240990840797303,
    "TYPOS": 7013850900099118865,
    "WEIGHT_NOISE": 7160725908307383361,
    "START_NOISE": 314386113004670144,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_draw_of_a_kind_has_the_bits_it_has_always_had(kind: str) -> None:
    draw = draw_unit(kind, (3, 2, 1, EMBEDDING_SITE), 48, 64)
    assert hashlib.sha256(draw.astype("<f4").tobytes()).hexdigest()[:16] == DRAWS[kind]


@pytest.mark.parametrize("purpose", Purpose)
def test_the_seed_of_a_purpose_is_the_one_it_has_always_been(purpose: Purpose) -> None:
    assert torch_seed(purpose, 3, 2, 1) == SEEDS[purpose.name]


def test_the_rows_of_an_epoch_come_in_the_order_they_have_always_had() -> None:
    assert epoch_batches([5, 9, 3, 7, 1, 8, 2], 3, seed=3, epoch=2) == [[0, 3, 1], [4, 6, 2], [5]]
