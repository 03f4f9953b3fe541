"""Embedding noise on any live model, under anybody's training loop.

with noisy_embeddings(trainer.model, NoiseSettings(strength=5)):
    trainer.train()
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neftune_core.errors import NoEffect
from neftune_core.noise.kinds import draw_unit
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import standard_deviation
from neftune_core.randomness import Purpose


class _Attachment:
    """The state of one `noisy_embeddings`: what the call under way said of its rows, and how many calls there were."""

    def __init__(self, settings: NoiseSettings, seed: int, rank: int) -> None:
        self.settings = settings
        self.key = (seed, rank)
        self.calls = 0
        self.mask: Tensor | None = None
        self.positions: Tensor | None = None
        self.probing = False
        self.fired = False

    def before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        if mask is None and len(args) > 1 and isinstance(args[1], Tensor):
            mask = args[1]
        if mask is not None:
            self.mask = mask
        if kwargs.get("position_ids") is not None:
            self.positions = kwargs["position_ids"]

    def after_embedding(self, module: nn.Module, args: tuple[Any, ...], clean: Tensor) -> Tensor:
        self.fired = True
        try:
            if not (module.training or self.probing) or self.settings.is_silent:
                return clean
            self.calls += 1
            return (clean.float() + self._noise(clean)).to(clean.dtype)
        finally:
            self.mask = self.positions = None  # of this call alone

    def _noise(self, clean: Tensor) -> Tensor:
        """Noise of the shape `[batch, length, width]` of `clean`, float32, zero where the mask is zero."""
        batch, length, width = clean.shape
        noise = np.zeros((batch, length, width), dtype=np.float32)
        for row, documents in enumerate(self._documents(batch, length)):
            for number, places in enumerate(documents):
                key = (*self.key, self.calls, row, number)
                unit = draw_unit(self.settings.kind, key, len(places), width, Purpose.LIVE_NOISE)
                deviation = standard_deviation(self.settings.strength, self.settings.unit, len(places), width)
                noise[row, places] = unit * np.float32(deviation)
        return torch.from_numpy(noise).to(clean.device)

    def _documents(self, batch: int, length: int) -> list[list[NDArray[np.intp]]]:
        """For each row the places of its true tokens, one array a document: packed ones begin where positions do."""
        mask = self._rows_of(self.mask, batch, length, "attention_mask")
        positions = self._rows_of(self.positions, batch, length, "position_ids")
        rows = []
        for row in range(batch):
            places = np.arange(length) if mask is None else np.flatnonzero(mask[row])
            starts: Any = [] if positions is None else np.flatnonzero(np.diff(positions[row, places]) != 1) + 1
            rows.append([part for part in np.split(places, starts) if len(part)])
        return rows

    @staticmethod
    def _rows_of(given: Tensor | None, batch: int, length: int, name: str) -> NDArray[np.int64] | None:
        if given is None:
            return None
        if given.dim() != 2 or given.shape[0] not in (1, batch) or given.shape[1] != length:
            raise NoEffect(
                f"The length of each sequence cannot be read from an {name} of shape {list(given.shape)}: give it as "
                "[batch, length]."
            )
        return np.broadcast_to(given.detach().cpu().numpy().astype(np.int64), (batch, length))


@contextmanager
def noisy_embeddings(model: nn.Module, settings: NoiseSettings, seed: int = 0) -> Iterator[nn.Module]:
    """Add noise to `model`'s token embeddings while it is in training mode; undone on leaving.

    The length of each sequence is read from the attention mask of each call (all tokens where there is none); of
    documents packed in a row, from the position ids, which begin anew. Padding gets none, and evaluation is clean.
    The draws come from a private generator that advances call by
    call, differently on each rank, and touch no global random state. Raises `NoEffect` where noise would not
    reach the model's output (arXiv 2310.05914 gives the rule; see `strength.standard_deviation`).
    """
    attachment = _Attachment(settings, seed, rank=int(os.environ.get("RANK", "0")))
    embedding = _input_embedding(model)
    handles = [
        module.register_forward_pre_hook(attachment.before_forward, with_kwargs=True) for module in _entry_points(model)
    ]
    handles.append(embedding.register_forward_hook(attachment.after_embedding))
    try:
        _refuse_without_effect(model, embedding, attachment)
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _input_embedding(model: nn.Module) -> nn.Module:
    find = getattr(_unwrapped(model), "get_input_embeddings", None)
    embedding = find() if find is not None else None
    if not isinstance(embedding, nn.Module):
        raise NoEffect(f"{type(model).__name__} names no input embedding, so there is nowhere to add noise.")
    return embedding


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of data parallel training, which keep it as `module`."""
    while not hasattr(model, "get_input_embeddings") and isinstance(getattr(model, "module", None), nn.Module):
        model = model.module  # type: ignore[assignment]
    return model


def _entry_points(model: nn.Module) -> list[nn.Module]:
    """The modules that a training loop may call with an attention mask: the model, and every model inside it."""
    inner = (module for module in model.modules() if module is not model)
    return [model, *(module for module in inner if hasattr(module, "get_input_embeddings"))]


def _refuse_without_effect(model: nn.Module, embedding: nn.Module, attachment: _Attachment) -> None:
    """Run four tokens with and without loud noise, and compare the logits."""
    if attachment.settings.is_silent:
        return
    loud = _Attachment(NoiseSettings(strength=1.0, unit="std"), seed=0, rank=0)
    loud.probing = True
    clean = _probe(model)
    handle = embedding.register_forward_hook(loud.after_embedding)
    try:
        noisy = _probe(model)
    finally:
        handle.remove()
    attachment.mask, attachment.positions, attachment.fired = None, None, False
    if not loud.fired or torch.equal(clean, noisy):
        raise NoEffect(
            f"Noise on {type(embedding).__name__} would not reach the output of {type(_unwrapped(model)).__name__}: "
            "its forward pass does not go through the embedding that the model names."
        )


def _probe(model: nn.Module) -> Tensor:
    """The logits of four tokens in evaluation mode; the model's mode is put back module by module."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    ids = torch.tensor([[3, 4, 5, 6]], device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(getattr(_unwrapped(model), "config", None), "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    try:
        with torch.no_grad():
            return model(**inputs).logits.float()
    finally:
        for module, mode in modes.items():
            module.training = mode
