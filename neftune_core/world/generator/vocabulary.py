"""The tokenizer of the bundled model: whole words of the world, letters for other words, and bytes for everything else.

Any text can be encoded: a character outside the vocabulary becomes its UTF-8 bytes (`<0xE4>`). Every word and letter
occurs in the text, so that its embedding is trained; some byte pieces never occur. Digits are separate pieces. The chat
template marks the speaker with one special token and ends each message with `<|end|>`.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
from collections import Counter
from functools import cache
from typing import Any

from neftune_core.home import assets
from neftune_core.world.generator.text import ASSISTANT, BEGIN, END, PAD, SYSTEM, USER, documents

SIZE = 2_304
OFTEN = 16
TRAINING_CHUNKS = 20
CONTEXT = 1024

SPECIAL = (PAD, BEGIN, END, SYSTEM, USER, ASSISTANT)
UNKNOWN_PIECE = "<|unknown|>"
SPACE = "\u2581"

_CHARACTERS = (SPACE, "\n", *(character for character in string.printable[:94]))
_WORD = re.compile(f"{SPACE}?[A-Za-z]+|{SPACE}|[^A-Za-z{SPACE}]")
_MARKS = re.compile(r"<\|[a-z]+\|>")


def pieces(chunks: int = TRAINING_CHUNKS) -> list[tuple[str, int]]:
    """Return the frequent words of the first `chunks` chunks of the text with their counts, most frequent first.

    A word includes the space before it, written as "▁".
    """
    counts: Counter[str] = Counter()
    for document in documents(chunks):
        counts.update(_WORD.findall(_MARKS.sub("\n", document).replace(" ", SPACE)))
    words = [(word, count) for word, count in counts.items() if count >= OFTEN and len(word) > 1]
    return sorted(words, key=lambda pair: (-pair[1], pair[0]))[: SIZE - len(SPECIAL) - 257 - len(_CHARACTERS)]


def train(chunks: int = TRAINING_CHUNKS) -> Any:
    """Train a `tokenizers.Tokenizer` on the first `chunks` chunks of the text; the result is the same everywhere.

    Text is split into the most likely sequence of pieces: words in the vocabulary, then letters, then bytes.
    """
    from tokenizers import Tokenizer

    return Tokenizer.from_str(_train(chunks))


@cache
def _train(chunks: int) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = pieces(chunks)
    total = sum(count for _, count in words)
    vocabulary = [(token, 0.0) for token in SPECIAL]
    vocabulary += [(UNKNOWN_PIECE, -30.0)]
    vocabulary += [(f"<0x{byte:02X}>", -30.0) for byte in range(256)]
    vocabulary += [(character, -16.0) for character in _CHARACTERS]
    vocabulary += [(word, math.log(count / total)) for word, count in words]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=len(SPECIAL), byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD.pattern), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([*SPECIAL, UNKNOWN_PIECE])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, SPECIAL.index(BEGIN))]
    )
    return str(tokenizer.to_str())


def tokenizer_hash(tokenizer: Any) -> str:
    """Return the SHA-256 of the pieces in order, independent of the library version."""
    pieces_in_order = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    return hashlib.sha256("\n".join(piece for piece, _ in pieces_in_order).encode()).hexdigest()


def as_transformers(tokenizer: Any) -> Any:
    """Return a `tokenizers.Tokenizer` as a transformers tokenizer, with special tokens and chat template."""
    from transformers import PreTrainedTokenizerFast

    template = (assets() / "world" / "chat_template.jinja").read_text(encoding="utf-8")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        chat_template=template.replace("\n", ""),
        model_max_length=CONTEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
