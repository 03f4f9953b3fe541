"""The numbers of a preview compared with the vectors, and nearest tokens with a full search."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from token_effects import token_effects

from neftune_core.errors import InvalidSetting
from neftune_core.noise.kinds import EMBEDDING_SITE, KINDS, draw_unit
from neftune_core.noise.names import KIND_WORDS
from neftune_core.noise.nearest import CHANGES, changes, nearest_tokens
from neftune_core.noise.preview import (
    BINS_PER_DEVIATION,
    DRAWN_AS,
    DRAWS,
    RESOLUTION,
    Sentence,
    plane_axes,
    preview,
    spread,
    surviving_share,
    to_bfloat16,
    unit_draw,
)
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import parse

LENGTH, WIDTH, WORDS = 9, 48, 300
GENERATOR = np.random.default_rng(0)
VOCABULARY = (0.1 * GENERATOR.standard_normal((WORDS, WIDTH))).astype(np.float32)
IDS = [3, 250, 7, 7, 299, 0, 120, 121, 64]


def pieces() -> Iterator[np.ndarray]:
    yield VOCABULARY[:130]
    yield VOCABULARY[130:]


SENTENCE = Sentence(
    tokens=[f"word{number}" for number in IDS],
    clean=VOCABULARY[IDS],
    special=np.arange(LENGTH) == 0,
    vocabulary=pieces,
    vocabulary_size=WORDS,
    word=lambda number: f"word{number}",
    about={"model": "invented"},
)
PAYLOAD = preview(SENTENCE, seed=3)
UNITS = {name: draw_unit(name, (3, 0, 0, EMBEDDING_SITE), LENGTH, WIDTH) for name in KINDS}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.drops])
def test_the_numbers_of_every_kind_are_those_of_the_draw_that_training_makes(kind: str) -> None:
    draw, unit = PAYLOAD["draws"][PAYLOAD["kinds"][kind]], UNITS[kind]
    axes, _ = plane_axes(SENTENCE.clean)
    # six significant digits are sent, of places in the plane four
    assert draw["dot"] == pytest.approx((SENTENCE.clean * unit).sum(1), rel=1e-5, abs=1e-6)
    assert draw["square"] == pytest.approx((unit * unit).sum(1), rel=1e-5)
    assert draw["plane"]["x"] == pytest.approx((unit @ axes)[:, 0], rel=1e-3, abs=1e-6)


def test_a_token_is_dropped_from_the_share_that_training_draws_for_it() -> None:
    assert PAYLOAD["dropped_below"]["token-dropout"] == pytest.approx(UNITS["token-dropout"][:, 0], rel=1e-5)


def test_another_kind_that_drops_tokens_is_shown_and_named_without_further_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KINDS, "word-dropout", replace(KINDS["token-dropout"], words="Word dropout"))
    monkeypatch.setitem(KIND_WORDS, "word-dropout", "word dropout")
    payload = preview(SENTENCE, seed=3)
    assert payload["dropped_below"]["word-dropout"] == payload["dropped_below"]["token-dropout"]
    noise = NoiseSettings(kind="word-dropout", unit="share", strength=0.6)
    gone = np.array(payload["dropped_below"]["word-dropout"]) < 0.6
    assert [norm == 0 for norm in token_effects(payload, noise).after] == gone.tolist()
    for values, words in (
        ({"kind": "word-dropout"}, "strength of word dropout is a share"),
        ({"unit": "share"}, "can only be used with token dropout, word dropout"),
        ({"kind": "word-dropout", "unit": "share", "strength": 2}, "strength of word dropout must be a share"),
    ):
        with pytest.raises(InvalidSetting, match=f"(?i){words}"):
            parse(NoiseSettings, values)


def test_the_sentence_is_shown_with_its_special_tokens() -> None:
    assert PAYLOAD["special"] == [0]
    assert PAYLOAD["model"] == "invented"
    assert PAYLOAD["root_mean_square"] == pytest.approx(np.sqrt((SENTENCE.clean**2).mean()))


def test_another_place_and_another_seed_have_other_draws() -> None:
    elsewhere = Sentence(SENTENCE.tokens, SENTENCE.clean, SENTENCE.special, site=2)
    assert preview(elsewhere, seed=3)["draws"]["uniform"] != PAYLOAD["draws"]["uniform"]
    assert preview(SENTENCE, seed=4)["draws"]["uniform"] != PAYLOAD["draws"]["uniform"]


def test_a_histogram_counts_every_coordinate_within_its_bins() -> None:
    unit = UNITS["laplace"]
    counts = PAYLOAD["draws"]["laplace"]["histogram"]
    edges = (np.arange(len(counts) + 1) - len(counts) / 2) / BINS_PER_DEVIATION
    assert counts == np.histogram(unit, edges)[0].tolist()
    assert sum(PAYLOAD["draws"]["bernoulli"]["histogram"]) == LENGTH * WIDTH


def test_the_plane_is_that_of_the_two_largest_components() -> None:
    centred = SENTENCE.clean - SENTENCE.clean.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    # a component has no sign of its own; four digits are sent
    assert np.abs(PAYLOAD["plane"]["x"]) == pytest.approx(np.abs(left[:, 0] * sizes[0]), rel=1e-3, abs=1e-4)
    assert np.abs(PAYLOAD["plane"]["y"]) == pytest.approx(np.abs(left[:, 1] * sizes[1]), rel=1e-3, abs=1e-4)
    assert PAYLOAD["plane"]["share"] == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum(), rel=1e-4)


@pytest.mark.parametrize("length", [1, 2])
def test_a_plane_is_found_for_the_shortest_texts(length: int) -> None:
    axes, share = plane_axes(SENTENCE.clean[:length])
    assert axes.T @ axes == pytest.approx(np.eye(2), abs=1e-5)  # orthonormal in single precision
    assert 0 <= share <= 1 + 1e-6


def test_repeated_draws_are_those_of_further_epochs() -> None:
    found = spread(SENTENCE, seed=3)
    numbers = np.frombuffer(base64.b64decode(found["numbers"]), "<i2").reshape(len(found["kinds"]), DRAWS, 4, LENGTH)
    norms = np.linalg.norm(SENTENCE.clean, axis=1)
    axes, _ = plane_axes(SENTENCE.clean)
    for place, kind in enumerate(found["kinds"]):
        assert DRAWN_AS[kind] == kind
        unit = unit_draw(SENTENCE, kind, 3, epoch=5)
        dot, square, x, y = numbers[place, 5] / RESOLUTION
        # half of the last whole number, and what single precision adds
        assert dot == pytest.approx((SENTENCE.clean * unit).sum(1) / norms, abs=2e-4)
        assert square == pytest.approx(((unit * unit).sum(1) - WIDTH) / np.sqrt(WIDTH), abs=2e-4)
        assert np.column_stack([x, y]) == pytest.approx(unit @ axes, abs=2e-4)


def test_bfloat16_keeps_loud_noise_and_loses_the_faint() -> None:
    clean = to_bfloat16(SENTENCE.clean)
    assert surviving_share(clean, 0.1 * UNITS["uniform"]) == pytest.approx(1, abs=0.02)
    assert surviving_share(clean, np.float32(1e-6) * UNITS["uniform"]) < 0.2
    assert surviving_share(clean, 0 * UNITS["uniform"]) == 1


def test_what_is_realised_is_reported_of_models_in_bfloat16_only() -> None:
    half = Sentence(SENTENCE.tokens, to_bfloat16(SENTENCE.clean), SENTENCE.special, precision="bfloat16")
    shares = [share for _, share in preview(half, seed=0)["realised"]]
    assert shares[0] < 0.2 < 0.95 < shares[-1]
    assert PAYLOAD["realised"] == []


def nearest_by_search(noisy: np.ndarray) -> np.ndarray:
    return ((noisy[:, None] - VOCABULARY[None]) ** 2).sum(-1).argmin(1)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "laplace", "bernoulli"])
def test_the_nearest_token_changes_where_a_search_of_the_vocabulary_says(kind: str) -> None:
    units = {name: UNITS[name].astype(np.float64) for name in (kind,)}
    found, _ = changes(SENTENCE, {kind: UNITS[kind]})
    strengths, numbers = found[kind]
    for token in range(LENGTH):
        known = IDS[token]
        for change in range(CHANGES):
            at, number = float(strengths[token, change]), int(numbers[token, change])
            if not np.isfinite(at):
                break
            # on either side of a crossing of two lines in single precision
            before = SENTENCE.clean[token] + 0.999 * at * units[kind][token]
            after = SENTENCE.clean[token] + 1.001 * at * units[kind][token]
            assert nearest_by_search(before[None])[0] == known
            assert nearest_by_search(after[None])[0] == number
            known = number
    assert np.isfinite(strengths[:, 0]).any()


def test_tokens_are_taken_in_groups_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, closest = changes(SENTENCE, {"uniform": UNITS["uniform"]})
    monkeypatch.setattr("neftune_core.noise.nearest.PRODUCTS_AT_ONCE", 4 * WORDS)
    grouped, closest_in_groups = changes(SENTENCE, {"uniform": UNITS["uniform"]})
    # a product of different shapes adds in a different order
    assert grouped["uniform"][0] == pytest.approx(whole["uniform"][0], rel=1e-3)
    assert (grouped["uniform"][1] == whole["uniform"][1]).all()
    assert (closest_in_groups == closest).all()


def test_a_twin_in_the_vocabulary_is_not_a_change() -> None:
    twins = np.concatenate([VOCABULARY, VOCABULARY[IDS]])
    doubled = Sentence(
        SENTENCE.tokens,
        SENTENCE.clean,
        SENTENCE.special,
        vocabulary=lambda: iter([twins]),
        vocabulary_size=len(twins),
    )
    found, closest = changes(doubled, {"uniform": UNITS["uniform"]})
    alone, _ = changes(SENTENCE, {"uniform": UNITS["uniform"]})
    assert found["uniform"][0][:, 0] == pytest.approx(alone["uniform"][0][:, 0], rel=1e-4)
    assert (closest < WORDS).all()


def test_the_neighbours_are_other_tokens_of_the_vocabulary() -> None:
    told = nearest_tokens(SENTENCE, seed=3)
    around = told["neighbours"]
    assert around["tokens"]
    assert not set(around["tokens"]) & set(SENTENCE.tokens)
    axes, _ = plane_axes(SENTENCE.clean)
    number = int(around["tokens"][0].removeprefix("word"))
    place = (VOCABULARY[number] - SENTENCE.clean.mean(0)) @ axes
    assert [around["x"][0], around["y"][0]] == pytest.approx(place, rel=1e-3, abs=1e-5)  # four digits are sent


def test_a_place_without_a_vocabulary_has_no_nearest_tokens() -> None:
    assert nearest_tokens(Sentence(SENTENCE.tokens, SENTENCE.clean, SENTENCE.special), seed=0) == {}


def test_sixty_tokens_are_previewed_at_once() -> None:
    clean = GENERATOR.standard_normal((60, 576)).astype(np.float32)
    sentence = Sentence(["x"] * 60, clean, np.zeros(60, dtype=bool), precision="bfloat16")
    preview(sentence, seed=0)
    times = []
    for seed in range(5):
        start = time.perf_counter()
        preview(sentence, seed)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2  # the aim is 0.02; a busy machine gets ten times that
