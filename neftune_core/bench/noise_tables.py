"""Noise under each length rule, measured on a padded row and on packed documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from neftune_core.bench.noise import Size, random_model
from neftune_core.bench.table import ResultTable
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation

if TYPE_CHECKING:
    import torch

ALPHA, WIDTH = 5.0, 576
VOCABULARY, SEED = 256, 0


@dataclass(frozen=True)
class PackedBatch:
    """A batch of one row: its description, the lengths of its documents in tokens, and its length with padding."""

    words: str
    documents: tuple[int, ...]
    length: int


LAYOUTS = (
    PackedBatch("64 tokens padded to 512", (64,), 512),
    PackedBatch("8 documents of 256 tokens packed in one row", (256,) * 8, 2048),
)

CONSTANT = standard_deviation(ALPHA, "alpha", LAYOUTS[0].documents[0], WIDTH)
"""Constant standard deviation for comparison, as given by `ALPHA` at 64 tokens."""

Rule = tuple[Callable[[Any], AbstractContextManager[Any]], Callable[[PackedBatch], float]]
"""A context manager that adds noise to a model, and the formula of its standard deviation."""


def _ours(model: Any, **settings: Any) -> AbstractContextManager[Any]:
    from neftune_core.noise.attach import noisy_embeddings

    return noisy_embeddings(model, NoiseSettings(**settings), seed=SEED)


@contextmanager
def trainer_hook(model: Any, alpha: float = 50.0) -> Iterator[None]:
    """Apply the noise hook that transformers' `Trainer` uses for `neftune_noise_alpha`.

    Args:
        model: The model.
        alpha: Noise strength.

    Yields:
        Nothing; the hook is active inside the block.
    """
    from transformers.integrations.neftune import activate_neftune, deactivate_neftune

    handle = activate_neftune(model, neftune_noise_alpha=alpha)
    try:
        yield
    finally:
        deactivate_neftune(model, handle)


def _of_alpha(length: int) -> float:
    return standard_deviation(ALPHA, "alpha", length, WIDTH)


RULES: dict[str, Rule] = {
    "true length (the paper's code)": (partial(_ours, strength=ALPHA), lambda row: _of_alpha(row.documents[0])),
    "padded length": (partial(_ours, strength=ALPHA, length_rule="padded"), lambda row: _of_alpha(row.length)),
    "the common trainer hook itself": (partial(trainer_hook, alpha=ALPHA), lambda row: _of_alpha(row.length)),
    "constant standard deviation": (partial(_ours, strength=CONSTANT, unit="std"), lambda row: CONSTANT),
}


def length_rules_table() -> ResultTable:
    """Return the standard deviation of one noise coordinate under each rule, measured and by formula."""
    import torch

    table = ResultTable(f"Length rules at alpha {ALPHA:g}, width {WIDTH}")
    size = Size(vocabulary=VOCABULARY, width=WIDTH, inner=WIDTH, layers=1, key_value_heads=9)
    model = random_model(size, torch.device("cpu"), "float32").model.train()  # only its embedding matters
    for layout in LAYOUTS:
        for words, (noise, formula) in RULES.items():
            on_tokens, on_padding = _measured_noise(model, layout, noise)
            table.rows.append(
                {
                    "batch": layout.words,
                    "rule": words,
                    "standard deviation of a coordinate": on_tokens,
                    "by the formula": formula(layout),
                    "on padding": on_padding,
                }
            )
    table.notes.append(f"The constant is the deviation of alpha {ALPHA:g} at {LAYOUTS[0].documents[0]} tokens.")
    return table


def _measured_noise(
    model: Any, layout: PackedBatch, noise: Callable[[Any], AbstractContextManager[Any]]
) -> tuple[float, float | str]:
    """Return the standard deviation of the noise that reaches the first layer, on tokens and on padding."""
    import torch

    ids = torch.arange(layout.length)[None] % VOCABULARY
    true = torch.arange(layout.length)[None] < sum(layout.documents)
    padding = layout.length - sum(layout.documents)
    positions = torch.cat([torch.arange(length) for length in (*layout.documents, padding)])[None]
    seen: list[torch.Tensor] = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]), noise(model):
        torch.manual_seed(SEED)  # for the trainer's hook, which uses the global generator
        handle = model.model.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            model(input_ids=ids, attention_mask=true.long(), position_ids=positions, use_cache=False)
        finally:
            handle.remove()
        added = seen[0] - torch.nn.functional.embedding(ids, model.get_input_embeddings().weight)
    return float(added[true].std()), float(added[~true].std()) if padding else "no padding"
