"""From logits to the next token of every row: the repetition penalty, then the most probable token or a drawn one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.models.decoding import Decoding

FIRST_LOOK = 128
"""Most probable tokens looked at for top-p before all are sorted: sorting a vocabulary takes a hundred times longer."""


def next_tokens(
    logits: Tensor, seen: Tensor, draws: Sequence[float], settings: DecodingSettings, habits: Decoding
) -> Tensor:
    """The next token of each row, `[rows]`; `logits` `[rows, vocabulary]` float32 are changed in place.

    `seen` `[rows, any]` are the ids in each row so far (repetition penalty of arXiv 1909.05858). `draws` are uniform
    numbers, one a row, used where the temperature is above 0. What the model's own files forbid is never chosen.
    """
    if settings.repetition_penalty != 1.0:
        scores = logits.gather(1, seen)
        lowered = torch.where(scores > 0, scores / settings.repetition_penalty, scores * settings.repetition_penalty)
        logits.scatter_(1, seen, lowered)
    if habits.never:
        logits[:, list(habits.never)] = -torch.inf
    if settings.temperature == 0:
        return logits.argmax(-1)
    return drawn(logits / settings.temperature, torch.tensor(draws, device=logits.device), settings.top_p)


def drawn(logits: Tensor, draws: Tensor, top_p: float) -> Tensor:
    """For each row the token whose share of the kept probability, the most probable first, holds its uniform draw.

    Kept is the smallest set of most probable tokens that has `top_p` of the probability (arXiv 1904.09751).
    """
    shares = logits.softmax(-1)
    values, indices = shares.topk(min(FIRST_LOOK, shares.shape[1]))
    if top_p >= 1 or bool((values.sum(-1) < top_p).any()):
        values, indices = shares.sort(dim=-1, descending=True, stable=True)
    sums = values.cumsum(-1)
    kept = (sums < top_p).sum(-1, keepdim=True).clamp(max=sums.shape[1] - 1)  # the place of the last token kept
    wanted = draws[:, None].to(sums.dtype) * sums.gather(1, kept)
    place = torch.minimum((sums <= wanted).sum(-1, keepdim=True), kept)
    return indices.gather(1, place)[:, 0]
