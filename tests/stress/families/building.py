"""How a tiny random model of a family is built, and a tokenizer for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 256, 32, 2, 4, 128
PAD, START, END = 0, 1, 2
SEED = 0


@dataclass(frozen=True)
class Family:
    """One family: `build()` gives a tiny random model of it, float32, in evaluation mode, always the same.

    `pretrained_for_this` says whether models of this family were trained to continue a text, or to answer one (an
    encoder such as BERT works as a decoder, but never learnt to); `layers_take_noise`, whether its layers pass on one
    vector per token.
    """

    words: str
    build: Callable[[], Any]
    encoder_decoder: bool = False
    pretrained_for_this: bool = True
    layers_take_noise: bool = True


Check = Callable[[Family], bool | None]
"""A check of one family: whether it holds, or None where it does not apply."""

# What most configurations call the same thing. A rate of dropout hides noise; it is 0 everywhere.
COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
LLAMA_LIKE: dict[str, Any] = {
    **COMMON,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": WIDTH // HEADS,
    "max_position_embeddings": CONTEXT,
    "attention_dropout": 0.0,
}


def builder(name: str, config_name: str, settings: dict[str, Any]) -> Callable[[], Any]:
    """A function that makes the transformers model class `name` from its configuration."""

    def build() -> Any:
        import torch
        import transformers

        config = getattr(transformers, config_name)(**settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return getattr(transformers, name)(config).eval()

    return build


def tiny_tokenizer() -> Any:
    """A fast tokenizer built in memory: one word a token, "w3" to "w255", and "pad", "start" and "end" as 0, 1, 2."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    special = {PAD: "<pad>", START: "<start>", END: "<end>"}
    words = {special.get(number, f"w{number}"): number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w3"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<start>", eos_token="<end>", unk_token="w3"
    )
