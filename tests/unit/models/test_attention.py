"""Causal attention as batched products: values and gradients of torch, and when it is used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from neftune_core.models.architecture import attention
from neftune_core.models.architecture.attention import causal_rows
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings


def drawn(heads: int, key_heads: int, tokens: int, dtype: torch.dtype) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(tokens)
    shapes = [(2, heads, tokens, 8), (2, key_heads, tokens, 8), (2, key_heads, tokens, 8)]
    return [torch.randn(shape, generator=draw).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("tokens", [2, 7, 33])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-2)])
def test_values_and_gradients_are_those_of_torch(
    heads: int, key_heads: int, tokens: int, dtype: torch.dtype, close: float
) -> None:
    given = drawn(heads, key_heads, tokens, dtype)
    ours = causal_rows(*given, 0.3)
    wide = [one.detach().float().requires_grad_() for one in given]
    key, value = (one.repeat_interleave(heads // key_heads, 1) for one in wide[1:])
    theirs = torch.nn.functional.scaled_dot_product_attention(wide[0], key, value, is_causal=True, scale=0.3)
    torch.testing.assert_close(ours.float(), theirs, rtol=close, atol=close)
    weights = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    mine = torch.autograd.grad((ours.float() * weights).sum(), given)
    others = torch.autograd.grad((theirs * weights).sum(), wide)
    for one, other in zip(mine, others, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=5 * close, atol=5 * close)


def test_sharp_scores_in_bfloat16_are_as_exact_as_plain_attention() -> None:
    given = [3 * one.detach() for one in drawn(6, 2, 64, torch.bfloat16)]
    query, (key, value) = given[0].float(), (one.float().repeat_interleave(3, 1) for one in given[1:])
    true = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.35)
    hidden = torch.full((64, 64), float("-inf")).triu(1)
    scores = (query.bfloat16() @ key.bfloat16().transpose(2, 3)) * 0.35 + hidden.bfloat16()
    plain = torch.softmax(scores, -1, dtype=torch.float32).bfloat16() @ value.bfloat16()
    ours = (causal_rows(*given, 0.35).float() - true).norm()
    assert ours < 1.5 * (plain.float() - true).norm()


@pytest.mark.parametrize("tokens", [5, 8, 11])
def test_gradients_are_right_to_the_last_digit_in_double(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", 8)  # so that few tokens fill less than a block, a block, and more
    given = [one.detach()[:1].double().requires_grad_() for one in drawn(4, 2, tokens, torch.float32)]
    assert torch.autograd.gradcheck(lambda *three: causal_rows(*three, 0.5), given)


def test_stored_probabilities_give_the_bits_of_recomputed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    given = drawn(4, 2, 24, torch.bfloat16)
    weights = torch.randn(2, 4, 24, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    computed: list[slice] = []
    probabilities = attention.block_probabilities

    def counted(query: torch.Tensor, key: torch.Tensor, block: slice, scale: float) -> torch.Tensor:
        computed.append(block)
        return probabilities(query, key, block, scale)

    monkeypatch.setattr(attention, "block_probabilities", counted)
    ours = causal_rows(*given, 0.3)
    found = torch.autograd.grad(ours, given, weights)
    assert len(computed) == 1  # by the forward pass alone
    seen = probabilities(given[0].view(4, 2, 24, 8), given[1].view(4, 24, 8), slice(0, 24), 0.3)
    value = given[2].detach().view(4, 24, 8)
    assert torch.equal(ours.detach(), torch.bmm(seen.detach(), value).view_as(ours))
    of_value = torch.bmm(seen.detach().transpose(1, 2), weights.reshape(4, 48, 8))
    assert torch.equal(found[2], of_value.view_as(found[2]))


def test_a_loaded_model_attends_this_way_and_says_the_same() -> None:
    loaded = load(ModelSettings(precision="float32"))
    model = loaded.model
    if loaded.device.type != "cpu":
        pytest.skip("the model is not on the processor")
    assert model.config._attn_implementation == attention.NAME
    tokens = torch.randint(3, loaded.vocabulary, (3, 19), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model(tokens).logits
        masked = model(tokens, attention_mask=torch.ones_like(tokens).index_fill_(1, torch.arange(2), 0)).logits
        model.set_attn_implementation("sdpa")
        try:
            theirs = model(tokens).logits
            theirs_masked = model(
                tokens, attention_mask=torch.ones_like(tokens).index_fill_(1, torch.arange(2), 0)
            ).logits
        finally:
            model.set_attn_implementation(attention.NAME)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masked[:, 2:], theirs_masked[:, 2:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        {"dropout": 0.1},
        {"is_causal": False},
        {"position_bias": torch.zeros(1, 4, 9, 9)},
    ],
)
def test_what_is_not_a_plain_causal_row_goes_to_torch(
    given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the products were taken")

    monkeypatch.setattr(attention, "causal_rows", refuse)
    query, key, value = drawn(4, 4, 9, torch.float32)
    found, _ = attention.attention(SimpleNamespace(is_causal=True), query, key, value, None, **given)
    assert found.shape == (2, 9, 4, 8)
    long = torch.zeros(1, 1, attention.LONGEST_ROW + 1, 8)
    attention.attention(SimpleNamespace(is_causal=True), long, long, long, None)
    attention.attention(SimpleNamespace(is_causal=True), query[:, :, -1:], key, value, None)
