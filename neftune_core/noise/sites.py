"""The places of a model where noise can be added: the output of its token embeddings and of its layers.

They are found by structure, whatever a family calls them. In an encoder-decoder the module that the model names as
its input embedding is often never called (T5, BART): the encoder's and the decoder's own embeddings are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neftune_core.errors import NoEffect
from neftune_core.language import say
from neftune_core.noise.kinds import EMBEDDING_SITE

if TYPE_CHECKING:
    from torch import nn

    from neftune_core.noise.settings import NoiseSettings

ENCODER, DECODER = "encoder", "decoder"


@dataclass(frozen=True)
class Site:
    """One place: the output of `module` (the first entry, where it gives a tuple).

    `number` is 0 for an embedding and counts the layers from 1, those of an encoder before those of its decoder.
    `part` is "encoder" or "decoder"; a causal model is all decoder. `owner` is that part: where an encoder and a
    decoder share one embedding module, it tells whose pass is under way. `key` is the site's number in the key of
    a draw, different for every site of a model.
    """

    number: int
    part: str
    module: nn.Module
    owner: nn.Module
    key: int


def noise_sites(model: nn.Module) -> list[Site]:
    """Every site of `model`: for each part its embedding, then its layers.

    Raises `NoEffect` where a part names no embedding, or has no stack of layers.
    """
    sites: list[Site] = []
    parts = model_parts(model)
    stacks = {part: layer_stack(model, part)[1] for part in parts}
    total = sum(len(stack) for stack in stacks.values())
    for part, owner in parts.items():
        key = EMBEDDING_SITE if not sites else total + 1  # the numbers of layers are taken
        sites.append(Site(EMBEDDING_SITE, part, _input_embedding(owner), owner, key))
        before = max(site.number for site in sites)
        sites += [
            Site(number, part, layer, owner, key=number) for number, layer in enumerate(stacks[part], start=before + 1)
        ]
    return sites


def chosen_sites(model: nn.Module, settings: NoiseSettings) -> list[Site]:
    """The sites that `settings` name; raises `InvalidSetting` for a layer that the model does not have."""
    sites = noise_sites(model)
    numbers = settings.site_numbers(layers=max(site.number for site in sites))
    return [site for site in sites if site.number in numbers]


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether the model reads with an encoder and answers with a decoder."""
    return bool(getattr(getattr(unwrapped(model), "config", None), "is_encoder_decoder", False))


def model_parts(model: nn.Module) -> dict[str, nn.Module]:
    """The parts by name in the order of the forward pass: encoder and decoder, or only the decoder (all of it)."""
    inner: Any = unwrapped(model)
    if not is_encoder_decoder(inner):
        return {DECODER: inner}
    return {ENCODER: inner.get_encoder(), DECODER: inner.get_decoder()}


def layer_stack(model: nn.Module, part: str = DECODER) -> tuple[str, nn.ModuleList]:
    """The name in `model`, and the module, of the stack of layers of one part.

    It is the one that holds the most parameters, of the lists that are in no other list: what a layer itself keeps
    in lists (experts, the attention and the feed-forward map of T5) is inside. Raises `NoEffect` where there is none.
    """
    from torch import nn

    owner: Any = model_parts(model)[part]
    if not is_encoder_decoder(model) and callable(getattr(owner, "get_decoder", None)):
        owner = owner.get_decoder()  # the text model of one that also sees or hears
    lists = {name: module for name, module in owner.named_modules() if isinstance(module, nn.ModuleList)}
    outermost = [module for name, module in lists.items() if not any(name.startswith(other + ".") for other in lists)]
    if not outermost:
        raise NoEffect(say("The layers of a {model} were not found: choose another model.", model=type(owner).__name__))
    stack = max(outermost, key=lambda module: sum(parameter.numel() for parameter in module.parameters()))
    return next(name for name, module in model.named_modules() if module is stack), stack


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of data parallel training, of `torch.compile` and of PEFT."""
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


def _input_embedding(part: nn.Module) -> nn.Module:
    find = getattr(part, "get_input_embeddings", None)
    try:
        embedding = find() if find is not None else None
    except NotImplementedError:  # what transformers says of a model without one
        embedding = None
    if embedding is None:
        raise NoEffect(
            say("{model} names no input embedding, so there is nowhere to add noise.", model=type(part).__name__)
        )
    return embedding
