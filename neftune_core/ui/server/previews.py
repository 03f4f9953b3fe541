"""Compute noise previews for the page.

The first preview is stored on disk, so that the page can show it before any model is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neftune_core.durable import write_whole
from neftune_core.errors import DataError
from neftune_core.home import assets, home
from neftune_core.language import say
from neftune_core.models.architecture.anatomy import body
from neftune_core.models.architecture.module_trees import private_tree
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.token_text import token_texts
from neftune_core.noise.nearest import nearest_tokens
from neftune_core.noise.preview import Sentence, Vectors, preview, spread
from neftune_core.noise.settings import EMBEDDING, NoiseSettings
from neftune_core.noise.sites import Site, chosen_sites, is_encoder_decoder, noise_sites

if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)

Payload = dict[str, Any]
SentenceReader = Callable[[str, ModelSettings, str], Sentence]

FIRST_SENTENCE = "Write a short poem about a robot who learns to paint."
LONGEST_TOKENS = 160
PIECE_ROWS = 8192
FORMAT = 4
"""Version of the payload format; payloads stored with another version are not read."""


def read_sentence(text: str, model: ModelSettings, sites: str) -> Sentence:
    """Tokenise a sentence and compute its vectors at the first noise site.

    Args:
        text: The sentence; cut after `LONGEST_TOKENS` tokens.
        model: The model settings.
        sites: Noise sites, as in the noise settings.

    Returns:
        The sentence. Its `about` has `model` (short name), `cut` (number of tokens cut off), `layer` (number of the
        site: 0 for the embedding, -1 for the per-layer embeddings) and `behind` (numbers of the other sites, whose
        input already contains noise).

    Raises:
        DataError: If the text has no tokens.
        ModelError: If there is no such model, or it cannot be used.
        InvalidSetting: If the model has no such layer.
        NotAvailable: If the network or the device is not available.
        DoesNotFit: If memory or disk space is insufficient.
    """
    loaded = load(model)
    ids = read_ids(text, loaded)
    kept = ids[:LONGEST_TOKENS]
    chosen = chosen_sites(loaded.model, NoiseSettings(sites=sites))
    site = chosen[0]
    words = min(len(loaded.tokenizer), loaded.vocabulary) if site.number == 0 else 0
    return Sentence(
        tokens=token_texts(ids, loaded.tokenizer)[:LONGEST_TOKENS],
        clean=_vectors(loaded, site, kept),
        special=np.isin(kept, loaded.tokenizer.all_special_ids),
        precision=loaded.precision,
        site=site.key,
        vocabulary=functools.partial(_vocabulary, loaded, site, words),
        vocabulary_size=words,
        word=lambda number: token_texts([number], loaded.tokenizer)[0],
        about={
            "model": loaded.name,
            "cut": len(ids) - len(kept),
            "layer": site.number,
            "behind": sorted({other.number for other in chosen} - {site.number}),
        },
    )


def read_ids(text: str, loaded: LoadedModel) -> list[int]:
    """Return all token ids of a sentence.

    Args:
        text: The sentence.
        loaded: The model.

    Returns:
        The ids.

    Raises:
        DataError: If the text has no tokens.
    """
    ids: list[int] = loaded.tokenizer(text)["input_ids"]
    if not ids or not text.strip():
        raise DataError(say("There is nothing to show: write at least one word."))
    return ids


def _vectors(loaded: LoadedModel, site: Site, ids: list[int]) -> Vectors:
    """Return the vectors `[length, width]` at a site before noise is added."""
    import torch

    given = torch.tensor([ids], device=loaded.device)
    with torch.inference_mode():
        if site.number <= 0:
            return _as_array(site.module(given)[0])
        return _as_array(_layer_output(loaded, site.key, given)[0])


def _layer_output(loaded: LoadedModel, key: int, ids: torch.Tensor) -> torch.Tensor:
    """Return a site's output `[1, length, width]` for `ids`.

    The forward pass uses a copy of the module tree with the same weights, so that its hook is not added to the model.
    """
    tree = private_tree(loaded.model)
    found: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        """Store the output of a layer; a forward hook.

        Args:
            module: The layer.
            args: Its positional arguments.
            output: Its output.
        """
        found.append(output[0] if isinstance(output, tuple) else output)

    next(site for site in noise_sites(tree) if site.key == key).module.register_forward_hook(keep)
    decoder = {"decoder_input_ids": ids} if is_encoder_decoder(tree) else {}
    body(tree)(input_ids=ids, use_cache=False, **decoder)
    return found[0]


def _vocabulary(loaded: LoadedModel, site: Site, count: int) -> Iterator[Vectors]:
    """Yield the vectors of the whole vocabulary in chunks, from calls to `site.module`, which may scale its weight."""
    import torch

    for start in range(0, count, PIECE_ROWS):
        with torch.inference_mode():
            yield _as_array(site.module(torch.arange(start, min(start + PIECE_ROWS, count), device=loaded.device)))


def _as_array(vectors: torch.Tensor) -> Vectors:
    return vectors.float().cpu().numpy()


class FirstPreview:
    """Compute previews, and cache the one that the page opens with.

    `payload` and `first_details` are read from disk if an earlier run stored them; otherwise they are None until `get`
    is called.
    """

    def __init__(self, reader: SentenceReader = read_sentence) -> None:
        self.reader = reader
        self._computing = threading.Lock()  # the first visitor may arrive during the warm-up
        self.payload, self.first_details = self._from_disk()

    def previewer(self, text: str, model: ModelSettings, draw: int, sites: str = EMBEDDING) -> Payload:
        """Compute a preview.

        Args:
            text: The sentence.
            model: The model settings.
            draw: Seed of the noise.
            sites: Noise sites.

        Returns:
            The payload of `noise.preview.preview`, with the `key` from `key_of`.
        """
        return {**preview(self.reader(text, model, sites), draw), "key": key_of(text, model, draw, sites)}

    def details(self, text: str, model: ModelSettings, draw: int, sites: str = EMBEDDING) -> Payload:
        """Compute the slower parts of a preview.

        Args:
            text: The sentence.
            model: The model settings.
            draw: Seed of the noise.
            sites: Noise sites.

        Returns:
            The `key` of the preview, the `spread` over repeated draws, and the `nearest` tokens.
        """
        sentence = self.reader(text, model, sites)
        return {
            "key": key_of(text, model, draw, sites),
            "spread": spread(sentence, draw),
            "nearest": nearest_tokens(sentence, draw),
        }

    def get(self) -> Payload:
        """Return the first payload; if missing, compute and store it and its details."""
        with self._computing:
            if self.payload is None:
                self.first_details = self.details(FIRST_SENTENCE, ModelSettings(), 0)
                self.payload = self.previewer(FIRST_SENTENCE, ModelSettings(), 0)
                self._store({"payload": self.payload, "details": self.first_details})
            return self.payload

    @functools.cached_property
    def _file(self) -> Path:
        about = json.dumps([FORMAT, FIRST_SENTENCE, ModelSettings().model_dump(), _fingerprint()], sort_keys=True)
        return home() / "previews" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"

    def _from_disk(self) -> tuple[Payload | None, Payload | None]:
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            return stored["payload"], stored["details"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, None

    def _store(self, stored: Payload) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, json.dumps(stored))
        except OSError as error:
            logger.warning("the first preview could not be stored: %s", error)


def key_of(text: str, model: ModelSettings, draw: int, sites: str) -> str:
    """Return the key of a preview.

    Args:
        text: The sentence.
        model: The model settings.
        draw: Seed of the noise.
        sites: Noise sites.

    Returns:
        Sixteen hexadecimal digits.
    """
    about = json.dumps([text, model.model_dump(), draw, sites])
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def _fingerprint() -> list[Any]:
    """Return the names and sizes of the bundled model's files; empty if the model is missing."""
    folder = assets() / "model"
    if not folder.is_dir():
        return []
    return [[path.name, path.stat().st_size] for path in sorted(folder.iterdir()) if path.is_file()]
