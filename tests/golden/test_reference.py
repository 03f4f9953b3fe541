"""Against references written here from the papers and the usual libraries, not from the lab's own code."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import random_rows

from neftune_core import NoiseSettings, noisy_embeddings
from neftune_core.arms.stack import AdapterStack
from neftune_core.data.batches import epoch_batches
from neftune_core.models.loading import LoadedModel
from neftune_core.training.lockstep import Lockstep
from neftune_core.training.settings import StudySettings, TrainingSettings

STEPS = 20


def test_the_control_has_the_losses_of_a_plain_peft_loop(tiny: LoadedModel) -> None:
    """Same initial adapter, same order, AdamW, linear decay and clipping, with `peft` and the model's own loss."""
    from peft import LoraConfig, get_peft_model

    rows = random_rows(40)
    training = TrainingSettings(epochs=2, batch_size=4, learning_rate=5e-3, evaluations=1, lora_rank=4, lora_alpha=8)
    study = StudySettings(training=training)
    lockstep = Lockstep(study, AdapterStack(tiny, 2, rank=4, alpha=8), SimpleNamespace(train=rows, held_out=[]))
    initial = {name: module.down[1].detach().clone() for name, module in lockstep.stack.adapted.items()}
    ours = [event["arms"]["control"]["loss"] for event in lockstep.run(lambda: False) if event["event"] == "step"]

    names = sorted({name.rpartition(".")[2] for name in initial})
    model = get_peft_model(copy.deepcopy(tiny.model), LoraConfig(r=4, lora_alpha=8, target_modules=names))
    with torch.no_grad():
        for name, down in initial.items():
            model.get_submodule(f"base_model.model.{name}").lora_A["default"].weight.copy_(down)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=5e-3, weight_decay=0.0)
    lengths = [len(row.ids) for row in rows]
    order = [batch for epoch in range(2) for batch in epoch_batches(lengths, 4, seed=0, epoch=epoch)]
    theirs = []
    for step, places in enumerate(order):
        longest = max(lengths[place] for place in places)
        ids, mask, labels = (torch.full((len(places), longest), value) for value in (0, 0, -100))
        for place, row in enumerate(rows[number] for number in places):
            tokens = torch.from_numpy(row.ids.astype(np.int64))
            ids[place, : len(tokens)], mask[place, : len(tokens)] = tokens, 1
            labels[place, : len(tokens)] = tokens.masked_fill(~torch.from_numpy(row.trained), -100)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / len(order))
        optimizer.step()
        theirs.append(float(loss.detach()))
    assert len(ours) == len(theirs) == STEPS
    assert ours == pytest.approx(theirs, abs=1e-5)  # float32: batched and single products round differently


def test_noise_on_a_live_model_is_the_papers_rule(tiny: LoadedModel) -> None:
    """arXiv 2310.05914: uniform on +-1, times alpha / sqrt(L d), L the number of true tokens of each row."""
    alpha, width = 7.0, 32
    ids = torch.randint(1, 50, (64, 24), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(64) % 24 + 1
    mask = (torch.arange(24) < lengths[:, None]).long()
    model = copy.deepcopy(tiny.model).train()
    seen: list[torch.Tensor] = []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    with noisy_embeddings(model, NoiseSettings(strength=alpha)):
        seen.clear()  # what the check for an effect let through
        model(input_ids=ids, attention_mask=mask)
    noise = (seen[0] - tiny.model.get_input_embeddings()(ids)).detach()
    unit = noise * torch.sqrt(lengths * width)[:, None, None] / alpha
    assert torch.equal(noise[mask == 0], torch.zeros_like(noise[mask == 0]))
    drawn = unit[mask == 1].flatten()
    assert drawn.abs().max() <= 1 + 1e-4  # float32: the sum with the embedding was rounded
    assert float(drawn.mean()) == pytest.approx(0, abs=5 / math.sqrt(3 * len(drawn)))  # five standard errors
    assert float(drawn.var()) == pytest.approx(1 / 3, rel=0.03)
    per_row = [float(unit[row, :length].var()) for row, length in enumerate(lengths) if length > 12]
    assert min(per_row) > 0.25  # every row by its own length: a padded length would shrink the short ones
    assert max(per_row) < 0.42
