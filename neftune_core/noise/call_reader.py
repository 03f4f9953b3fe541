"""The rows of a forward call, read from its arguments: real tokens, packed documents, prompt and response."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from neftune_core.errors import NoEffect
from neftune_core.noise.sites import DECODER, ENCODER

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
        reached: Components that have run their embedding in this call.
        running: The component that was entered last.
    """

    number: int
    encoder_decoder: bool
    ran: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)
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

    def record_ids(self, part: str, ids: Tensor) -> None:
        """Record the input ids of the embedding.

        Args:
            part: The component of the embedding.
            ids: Its input.
        """
        self._given[part, "ids"] = [ids]

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
        """
        key = (part, batch, length)
        if key not in self._documents:
            self._documents[key] = self._read_documents(part, batch, length)
        return self._documents[key]

    def _read_documents(self, part: str, batch: int, length: int) -> Documents:
        mask = _fitting(self._given[part, "mask"], batch, length, "attention_mask")
        if mask is None and self.encoder_decoder:  # a single label per row is a class
            by_token = [labels for labels in self._given[part, "labels"] if labels.dim() == 2]
            labels = _fitting(by_token, batch, length, "labels")
            mask = None if labels is None else labels != NOT_A_LABEL
        flattened = self._given[part, "boundaries"] if batch == 1 else []  # boundaries are counted over all rows
        boundaries = flattened[-1].detach().cpu().numpy().astype(np.int64) if flattened else None
        restarts = [] if flattened else self._given[part, "positions"]
        positions = _fitting(restarts, batch, length, "position_ids")
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
            NoEffect: If a causal model is called without labels.
        """
        true = np.zeros((batch, length), dtype=bool)
        for row, documents in enumerate(self.documents(part, batch, length)):
            true[row, np.concatenate(documents) if documents else []] = True
        if self.encoder_decoder:
            return true & (part == (ENCODER if side == "prompt" else DECODER))
        labels = _fitting(self._given[part, "labels"], batch, length, "labels")
        if labels is None:
            raise NoEffect(
                f"Noise on the {side} alone needs labels (-100 on the prompt), and a call had none: pass labels to "
                "the model, or add noise to all tokens."
            )
        return true & ((labels == NOT_A_LABEL) == (side == "prompt"))

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
        found = _fitting(self._given[part, "ids"], batch, length, "input_ids")
        if found is None:
            raise NoEffect(
                f"The special tokens of the {part} are unknown, because a call had no input_ids: pass input_ids."
            )
        return found


def arguments_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all arguments of a call by name.

    Args:
        module: The called module; the signature of its `forward` names the positional arguments.
        args: Positional arguments.
        kwargs: Keyword arguments.

    Returns:
        The arguments by parameter name.
    """
    if not args:
        return kwargs
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _fitting(given: Sequence[Tensor], batch: int, length: int, name: str) -> NDArray[np.int64] | None:
    """Return the innermost of `given` with one number per token, `[batch, length]`; None if `given` is empty."""
    if not given:
        return None
    for tensor in reversed(given):
        if tensor.dim() == 2 and tensor.shape[0] in (1, batch) and tensor.shape[1] == length:
            return np.broadcast_to(tensor.detach().cpu().numpy().astype(np.int64), (batch, length))
    raise NoEffect(
        f"The length of each sequence cannot be read from {name} of shape {list(given[-1].shape)}: give it as "
        f"[batch, length], here [{batch}, {length}]."
    )
