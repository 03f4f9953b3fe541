"""What one forward call says of its rows: where their true tokens are, which document and which side they belong to."""

from __future__ import annotations

import inspect
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
"""For each row of a batch the places of its documents' tokens, one array a document (a row is one unless packed)."""

# What a call says of the rows of each part, by the name of the argument. A module that is a part, or lies in one,
# is given that part's rows under the plain names.
MASKS = {"attention_mask": "", "decoder_attention_mask": DECODER}
POSITIONS = {"position_ids": "", "decoder_position_ids": DECODER}
BOUNDARIES = {"cu_seq_lens_q": "", "cu_seqlens": ""}
LABELS = {"labels": DECODER}


@dataclass
class _Given:
    """What was said of one part, from the outermost module to the innermost; `ids` is what its embedding was given."""

    masks: list[Tensor] = field(default_factory=list)
    positions: list[Tensor] = field(default_factory=list)
    boundaries: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    ids: Tensor | None = None


@dataclass
class Call:
    """One forward call of a model, from its outermost module to its end.

    `number` counts the training calls from 1 and is 0 for any other; `paired` says whether the model is an
    encoder-decoder, whose labels belong to the decoder's rows and whose encoder reads the prompt.
    """

    number: int
    paired: bool
    ran: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)
    running: str = ""
    _given: dict[str, _Given] = field(default_factory=lambda: {ENCODER: _Given(), DECODER: _Given()})
    _documents: dict[tuple[str, int, int], Documents] = field(default_factory=dict)

    def hear(self, part: str, arguments: Mapping[str, Any]) -> None:
        """Take in the arguments of a module whose plain names are about the rows of `part`."""
        for names, attribute in (
            (MASKS, "masks"),
            (POSITIONS, "positions"),
            (BOUNDARIES, "boundaries"),
            (LABELS, "labels"),
        ):
            for name, owner in names.items():
                if isinstance(arguments.get(name), Tensor):
                    getattr(self._given[owner or part], attribute).append(arguments[name])

    def hear_ids(self, part: str, ids: Tensor) -> None:
        """Take in what the embedding of `part` was given."""
        self._given[part].ids = ids

    def documents(self, part: str, batch: int, length: int) -> Documents:
        """The places of the true tokens of every row, one array a document.

        Read from the attention mask (for a decoder without one, from the labels; all tokens where there is neither),
        and for packed rows from the boundaries given to the attention, or from position ids, which begin anew.
        Raises `NoEffect` where a mask or position ids tell no places.
        """
        key = (part, batch, length)
        if key not in self._documents:
            self._documents[key] = self._read_documents(self._given[part], part, batch, length)
        return self._documents[key]

    def _read_documents(self, given: _Given, part: str, batch: int, length: int) -> Documents:
        mask = _fitting(given.masks, batch, length, "attention_mask")
        if mask is None and self.paired:
            by_token = [labels for labels in given.labels if labels.dim() == 2]  # one a row is a class
            labels = _fitting(by_token, batch, length, "labels")
            mask = None if labels is None else labels != NOT_A_LABEL
        flattened = given.boundaries if batch == 1 else []  # they are counted over all rows
        boundaries = flattened[-1].detach().cpu().numpy().astype(np.int64) if flattened else None
        positions = _fitting(given.positions, batch, length, "position_ids") if boundaries is None else None
        rows: Documents = []
        for row in range(batch):
            places = np.arange(length) if mask is None else np.flatnonzero(mask[row])
            starts: Any = [] if positions is None else np.flatnonzero(np.diff(positions[row, places]) < 1) + 1
            if boundaries is not None:
                places = places[places < boundaries[-1]]
                starts = np.searchsorted(places, boundaries[1:-1])
            rows.append([document for document in np.split(places, starts) if len(document)])
        return rows

    def side(self, part: str, side: str, batch: int, length: int) -> NDArray[np.bool_]:
        """Where the tokens of the `prompt` or the `response` are, `[batch, length]`; padding is in neither.

        Raises `NoEffect` where a causal model's call has no labels to tell them by.
        """
        true = np.zeros((batch, length), dtype=bool)
        for row, documents in enumerate(self.documents(part, batch, length)):
            true[row, np.concatenate(documents) if documents else []] = True
        if self.paired:
            return true & (part == (ENCODER if side == "prompt" else DECODER))
        labels = _fitting(self._given[part].labels, batch, length, "labels")
        if labels is None:
            raise NoEffect(
                f"Noise on the {side} alone is told by the labels (-100 on the prompt), and a call came without them: "
                "let the training loop pass labels to the model, or put the noise on all tokens."
            )
        return true & ((labels == NOT_A_LABEL) == (side == "prompt"))

    def ids(self, part: str, batch: int, length: int) -> NDArray[np.int64]:
        """The token ids of `part`, `[batch, length]`; raises `NoEffect` where they are not one a vector."""
        given = self._given[part].ids
        found = None if given is None else _fitting([given], batch, length, "input_ids")
        if found is None:
            raise NoEffect(
                f"The special tokens of the {part} cannot be told, because a call came without input_ids: give them."
            )
        return found


def arguments_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call by name."""
    if not args:
        return kwargs
    names = [
        name
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _fitting(given: Sequence[Tensor], batch: int, length: int, name: str) -> NDArray[np.int64] | None:
    """The innermost of `given` with one number a token, `[batch, length]`; None where nothing was given."""
    if not given:
        return None
    for tensor in reversed(given):
        if tensor.dim() == 2 and tensor.shape[0] in (1, batch) and tensor.shape[1] == length:
            return np.broadcast_to(tensor.detach().cpu().numpy().astype(np.int64), (batch, length))
    raise NoEffect(
        f"The length of each sequence cannot be read from {name} of shape {list(given[-1].shape)}: give it as "
        f"[batch, length], here [{batch}, {length}]."
    )
