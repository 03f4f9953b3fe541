"""The noise of a batch: exact per row, independent of other rows, and zero outside its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neftune_core.bench.noise import Size, hodges_lehmann, measure_noise
from neftune_core.data.batches import collate
from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Example, Message
from neftune_core.engine.passes import noise_rows
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows, initial_noise
from neftune_core.noise.kinds import KINDS, draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.sites import DECODER, ENCODER, Site
from neftune_core.noise.strength import standard_deviation

WIDTH = 8
EMBEDDING = Site(number=0, part=DECODER, module=nn.Identity(), owner=nn.Identity(), key=0)
LAYER = Site(number=2, part=DECODER, module=nn.Identity(), owner=nn.Identity(), key=2)


def rows_of(lengths: Sequence[int], padded: int, first: int = 0) -> Rows:
    """Return rows with a special first token and a response in the second half."""
    places, true = torch.arange(padded), torch.tensor(lengths)[:, None]
    response = (places >= true // 2) & (places < true)
    special = (places == 0).expand(len(lengths), -1)
    keys = [(0, 0, first + row) for row in range(len(lengths))]
    return Rows(keys, lengths, max(lengths), response, special)


def noise_of(arms: Sequence[NoiseSettings], lengths: Sequence[int] = (4, 9), padded: int = 16) -> BatchNoise:
    return BatchNoise([ArmNoise(arm) for arm in arms], {DECODER: rows_of(lengths, padded)})


def added_by(noise: BatchNoise, clean: Tensor | None = None, site: Site = EMBEDDING) -> Tensor:
    """Return what is added to vectors (zeros by default), `[arms, batch, padded, width]`."""
    batch, padded = noise.rows[DECODER].response.shape
    if clean is None:
        clean = torch.zeros(batch, padded, WIDTH)
    rows = clean.repeat(len(noise.arms), 1, 1)
    return (noise.add_to(site, rows.clone()) - rows).view(len(noise.arms), batch, padded, WIDTH)


ADDING = [kind for kind, entry in KINDS.items() if not entry.drops]


@pytest.mark.parametrize("kind", ADDING)
def test_padding_gets_no_noise_and_each_row_is_scaled_by_its_true_length(kind: str) -> None:
    added = added_by(noise_of([NoiseSettings(strength=0), NoiseSettings(strength=5, kind=kind)]))
    assert torch.equal(added[0], torch.zeros(2, 16, WIDTH))
    for row, length in enumerate([4, 9]):
        assert torch.equal(added[1, row, length:], torch.zeros(16 - length, WIDTH))
        expected = draw_unit(kind, (0, 0, row, 0), length, WIDTH) * standard_deviation(5, "alpha", length, WIDTH)
        torch.testing.assert_close(added[1, row, :length], torch.from_numpy(expected).float())


def test_the_padded_rule_divides_by_the_longest_true_length() -> None:
    true, padded = (added_by(noise_of([NoiseSettings(strength=5, length_rule=rule)])) for rule in ("true", "padded"))
    torch.testing.assert_close(padded[0, 0], true[0, 0] * math.sqrt(4 / 9))
    assert torch.equal(padded[0, 1], true[0, 1])
    assert torch.equal(padded[0, 0, 4:], torch.zeros(12, WIDTH))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_does_not_change_with_padding_batch_or_order(kind: str) -> None:
    unit = "share" if KINDS[kind].drops else "std"
    arm = ArmNoise(NoiseSettings(strength=0.5, unit=unit, kind=kind))
    clean = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))

    def noised(rows: Rows, place: int) -> Tensor:
        vectors = torch.zeros(len(rows.lengths), rows.response.shape[1], WIDTH)
        vectors[place, :5] = clean
        return BatchNoise([arm], {DECODER: rows}).add_to(EMBEDDING, vectors)[place, :5]

    alone = noised(rows_of([5], 5, first=7), 0)
    assert not torch.equal(alone, clean)
    assert torch.equal(noised(rows_of([3, 5], 32, first=6), 1), alone)
    assert torch.equal(noised(rows_of([5, 4, 9], 12, first=7), 0), alone)


def test_arms_of_a_kind_share_their_draw_and_the_multiplier_scales_it() -> None:
    weak = NoiseSettings(strength=1, unit="std")
    arms = [ArmNoise(weak), ArmNoise(NoiseSettings(strength=3, unit="std")), ArmNoise(weak, multiplier=0.5)]
    added = added_by(BatchNoise(arms, {DECODER: rows_of([5], 5)}))
    torch.testing.assert_close(added[1], 3 * added[0])
    torch.testing.assert_close(added[2], added[0] / 2)


def test_the_halves_of_a_pair_are_opposites() -> None:
    arm = NoiseSettings(strength=1, unit="std", kind="symmetric")
    added = added_by(BatchNoise([ArmNoise(arm), ArmNoise(arm, sign=-1.0)], {DECODER: rows_of([5], 8)}))
    assert torch.equal(added[1], -added[0])
    assert torch.equal(added[0, 0, :5].abs(), torch.ones(5, WIDTH))


@pytest.mark.parametrize(
    ("tokens", "special", "where"),
    [
        ("all", True, range(9)),
        ("prompt", True, range(4)),
        ("response", True, range(4, 9)),
        ("prompt", False, range(1, 4)),
    ],
)
def test_only_the_chosen_tokens_get_noise_and_the_strength_is_that_of_all(
    tokens: str, special: bool, where: range
) -> None:
    whole = added_by(noise_of([NoiseSettings(strength=5)]))[0, 1]
    some = added_by(noise_of([NoiseSettings(strength=5, tokens=tokens, special_tokens=special)]))[0, 1]
    chosen = torch.zeros(16, 1).index_fill(0, torch.tensor(list(where)), 1.0)
    assert torch.equal(some, whole * chosen)


def test_noise_goes_to_its_sites_alone_each_with_a_draw_of_its_own() -> None:
    settings = NoiseSettings(strength=1, unit="std", sites="embedding, 2")
    both = BatchNoise([ArmNoise(settings, (0, 2))], {DECODER: rows_of([5], 5)})
    layer = BatchNoise([ArmNoise(settings, (2,))], {DECODER: rows_of([5], 5)})
    assert torch.equal(added_by(layer), torch.zeros(1, 1, 5, WIDTH))
    assert torch.equal(added_by(layer, site=LAYER), added_by(both, site=LAYER))
    assert not torch.equal(added_by(both), added_by(both, site=LAYER))


def test_relative_noise_has_the_asked_ratio_to_each_rows_own_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 64, WIDTH, generator=generator) * torch.tensor([0.1, 20.0])[:, None, None]
    clean[:, 50:] = 1000.0  # what stands on padding must not count
    noise = noise_of([NoiseSettings(strength=0.25, unit="relative", kind="bernoulli")], [50, 40], 64)
    clean[1, 40:] = 1000.0
    added = added_by(noise, clean)[0]
    for row, length in enumerate([50, 40]):
        signal = clean[row, :length].pow(2).mean().sqrt()
        torch.testing.assert_close(added[row, :length].pow(2).mean().sqrt(), 0.25 * signal, rtol=1e-4, atol=0)


def test_dropped_tokens_are_zero_and_a_greater_share_drops_them_too() -> None:
    shares = (0.2, 0.5, 1.0)
    noise = noise_of(
        [NoiseSettings(strength=share, unit="share", kind="token-dropout") for share in shares], [200, 9], 224
    )
    zero = (added_by(noise, torch.ones(2, 224, WIDTH)) == -1).all(-1)
    for share, found in zip(shares, zero, strict=True):
        assert float(found[0, 1:200].float().mean()) == pytest.approx(
            share, abs=5 * math.sqrt(share * (1 - share) / 199)
        )
        assert not found[0, 200:].any()
        assert not found[1, 9:].any()
    assert (zero[0] <= zero[1]).all()
    assert zero[2][0, 1:200].all()
    assert not zero[:, :, 0].any()


def test_noise_is_added_in_float32_and_rounded_once() -> None:
    clean = torch.randn(1, 5, WIDTH, generator=torch.Generator().manual_seed(0)).bfloat16()
    noise = noise_of([NoiseSettings(strength=0.3, unit="std")], [5], 5)
    unit = torch.from_numpy(draw_unit("uniform", (0, 0, 0, 0), 5, WIDTH))
    expected = torch.addcmul(clean.float(), unit, torch.tensor(0.3)).bfloat16()
    assert torch.equal(noise.add_to(EMBEDDING, clean.clone())[0], expected[0])
    with_gradient = clean.clone().requires_grad_()
    assert torch.equal(noise.add_to(EMBEDDING, with_gradient)[0], expected[0])


@pytest.mark.parametrize("kind", ["gaussian", "token-dropout"])
def test_vectors_with_a_gradient_are_spared_and_get_theirs(kind: str) -> None:
    unit = "share" if kind == "token-dropout" else "std"
    noise = noise_of([NoiseSettings(strength=0), NoiseSettings(strength=0.5, unit=unit, kind=kind)], [5], 8)
    clean = torch.ones(2, 8, WIDTH, requires_grad=True)
    noisy = noise.add_to(EMBEDDING, clean)
    noisy.sum().backward()
    assert torch.equal(clean, torch.ones(2, 8, WIDTH))
    assert clean.grad is not None
    gone = (noisy == 0).float()
    assert bool(gone.any()) == (kind == "token-dropout")
    assert torch.equal(clean.grad, 1 - gone)


def test_where_no_arm_has_noise_the_vectors_are_not_touched() -> None:
    vectors = torch.randn(2, 16, WIDTH)
    silent = BatchNoise([ArmNoise(NoiseSettings(strength=5), multiplier=0.0)], {DECODER: rows_of([4, 9], 16)})
    assert silent.add_to(EMBEDDING, vectors) is vectors


def test_noise_besides_the_vectors_takes_no_more_than_one_draw_per_kind() -> None:
    """Measure the profiler's CPU memory for arms of one kind."""
    arms = [NoiseSettings(strength=strength, unit="std") for strength in (1, 2, 3)]
    noise = noise_of(arms, [128] * 4, 128)
    vectors = torch.zeros(12, 128, 64)
    noise.add_to(EMBEDDING, vectors)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profile:
        noise.add_to(EMBEDDING, vectors)
    allocated = sum(event.self_cpu_memory_usage for event in profile.key_averages() if event.self_cpu_memory_usage > 0)
    draw = vectors.numel() / 3 * 4
    assert draw <= allocated <= 1.1 * draw


def test_ascent_begins_at_the_uniform_draw_and_keeps_the_norm_of_each_sequence() -> None:
    settings = NoiseSettings(strength=5, kind="adversarial", tokens="prompt")
    arm, rows = ArmNoise(settings), {DECODER: rows_of([4, 9], 16)}
    adversarial = initial_noise(arm, [EMBEDDING, LAYER], {0: WIDTH, 2: WIDTH}, rows)
    assert list(adversarial) == [0]
    with_adversarial = BatchNoise([ArmNoise(settings, adversarial=adversarial)], rows)
    uniform = BatchNoise([ArmNoise(NoiseSettings(strength=5, tokens="prompt"))], rows)
    first = added_by(with_adversarial).detach()
    assert torch.equal(first, added_by(uniform))
    direction = torch.randn(2, 16, WIDTH, generator=torch.Generator().manual_seed(0))
    before = float((first * direction).sum())
    for _ in range(3):
        (gradient,) = torch.autograd.grad((added_by(with_adversarial) * direction).sum(), [adversarial[0].unit])
        adversarial[0].ascend(gradient, rate=0.5)
    after = added_by(with_adversarial).detach()
    torch.testing.assert_close(after.norm(dim=(2, 3)), first.norm(dim=(2, 3)))
    assert float((after * direction).sum()) > before
    assert torch.equal(after[0, 1, 4:], torch.zeros(12, WIDTH))


@pytest.mark.parametrize("gradient", [0.0, math.nan, math.inf])
def test_a_gradient_of_no_use_leaves_the_noise_where_it_is(gradient: float) -> None:
    arm = ArmNoise(NoiseSettings(strength=5, kind="adversarial"))
    adversarial = initial_noise(arm, [EMBEDDING], {0: WIDTH}, {DECODER: rows_of([4, 9], 16)})[0]
    before = adversarial.unit.detach().clone()
    adversarial.ascend(torch.full_like(before, gradient), rate=1.0)
    assert torch.equal(adversarial.unit, before)


def test_the_benchmark_of_noise_times_every_kind_and_weighs_it() -> None:
    size = Size(vocabulary=60, width=16, inner=24, layers=1, heads=2, key_value_heads=1, length=16, seconds_per_kind=0)
    table = measure_noise(size).as_json()
    ratios = [row for row in table["rows"] if "rounds" in row]
    assert len(ratios) == len(KINDS)
    for row in ratios:
        assert 0 < row["95% from"] <= row["value"] <= row["95% to"]
    one, four = (row["value"] for row in table["rows"] if row["what"].startswith("memory"))
    assert one == pytest.approx(4 * four, rel=0.5)  # one draw, and little things that weigh on so small a batch


def test_the_middle_of_pairs_is_that_of_a_published_example() -> None:
    first = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    second = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    middle, low, high = hodges_lehmann(first - second)  # Hollander and Wolfe, example 3.1
    assert middle == pytest.approx(0.46, abs=1e-9)
    assert (low, high) == pytest.approx((0.01, 0.786), abs=1e-9)


def test_the_interval_of_the_middle_holds_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    found = [hodges_lehmann(generator.laplace(1.0, 1.0, 12)) for _ in range(2000)]
    held = np.mean([low <= 1.0 <= high for _, low, high in found])
    assert held == pytest.approx(0.95, abs=0.02)  # ranks are whole numbers; the standard error is 0.005


def test_a_decoder_that_is_fed_its_targets_reads_its_start_token_and_not_the_last_target() -> None:
    example = Example((Message("user", "a"), Message("assistant", "b")), row=1)
    row = EncodedExample(
        np.array([0, 7, 8, 9], np.int32), np.array([False, True, True, True]), example, source=np.arange(1, 7)
    )
    batch = collate([row], pad_id=0)
    found = noise_rows([row], batch, [(0, 0, 0)], [row])
    assert found[DECODER].lengths == [3]  # the start token, 7 and 8; 9 is only predicted
    assert found[DECODER].longest == 3
    assert found[DECODER].response[0, :3].tolist() == [True] * 3
    assert found[ENCODER].lengths == [6]
    assert not found[ENCODER].response.any()
