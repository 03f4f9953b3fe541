"""Checks of the engine on every family: losses, gradients and answers against the model's own.

An arm is compared with a plain copy of the model that has the arm's adapter written into its weights, so that nothing
of the engine takes part on the other side.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from tests.stress.families.building import CONTEXT, Check, Family, tiny_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from neftune_core.data.batches import Batch
    from neftune_core.engine.stack import AdapterStack
    from neftune_core.models.loading import LoadedModel

RANK, ALPHA, ARMS = 4, 8, 2
LOSS_TOLERANCE = 1e-5  # nats; float32 sums in a different order
# Of the largest entry of a map's own gradient (T5 does not scale its scores, and rounds most), and of all gradients.
OWN_TOLERANCE, WHOLE_TOLERANCE = 1e-3, 1e-5
LENGTHS = ((5, 9), (3, 12), (8, 4), (1, 7))  # (prompt, reply) of each row
PROMPT_LENGTHS = (4, 9, 6)
NEW_TOKENS, PENALTY = 12, 1.2
LOWEST_TOKEN, TOKENS = 3, 250  # ids below and above are special in some family


def loaded_family(family: Family) -> LoadedModel:
    """Return a tiny random model of `family` as the loader returns it.

    Its weights are made large and its biases and norms uneven, so that no part of it can be left out unnoticed.
    """
    import torch

    from neftune_core.models.architecture.anatomy import all_layers, set_model_dropout
    from neftune_core.models.architecture.caches import memory_of
    from neftune_core.models.architecture.reach import reach_of
    from neftune_core.models.architecture.trials import require_supported
    from neftune_core.models.loading import LoadedModel
    from neftune_core.models.tokenizing import adapt_tokenizer

    model = family.build().requires_grad_(False)
    if hasattr(model.config, "rescale_every"):
        model.config.rescale_every = 0
    _make_uneven(model)
    set_model_dropout(model, 0.0)
    require_supported(model, family.words, "float32")
    embedding = model.get_input_embeddings().weight
    return LoadedModel(
        model=model,
        tokenizer=adapt_tokenizer(tiny_tokenizer(), model),
        source="tiny",
        name=family.words,
        licence="none",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        width=embedding.shape[1],
        layers=len(all_layers(model)),
        vocabulary=embedding.shape[0],
        context=CONTEXT,
        device=torch.device("cpu"),
        precision="float32",
        memory=memory_of(model, model.config.get_text_config().pad_token_id),
        reach=reach_of(model),
    )


def _make_uneven(model: Any) -> None:
    """Set large weights and uneven biases and norms, so that omitted parts show and answers vary."""
    import torch

    from neftune_core.models.architecture.anatomy import linear_maps

    generator = torch.Generator().manual_seed(1)

    def drawn(tensor: torch.Tensor, deviation: float) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator) * deviation

    for tensor in [*model.parameters(), *(buffer for name, buffer in model.named_buffers() if "bias" in name)]:
        if tensor.dim() < 2 or len(tensor) == 1:
            tensor.add_(drawn(tensor, 0.1))
    for name in linear_maps(model, "all"):
        weight = model.get_submodule(name).weight
        weight.copy_(drawn(weight, 2 / weight.shape[1] ** 0.5))


def stack_of(loaded: LoadedModel, arms: int = ARMS, *, seed: int = 2, deviation: float = 0.05) -> AdapterStack:
    """Return a stack whose arms differ from each other and from the base.

    Args:
        loaded: The model.
        arms: Number of arms.
        seed: Seed of the differences.
        deviation: Standard deviation of the adapters' second matrices.
    """
    import torch

    from neftune_core.engine.stack import AdapterStack

    stack = AdapterStack(loaded, arms, rank=RANK, alpha=ALPHA)
    stack.start(seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in stack.adapted.values():
            module.up[1:] = torch.randn(module.up[1:].shape, generator=generator) * deviation
    return stack


def batch_of(loaded: LoadedModel, lengths: Sequence[tuple[int, int]] = LENGTHS, round_to: int = 16) -> Batch:
    """Return random rows of these (prompt, reply) lengths, right-padded beyond the longest."""
    import numpy as np

    from neftune_core.data.batches import collate
    from neftune_core.data.chat import EncodedExample
    from neftune_core.data.examples import Example, Message
    from neftune_core.models.tokenizing import decoder_start

    generator = np.random.default_rng(3)
    start = decoder_start(loaded.tokenizer)
    example = Example((Message("user", "a"), Message("assistant", "b")), row=1)
    rows = []
    for prompt_length, reply_length in lengths:
        prompt, reply = (
            generator.integers(LOWEST_TOKEN, TOKENS, count).astype(np.int32) for count in (prompt_length, reply_length)
        )
        before = prompt if start is None else np.array([start], dtype=np.int32)
        ids = np.concatenate([before, reply])
        trained = np.arange(len(ids)) >= len(before)
        rows.append(EncodedExample(ids, trained, example, source=None if start is None else prompt))
    return collate(rows, loaded.tokenizer.pad_token_id, round_to)


def merged(stack: AdapterStack, slot: int) -> nn.Module:
    """Return a plain copy of the model with the adapter of `slot` merged into its weights."""
    import torch

    model = copy.deepcopy(stack.loaded.model)
    with torch.no_grad():
        for name, (down, up) in stack.slot_state(slot).items():
            linear = model.get_submodule(name)
            change = up @ down * (stack.alpha / stack.rank)
            linear.weight.add_(change if isinstance(linear, torch.nn.Linear) else change.t())
    return cast("nn.Module", model)


def own_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the model's own loss for `batch`."""
    import torch

    labels = batch.ids.masked_fill(~batch.trained, -100)
    if batch.source is None or batch.source_lengths is None:
        mask = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
        labels[:, 0] = -100
        return model(input_ids=batch.ids, attention_mask=mask.long(), labels=labels, use_cache=False).loss
    mask = torch.arange(batch.source.shape[1]) < batch.source_lengths[:, None]
    return model(
        input_ids=batch.source,
        attention_mask=mask.long(),
        decoder_input_ids=batch.ids[:, :-1],
        labels=labels[:, 1:].contiguous(),
    ).loss


def loss_matches(family: Family) -> bool:
    """Check that the losses of base and arms equal the model's own, with padding and uneven rows."""
    from neftune_core.engine.loss import arm_losses

    loaded = loaded_family(family)
    stack, batch = stack_of(loaded), batch_of(loaded)
    slots = list(range(stack.slots))
    with stack.running(slots) as tree:
        found = arm_losses(tree, batch, len(slots)).means
    expected = [float(own_loss(merged(stack, slot), batch)) for slot in slots]
    spread = max(expected) - min(expected)
    return (
        spread > LOSS_TOLERANCE
        and max(abs(float(ours) - theirs) for ours, theirs in zip(found, expected, strict=True)) <= LOSS_TOLERANCE
    )


def adapters_train(family: Family) -> bool:
    """Check that the gradients of every arm equal those of a plain model with that arm only."""
    from neftune_core.engine.loss import arm_losses

    loaded = loaded_family(family)
    stack, batch = stack_of(loaded), batch_of(loaded)
    arms = list(range(1, stack.slots))
    with stack.running(arms) as tree:
        arm_losses(tree, batch, len(arms), backward_over=int(batch.trained[:, 1:].sum()))
    return all(_close(_gradients(stack, arm), _gradients_alone(stack, arm, batch)) for arm in arms)


Gradients = list["torch.Tensor"]


def _gradients(stack: AdapterStack, arm: int) -> Gradients:
    """Return the gradients of one arm in the stack, `[rank, in]` and `[out, rank]` per linear layer."""
    found = []
    for module in stack.adapted.values():
        assert module.down.grad is not None and module.up.grad is not None
        found += [module.down.grad[arm], module.up.grad[arm].t()]
    return found


def _gradients_alone(stack: AdapterStack, arm: int, batch: Batch) -> Gradients:
    """Return the same from the weight gradients of a plain model, by the chain rule."""
    import torch

    model = merged(stack, arm).requires_grad_(True)
    own_loss(model, batch).backward()
    scale = stack.alpha / stack.rank
    found = []
    for name, (down, up) in stack.slot_state(arm).items():
        linear: Any = model.get_submodule(name)
        gradient: torch.Tensor = linear.weight.grad
        whole = gradient if isinstance(linear, torch.nn.Linear) else gradient.t()
        found += [scale * up.t() @ whole, scale * whole @ down.t()]
    return found


def _close(found: Gradients, expected: Gradients) -> bool:
    largest = max(float(gradient.abs().max()) for gradient in expected)
    return all(
        float((ours - theirs).abs().max()) <= OWN_TOLERANCE * float(theirs.abs().max()) + WHOLE_TOLERANCE * largest
        for ours, theirs in zip(found, expected, strict=True)
    )


def prompts_of(loaded: LoadedModel) -> list[list[int]]:
    """Return random prompts of different lengths."""
    import numpy as np

    generator = np.random.default_rng(4)
    return [generator.integers(LOWEST_TOKEN, TOKENS, length).tolist() for length in PROMPT_LENGTHS]


def generated(model: Any, prompt: Sequence[int], loaded: LoadedModel, penalty: float) -> list[int]:
    """Return the answer of transformers' `generate` to one prompt, truncated like the lab's answers."""
    import torch

    from neftune_core.data.chat import end_ids
    from neftune_core.models.architecture.anatomy import first_position

    ids = torch.tensor([prompt])
    more: dict[str, Any] = {}
    if first_position(model):  # generate counts from 0, whatever the model does by itself
        more["position_ids"] = torch.arange(len(prompt))[None] + first_position(model)
    ending = end_ids(loaded.tokenizer)
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS + 1,  # the last token may be forced to be the end
        do_sample=False,
        num_beams=1,
        repetition_penalty=penalty,
        eos_token_id=sorted(ending),
        pad_token_id=loaded.tokenizer.pad_token_id,
        **more,
    )[0].tolist()
    answer = found[1:] if loaded.encoder_decoder else found[len(prompt) :]
    stop = next((place for place, token in enumerate(answer) if token in ending), len(answer))
    return answer[: min(stop, NEW_TOKENS)]


def answers_of(stack: AdapterStack, slots: Sequence[int], prompts: Sequence[Sequence[int]], penalty: float) -> Any:
    """Return the lab's answers as token ids, by slot and prompt."""
    from neftune_core.evaluation.answers import Answers, stream_answers
    from neftune_core.evaluation.settings import AnswerSettings

    settings = AnswerSettings(new_tokens=NEW_TOKENS, repetition_penalty=penalty)
    answers: Answers = []
    for answers in stream_answers(stack, slots, prompts, settings):  # noqa: B007 - the last state counts
        pass
    return [[answer.ids for answer in by_slot] for by_slot in answers]


def answers_match(family: Family) -> bool:
    """Check that batched answers of base and arm to prompts of different lengths equal those of `generate`."""
    loaded = loaded_family(family)
    stack, prompts = stack_of(loaded), prompts_of(loaded)
    slots = [0, 1]
    found = answers_of(stack, slots, prompts, PENALTY)
    for slot in slots:
        alone = merged(stack, slot)
        if found[slot] != [generated(alone, prompt, loaded, PENALTY) for prompt in prompts]:
            return False
    return True


CHECKS: dict[str, Check] = {
    "chunked loss equals the model's own": loss_matches,
    "stacked adapters train": adapters_train,
    "answers equal generate": answers_match,
}
