"""Methods besides noise: losses and gradients of the first step against plain loops over a tiny model."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import random_rows
from torch import Tensor, nn
from torch.nn import functional

from neftune_core.data.chat import EncodedExample
from neftune_core.engine.arm_factory import make_arms
from neftune_core.engine.armset import ArmSet
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.methods.noisefit import SECOND_DRAW
from neftune_core.engine.methods.registry import METHODS, require_causal
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.errors import InvalidSetting
from neftune_core.models.estimates import Workload, estimate
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.kinds import EMBEDDING_SITE, draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation
from neftune_core.randomness import Purpose, stream
from neftune_core.space.gpu_seconds import pass_groups
from neftune_core.studies import checkpoint
from neftune_core.studies.settings import StudySettings
from tests.weights import weights_hash

SEED = 3
NOISE = NoiseSettings(strength=5)
ARMS = {
    "prompt_loss": MethodSettings(prompt_loss=0.5),
    "weight_noise": MethodSettings(weight_noise=0.3),
    "start_noise": MethodSettings(start_noise=0.4),
    "consistency": MethodSettings(consistency=0.7, noise=NOISE),
    "noisefit": MethodSettings(noisefit=0.4, noise=NOISE),
    "prompt_loss and consistency": MethodSettings(prompt_loss=0.5, consistency=0.7, noise=NOISE),
}
TOGETHER = tuple(ARMS.values())


def made(loaded: LoadedModel, arms: tuple[MethodSettings, ...] = TOGETHER, **training: Any) -> Lockstep:
    usual = {"steps": 4, "learning_rate": 2e-3, "evaluations": 2, "lora_rank": 4, "lora_alpha": 8, "batch_size": 8}
    settings = TrainingSettings(**(usual | training))
    study = StudySettings(seed=SEED, training=settings, noise=(NOISE,), methods=arms)
    prepared = SimpleNamespace(train=random_rows(8), held_out=random_rows(4, seed=1))
    run = Lockstep(study, make_arms(loaded, len(study.arms), settings), prepared)
    with torch.no_grad():  # an adapter that adds nothing would leave half of the gradients at zero
        for part in (part for block in run.optimizer.blocks for part in block.parts):
            if len(part.slots) > 1 and part.parameter.abs().sum() == 0:
                draw = torch.randn(part.start.shape, generator=torch.Generator().manual_seed(part.start.numel()))
                part.parameter[1:] += 0.05 * draw
    return run


def first_step(run: Lockstep) -> tuple[dict[str, float], dict[str, list[Tensor]]]:
    """Return losses and gradients of every arm in the first step, before clipping."""
    losses = run.backward(next(run.steps()), run.noise.at(1, run.alive), lambda: False)
    gradients: dict[str, list[Tensor]] = {name: [] for name in run.names}
    for part in run.stack.trained():
        for place, slot in enumerate(part.slots):
            if slot:
                found = part.parameter.grad
                assert found is not None
                gradients[run.name(slot)].append(found[place] if len(part.slots) > 1 else found)
    return {run.name(slot): values["loss"] for slot, values in losses.items()}, gradients


class PlainAdapter(nn.Module):
    """`W x + scale * B A x` with its own weight, for one arm."""

    def __init__(self, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight) + self.scale * inputs @ self.down.T @ self.up.T


def plain(run: Lockstep, name: str) -> tuple[Any, list[nn.Parameter], list[nn.Module]]:
    """Return a copy of the model with the weights of an arm, its trained tensors, and its linear modules."""
    slot = run.names.index(name) + 1
    if run.study.training.method == "full":
        model = run.stack.merged(slot).requires_grad_(True)
        maps = [part for part in model.model.layers.modules() if isinstance(part, nn.Linear)]
        return model, list(model.parameters()), maps
    model = copy.deepcopy(run.stack.loaded.model)
    maps, trained = [], []
    for path, (down, up) in run.stack.slot_state(slot).items():
        parent, _, leaf = path.rpartition(".")
        adapter = PlainAdapter(model.get_submodule(path).weight, down, up, run.stack.alpha / run.stack.rank)
        setattr(model.get_submodule(parent), leaf, adapter)
        maps.append(adapter)
        trained += [adapter.down, adapter.up]
    return model, trained, maps


def token_losses(model: Any, row: EncodedExample, added: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and log-probabilities at all but the last position of one row, alone and without padding."""
    ids = torch.from_numpy(row.ids).long()
    embedded = model.get_input_embeddings()(ids)[None] + added
    scores = torch.log_softmax(model(inputs_embeds=embedded).logits[0, :-1], dim=-1)
    return -scores[torch.arange(len(ids) - 1), ids[1:]], scores


def trained_mask(row: EncodedExample) -> Tensor:
    return torch.from_numpy(row.trained[1:])


def response_loss(model: Any, rows: list[EncodedExample]) -> Tensor:
    each = torch.cat([token_losses(model, row)[0][trained_mask(row)] for row in rows])
    return each.mean()


def prompt_loss(model: Any, rows: list[EncodedExample]) -> tuple[Tensor, Tensor]:
    """Weigh the mean over all tokens: 1 for a response token, 0.5 for a prompt token."""
    losses = torch.cat([token_losses(model, row)[0] for row in rows])
    weights = torch.cat([torch.where(trained_mask(row), 1.0, 0.5) for row in rows])
    return (losses * weights).sum() / weights.sum(), response_loss(model, rows)


def consistency(model: Any, rows: list[EncodedExample]) -> tuple[Tensor, Tensor]:
    """Add 0.7 times the mean symmetric divergence of the response tokens to the clean loss."""
    width, found = model.config.hidden_size, []
    for index, row in enumerate(rows):
        clean = token_losses(model, row)[1]
        unit = torch.from_numpy(draw_unit("uniform", (SEED, 0, index, EMBEDDING_SITE), row.length, width))
        noisy = token_losses(model, row, standard_deviation(5, "alpha", row.length, width) * unit)[1]
        both = functional.kl_div(noisy, clean, log_target=True, reduction="none").sum(-1)
        both = both + functional.kl_div(clean, noisy, log_target=True, reduction="none").sum(-1)
        found.append(both[trained_mask(row)])
    clean_loss = response_loss(model, rows)
    return clean_loss + 0.7 * torch.cat(found).mean(), clean_loss


def prompt_loss_and_consistency(model: Any, rows: list[EncodedExample]) -> tuple[Tensor, Tensor]:
    """Weigh the clean loss by token, and add the divergence of the response tokens alone."""
    (weighted, clean_loss), (whole, _) = prompt_loss(model, rows), consistency(model, rows)
    return weighted + whole - clean_loss, clean_loss


def noisefit(model: Any, rows: list[EncodedExample]) -> tuple[Tensor, Tensor]:
    """Mix the clean loss with the divergences of two noisy passes, as the authors' trainer does, with lambda 0.1."""
    width, found = model.config.hidden_size, []
    for index, row in enumerate(rows):
        clean = token_losses(model, row)[1]
        keys = [(SEED, epoch, index, EMBEDDING_SITE) for epoch in (0, SECOND_DRAW)]
        units = [torch.from_numpy(draw_unit("uniform", key, row.length, width)) for key in keys]
        scale = standard_deviation(5, "alpha", row.length, width)
        one, two = (token_losses(model, row, scale * unit)[1] for unit in units)
        soft = [functional.kl_div(noisy, clean.exp(), reduction="none").sum(-1) for noisy in (one, two)]
        between = functional.kl_div(one, two.exp(), reduction="none").sum(-1)
        found.append((0.4 * (soft[0] + soft[1]) / 2 + 0.1 * between)[trained_mask(row)])
    clean_loss = response_loss(model, rows)
    return 0.6 * clean_loss + torch.cat(found).mean(), clean_loss


def perturb(maps: list[nn.Module]) -> None:
    """Add the noise of the first step to the frozen, or the trained, weight of every linear module."""
    for number, part in enumerate(maps):
        chance = stream(Purpose.WEIGHT_NOISE, SEED, 1, number)
        draw = torch.from_numpy(chance.standard_normal(tuple(part.weight.shape), np.float32))
        with torch.no_grad():
            merged = part.weight + part.scale * part.up @ part.down if isinstance(part, PlainAdapter) else part.weight
            rows = merged.square().sum(1).sqrt()
            part.weight += draw * (0.3 * rows / math.sqrt(merged.shape[1]))[:, None]


EXPECTED: dict[str, Callable[[Any, list[EncodedExample]], tuple[Tensor, Tensor]]] = {
    "prompt_loss": prompt_loss,
    "consistency": consistency,
    "noisefit": noisefit,
    "prompt_loss and consistency": prompt_loss_and_consistency,
}


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", list(ARMS))
def test_losses_and_gradients_are_those_of_a_plain_loop(tiny: LoadedModel, name: str, method: str) -> None:
    run, arm = made(tiny, method=method), ARMS[name].name
    losses, gradients = first_step(run)
    model, trained, maps = plain(run, arm)
    if name == "weight_noise":
        perturb(maps)
    rows = run.prepared.train
    objective, loss = EXPECTED[name](model, rows) if name in EXPECTED else (response_loss(model, rows),) * 2
    assert losses[arm] == pytest.approx(float(loss.detach()), abs=1e-6)
    for found, expected in zip(gradients[arm], torch.autograd.grad(objective, trained), strict=True):
        own = found if found.shape == expected.shape else found.T  # the stack has the long axis last
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
    others = {other: value for other, value in losses.items() if other != arm}
    if name in ("weight_noise", "start_noise") and method == "full":
        assert losses[arm] != pytest.approx(others["control"], abs=1e-4)
    if name == "prompt_loss":
        control = torch.cat([one.flatten() for one in gradients["control"]])
        own = torch.cat([one.flatten() for one in gradients[arm]])
        assert float((own - control).norm() / control.norm()) > 0.05


def test_noise_at_the_start_is_uniform_by_the_standard_deviation_of_each_matrix(tiny: LoadedModel) -> None:
    arm = (ARMS["start_noise"],)
    for method in ("lora", "full"):
        settings = TrainingSettings(steps=1, method=method, lora_rank=4, evaluations=1)
        studies = [StudySettings(seed=SEED, training=settings, methods=arms) for arms in ((), arm)]
        prepared = SimpleNamespace(train=random_rows(8), held_out=random_rows(4, seed=1))
        before, after = (Lockstep(one, make_arms(tiny, len(one.arms), settings), prepared) for one in studies)
        number = 0
        for part in after.stack.trained():
            if 3 not in part.slots:
                continue
            found = (part.parameter[3] if len(part.slots) > 1 else part.parameter).detach()
            start = _start_of(before.stack, number, method)
            draw = torch.from_numpy(
                stream(Purpose.START_NOISE, SEED, number).random(tuple(start.shape), np.float32) - np.float32(0.5)
            )
            deviation = math.sqrt(float((start - start.mean()).square().sum()) / (start.numel() - 1))
            torch.testing.assert_close(found, start + 0.4 * deviation * draw, rtol=1e-5, atol=1e-6)
            number += 1
        assert number > 5


def _start_of(stack: ArmSet, number: int, method: str) -> Tensor:
    parts = [part for part in stack.trained() if 1 in part.slots]
    return (parts[number].parameter[1] if method == "lora" else parts[number].parameter).detach()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_parts_of_a_step_add_up_to_the_step(tiny: LoadedModel, method: str) -> None:
    whole, parts = (first_step(made(tiny, method=method, accumulation=count)) for count in (1, 4))
    assert parts[0] == pytest.approx(whole[0], abs=1e-6)
    for name, gradients in whole[1].items():
        for one, other in zip(gradients, parts[1][name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_arms_are_together_what_they_are_alone_and_the_base_is_not_written(tiny: LoadedModel, method: str) -> None:
    before = weights_hash(tiny.model)
    together = _losses(made(tiny, method=method, lora_dropout=0.2 if method == "lora" else 0.0))
    for arm in TOGETHER:
        alone = _losses(made(tiny, (arm,), method=method, lora_dropout=0.2 if method == "lora" else 0.0))
        for name in ("control", NOISE.name, arm.name):
            # float32, in batched products of different sizes, over four steps
            assert alone[name] == pytest.approx(together[name], abs=1e-5), name
    assert weights_hash(tiny.model) == before


def _losses(run: Lockstep) -> dict[str, list[float]]:
    steps = [event for event in run.run(lambda: False) if event["event"] == "step"]
    return {name: [event["arms"][name]["loss"] for event in steps] for name in run.names}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_resumed_run_has_the_numbers_of_an_unbroken_one(tiny: LoadedModel, tmp_path: Path, method: str) -> None:
    unbroken = list(made(tiny, method=method).run(lambda: False))
    run = made(tiny, method=method)
    for event in run.run(lambda: False):
        if event["event"] == "step" and event["step"] == 2:
            checkpoint.save(run, tmp_path)
            break
    again = made(tiny, method=method)
    checkpoint.restore(again, tmp_path)
    rest = list(again.run(lambda: False))
    steps = [event for event in unbroken if event["event"] == "step"][2:]
    assert [event for event in rest if event["event"] == "step"] == steps


@pytest.mark.parametrize(
    ("schedule", "point", "expected"),
    [("linear", 0.5, [0.3, 0.2, 0.1, 0.0]), ("warm-up", 1.0, [0.0, 0.1, 0.2, 0.3]), ("constant", 0.5, [0.3] * 4)],
)
def test_noise_on_the_weights_follows_its_schedule(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, schedule: str, point: float, expected: list[float]
) -> None:
    seen: dict[int, float] = {}
    usual = METHODS["weight_noise"]

    def noted(value: float, weight: Tensor, key: tuple[int, ...]) -> Tensor:
        seen[key[1]] = value
        assert usual.perturbation is not None
        return usual.perturbation(value, weight, key)

    monkeypatch.setitem(METHODS, "weight_noise", dataclasses.replace(usual, perturbation=noted))
    arm = MethodSettings(weight_noise=0.3, schedule=schedule, schedule_point=point)
    run = made(tiny, (arm,))
    losses = _losses(run)
    assert [seen.get(step, 0.0) for step in range(1, 5)] == pytest.approx(expected, abs=1e-12)
    assert arm.name == {"linear": "weight-noise-0.3-linear", "warm-up": "weight-noise-0.3-warm-up-1"}.get(
        schedule, "weight-noise-0.3"
    )
    if schedule == "warm-up":  # the first step is that of the control
        assert losses[arm.name][0] == pytest.approx(losses["control"][0], abs=1e-6)


def test_before_the_first_step_an_arm_that_was_changed_is_measured_itself(tiny: LoadedModel) -> None:
    first = next(iter(made(tiny, method="full").run(lambda: False)))["arms"]
    changed = ARMS["start_noise"].name
    assert {name for name, numbers in first.items() if numbers != first["base"]} == {changed}


def test_consistency_without_noise_in_a_step_is_the_clean_loss(tiny: LoadedModel) -> None:
    late = NoiseSettings(strength=5, schedule="switch-off", schedule_point=0.0)
    run = made(tiny, (MethodSettings(consistency=0.7, noise=late),))
    losses = _losses(run)
    assert losses[run.names[-1]] == pytest.approx(losses["control"], abs=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"methods": ({"consistency": 1},)}, "consistency needs noise: give the arm"),
        ({"methods": ({"consistency": 1, "noise": {"kind": "symmetric"}},)}, "a single pass, unlike symmetric"),
        ({"training": {"execution": "graphs"}, "methods": ({"weight_noise": 1},)}, "CUDA graphs: set execution"),
        (
            {"methods": ({"weight_decay": 1, "schedule": "linear"},)},
            "only affects its weight noise",
        ),
        (
            {"methods": ({"weight_noise": 1, "schedule": "adaptive"},)},
            "must be one of constant, linear",
        ),
    ],
)
def test_a_method_that_cannot_act_is_refused_in_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        StudySettings(**values)


def test_the_estimates_count_the_passes_and_weights_of_methods(tiny: LoadedModel) -> None:
    study = StudySettings(noise=(NOISE,), methods=TOGETHER)
    assert sorted(pass_groups(study)) == [(1, 1), (1, 1), (1, 3), (2, 1), (2, 1), (3, 1)]
    work = Workload(arms=3, batch_size=64, length=4096, steps=1)
    plain, held, perturbed = (
        estimate(tiny, one, study.model).memory_bytes
        for one in (work, dataclasses.replace(work, held=2), dataclasses.replace(work, perturbed=True))
    )
    assert held > plain
    assert perturbed - plain == 8 * tiny.parameters


class EncoderDecoder(nn.Module):
    """What the check reads of a model."""

    config = SimpleNamespace(is_encoder_decoder=True)

    def get_input_embeddings(self) -> None:
        """Mark a language model."""


def test_loss_on_the_prompt_is_refused_for_an_encoder_decoder() -> None:
    stack: Any = SimpleNamespace(tree=EncoderDecoder())
    with pytest.raises(InvalidSetting, match="prompt_loss has no effect on an encoder-decoder"):
        require_causal(stack, [{"prompt_loss": 1.0}])
    require_causal(stack, [dict.fromkeys(METHODS, 0.0)])
