"""Small tokenizers of the encoder-decoder and encoder families, created without a download.

Their special tokens have the ids that the tiny models in `tests/stress/families/tiny.py` expect.
"""

from __future__ import annotations

from typing import Any

TEXT = """translate english to german : the cat sleeps . die katze schläft how are you ? wie geht es dir hello hallo
user assistant be brief response instruction system and then"""
WORDS = list(dict.fromkeys(TEXT.split()))
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def t5_tokenizer() -> Any:
    """Return a tokenizer with word pieces that adds an end token to every text."""
    from transformers import T5Tokenizer

    pieces = [(f"▁{word}", -float(rank)) for rank, word in enumerate(WORDS, start=3)]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces], extra_ids=3)


def bart_tokenizer() -> Any:
    """Return a byte-level tokenizer that adds a start and an end token to every text."""
    from tokenizers import pre_tokenizers
    from transformers import BartTokenizer

    names = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())[:251]]
    return BartTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[])


def bert_tokenizer() -> Any:
    """Return a lower-case WordPiece tokenizer that adds [CLS] before and [SEP] after every text."""
    from transformers import BertTokenizer

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"#,!", *LETTERS, *(f"##{c}" for c in LETTERS)]
    return BertTokenizer(vocab={name: number for number, name in enumerate(dict.fromkeys(names))})
