"""The page with a preview that needs no model. As a program, it serves the page and prints its address."""

from __future__ import annotations

import re

import numpy as np

from neftune_core.errors import ModelError
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.preview import Sentence, Vectors

WIDTH = 64
WORDS = [f" word{number}" for number in range(300)]


def invented_sentence(text: str, model: ModelSettings, sites: str) -> Sentence:
    """Return words as tokens with embeddings drawn from their letters; the model `missing` does not exist."""
    if model.source == "missing":
        raise ModelError("There is no model called missing: check its name <b>here</b>.")
    tokens = re.findall(r" ?\w+|[^\w\s]", text) or ["?"]
    return Sentence(
        tokens=tokens,
        clean=vectors(tokens),
        special=np.array([token == "." for token in tokens]),
        vocabulary=lambda: iter([vectors(WORDS)]),
        vocabulary_size=len(WORDS),
        word=WORDS.__getitem__,
        about={
            "model": f"invented {model.source}",
            "cut": 0,
            "layer": 2 if sites == "2, 3" else 0,
            "behind": [3] if sites == "2, 3" else [],
        },
    )


def vectors(tokens: list[str]) -> Vectors:
    """Return the invented embeddings, `[tokens, WIDTH]`."""
    rows = [np.random.default_rng(list(token.encode())).standard_normal(WIDTH) for token in tokens]
    return 0.1 * np.array(rows, dtype=np.float32)


if __name__ == "__main__":
    from neftune_core.settings import Limits
    from neftune_core.ui import page
    from neftune_core.ui.server.launch import Serving, launch
    from neftune_core.ui.server.previews import FirstPreview

    first = FirstPreview(invented_sentence)
    first.get()
    blocks = page.build(first=first)
    print(launch(blocks, Serving(host="127.0.0.1"), Limits()), flush=True)
    blocks.block_thread()
