"""Noise on a live model, call by call: seeds, schedules, precision and refusals."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from live_noise import ALPHA5, BATCH, IDS, MASK, noise_at, site_of

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.errors import InvalidSetting
from neftune_core.noise.attach import LiveNoise
from neftune_core.noise.hooks import Call
from neftune_core.noise.sites import noise_sites


def test_evaluation_is_clean_and_each_training_call_draws_again(model: Any) -> None:
    first, second = noise_at(model, ALPHA5, BATCH, calls=2)
    assert not torch.equal(first, second)
    model.eval()
    assert not noise_at(model, ALPHA5, BATCH)[0].any()


def test_the_same_seed_gives_the_same_draws_and_the_global_generators_are_untouched(model: Any) -> None:
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    draws = [noise_at(model, NoiseSettings(kind="gaussian"), BATCH, seed=seed)[0] for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())


def test_each_rank_draws_its_own(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        draws.append(noise_at(model, ALPHA5, BATCH)[0])
    assert not torch.equal(*draws)


def test_evaluation_between_training_calls_changes_no_draw(model: Any) -> None:
    whole = noise_at(model, ALPHA5, BATCH, calls=2)
    seen: list[torch.Tensor] = []
    clean = site_of(model)(IDS).detach()
    with noisy_embeddings(model, ALPHA5):
        handle = site_of(model).register_forward_hook(lambda module, args, output: seen.append(output.detach() - clean))
        for training in (True, False, True):
            model.train(training)(**BATCH)
        handle.remove()
    assert torch.equal(seen[0], whole[0])
    assert not seen[1].any()
    assert torch.equal(seen[2], whole[1])


def test_a_schedule_follows_the_training_calls_and_keeps_its_end(model: Any) -> None:
    settings = NoiseSettings(strength=1, unit="std", kind="bernoulli", schedule="linear")
    noises = _with_calls(model, settings, total=5, made=7)
    found = [float(noise[MASK == 1].abs().mean()) for noise in noises]
    assert found == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0], abs=1e-6)


def _with_calls(model: Any, settings: NoiseSettings, *, total: int, made: int) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    clean = site_of(model)(IDS).detach()
    with noisy_embeddings(model, settings, calls=total):
        handle = site_of(model).register_forward_hook(lambda module, args, output: seen.append(output.detach() - clean))
        for _ in range(made):
            model(**BATCH)
        handle.remove()
    return seen


def test_token_dropout_of_equal_energy_spares_padding(model: Any) -> None:
    settings = NoiseSettings(kind="token-dropout", unit="share", strength=1, schedule="linear", equal_energy=True)
    first = _with_calls(model, settings, total=4, made=1)[0]
    dropped = MASK == 1
    dropped[[0, 1], [0, 2]] = False  # the first token of each row stays
    assert torch.equal(first.abs().amax(-1) > 0, dropped)


@pytest.mark.parametrize(
    ("settings", "calls", "words"),
    [
        (NoiseSettings(kind="symmetric"), None, "second pass"),
        (NoiseSettings(kind="adversarial"), None, "gradient ascent passes"),
        (NoiseSettings(schedule="adaptive"), 10, "follows the loss"),
        (NoiseSettings(schedule="linear"), None, "needs the length of the run"),
        (NoiseSettings(schedule="linear"), 0, "needs the length of the run"),
    ],
)
def test_what_needs_more_than_the_call_is_refused_with_a_sentence(
    model: Any, settings: NoiseSettings, calls: int | None, words: str
) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught, noisy_embeddings(model, settings, calls=calls):
        pass
    assert str(caught.value).endswith(".")


def test_a_negative_seed_gets_a_sentence(model: Any) -> None:
    with noisy_embeddings(model, ALPHA5, seed=-1), pytest.raises(InvalidSetting, match="negative"):
        model(input_ids=IDS)


def test_noise_on_bfloat16_is_added_in_float32_and_rounded_once(model: Any) -> None:
    model, seen = model.to(torch.bfloat16), {}
    for precision in (torch.float32, torch.bfloat16):
        model = model.to(precision)
        with noisy_embeddings(model, NoiseSettings(strength=0.01, unit="std")):
            handle = site_of(model).register_forward_hook(
                lambda module, args, output, precision=precision: seen.update({precision: output.detach()})
            )
            model(**BATCH)
            handle.remove()
    assert seen[torch.bfloat16].dtype == torch.bfloat16
    assert torch.equal(seen[torch.bfloat16], seen[torch.float32].to(torch.bfloat16))


def test_vectors_of_float64_keep_their_precision(model: Any) -> None:
    noise = noise_at(model.double(), NoiseSettings(strength=1e-12, unit="std"), BATCH)[0]
    assert noise.dtype == torch.float64
    assert float(noise[MASK == 1].std()) == pytest.approx(1e-12, rel=0.1)  # 352 draws: error about 2%


def test_noise_takes_no_more_memory_than_one_float32_tensor_of_the_vectors(model: Any) -> None:
    clean = torch.zeros(4, 512, 256)
    call = Call(number=1, encoder_decoder=False)
    noise = LiveNoise(ALPHA5, (0, 0), multipliers=[1.0])
    noise.add_to(clean, noise_sites(model)[0], call)
    tracemalloc.start()
    noise.add_to(clean, noise_sites(model)[0], call)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.05 * clean.numel() * 4
