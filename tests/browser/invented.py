"""The page with a preview that needs no model; run as a program it serves that page and prints its address."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from neftune_core.errors import ModelError
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.preview import preview

WIDTH = 64


def invented_preview(text: str, model: ModelSettings, seed: int) -> dict[str, Any]:
    """Words as tokens, each with an embedding drawn from its letters; a model called `missing` is not there."""
    if model.source == "missing":
        raise ModelError("There is no model called missing: check its name <b>here</b>.")
    tokens = re.findall(r" ?\w+|[^\w\s]", text) or ["?"]
    rows = [np.random.default_rng(list(token.encode())).standard_normal(WIDTH) for token in tokens]
    payload = preview(0.1 * np.array(rows, dtype=np.float32), tokens, seed)
    return {**payload, "model": f"invented {model.source}", "cut": 0}


if __name__ == "__main__":
    from neftune_core.settings import Limits
    from neftune_core.ui import page
    from neftune_core.ui.launch import Serving, launch
    from neftune_core.ui.previews import FirstPreview

    first = FirstPreview(invented_preview)
    first.get()
    blocks = page.build(first=first)
    print(launch(blocks, Serving(host="127.0.0.1"), Limits()), flush=True)
    blocks.block_thread()
