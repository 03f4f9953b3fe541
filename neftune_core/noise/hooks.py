"""Hooks that track the forward calls of a model, the sites that they reach, and the rows that they read.

The rows are read from the arguments of a call: real tokens, packed documents, prompt and response.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.hooks import RemovableHandle

from neftune_core.errors import NoEffect
from neftune_core.noise.kinds import EMBEDDING_SITE
from neftune_core.noise.sites import DECODER, ENCODER, Site, is_encoder_decoder, model_parts, noise_sites, unwrap_model

NOT_A_LABEL = -100

Documents = list[list[NDArray[np.intp]]]
"""For each row, the token positions of its documents, one array per document (one per row unless packed)."""

# What an argument contains, and the component that it describes: "" for the component that contains the called module.
ARGUMENTS = {
    "attention_mask": ("mask", ""),
    "decoder_attention_mask": ("mask", DECODER),
    "position_ids": ("positions", ""),
    "decoder_position_ids": ("positions", DECODER),
    "cu_seq_lens_q": ("boundaries", ""),
    "cu_seqlens": ("boundaries", ""),
    "labels": ("labels", DECODER),
}


@dataclass
class Call:
    """One forward call of a model, from entering to leaving its outermost module.

    Attributes:
        number: Number of the training call, from 1; 0 for a call in evaluation mode.
        encoder_decoder: Whether labels describe the decoder's rows, and the encoder reads the prompt.
        ran: Components that have run in this call.
        embedded: Token ids passed to the embedding of each component whose embedding has run in this call.
        running: The component that was entered last.
    """

    number: int
    encoder_decoder: bool
    ran: set[str] = field(default_factory=set)
    embedded: dict[str, Tensor] = field(default_factory=dict)
    running: str = ""
    _given: defaultdict[tuple[str, str], list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    _documents: dict[tuple[str, int, int], Documents] = field(default_factory=dict)

    def record(self, part: str, arguments: Mapping[str, Any]) -> None:
        """Record the arguments of a call to a module.

        Args:
            part: The component that contains the module. Arguments without the prefix `decoder_` belong to this
                component, except `labels`, which always belong to the decoder.
            arguments: The arguments by name.
        """
        for name, (content, owner) in ARGUMENTS.items():
            if isinstance(arguments.get(name), Tensor):
                self._given[owner or part, content].append(arguments[name])

    def documents(self, part: str, batch: int, length: int) -> Documents:
        """Return the positions of the real tokens of every row, one array per document.

        They are read from the attention mask. If the decoder of an encoder-decoder has no mask, they are read from the
        labels; without either, all tokens are real. Packed documents are separated by the boundaries passed to the
        attention, or by position ids that restart.

        Args:
            part: The component ("encoder" or "decoder").
            batch: Number of rows.
            length: Padded length.

        Returns:
            For each row, one array of ascending positions per document.

        Raises:
            NoEffect: If the attention mask, the labels that replace it or the position ids do not have one value per
                token.
        """
        key = (part, batch, length)
        if key not in self._documents:
            self._documents[key] = self._read_documents(part, batch, length)
        return self._documents[key]

    def _read_documents(self, part: str, batch: int, length: int) -> Documents:
        mask = _innermost(self._given[part, "mask"], batch, length, "attention_mask")
        if mask is None and self.encoder_decoder:  # a single label per row is a class
            by_token = [labels for labels in self._given[part, "labels"] if labels.dim() == 2]
            labels = _innermost(by_token, batch, length, "labels")
            mask = None if labels is None else labels != NOT_A_LABEL
        flattened = self._given[part, "boundaries"] if batch == 1 else []  # boundaries are counted over all rows
        boundaries = flattened[-1].detach().cpu().numpy().astype(np.int64) if flattened else None
        restarts = [] if flattened else self._given[part, "positions"]
        positions = _innermost(restarts, batch, length, "position_ids")
        rows: Documents = []
        for row in range(batch):
            tokens = np.arange(length) if mask is None else np.flatnonzero(mask[row])
            starts: Any = [] if positions is None else np.flatnonzero(np.diff(positions[row, tokens]) < 1) + 1
            if boundaries is not None:
                tokens = tokens[tokens < boundaries[-1]]
                starts = np.searchsorted(tokens, boundaries[1:-1])
            rows.append([document for document in np.split(tokens, starts) if len(document)])
        return rows

    def side(self, part: str, side: str, batch: int, length: int) -> NDArray[np.bool_]:
        """Return a mask of the prompt or response tokens; padding belongs to neither.

        Args:
            part: The component ("encoder" or "decoder").
            side: "prompt" or "response".
            batch: Number of rows.
            length: Padded length.

        Returns:
            bool `[batch, length]`.

        Raises:
            NoEffect: If a causal model is called without labels, or if the labels, the attention mask or the position
                ids do not have one value per token.
        """
        real = np.zeros((batch, length), dtype=bool)
        for row, documents in enumerate(self.documents(part, batch, length)):
            real[row, np.concatenate(documents) if documents else []] = True
        if self.encoder_decoder:
            return real & (part == (ENCODER if side == "prompt" else DECODER))
        labels = _innermost(self._given[part, "labels"], batch, length, "labels")
        if labels is None:
            raise NoEffect(
                f"Noise on the {side} alone needs labels (-100 on the prompt), and a call had none: pass labels to "
                "the model, or add noise to all tokens."
            )
        return real & ((labels == NOT_A_LABEL) == (side == "prompt"))

    def ids(self, part: str, batch: int, length: int) -> NDArray[np.int64]:
        """Return the token ids of a component.

        Args:
            part: The component ("encoder" or "decoder").
            batch: Number of rows.
            length: Padded length.

        Returns:
            int64 `[batch, length]`.

        Raises:
            NoEffect: If the call had no token ids, or not one per vector.
        """
        given = [self.embedded[part]] if part in self.embedded else []
        found = _innermost(given, batch, length, "input_ids")
        if found is None:
            raise NoEffect(
                f"The special tokens of the {part} are unknown, because a call had no input_ids: pass input_ids."
            )
        return found


def _arguments_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all arguments of a call by name; the signature of `forward` names the positional ones."""
    if not args:
        return kwargs
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _innermost(given: Sequence[Tensor], batch: int, length: int, name: str) -> NDArray[np.int64] | None:
    """Return the innermost tensor of `given` with one number per token; None if `given` is empty.

    Return int64 `[batch, length]`; raise `NoEffect` if no tensor has this shape.
    """
    if not given:
        return None
    for tensor in reversed(given):
        if tensor.dim() == 2 and tensor.shape[0] in (1, batch) and tensor.shape[1] == length:
            return np.broadcast_to(tensor.detach().cpu().numpy().astype(np.int64), (batch, length))
    raise NoEffect(
        f"The length of each sequence cannot be read from {name} of shape {list(given[-1].shape)}: give it as "
        f"[batch, length], here [{batch}, {length}]."
    )


class CallTracker:
    """Tracks the forward calls of a model through hooks.

    Args:
        model: The model, with or without wrappers.
        chosen: The sites that get noise.
    """

    def __init__(self, model: nn.Module, chosen: Sequence[Site]) -> None:
        parts = model_parts(model)
        self._model = unwrap_model(model)
        self._encoder_decoder = is_encoder_decoder(model)
        self._parts = {inner: part for part, owner in parts.items() for inner in owner.modules()}
        self._first_part = next(iter(parts))
        self._sites: dict[nn.Module, dict[str, Site]] = {}
        for site in noise_sites(model):
            self._sites.setdefault(site.module, {})[site.part] = site
        self._chosen = [(site.part, site.number) for site in chosen]
        self._entries = _entry_points(model)
        self._count = 0
        self._call: Call | None = None
        self._running: list[nn.Module] = []
        self._remembered: dict[tuple[int, int], tuple[StorageWeakRef, Site, Call]] = {}
        self._recomputed: tuple[Site, Call] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object itself. Hooks of a copied model then do nothing, because its modules are unknown here."""
        return self

    def register(self) -> Iterator[RemovableHandle]:
        """Register the hooks, and yield the handle of each."""
        for module in self._entries:
            yield module.register_forward_pre_hook(self._before_forward, with_kwargs=True)
            yield module.register_forward_hook(self._after_forward)
        for module, by_part in self._sites.items():
            if any(site.number == EMBEDDING_SITE for site in by_part.values()):
                yield module.register_forward_pre_hook(self._before_embedding, with_kwargs=True)

    def locate(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Site, Call] | None:
        """Return the site that has just run and the training call that it belongs to.

        When a checkpointed block is recomputed, the call of its first run is returned.

        Args:
            module: The module that has just run.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            The site and the call; None if the module is not a chosen site or the call is not a training call.

        Raises:
            NoEffect: If the first run of a recomputed block cannot be identified.
        """
        given = _first_tensor(args, kwargs)
        if module not in self._sites or given is None:
            return None
        key = (id(module), given.data_ptr())
        if recomputing():
            site, call = self._recomputed = self._first_run(module, key)
        elif self._call is None or not self._call.number:
            return None
        else:
            site, call = self._site(module, self._call), self._call
            self._remembered[key] = (StorageWeakRef(given.untyped_storage()), site, call)
        return (site, call) if (site.part, site.number) in self._chosen else None

    def _first_run(self, module: nn.Module, key: tuple[int, int]) -> tuple[Site, Call]:
        """Return the site and call of the first run of `module`, which is being recomputed.

        A checkpointed block is recomputed from the same input tensor as in its first run. Later sites inside the block
        get new tensors, and are identified by the site that was recomputed before them.

        Raises:
            NoEffect: If no first run had this input, as after activation offloading.
        """
        remembered = self._remembered.get(key)
        if remembered is not None and not remembered[0].expired():
            return remembered[1:]
        if self._recomputed is not None:
            before, call = self._recomputed
            after = self._chosen[self._chosen.index((before.part, before.number)) + 1 :][:1]
            for site in self._sites[module].values():
                if (site.part, site.number) in after:
                    return site, call
        raise NoEffect(
            "A layer is recomputed from vectors that were moved after its first run, so its "
            "noise cannot be repeated: disable activation offloading."
        )

    def _site(self, module: nn.Module, call: Call) -> Site:
        """Return the site of `module`; a shared embedding belongs to the component that is running."""
        by_part = self._sites[module]
        return by_part.get(call.running, next(iter(by_part.values())))

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if getattr(module, "_is_replica", False):
            raise NoEffect(
                "Noise does not work with torch.nn.DataParallel, which copies the model in every call: train on one "
                "device, or with one process per device."
            )
        if recomputing() or module not in self._entries:
            return
        if module in self._running:  # the previous call was interrupted
            del self._running[self._running.index(module) :]
        if not self._running or self._call is None:
            self._call = self._new_call()
        self._running.append(module)
        self._call.record(self._parts.get(module, self._first_part), _arguments_of(module, args, kwargs))
        if module in self._parts:
            self._call.running = self._parts[module]
            self._call.ran.add(self._call.running)

    def _new_call(self) -> Call:
        """Start a call, and discard blocks that can no longer be recomputed because their inputs have been freed."""
        self._remembered = {key: found for key, found in self._remembered.items() if not found[0].expired()}
        self._recomputed = None
        training = self._model.training
        self._count += training
        return Call(number=self._count if training else 0, encoder_decoder=self._encoder_decoder)

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if recomputing() or module not in self._running:
            return
        del self._running[self._running.index(module) :]
        if self._running or self._call is None:
            return
        call, self._call = self._call, None
        for part in sorted(call.ran - call.embedded.keys()):
            if call.number and (part, EMBEDDING_SITE) in self._chosen:
                raise NoEffect(
                    f"A training call of the model bypassed the embedding of its {part}, so noise "
                    "could not be added: pass input_ids instead of vectors."
                )

    def _before_embedding(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        ids = _first_tensor(args, kwargs)
        if self._call is None or module not in self._sites or ids is None or recomputing():
            return
        self._call.embedded[self._site(module, self._call).part] = ids


def recomputing() -> bool:
    """Return whether a backward pass is running in this thread; a forward pass then recomputes a checkpointed block."""
    return bool(torch._C._current_graph_task_id() != -1)  # as in torch.utils.checkpoint


def _first_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def _entry_points(model: nn.Module) -> dict[nn.Module, None]:
    """Return the modules that a training loop may call with token rows, outermost first."""
    embeddings = {site.module for site in noise_sites(model) if site.number == EMBEDDING_SITE}
    return {
        module: None
        for module in model.modules()
        if module is model or (hasattr(module, "get_input_embeddings") and embeddings & set(module.modules()))
    }
