"""Adapters in turn and full fine-tuning: the same numbers as arms together, and as plain loops."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import loaded_tiny, losses_of, random_rows

from neftune_core.data.batches import epoch_batches
from neftune_core.engine.arm_factory import FullCopies, make_training_arms
from neftune_core.engine.armset import TrainedTensor
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.optimizer import LossScale, build_blocks
from neftune_core.engine.saving import is_saved
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import Cancelled, InvalidSetting, NotAvailable, RecordError
from neftune_core.evaluation.answers import stream_answers
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.estimates import Workload, estimate
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies import checkpoint
from neftune_core.studies.settings import CONTROL, StudySettings
from tests.weights import weights_hash

ARMS = {
    "control": CONTROL,
    **{kind: NoiseSettings(strength=5, kind=kind) for kind in KINDS if not KINDS[kind].drops},
    "token-dropout": NoiseSettings(strength=0.3, unit="share", kind="token-dropout"),
    "at layers": NoiseSettings(strength=0.3, unit="relative", kind="gaussian", sites="embedding, 1"),
    "adaptive": NoiseSettings(strength=5, schedule="adaptive"),
}
FEW = {name: ARMS[name] for name in ("control", "uniform")}


def made(loaded: LoadedModel, arms: dict[str, NoiseSettings] = ARMS, **training: Any) -> Lockstep:
    usual = {"steps": 6, "learning_rate": 2e-3, "evaluations": 2, "lora_rank": 4, "lora_alpha": 8}
    settings = TrainingSettings(**(usual | training))
    rows = random_rows(20)
    prepared = SimpleNamespace(train=rows[:16], held_out=rows[16:])
    return Lockstep(
        StudySettings(training=settings), make_training_arms(loaded, len(arms), settings), prepared, arms=arms
    )


def events(run: Lockstep) -> list[dict[str, Any]]:
    return list(run.run(lambda: False))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adapters_in_turn_have_the_numbers_of_adapters_together(tiny: LoadedModel, dropout: float) -> None:
    together, in_turn = (
        events(made(tiny, arms_at_once=at_once, lora_dropout=dropout)) for at_once in ("together", "in-turn")
    )
    assert [event["event"] for event in together] == [event["event"] for event in in_turn]
    for one, other in zip(together, in_turn, strict=True):
        for name in one["arms"]:
            # float32, in batched products of different sizes, over six steps
            assert one["arms"][name] == pytest.approx(other["arms"][name], abs=1e-5), name


def test_copies_go_in_the_steps_of_a_plain_loop_over_all_weights(tiny: LoadedModel) -> None:
    """Compare with the model's own loss: same order, AdamW, clipping and linear decay; norms are not decayed."""
    run = made(tiny, FEW, method="full", weight_decay=0.1, batch_size=4, steps=8)
    ours = events(run)
    rows, lengths = random_rows(20)[:16], [row.length for row in random_rows(20)[:16]]
    model = copy.deepcopy(tiny.model).requires_grad_(True)
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}])
    order = [batch for epoch in range(2) for batch in epoch_batches(lengths, 4, seed=0, epoch=epoch)]
    theirs = []
    for step, places in enumerate(order):
        longest = max(lengths[place] for place in places)
        ids, labels = torch.zeros(4, longest, dtype=torch.long), torch.full((4, longest), -100)
        for place, number in enumerate(places):
            tokens, trained = torch.from_numpy(rows[number].ids).long(), torch.from_numpy(rows[number].trained)
            ids[place, : len(tokens)] = tokens
            labels[place, : len(tokens)] = tokens.masked_fill(~trained, -100)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / 8)
        optimizer.step()
        theirs.append(float(loss.detach()))
    assert losses_of(ours, "control") == pytest.approx(theirs, abs=2e-5)  # float32, the head in pieces
    assert losses_of(ours, "uniform")[1:] != pytest.approx(theirs[1:], abs=1e-3)
    moved = [
        (weight - start).detach().norm()
        for weight, start in zip(model.parameters(), tiny.model.parameters(), strict=True)
    ]
    last = next(event for event in reversed(ours) if event["event"] == "step")
    assert last["arms"]["control"]["weight_distance"] == pytest.approx(float(torch.stack(moved).norm()), rel=1e-3)


def test_a_copy_of_any_kind_of_noise_is_what_it_is_alone_and_the_base_never_changes(tiny: LoadedModel) -> None:
    before = weights_hash(tiny.model)
    all_arms = events(made(tiny, method="full"))
    for name in ("control", "adversarial", "symmetric"):
        alone = events(made(tiny, {name: ARMS[name]}, method="full"))
        assert losses_of(all_arms, name) == losses_of(alone, name)  # in turn: the very same products
    for name in set(ARMS) - {"control"}:
        assert losses_of(all_arms, name) != losses_of(all_arms, "control"), name
    assert weights_hash(tiny.model) == before
    assert not any(weight.requires_grad for weight in tiny.model.parameters())


def test_the_control_among_copies_is_bit_identical_to_a_run_without_the_noise_code(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_code = events(made(tiny, {"control": CONTROL}, method="full"))
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", lambda module, hook: None)
    assert events(made(tiny, {"control": CONTROL}, method="full")) == with_code


@pytest.mark.parametrize("method", [{"method": "full"}, {"arms_at_once": "in-turn"}])
def test_a_run_is_bit_identical_when_resumed(tiny: LoadedModel, tmp_path: Path, method: dict[str, str]) -> None:
    unbroken, broken_off, resumed = (made(tiny, FEW, model_dropout=0.1, accumulation=2, **method) for _ in range(3))
    expected = events(unbroken)
    for event in broken_off.run(lambda: False):
        if (event["event"], event["step"]) == ("step", 4):
            break
    checkpoint.save(broken_off, tmp_path)
    checkpoint.restore(resumed, tmp_path)
    assert events(resumed) == [event for event in expected if event["step"] > 4]


@pytest.mark.parametrize("method", [{"method": "full"}, {"arms_at_once": "in-turn"}])
def test_a_stop_in_the_turn_of_the_second_arm_changes_nothing(tiny: LoadedModel, method: dict[str, str]) -> None:
    run = made(tiny, FEW, **method)
    asked, looks = False, 0

    def stop() -> bool:
        nonlocal looks
        looks += asked
        return looks > 8  # two layers and the head, there and back, in the pass of the first arm, and then some

    stream = run.run(stop)
    for event in stream:
        if (event["event"], event["step"]) == ("step", 2):
            break
    before = [block.values.detach().clone() for block in run.optimizer.blocks]
    asked = True
    with pytest.raises(Cancelled):
        next(stream)
    for block, kept in zip(run.optimizer.blocks, before, strict=True):
        assert torch.equal(block.values, kept)


def test_a_copy_that_diverges_is_marked_and_the_others_continue_unchanged(tiny: LoadedModel) -> None:
    def run(poison: bool) -> list[dict[str, Any]]:
        one, found = made(tiny, FEW, method="full"), []
        for event in one.run(lambda: False):
            found.append(event)
            if poison and (event["event"], event["step"]) == ("step", 2):
                with torch.no_grad():
                    next(block for block in one.optimizer.blocks if block.slots == (2,)).values.fill_(float("nan"))
        return found

    poisoned, clean = run(poison=True), run(poison=False)
    marked = [event for event in poisoned if event["event"] == "diverged"]
    assert [(event["step"], list(event["arms"])) for event in marked] == [(3, ["uniform"])]
    assert losses_of(poisoned, "control") == losses_of(clean, "control")


def test_a_saved_copy_is_loaded_by_transformers_and_by_the_lab(tiny: LoadedModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tiny.tokenizer.save_pretrained = lambda folder: None  # type: ignore[method-assign]
    run = made(tiny, FEW, method="full")
    events(run)
    run.stack.save(2, tmp_path / "arm")
    assert is_saved(tmp_path / "arm")
    ids = torch.arange(3, 12)[None]
    with run.stack.running([2]) as tree, torch.no_grad():
        expected = tree(input_ids=ids).logits
        assert not torch.equal(expected, tiny.model(input_ids=ids).logits)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "arm")
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, expected)
    lab = FullCopies(tiny, 1)
    lab.load(1, tmp_path / "arm")
    with lab.running([1]) as tree, torch.no_grad():
        assert torch.equal(tree(input_ids=ids).logits, expected)
    with pytest.raises(RecordError, match="missing"):
        lab.load(1, tmp_path / "nothing")
    (tmp_path / "arm" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(RecordError, match="cannot be read"):
        lab.load(1, tmp_path / "arm")


def test_answers_of_base_and_copies_are_those_of_each_alone(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neftune_core.evaluation.answers.end_ids", lambda tokenizer: {1})
    run = made(tiny, FEW, method="full", learning_rate=2e-2)
    events(run)
    prompts, settings = [[3, 4, 5], [7, 8]], AnswerSettings(new_tokens=6)

    def ids(slots: list[int]) -> list[list[list[int]]]:
        *_, last = stream_answers(run.stack, slots, prompts, settings)
        return [[answer.ids for answer in by_prompt] for by_prompt in last]

    together = ids([0, 1, 2])
    assert together == [ids([slot])[0] for slot in (0, 1, 2)]
    assert together[0] != together[1]


def test_rounded_copies_keep_what_float32_keeps(tiny: LoadedModel) -> None:
    """Steps far below the spacing of bfloat16 accumulate in the float32 weights."""
    rounded = loaded_tiny(copy.deepcopy(tiny.model).bfloat16(), width=32)
    run = made(rounded, FEW, method="full", learning_rate=1e-6)
    found = [event for event in events(run) if event["event"] == "step"]
    distances = [event["arms"]["control"]["weight_distance"] for event in found]
    assert distances == sorted(distances)
    assert 0 < distances[0] < distances[-1]
    assert all(block.values.dtype == torch.float32 for block in run.optimizer.blocks)
    assert all(weight.dtype == torch.bfloat16 for weight in rounded.model.parameters())


def test_in_turn_and_with_copies_the_estimate_counts_one_arms_rows(tiny: LoadedModel) -> None:
    work = Workload(arms=5, batch_size=4, length=256, steps=10, rank=8)
    one, five, in_turn = (
        estimate(tiny, size).memory_bytes
        for size in (
            Workload(arms=1, batch_size=4, length=256, steps=10, rank=8),
            work,
            Workload(arms=5, batch_size=4, length=256, steps=10, rank=8, together=False),
        )
    )
    assert one < in_turn < five
    copies = estimate(tiny, Workload(arms=5, batch_size=4, length=256, steps=10, rank=None)).memory_bytes
    assert copies - one == pytest.approx(16 * (5 * tiny.parameters - 8 * 20 * 32 * 2), rel=0.05)


def test_full_fine_tuning_refuses_dropout_on_adapters_that_it_does_not_have() -> None:
    with pytest.raises(InvalidSetting, match="no adapters"):
        StudySettings(training=TrainingSettings(method="full"), noise=(), methods=(MethodSettings(lora_dropout=0.1),))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_float16_is_scaled_and_a_step_that_overflows_is_taken_again(tiny: LoadedModel, method: str) -> None:
    exact = losses_of(events(made(tiny, FEW, method=method)), "uniform")
    halved = dataclasses.replace(loaded_tiny(copy.deepcopy(tiny.model).half(), width=32), precision="float16")
    run = made(halved, FEW, method=method)
    assert run.scale.value > 1
    run.scale.value = 2.0**24
    found = events(run)
    assert 1 < run.scale.value < 2.0**24
    assert losses_of(found, "uniform") == pytest.approx(exact, rel=0.01)  # float16 carries eleven bits
    norms = [event["arms"]["uniform"]["gradient_norm"] for event in found if event["event"] == "step"]
    in_float32 = events(made(tiny, FEW, method=method))
    expected = [event["arms"]["uniform"]["gradient_norm"] for event in in_float32 if event["event"] == "step"]
    assert norms == pytest.approx(expected, rel=0.05)  # true norms, whatever the scale


def test_a_gradient_of_nan_at_a_scale_of_one_is_the_arms_own() -> None:
    scale = LossScale("float16")
    scale.value = 2.0
    assert scale.overflowed([1.0, 1.0], [1.0, float("inf")])
    assert scale.value == 1
    assert not scale.overflowed([1.0], [float("inf")])
    assert not LossScale("float16").overflowed([float("nan")], [float("nan")])
    assert not LossScale("float32").overflowed([1.0], [float("inf")])
    for _ in range(2000):
        scale.stepped()
    assert scale.value == 2


def test_only_a_cuda_gpu_captures_a_step(tiny: LoadedModel) -> None:
    with pytest.raises(NotAvailable, match="CUDA"):
        made(tiny, FEW, execution="captured")


def test_on_a_processor_as_many_arms_go_together_as_its_caches_hold(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_core.models.device.CPU_PASS_ELEMENTS", 200 * tiny.width)
    stack = AdapterStack(tiny, 5, rank=2, alpha=4)
    slots = [1, 2, 3, 4, 5]
    assert stack.groups(slots) == stack.groups(slots, 40) == [slots]
    assert stack.groups(slots, 70) == [[1], [2, 3], [4, 5]]
    assert stack.groups(slots, 500) == [[1], [2], [3], [4], [5]]


def test_arms_in_groups_have_the_numbers_of_all_at_once(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    together = events(made(tiny, lora_dropout=0.2))
    monkeypatch.setattr("neftune_core.models.device.CPU_PASS_ELEMENTS", 300 * tiny.width)
    run = made(tiny, lora_dropout=0.2)
    assert 1 < len(run.stack.groups(run.alive, 4 * 32)) < len(run.alive)
    for one, other in zip(together, events(run), strict=True):
        for name in one["arms"]:
            # float32, in batched products of different sizes, over six steps
            assert one["arms"][name] == pytest.approx(other["arms"][name], abs=1e-5), name


@pytest.mark.parametrize("numbers", [1, 1023, 3_000_001])
def test_the_norm_of_a_long_gradient_is_right_to_seven_digits(numbers: int) -> None:
    values = torch.randn(2, numbers, generator=torch.Generator().manual_seed(0))
    part = TrainedTensor(torch.nn.Parameter(values), values[0].clone(), slots=(0, 1))
    (block,) = build_blocks([part])
    torch.testing.assert_close(block.norms(values).double(), values.double().norm(dim=1), rtol=3e-7, atol=0)
