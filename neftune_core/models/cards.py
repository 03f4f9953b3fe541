"""The catalogue of known models, read from `assets/catalogue.toml` before anything is downloaded.

Importing this module does not import torch.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import Any

from neftune_core.home import assets
from neftune_core.models.checks import parameter_count
from neftune_core.models.settings import BUNDLED

BUNDLED_NAME = "bundled model"


@dataclass(frozen=True)
class Card:
    """Metadata of a model that is known before it is downloaded.

    Attributes:
        source: `bundled`, a package name or a hub id.
        parameters: Number of parameters; tied weights count once. Rounded if only a rounded number is published.
        width: Embedding width; like the next two, 0 if unknown until the model is loaded.
        layers: Number of layers, of encoder and decoder together.
        vocabulary: Number of rows of the embedding.
        licence: Licence of the weights; empty if unknown until the model is loaded.
        download_megabytes: Size of the download; 0 if there is none or its size is unknown.
        revision: Pinned commit on the hub; empty if not pinned.
        chat: Whether the model was trained to follow instructions.
        gated: Whether the hub requires an account that has accepted the licence.
        note: Advice shown before a user chooses the model.
        package: Whether the model comes from the Python package index.
        origin: Published source of the numbers; empty if they were read from the model's own files.
    """

    source: str
    words: str
    parameters: int
    width: int = 0
    layers: int = 0
    vocabulary: int = 0
    licence: str = ""
    download_megabytes: float = 0
    revision: str = ""
    chat: bool = False
    gated: bool = False
    note: str = ""
    package: bool = False
    origin: str = ""

    @property
    def is_sized(self) -> bool:
        """Whether the cost of a study can be estimated before the model is loaded."""
        return bool(self.width and self.layers and self.vocabulary)

    @property
    def is_pinned(self) -> bool:
        """Whether the content is immutable: bundled, verified by checksum, or at a fixed commit."""
        return self.source == BUNDLED or self.package or bool(self.revision)


def _bundled_size() -> dict[str, Any]:
    folder = assets() / "model"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = {"width": config["hidden_size"], "layers": config["num_hidden_layers"], "vocabulary": config["vocab_size"]}
    return {"parameters": parameter_count(folder), **sizes}


CATALOGUE: dict[str, Card] = {
    source: Card(source, **fields, **(_bundled_size() if source == BUNDLED else {}))
    for source, fields in tomllib.loads((assets() / "catalogue.toml").read_text(encoding="utf-8")).items()
}
