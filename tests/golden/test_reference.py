"""Golden tests against references written from the papers and standard libraries, without the lab's code."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import random_rows

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.data.batches import epoch_batches
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.models.loading import LoadedModel
from neftune_core.noise import attach
from neftune_core.noise.kinds import EMBEDDING_SITE, draw_unit
from neftune_core.studies.settings import StudySettings

STEPS = 20


@pytest.mark.parametrize(("arm", "alpha"), [("control", 0.0), ("uniform-alpha-5", 5.0)])
def test_an_arm_has_the_losses_of_a_plain_peft_loop(tiny: LoadedModel, arm: str, alpha: float) -> None:
    """Compare with `peft` and the model's own loss: same initial adapter, order, AdamW, linear decay and clipping.

    The noise is made here as in the paper's training code, from the engine's draws.
    """
    from peft import LoraConfig, get_peft_model

    rows = random_rows(40)
    training = TrainingSettings(epochs=2, batch_size=4, learning_rate=5e-3, evaluations=1, lora_rank=4, lora_alpha=8)
    study = StudySettings(training=training)
    lockstep = Lockstep(study, AdapterStack(tiny, 2, rank=4, alpha=8), SimpleNamespace(train=rows, held_out=[]))
    initial = {name: module.down[1].detach().clone() for name, module in lockstep.stack.adapted.items()}
    ours = [event["arms"][arm]["loss"] for event in lockstep.run(lambda: False) if event["event"] == "step"]

    names = sorted({name.rpartition(".")[2] for name in initial})
    model = get_peft_model(copy.deepcopy(tiny.model), LoraConfig(r=4, lora_alpha=8, target_modules=names))
    with torch.no_grad():
        for name, down in initial.items():
            model.get_submodule(f"base_model.model.{name}").lora_A["default"].weight.copy_(down)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=5e-3, weight_decay=0.0)
    lengths = [len(row.ids) for row in rows]
    order = [(epoch, batch) for epoch in range(2) for batch in epoch_batches(lengths, 4, seed=0, epoch=epoch)]
    theirs = []
    for step, (epoch, places) in enumerate(order):
        longest = max(lengths[place] for place in places)
        ids, mask, labels = (torch.full((len(places), longest), value) for value in (0, 0, -100))
        noise = torch.zeros(len(places), longest, 32)
        for place, number in enumerate(places):
            row, length = rows[number], lengths[number]
            tokens = torch.from_numpy(row.ids.astype(np.int64))
            ids[place, :length], mask[place, :length] = tokens, 1
            labels[place, :length] = tokens.masked_fill(~torch.from_numpy(row.trained), -100)
            uniform = draw_unit("uniform", (0, epoch, number, EMBEDDING_SITE), length, 32) / math.sqrt(3)
            noise[place, :length] = torch.from_numpy(uniform) * (alpha / math.sqrt(length * 32))
        vectors = model.get_input_embeddings()(ids) + noise
        loss = model(inputs_embeds=vectors, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / len(order))
        optimizer.step()
        theirs.append(float(loss.detach()))
    assert len(ours) == len(theirs) == STEPS
    assert ours == pytest.approx(theirs, abs=1e-5)  # float32: batched and single products round differently


def _with_draws(monkeypatch: pytest.MonkeyPatch, uniform: torch.Tensor) -> None:
    """Replace the unit draws by `uniform`, `[batch, length, width]` in [-1, 1], aligned left in each row."""

    def write(key: Any, out: np.ndarray) -> None:
        row = key[-2]  # a key ends with the row and the document in it
        out[...] = uniform[row, : len(out)].numpy() * math.sqrt(3)

    monkeypatch.setattr(attach, "stream", lambda purpose, *key: key)
    monkeypatch.setattr(attach, "KINDS", {name: replace(kind, draw=write) for name, kind in attach.KINDS.items()})


def _noised(model: torch.nn.Module, settings: NoiseSettings, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the input of the layers in a training call."""
    seen: list[torch.Tensor] = []
    with noisy_embeddings(model, settings):
        handle = model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
        model(input_ids=ids, attention_mask=mask)
        handle.remove()
    return seen[0]


BATCHES = [(1, 1), (1, 24), (7, 5), (16, 33)]


def _batch(rows: int, longest: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, a mask of various lengths (longest row first), and uniform draws in [-1, 1] of width 32."""
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(1, 50, (rows, longest), generator=generator)
    lengths = torch.cat([torch.tensor([longest]), torch.randint(1, longest + 1, (rows - 1,), generator=generator)])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return ids, mask, torch.rand(rows, longest, 32, generator=generator) * 2 - 1


@pytest.mark.parametrize(("rows", "longest"), BATCHES)
def test_the_same_draws_give_the_noise_of_the_papers_training_code(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, rows: int, longest: int
) -> None:
    """arXiv 2310.05914: uniform on +-1, times alpha / sqrt(L d), L the sum of each row's attention mask."""
    ids, mask, uniform = _batch(rows, longest)
    model = copy.deepcopy(tiny.model).train()
    _with_draws(monkeypatch, uniform)
    magnitude = 7.0 / torch.sqrt(mask.sum(1) * 32.0)
    expected = model.get_input_embeddings()(ids) + uniform * mask[..., None] * magnitude[:, None, None]
    found = _noised(model, NoiseSettings(strength=7), ids, mask)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-6)  # float32: a different order of products


@pytest.mark.parametrize(("rows", "longest"), BATCHES)
def test_the_padded_rule_is_the_hook_of_the_common_trainer(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, rows: int, longest: int
) -> None:
    """Compare with the hook of the installed transformers, given the same uniform draws."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    ids, mask, uniform = _batch(rows, longest)
    model = copy.deepcopy(tiny.model).train()
    embedding = model.get_input_embeddings()
    embedding.neftune_noise_alpha = 7.0
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "uniform_", lambda zeros, low, high: zeros + uniform * high)
        expected = neftune_post_forward_hook(embedding, (ids,), embedding(ids)).detach()
    _with_draws(monkeypatch, uniform)
    found = _noised(model, NoiseSettings(strength=7, length_rule="padded"), ids, mask)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # float32: a different order of products
    assert (found != embedding(ids)).any(-1).all()  # padding has noise too


def test_noise_on_a_live_model_has_the_statistics_of_the_papers_rule(tiny: LoadedModel) -> None:
    """arXiv 2310.05914: uniform on +-1, times alpha / sqrt(L d), L the number of true tokens of each row."""
    alpha, width = 7.0, 32
    ids = torch.randint(1, 50, (64, 24), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(64) % 24 + 1
    mask = (torch.arange(24) < lengths[:, None]).long()
    model = copy.deepcopy(tiny.model).train()
    noise = (_noised(model, NoiseSettings(strength=alpha), ids, mask) - model.get_input_embeddings()(ids)).detach()
    unit = noise * torch.sqrt(lengths * width)[:, None, None] / alpha
    assert torch.equal(noise[mask == 0], torch.zeros_like(noise[mask == 0]))
    drawn = unit[mask == 1].flatten()
    assert drawn.abs().max() <= 1 + 1e-4  # float32: the sum with the embedding was rounded
    assert float(drawn.mean()) == pytest.approx(0, abs=5 / math.sqrt(3 * len(drawn)))  # five standard errors
    assert float(drawn.var()) == pytest.approx(1 / 3, rel=0.03)
    per_row = [float(unit[row, :length].var()) for row, length in enumerate(lengths) if length > 12]
    assert min(per_row) > 0.25  # every row by its own length: a padded length would shrink the short ones
    assert max(per_row) < 0.42
