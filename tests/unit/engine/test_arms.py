"""Stacked adapters: the base is unchanged, slots never mix, and a saved arm is a PEFT adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tiny import loaded_tiny, random_rows

from neftune_core.data.batches import collate
from neftune_core.engine import loss
from neftune_core.engine.armset import Pass
from neftune_core.engine.loss import ArmLosses, arm_losses
from neftune_core.engine.stack import AdapterStack, StackedLinear
from neftune_core.errors import Cancelled, RecordError
from neftune_core.models.loading import LoadedModel
from tests.stress.families.engine import stack_of
from tests.stress.families.tiny import FAMILIES
from tests.weights import weights_hash

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def _stack(loaded: LoadedModel, arms: int = 3) -> AdapterStack:
    """Return a stack whose arms differ from each other and from the base."""
    return stack_of(loaded, arms, seed=1, deviation=0.1)


def _logits(stack: AdapterStack, slots: list[int]) -> torch.Tensor:
    with torch.no_grad(), stack.running(slots) as tree:
        logits = tree(input_ids=IDS.repeat(len(slots), 1)).logits
    return logits.view(len(slots), *IDS.shape, -1)


def test_slot_zero_is_the_base_and_the_base_is_never_touched(tiny: LoadedModel) -> None:
    before = weights_hash(tiny.model)
    expected = tiny.model(input_ids=IDS).logits
    stack = _stack(tiny)
    torch.testing.assert_close(_logits(stack, [0, 1, 2, 3])[0], expected, rtol=0, atol=1e-6)
    assert torch.equal(tiny.model(input_ids=IDS).logits, expected)
    assert weights_hash(tiny.model) == before
    assert not any(name.endswith((".down", ".up")) for name in tiny.model.state_dict())


def test_any_subset_of_slots_gives_each_the_same_logits(tiny: LoadedModel) -> None:
    stack = _stack(tiny)
    whole = _logits(stack, [0, 1, 2, 3])
    for slots in ([2], [1, 3], [3, 1], [2, 3]):
        # one batched product may round differently from another of a different size
        torch.testing.assert_close(_logits(stack, slots), whole[slots], rtol=0, atol=1e-6)
    assert (whole[1] - whole[2]).abs().max() > 0.01


def test_gradients_of_slots_never_mix(tiny: LoadedModel) -> None:
    stack = _stack(tiny)
    with stack.running([1, 2, 3]) as tree:
        tree(input_ids=IDS.repeat(3, 1)).logits.view(3, -1)[1].sum().backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad[[0, 1, 3]], torch.zeros_like(parameter.grad[[0, 1, 3]]))
    assert any(parameter.grad[2].abs().max() > 0 for parameter in stack.parameters())


@pytest.mark.parametrize(("most", "numbers"), [(64, 1), (70, 1), (256, 2**20)])  # 70: the chunks do not fill a piece
def test_the_loss_in_pieces_is_the_models_own_loss_and_gradient(
    tiny: LoadedModel, most: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "MOST_PIECE", most)
    monkeypatch.setattr(loss, "CHUNK_NUMBERS", numbers)
    batch = collate(random_rows(24), pad_id=0, round_to=32)
    labels = batch.ids.masked_fill(~batch.trained, -100)
    labels[:, 0] = -100
    assert int((labels != -100).sum()) > most  # several pieces, the last one smaller
    stack = _stack(tiny, arms=1)
    with stack.running([1]) as tree:
        mask = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
        expected = tree(input_ids=batch.ids, attention_mask=mask.long(), labels=labels).loss
        expected.backward()
    gradients = [parameter.grad.clone() for parameter in stack.parameters()]
    for parameter in stack.parameters():
        parameter.grad = None
    with stack.running([1]) as tree:
        losses = arm_losses(tree, batch, 1, backward_over=int((labels != -100).sum()))
    torch.testing.assert_close(losses.means[0], expected.detach(), rtol=1e-5, atol=1e-6)
    for parameter, gradient in zip(stack.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)  # float32, a different order of sums


def test_the_size_of_a_chunk_changes_no_bit(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, stack = collate(random_rows(24), pad_id=0, round_to=32), _stack(tiny)

    def found() -> list[torch.Tensor]:
        for parameter in stack.parameters():
            parameter.grad = None
        with stack.running([1, 2, 3]) as tree:
            losses = arm_losses(tree, batch, 3, backward_over=10)
        return [losses.each, losses.hits, *(cast(torch.Tensor, parameter.grad) for parameter in stack.parameters())]

    whole = found()
    monkeypatch.setattr(loss, "CHUNK_NUMBERS", 1)
    assert all(torch.equal(one, other) for one, other in zip(whole, found(), strict=True))


def test_a_weight_scales_an_arms_gradient_and_not_its_loss(tiny: LoadedModel) -> None:
    batch = collate(random_rows(24), pad_id=0, round_to=32)
    stack = _stack(tiny)

    def gradients(**more: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
        for parameter in stack.parameters():
            parameter.grad = None
        with stack.running([1, 2, 3]) as tree:
            losses = arm_losses(tree, batch, 3, backward_over=10, **more)
        return losses.sums, [parameter.grad for parameter in stack.parameters()]

    sums, plain = gradients()
    weighted_sums, weighted = gradients(weights=[0.5, 0.0, 2.0])
    assert torch.equal(sums, weighted_sums)
    for whole, scaled in zip(plain, weighted, strict=True):
        for slot, weight in ((1, 0.5), (2, 0.0), (3, 2.0)):
            torch.testing.assert_close(scaled[slot], weight * whole[slot], rtol=1e-5, atol=1e-7)
    _, same = gradients(weights=[1.0, 1.0, 1.0])
    for whole, scaled in zip(plain, same, strict=True):
        torch.testing.assert_close(scaled, whole, rtol=1e-5, atol=1e-7)  # a product in place of a sum


def test_gradients_to_given_tensors_come_back_and_the_adapters_get_none(tiny: LoadedModel) -> None:
    batch = collate(random_rows(6), pad_id=0, round_to=32)
    stack = _stack(tiny, arms=2)
    noise = torch.zeros(2 * batch.ids.shape[0], batch.ids.shape[1], 32, requires_grad=True)
    handle = stack.tree.get_input_embeddings().register_forward_hook(lambda module, args, output: output + noise)

    def loss(**more: Any) -> ArmLosses:
        with stack.running([1, 2]) as tree:
            return arm_losses(tree, batch, 2, **more)

    (gradient,) = loss(backward_over=4, weights=[1.0, 3.0], gradients_of=[noise]).gradients
    assert all(parameter.grad is None for parameter in stack.parameters()) and noise.grad is None
    direction = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0))
    step = 3e-4
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            noise.copy_(sign * step * direction)
            ends.append(float((loss().sums.double() * torch.tensor([1.0, 3.0])).sum() / 4))
    handle.remove()
    slope = (ends[0] - ends[1]) / (2 * step)
    assert abs(slope - float((gradient * direction).sum())) <= 0.02 * abs(slope)  # float32 sums over a small step


@pytest.mark.parametrize("family", ["Llama", "GPT-2", "OPT-350m"])
def test_an_arm_loaded_by_peft_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    model = FAMILIES[family].build()
    loaded = loaded_tiny(model, model.get_input_embeddings().embedding_dim)
    stack = _stack(loaded)
    stack.save(2, tmp_path)
    peft_model = PeftModel.from_pretrained(loaded.model, tmp_path).eval()
    torch.testing.assert_close(peft_model(input_ids=IDS).logits, _logits(stack, [2])[0], rtol=0, atol=1e-5)


def test_a_saved_arm_comes_back_and_a_foreign_one_is_refused(tiny: LoadedModel, tmp_path: Path) -> None:
    stack = _stack(tiny)
    stack.save(2, tmp_path / "arm")
    again = AdapterStack(tiny, 1, rank=4, alpha=8)
    again.load(1, tmp_path / "arm")
    assert torch.equal(_logits(again, [1])[0], _logits(stack, [2])[0])
    with pytest.raises(RecordError, match="another model"):
        AdapterStack(tiny, 1, rank=5, alpha=8).load(1, tmp_path / "arm")
    with pytest.raises(RecordError, match="missing"):
        again.load(1, tmp_path / "nothing")


def test_a_stop_is_seen_within_a_layer_on_the_way_forth_in_the_head_and_back(tiny: LoadedModel) -> None:
    stack = _stack(tiny)
    batch = collate(random_rows(24), pad_id=0, round_to=32)
    looks = 0

    def count() -> bool:
        nonlocal looks
        looks += 1
        return looks == stop_at

    stop_at = -1
    with stack.running([1], should_stop=count) as tree:
        arm_losses(tree, batch, 1, backward_over=10)
    layers, pieces = 2, -(-int(batch.trained[:, 1:].sum()) // loss.MOST_PIECE)
    assert looks >= 2 * layers - 1 + pieces  # the first layer's input has no gradient to come back through
    for place in range(1, looks + 1):
        looks, stop_at = 0, place
        with pytest.raises(Cancelled), stack.running([1], should_stop=count) as tree:
            arm_losses(tree, batch, 1, backward_over=10)
    assert torch.isfinite(_logits(stack, [1])).all()


def test_hits_of_each_row_are_those_of_the_logits(tiny: LoadedModel) -> None:
    rows = random_rows(6)
    stack = _stack(tiny, arms=1)
    greedy = tiny.model(input_ids=torch.from_numpy(rows[0].ids.astype("int64"))[None]).logits.argmax(-1)[0]
    first = int(rows[0].trained.argmax())
    for place in range(first, len(rows[0].ids)):  # the first row says what the base would say
        rows[0].ids[place] = int(greedy[place - 1])
        greedy = tiny.model(input_ids=torch.from_numpy(rows[0].ids.astype("int64"))[None]).logits.argmax(-1)[0]
    batch = collate(rows, pad_id=0, round_to=32)
    with stack.running([0, 1]) as tree:
        losses = arm_losses(tree, batch, 2)
    logits = tiny.model(input_ids=batch.ids).logits[:, :-1].argmax(-1)
    wanted = batch.trained[:, 1:]
    right = (logits == batch.ids[:, 1:]) & wanted
    assert torch.equal(losses.hits[0], right[wanted])
    assert torch.equal(losses.by_row(losses.hits, 6)[0], right.sum(1).double())
    assert losses.by_row(losses.hits, 6)[0, 0] == wanted[0].sum()
    torch.testing.assert_close(losses.by_row(losses.each, 6).sum(1), losses.sums.double(), rtol=1e-6, atol=0)  # float32


def test_bfloat16_trains_saves_and_answers_as_peft_does(tiny: LoadedModel, tmp_path: Path) -> None:
    from peft import PeftModel

    tiny.model.to(torch.bfloat16)
    stack = _stack(tiny)
    assert all(parameter.dtype == torch.float32 for parameter in stack.parameters())
    batch = collate(random_rows(4), pad_id=0, round_to=32)
    with stack.running([1, 2, 3]) as tree:
        losses = arm_losses(tree, batch, 3, backward_over=10)
    assert torch.isfinite(losses.means).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in stack.parameters())
    stack.save(2, tmp_path)
    peft_model = PeftModel.from_pretrained(tiny.model, tmp_path).eval()
    theirs, ours = peft_model(input_ids=IDS).logits.float(), _logits(stack, [2])[0].float()
    # eight bits of mantissa, through two layers: a few units of the last place of the largest logit
    assert (ours - theirs).abs().max() <= 0.03 * theirs.abs().max()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_adapter_dropout_is_that_of_torch_with_one_mask_for_all_arms(rate: float) -> None:
    width, positions = 200, 100
    now = Pass(3)
    now.rates, now.mask_generator = (rate,) * 3, torch.Generator().manual_seed(3)
    module = StackedLinear(torch.nn.Linear(width, width, bias=False).requires_grad_(False), 3, width, 1.0, now)
    with torch.no_grad():  # the adapter passes its input on, and the base gives nothing
        module.base.weight.zero_()
        module.down[:], module.up[:] = torch.eye(width), torch.eye(width)
        rows = module(torch.ones(3, positions, width))
    torch.manual_seed(4)
    other = torch.nn.functional.dropout(torch.ones(positions, width), rate)
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])
    assert rows.unique().tolist() == pytest.approx(other.unique().tolist())
    error = (rate * (1 - rate) / other.numel()) ** 0.5
    for each in (rows[0], other):
        assert float((each == 0).float().mean()) == pytest.approx(rate, abs=4 * error)
