"""Noise previews for the page: a sentence through a model's own tokenizer and embedding, and the first one at once.

The first preview of the page is kept on disk: the page is served with it before any model is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neftune_core.errors import DataError
from neftune_core.home import home
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.preview import preview

logger = logging.getLogger(__name__)

Payload = dict[str, Any]
Previewer = Callable[[str, ModelSettings, int], Payload]

FIRST_SENTENCE = "Write a short poem about a robot who learns to paint."
LONGEST_TOKENS = 160


def preview_sentence(text: str, model: ModelSettings, seed: int) -> Payload:
    """The payload of `noise.preview.preview` for `text`, with `model` (a short name) and `cut` (tokens left out).

    At most `LONGEST_TOKENS` tokens. Raises `DataError` for a text without a token, `ModelError` where the model cannot
    be had.
    """
    import torch

    from neftune_core.models.loading import load

    loaded = load(model)
    ids = loaded.tokenizer(text)["input_ids"]
    if not ids or not text.strip():
        raise DataError("There is nothing to show: write at least one word.")
    kept = ids[:LONGEST_TOKENS]
    with torch.inference_mode():
        clean = loaded.model.get_input_embeddings()(torch.tensor([kept], device=loaded.device))[0]
    payload = preview(clean.float().cpu().numpy(), _texts(loaded.tokenizer, kept), seed)
    return {**payload, "model": loaded.name, "cut": len(ids) - len(kept)}


def _texts(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text of every token; bytes that are only part of a character are shown as the tokenizer writes them."""
    texts = []
    for token_id in ids:
        text = tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        texts.append(tokenizer.convert_ids_to_tokens(token_id) if "\ufffd" in text else text)
    return texts


class FirstPreview:
    """The preview that the page opens with: from disk where an earlier run left it, else made once by `warm_up`."""

    def __init__(self, previewer: Previewer = preview_sentence) -> None:
        self.previewer = previewer
        self.payload = self._from_disk()

    @functools.cached_property
    def _file(self) -> Path:
        about = json.dumps([FIRST_SENTENCE, ModelSettings().model_dump(), _fingerprint()], sort_keys=True)
        return home() / "previews" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"

    def _from_disk(self) -> Payload | None:
        try:
            payload: Payload = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return payload

    def get(self) -> Payload:
        """The payload, made now where it is not there yet; raises what `previewer` raises."""
        if self.payload is None:
            self.payload = self.previewer(FIRST_SENTENCE, ModelSettings(), 0)
            self._keep(self.payload)
        return self.payload

    def _keep(self, payload: Payload) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(payload), encoding="utf-8")
        except OSError as error:
            logger.warning("the first preview could not be kept: %s", error)


def _fingerprint() -> list[Any]:
    """What the bundled model's preview depends on besides the sentence: the shipped weights, where there are any."""
    from neftune_core.home import assets

    folder = assets() / "model"
    if not folder.is_dir():
        return []
    return [[path.name, path.stat().st_size] for path in sorted(folder.iterdir()) if path.is_file()]
