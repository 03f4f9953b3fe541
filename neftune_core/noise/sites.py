"""The sites of a model where noise can be added: the outputs of its token embeddings and of its layers.

Sites are found by structure, not by name. In an encoder-decoder, the module returned by `get_input_embeddings` is often
never called (T5, BART); the encoder and the decoder have their own embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neftune_core.errors import NoEffect
from neftune_core.language import later, say
from neftune_core.noise.kinds import EMBEDDING_SITE, TABLES_SITE

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from neftune_core.noise.settings import NoiseSettings

ENCODER, DECODER = "encoder", "decoder"


@dataclass(frozen=True)
class Site:
    """One noise site: the output of `module`, or its first element if the output is a tuple.

    Attributes:
        number: 0 for an embedding, -1 for a per-layer embedding table. Layers are numbered from 1, encoder layers
            before decoder layers.
        part: "encoder" or "decoder"; always "decoder" in a causal model.
        module: Module that gets noise on its output.
        owner: The encoder or decoder module; a hook on it shows which of the two uses a shared embedding.
        key: The site's number in the key of a draw, unique within a model.
    """

    number: int
    part: str
    module: nn.Module
    owner: nn.Module
    key: int


def noise_sites(model: nn.Module) -> list[Site]:
    """Return all noise sites, one component after another.

    Within a component, the embedding comes first, then any per-layer table, then the layers.

    Raises:
        NoEffect: If a component has no embedding or no layers.
    """
    sites: list[Site] = []
    parts = model_parts(model)
    stacks = {part: layer_stack(model, part)[1] for part in parts}
    total = sum(len(stack) for stack in stacks.values())
    for part, owner in parts.items():
        key = EMBEDDING_SITE if not sites else total + 1  # lower keys belong to layers
        sites.append(Site(EMBEDDING_SITE, part, _input_embedding(owner), owner, key))
        table = _per_layer_table(owner)
        if table is not None:
            sites.append(Site(TABLES_SITE, part, table, owner, total + 1 + len(parts)))
        first = max(site.number for site in sites) + 1
        sites += [Site(number, part, layer, owner, key=number) for number, layer in enumerate(stacks[part], first)]
    return sites


def chosen_sites(model: nn.Module, settings: NoiseSettings) -> list[Site]:
    """Return the sites selected by the settings.

    Args:
        model: Model to search.
        settings: The noise settings.

    Returns:
        The sites, in the order of `noise_sites`.

    Raises:
        InvalidSetting: If the model lacks a selected layer or per-layer embedding table.
        NoEffect: If a component has no input embedding or no stack of layers.
    """
    sites = noise_sites(model)
    tables = any(site.number == TABLES_SITE for site in sites)
    numbers = settings.site_numbers(layers=max(site.number for site in sites), tables=tables)
    return [site for site in sites if site.number in numbers]


@contextmanager
def hooks_on(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Register the hooks that `handles` yields, and remove them at the end of the block."""
    with ExitStack() as undo:
        for handle in handles:
            undo.callback(handle.remove)
        yield


def is_encoder_decoder(model: nn.Module) -> bool:
    """Return whether the model is an encoder-decoder."""
    return bool(getattr(getattr(unwrap_model(model), "config", None), "is_encoder_decoder", False))


def model_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the components by name in forward order: encoder and decoder; a causal model is its own decoder."""
    inner: Any = unwrap_model(model)
    if not is_encoder_decoder(inner):
        return {DECODER: inner}
    return {ENCODER: inner.get_encoder(), DECODER: inner.get_decoder()}


def layer_stack(model: nn.Module, part: str = DECODER) -> tuple[str, nn.ModuleList]:
    """Find the stack of layers of one component.

    The stack is the `ModuleList` with the most parameters that is not nested in another one. This excludes lists inside
    layers, such as experts, or the attention and feed-forward modules of T5.

    Args:
        model: Model to search.
        part: "encoder" or "decoder".

    Returns:
        Qualified name of the stack in `model`, and the stack.

    Raises:
        NoEffect: If the model has no such stack.
    """
    from torch import nn

    owner: Any = model_parts(model)[part]
    if not is_encoder_decoder(model) and callable(getattr(owner, "get_decoder", None)):
        inner = owner.get_decoder()  # the text model of a multimodal model, or the head of ModernBERT
        owner = inner if any(isinstance(module, nn.ModuleList) for module in inner.modules()) else owner
    lists = {name: module for name, module in owner.named_modules() if isinstance(module, nn.ModuleList)}
    outermost = [module for name, module in lists.items() if not any(name.startswith(other + ".") for other in lists)]
    if not outermost:
        raise NoEffect(say("No stack of layers was found in {model}: choose another model.", model=family_of(model)))
    stack = max(outermost, key=lambda module: sum(parameter.numel() for parameter in module.parameters()))
    return next(name for name, module in model.named_modules() if module is stack), stack


def require_one_stream(vectors: Tensor) -> None:
    """Check that the output of a site is one vector per token, `[batch, length, width]`.

    Raises:
        NoEffect: If the output has other dimensions.
    """
    if vectors.dim() != 3:
        words = later(
            "The layers of this model output several vectors per token, so noise cannot be added to them: choose the "
            "embedding as the only site."
        )
        raise NoEffect(say(words))


def family_of(model: nn.Module) -> str:
    """Return the model family from the configuration, such as "llama"; "the model" if it names none."""
    return str(getattr(getattr(unwrap_model(model), "config", None), "model_type", "") or say("the model"))


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of data-parallel training, `torch.compile` and PEFT."""
    current: Any = model
    while True:
        if callable(getattr(type(current), "get_base_model", None)):
            current = current.get_base_model()
        elif hasattr(type(current), "get_input_embeddings"):
            return current
        else:
            inner = next((found for found in map(current._modules.get, ("module", "_orig_mod")) if found), None)
            if inner is None:
                return current
            current = inner


def _per_layer_table(part: nn.Module) -> nn.Module | None:
    """Return the table with a short vector per token and layer (Gemma 3n and 4); None if absent."""
    from torch import nn

    config: Any = getattr(part, "config", None)
    text: Any = config.get_text_config() if hasattr(config, "get_text_config") else None
    width = getattr(text, "hidden_size_per_layer_input", None)
    if not width:
        return None
    shape = (text.vocab_size_per_layer_input, text.num_hidden_layers * width)
    tables = (module for module in part.modules() if isinstance(module, nn.Embedding))
    return next((table for table in tables if tuple(table.weight.shape) == shape), None)


def _input_embedding(part: nn.Module) -> nn.Module:
    find = getattr(part, "get_input_embeddings", None)
    try:
        embedding = find() if find is not None else None
    except NotImplementedError:  # raised by transformers for a model without one
        embedding = None
    if embedding is None:
        raise NoEffect(
            say("{model} has no input embedding to add noise to: choose another model.", model=family_of(part))
        )
    return embedding
