"""Describe components that embedding noise or adapters do not reach, and factors by which a model scales the noise.

They are found by running the model, not by the name of its family. The sentences are stored in records in English, and
translated when shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from neftune_core.errors import ModelError
from neftune_core.language import later
from neftune_core.models.architecture.anatomy import linear_maps
from neftune_core.models.architecture.module_trees import private_tree
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.sites import Site, hooks_on, is_encoder_decoder, layer_stack, model_parts, noise_sites

if TYPE_CHECKING:
    import torch
    from torch import nn

TABLE = later(
    "Another embedding table ({table}) also feeds the layers, but noise on the embedding does not reach this table. To "
    "add noise there as well, add 'tables' to the sites."
)
AFTER = later(
    "The model multiplies the vectors of its embedding by {factor}, and their noise with them: alpha 5 reaches the "
    "first layer as alpha {alpha}."
)
INSIDE = later(
    "The embedding itself multiplies its vectors by {factor} before noise is added: relative to the multiplied "
    "vectors, alpha 5 is as small as alpha {alpha} would be without this factor."
)
SHARE = later(
    "Adapters on all linear layers cover {share} of the weights in the model's layers; they do not cover {names}."
)
SOME_ATTENTION = later("Attention adapters cover only {count} of the {layers} layers: the others have no attention.")
NO_ATTENTION = later("The layers have no attention, so attention adapters are not available.")

ALPHA = 5
WHOLE_SHARE = 0.95
"""Minimum share of the layers' weights at which adapters are considered to reach all of them."""
IDS = (9, 4, 11, 5)
"""Token ids that differ from any position or segment ids."""


def reach_of(model: nn.Module) -> tuple[str, ...]:
    """Return a sentence for each component that noise or adapters do not reach, and each factor that scales the noise.

    For most models, there are no such sentences.

    Args:
        model: The model, in evaluation mode, after `trials.require_supported`.
    """
    tables, after = _noise_reach(private_tree(model))
    inside = _inside_factor(model)
    found = [TABLE.format(table=table) for table in tables]
    if abs(after - 1) > 0.01:
        found.append(AFTER.format(factor=f"{after:.3g}", alpha=f"{ALPHA * after:.3g}"))
    if abs(inside - 1) > 0.01:
        found.append(INSIDE.format(factor=f"{inside:.3g}", alpha=f"{ALPHA / inside:.2g}"))
    return (*found, *_adapter_reach(model))


def _noise_reach(tree: nn.Module) -> tuple[list[str], float]:
    """Return the names of other embeddings of the tokens, and the factor on the noise that reaches the first layer.

    The factor is 1 if the change at the layer is not proportional to the noise, as after a normalisation.
    """
    import torch

    site = noise_sites(tree)[0]
    ids = torch.tensor([IDS], device=next(tree.parameters()).device)
    noise: list[torch.Tensor] = []

    def add(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """Add noise to the output of the site; a forward hook.

        Args:
            module: The module that has run.
            args: Its positional arguments.
            output: Its output.

        Returns:
            The noisy output.
        """
        drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
        noise[:] = [0.1 * output.float().std().to(output) * drawn]
        return output + noise[0]

    with _other_tables(tree, ids) as tables:
        clean = _into_first_layer(tree, site, ids)
        with hooks_on([site.module.register_forward_hook(add)]):
            noisy = _into_first_layer(tree, site, ids)
    change, drawn = (noisy - clean).flatten(), noise[0].float().flatten()
    if change.shape != drawn.shape or torch.cosine_similarity(change, drawn, 0) < 0.99:
        return tables, 1.0
    return tables, float(change @ drawn / (drawn @ drawn))


@contextmanager
def _other_tables(tree: nn.Module, ids: torch.Tensor) -> Iterator[list[str]]:
    """Collect the names of the embeddings that are called with the token ids, except the input embeddings."""
    import torch
    from torch import nn

    found: list[str] = []

    def look(leaf: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Store the name of an embedding that is called with the token ids.

        Args:
            leaf: Name of the embedding.
            module: The embedding.
            args: Its positional arguments.
        """
        if torch.is_tensor(args[0]) and torch.equal(args[0], ids) and leaf not in found:
            found.append(leaf)

    inputs = {site.module for site in noise_sites(tree) if site.number == EMBEDDING_SITE}
    with hooks_on(
        module.register_forward_pre_hook(partial(look, name.rpartition(".")[2]))
        for name, module in tree.named_modules()
        if isinstance(module, nn.Embedding) and module not in inputs
    ):
        yield found


def _into_first_layer(tree: nn.Module, site: Site, ids: torch.Tensor) -> torch.Tensor:
    """Return the vectors passed to the first layer of the site's component, in float32."""
    import torch

    taken: list[torch.Tensor] = []

    def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Store the vectors passed to a layer; a forward pre-hook.

        Args:
            module: The layer.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        vectors = (one for one in (*args, *kwargs.values()) if torch.is_tensor(one) and one.is_floating_point())
        taken.append(next(vectors).float())

    first = layer_stack(tree, site.part)[1][0]
    more = {"decoder_input_ids": ids} if is_encoder_decoder(tree) else {}
    with hooks_on([first.register_forward_pre_hook(take, with_kwargs=True)]), torch.no_grad():
        tree(input_ids=ids, use_cache=False, **more)
    return taken[0]


def _inside_factor(model: nn.Module) -> float:
    """Return the factor by which the input embedding multiplies its rows; 1 for a plain lookup."""
    import torch

    module: Any = noise_sites(model)[0].module
    ids = torch.tensor([IDS], device=module.weight.device)
    with torch.no_grad():
        rows, given = module.weight[ids].float(), module(ids).float()
    if rows.shape != given.shape or not bool(rows.any()):
        return 1.0
    return float((rows * given).sum() / (rows * rows).sum())


def _adapter_reach(model: nn.Module) -> list[str]:
    stacks = dict(layer_stack(model, part) for part in model_parts(model))
    in_layer = re.compile(rf"((?:{'|'.join(map(re.escape, stacks))})\.\d+)\.(.+?)(?:\.weight)?")
    maps = {f"{name}.weight" for name in linear_maps(model, "all")}
    total, missed = 0, Counter[str]()
    for name, parameter in model.named_parameters():
        found = in_layer.fullmatch(name)
        if found and parameter.dim() > 1:
            total += parameter.numel()
            if name not in maps:
                missed[found[2]] += parameter.numel()
    share = 1 - missed.total() / total
    sentences: list[str] = []
    if share < WHOLE_SHARE:
        names = ", ".join(name for name, _ in missed.most_common(3))
        sentences.append(SHARE.format(share=f"{share:.0%}", names=names))
    try:
        attention = linear_maps(model, "attention")
    except ModelError:
        return [*sentences, NO_ATTENTION]
    adapted = {found[1] for found in map(in_layer.fullmatch, attention) if found}
    layers = sum(map(len, stacks.values()))
    if len(adapted) < layers:
        sentences.append(SOME_ATTENTION.format(count=len(adapted), layers=layers))
    return sentences
