"""Every kind of noise in the lockstep loop: an arm equals a single run, and its passes are correct."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from each_family import family_cases
from tiny import loaded_tiny, losses_of, random_rows

from neftune_core.data.chat import EncodedExample
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.loss import arm_losses
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack, Dropout
from neftune_core.errors import Cancelled, InvalidSetting
from neftune_core.models.architecture.anatomy import leave_out
from neftune_core.models.architecture.trials import unreached_maps
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.batch import ArmNoise, BatchNoise
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.settings import CONTROL, StudySettings
from tests.stress.families.tiny import FAMILIES

ARMS: dict[str, NoiseSettings] = {
    **{kind: NoiseSettings(strength=30, kind=kind) for kind in KINDS if not KINDS[kind].drops},
    "token-dropout": NoiseSettings(strength=0.3, unit="share", kind="token-dropout"),
    "relative at a layer": NoiseSettings(strength=0.3, unit="relative", kind="gaussian", sites="embedding, 1"),
    "adversarial at layers": NoiseSettings(strength=0.3, unit="relative", kind="adversarial", sites="1-2"),
    "adaptive": NoiseSettings(strength=30, schedule="adaptive", tokens="prompt", special_tokens=False),
    "linear": NoiseSettings(strength=30, schedule="linear", length_rule="padded"),
}


def lockstep(
    loaded: LoadedModel, arms: Mapping[str, NoiseSettings], rows: list[EncodedExample] | None = None, **training: Any
) -> Lockstep:
    settings = {"steps": 3, "learning_rate": 5e-3, "evaluations": 1, "batch_size": 4, "lora_dropout": 0.3} | training
    study = StudySettings(training=TrainingSettings(**settings))
    stack = AdapterStack(loaded, len(arms), rank=4, alpha=8)
    return Lockstep(study, stack, SimpleNamespace(train=rows or random_rows(12), held_out=[]), arms=arms)


def step_events(run: Lockstep) -> list[dict[str, Any]]:
    return [event for event in run.run(lambda: False) if event["event"] == "step"]


def gradients_of(run: Lockstep) -> list[torch.Tensor]:
    """Return the gradients of the first step of a run, summed over its passes."""
    step = next(run.steps())
    run.backward(step, run.noise.at(1, run.alive), lambda: False)
    return [parameter.grad.clone() for parameter in run.stack.parameters() if parameter.grad is not None]


def test_an_arm_of_any_kind_has_in_lockstep_the_losses_that_it_has_alone(tiny: LoadedModel) -> None:
    together = step_events(lockstep(tiny, {"control": CONTROL, **ARMS}))
    for name, noise in ARMS.items():
        alone = step_events(lockstep(tiny, {name: noise}))
        # float32, in batched products of different sizes, over three steps
        assert losses_of(together, name) == pytest.approx(losses_of(alone, name), abs=1e-5), name
        assert losses_of(together, name)[0] != losses_of(together, "control")[0], name


def test_in_parts_a_step_is_what_it_is_at_once(tiny: LoadedModel) -> None:
    whole, parts, single = (
        lockstep(tiny, {"control": CONTROL, **ARMS}, accumulation=accumulation, lora_dropout=0.0, steps=1)
        for accumulation in (1, 2, 4)
    )
    expected = gradients_of(whole)
    for run in (parts, single):
        for found, gradient in zip(gradients_of(run), expected, strict=True):
            torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)
    again = [step_events(run)[0]["arms"] for run in (whole, parts, single)]
    for name in again[0]:
        for other in again[1:]:
            assert other[name]["loss"] == pytest.approx(again[0][name]["loss"], abs=1e-6), name


def test_a_pair_has_the_mean_loss_and_gradient_of_two_passes_of_opposite_noise(tiny: LoadedModel) -> None:
    arms = {"control": CONTROL, "symmetric": NoiseSettings(strength=0.5, unit="std", kind="symmetric")}
    run = lockstep(tiny, arms)
    found = gradients_of(run)
    (event,) = step_events(lockstep(tiny, arms, steps=1))
    (micro_batch,) = run.micro_batches(next(run.steps()))
    parameters = run.stack.parameters()
    by_sign = []
    for sign in (1.0, -1.0):
        noise = BatchNoise([ArmNoise(arms["symmetric"], sign=sign)], micro_batch.rows)
        run.optimizer.clear()
        with run.stack.training([2], noise=noise, dropout=Dropout((0.3,), micro_batch.seed)) as tree:
            loss = arm_losses(tree, micro_batch.batch, 1, backward_over=micro_batch.tokens).means[0]
        by_sign.append((float(loss), [parameter.grad[2].clone() for parameter in parameters]))
    assert by_sign[0][0] != by_sign[1][0]
    assert event["arms"]["symmetric"]["loss"] == pytest.approx((by_sign[0][0] + by_sign[1][0]) / 2, abs=1e-6)
    for gradient, one, other in zip(found, by_sign[0][1], by_sign[1][1], strict=True):
        torch.testing.assert_close(gradient[2], (one + other) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("where", [{}, {"unit": "relative", "sites": "embedding, 1"}, {"tokens": "prompt"}])
def test_adversarial_noise_has_a_higher_loss_than_its_first_draw(tiny: LoadedModel, where: dict[str, Any]) -> None:
    strength = {"strength": 0.5} if "unit" in where else {"strength": 10}
    climbing = NoiseSettings(kind="adversarial", ascent_steps=3, **strength, **where)
    events = step_events(lockstep(tiny, {"uniform": NoiseSettings(**strength, **where), "adversarial": climbing}))
    first = events[0]["arms"]
    assert first["adversarial"]["first_draw_loss"] == pytest.approx(first["uniform"]["loss"], abs=1e-6)
    for event in events:
        numbers = event["arms"]["adversarial"]
        assert numbers["loss"] > numbers["first_draw_loss"]
        assert set(event["arms"]["uniform"]) < set(numbers)


def test_without_ascent_steps_adversarial_noise_is_the_uniform_bit_for_bit(tiny: LoadedModel) -> None:
    def numbers(noise: NoiseSettings) -> list[Any]:
        return [event["arms"] for event in step_events(lockstep(tiny, {"control": CONTROL, "noise": noise}))]

    zero_steps = NoiseSettings(strength=30, kind="adversarial", ascent_steps=0)
    assert numbers(zero_steps) == numbers(NoiseSettings(strength=30))


def test_arms_may_climb_different_numbers_of_steps(tiny: LoadedModel) -> None:
    arms = {str(steps): NoiseSettings(strength=10, kind="adversarial", ascent_steps=steps) for steps in (1, 4)}
    (event,) = step_events(lockstep(tiny, arms, steps=1, lora_dropout=0.0))
    one, four = event["arms"]["1"], event["arms"]["4"]
    assert one["first_draw_loss"] == pytest.approx(four["first_draw_loss"], abs=1e-6)
    assert four["loss"] > one["loss"]


def test_relative_noise_at_a_layer_has_the_asked_ratio_to_what_the_layer_gives(tiny: LoadedModel) -> None:
    noise = NoiseSettings(strength=0.25, unit="relative", kind="bernoulli", sites="2")
    seen: list[torch.Tensor] = []
    for arms in ({"control": CONTROL}, {"noise": noise}):
        run = lockstep(tiny, arms, steps=1)
        layer = next(site.module for site in run.stack.sites if site.number == 2)
        layer.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
        step = next(run.steps())
        run.backward(step, run.noise.at(1, run.alive), lambda: False)
    clean, noisy = seen
    for row, place in enumerate(step.rows):
        length = len(run.prepared.train[place].ids)
        ratio = (noisy - clean)[row, :length].norm() / clean[row, :length].norm()
        assert float(ratio) == pytest.approx(0.25, rel=1e-4)
        assert torch.equal(noisy[row, length:], clean[row, length:])


def test_noise_on_a_layer_that_is_not_there_is_refused_before_the_run(tiny: LoadedModel) -> None:
    with pytest.raises(InvalidSetting, match="this model has 2"):
        lockstep(tiny, {"noise": NoiseSettings(sites="3")})


def test_a_switched_off_arm_is_from_then_on_a_plain_one_without_noise(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = NoiseSettings(strength=30, kind="adversarial", schedule="switch-off", schedule_point=0.5)
    run = lockstep(tiny, {"noise": noise}, steps=4)
    numbers = []
    for event in run.run(lambda: False):
        if event["event"] == "step":
            numbers.append(event["arms"]["noise"])
        if event["step"] == 2:
            monkeypatch.setattr("neftune_core.engine.passes.BatchNoise", None)  # calling it would fail
    assert [found["noise_multiplier"] for found in numbers] == [1, 1, 0, 0]
    assert ["first_draw_loss" in found for found in numbers] == [True, True, False, False]


def test_the_adaptive_multiplier_follows_the_loss_of_its_own_arm(tiny: LoadedModel) -> None:
    arms = {str(strength): NoiseSettings(strength=strength, schedule="adaptive") for strength in (2, 8)}
    events = step_events(lockstep(tiny, arms, steps=12, learning_rate=2e-2))
    for name in arms:
        found = [event["arms"][name]["noise_multiplier"] for event in events]
        smoothed = first = losses_of(events, name)[0]
        for loss, multiplier in zip(losses_of(events, name)[1:-1], found[2:], strict=True):
            smoothed = 0.9 * smoothed + 0.1 * loss
            assert multiplier == pytest.approx(min(1.0, smoothed / first))
        assert found[0] == 1
        assert found[-1] < 1
    last = events[-1]["arms"]
    assert last["2"]["noise_multiplier"] != last["8"]["noise_multiplier"]


@pytest.mark.parametrize("poisoned", ["symmetric", "adversarial"])
def test_an_arm_of_several_passes_that_diverges_stands_still_and_the_others_continue(
    tiny: LoadedModel, poisoned: str
) -> None:
    arms = {"control": CONTROL, "symmetric": ARMS["symmetric"], "adversarial": ARMS["adversarial"]}
    slot = list(arms).index(poisoned) + 1

    def run(*, poison: bool) -> tuple[list[dict[str, Any]], Lockstep]:
        one = lockstep(tiny, arms, steps=5)
        events = []
        for event in one.run(lambda: False):
            events.append(event)
            if poison and event["event"] == "step" and event["step"] == 2:
                with torch.no_grad():
                    one.stack.parameters()[0][slot, 0, 0] = float("nan")
            if poison and event["event"] == "diverged":
                one.at_the_end = one.stack.parameters()[3][slot].detach().clone()  # type: ignore[attr-defined]
        return events, one

    (events, ended), (clean, _) = run(poison=True), run(poison=False)
    assert [(event["step"], list(event["arms"])) for event in events if event["event"] == "diverged"] == [
        (3, [poisoned])
    ]
    assert torch.equal(ended.stack.parameters()[3][slot], ended.at_the_end)  # type: ignore[attr-defined]
    assert torch.isfinite(ended.at_the_end).all()  # type: ignore[attr-defined]
    steps, clean_steps = ([event for event in some if event["event"] == "step"] for some in (events, clean))
    for name in arms:
        if name != poisoned:
            assert losses_of(steps, name) == pytest.approx(losses_of(clean_steps, name), abs=1e-5)


def test_a_stop_in_any_pass_changes_nothing(tiny: LoadedModel) -> None:
    arms = {
        "control": CONTROL,
        "symmetric": ARMS["symmetric"],
        "adversarial": ARMS["adversarial"],
        "a": ARMS["adaptive"],
    }
    looks = 0

    def stop_at(place: int) -> Any:
        def look() -> bool:
            nonlocal looks
            looks += 1
            return looks == place

        return look

    run = lockstep(tiny, arms, accumulation=2)
    step = next(run.steps())
    run.backward(step, run.noise.at(1, run.alive), stop_at(-1))
    before = [parameter.detach().clone() for parameter in run.stack.parameters()]
    for place in range(1, looks + 1, 11):
        looks = 0
        with pytest.raises(Cancelled):
            run.step(step, 1e-2, stop_at(place))
    assert all(torch.equal(one, other) for one, other in zip(run.stack.parameters(), before, strict=True))
    after = run.step(step, 1e-2, lambda: False)
    assert after == lockstep(tiny, arms, accumulation=2).step(step, 1e-2, lambda: False)


def test_model_dropout_acts_is_repeatable_and_does_not_touch_the_global_generator(tiny: LoadedModel) -> None:
    arms = {"control": CONTROL, "twin": CONTROL, "adversarial": ARMS["adversarial"]}
    before = torch.get_rng_state()
    first, second, without = (
        step_events(lockstep(tiny, arms, model_dropout=rate, lora_dropout=0.0)) for rate in (0.5, 0.5, 0.0)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second
    assert losses_of(first, "control")[0] != pytest.approx(losses_of(without, "control")[0], abs=1e-4)
    assert losses_of(first, "control")[0] != pytest.approx(
        losses_of(first, "twin")[0], abs=1e-4
    )  # masks are not shared
    assert losses_of(without, "control") == pytest.approx(losses_of(without, "twin"), abs=1e-6)
    twice = lockstep(tiny, arms, model_dropout=0.5)
    step = next(twice.steps())
    run = [twice.step(step, 0.0, lambda: False)["arms"]["control"]["loss"] for _ in range(2)]
    assert run[0] == run[1]  # of the same step, whatever came before


def encoder_decoder_rows(count: int) -> list[EncodedExample]:
    """Return rows with a source; the decoder's tokens begin with its start token."""
    generator = np.random.default_rng(0)
    rows = []
    for row in random_rows(count):
        source = generator.integers(3, 50, int(generator.integers(4, 30))).astype(np.int32)
        trained = np.arange(len(row.ids)) > 0
        rows.append(EncodedExample(row.ids, trained, row.example, special=frozenset({1, 2}), source=source))
    return rows


@pytest.mark.parametrize("family", ["T5", "BART"])
def test_an_encoder_decoder_gets_noise_at_both_embeddings_and_trains_in_lockstep(family: str) -> None:
    loaded = loaded_tiny(FAMILIES[family].build(), 32)
    arms = {
        "control": CONTROL,
        "all": NoiseSettings(strength=1, unit="std"),
        "prompt": NoiseSettings(strength=1, unit="std", tokens="prompt"),
        "response": NoiseSettings(strength=1, unit="std", tokens="response"),
        "layers": NoiseSettings(strength=0.2, unit="relative", sites="1, 3"),
        "adversarial": NoiseSettings(strength=30, kind="adversarial"),
        "symmetric": NoiseSettings(strength=30, kind="symmetric", length_rule="padded"),
    }
    rows = encoder_decoder_rows(12)
    together = step_events(lockstep(loaded, arms, rows, steps=2))
    firsts = {name: losses_of(together, name)[0] for name in arms}
    assert len(set(firsts.values())) == len(arms)  # each reaches the loss, the encoder alone and the decoder alone too
    for name, noise in arms.items():
        alone = step_events(lockstep(loaded, {name: noise}, rows, steps=2))
        assert losses_of(together, name) == pytest.approx(losses_of(alone, name), abs=2e-5), name  # float32, as above
    numbers = together[0]["arms"]["adversarial"]
    assert numbers["loss"] > numbers["first_draw_loss"]


def test_a_shared_embedding_distinguishes_encoder_and_decoder_passes() -> None:
    arms = {
        "all": NoiseSettings(strength=1, unit="std"),
        "prompt": NoiseSettings(strength=1, unit="std", tokens="prompt"),
    }
    model = FAMILIES["T5"].build()
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight
    apart = step_events(lockstep(loaded_tiny(model, 32), arms, encoder_decoder_rows(8), steps=2))
    model.decoder.embed_tokens = model.encoder.embed_tokens
    assert step_events(lockstep(loaded_tiny(model, 32), arms, encoder_decoder_rows(8), steps=2)) == apart


@pytest.mark.parametrize("family", family_cases(FAMILIES))
def test_the_vectors_at_every_site_have_the_width_that_the_stack_names(family: str) -> None:
    loaded = loaded_tiny(FAMILIES[family].build(), 32)
    leave_out(loaded.model, unreached_maps(loaded.model))  # as the loader does
    sites = "embedding" if family == "Gemma 3n" else "embedding, 1-2"  # its layers pass on several streams
    arms = {"noise": NoiseSettings(strength=0.1, unit="relative", sites=sites)}
    run = lockstep(loaded, arms, encoder_decoder_rows(4) if FAMILIES[family].encoder_decoder else random_rows(4))
    seen: dict[int, int] = {}
    for site in run.stack.sites:
        site.module.register_forward_hook(
            lambda module, args, output, key=site.key: (
                seen.setdefault(key, (output[0] if isinstance(output, tuple) else output).shape[-1]) and None
            )
        )
    run.step(next(run.steps()), 1e-3, lambda: False)
    assert run.stack.site_widths() == seen


def test_in_bfloat16_every_kind_trains_and_the_adversarial_climbs(tiny: LoadedModel) -> None:
    tiny.model.to(torch.bfloat16)
    for event in step_events(lockstep(tiny, {"control": CONTROL, **ARMS})):
        assert all(np.isfinite(numbers["loss"]) for numbers in event["arms"].values())
        climbed = event["arms"]["adversarial"]
        assert climbed["loss"] > climbed["first_draw_loss"]
