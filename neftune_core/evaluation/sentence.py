"""A person's own sentence: its tokens and the numbers from which the browser redraws the noise on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neftune_core.errors import DataError
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.preview import preview

LONGEST = 256


def preview_sentence(text: str, loaded: LoadedModel, seed: int) -> dict[str, Any]:
    """`noise.preview.preview` of `text` (its first 256 tokens), with the model's name.

    The vectors are the embedding module's output, the site of the noise. Raises `DataError` for an empty text.
    """
    ids = loaded.tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]
    if not ids:
        raise DataError("There is no text to look at: type a sentence.")
    with torch.no_grad():
        vectors = loaded.model.get_input_embeddings()(torch.tensor([ids], device=loaded.device))[0]
    clean = vectors.float().cpu().numpy().astype(np.float32)
    tokens = [loaded.tokenizer.decode([token]) for token in ids]
    return {**preview(clean, tokens, seed), "model": loaded.name, "seed": seed, "text": text}
