"""Text of tokens, never split inside a character.

Byte-level tokenizers (GPT-2, Llama 3, Qwen) and tokenizers with byte fallback (Llama 2, Gemma, T5) may split a Chinese
character or an emoji into several tokens, none of which is valid text alone.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

REPLACEMENT = "\ufffd"  # the decoding of invalid bytes
LONGEST_CHARACTER = 4  # bytes in UTF-8
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def whole_text(ids: Sequence[int], tokenizer: Any, *, skip_special_tokens: bool = False) -> str:
    """Return the text of token ids up to the last complete character, with whitespace unchanged.

    Replacement characters that are part of the text are kept.

    Args:
        ids: Token ids.
        tokenizer: Tokenizer of the ids.
        skip_special_tokens: Whether to leave out special tokens.

    Returns:
        The text.
    """
    text = _decode(ids, tokenizer, skip_special_tokens)
    if not text.endswith(REPLACEMENT):
        return text
    tail = [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids[-LONGEST_CHARACTER:]))]
    incomplete = _incomplete(b"".join(map(_token_bytes, tail)))
    if incomplete and _BYTE.fullmatch(tail[-1]):  # byte fallback: one incomplete character invalidates the run
        return _decode(ids[:-incomplete], tokenizer, skip_special_tokens)
    return text[:-1] if incomplete else text


def token_texts(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """Return a label for each token: its text, or the character and a counter if the token is part of a character.

    For example, the three tokens of one character are labelled "你 1/3" to "你 3/3". Bytes that form no character are
    labelled as "<0xE4>".

    Args:
        ids: Token ids.
        tokenizer: Tokenizer of the ids.

    Returns:
        One label per token.
    """
    names = [str(token) for token in tokenizer.convert_ids_to_tokens(list(ids))]
    alone = [_decode([token], tokenizer) for token in ids]
    found: list[str] = []
    while len(found) < len(alone):
        start = len(found)
        if not _is_part(alone[start], names[start]):
            found.append(alone[start])
            continue
        stop = _completed_at(names, alone, start)
        if stop is None:
            found.append("".join(f"<0x{byte:02X}>" for byte in _token_bytes(names[start])))
            continue
        text = _decode(ids[start:stop], tokenizer)
        found += [f"{text} {number}/{stop - start}" for number in range(1, stop - start + 1)]
    return found


def _completed_at(names: Sequence[str], alone: Sequence[str], start: int) -> int | None:
    """Return the index after the token that completes the characters begun at `start`; None if none does."""
    joined = b""
    for stop in range(start, len(names)):
        if not _is_part(alone[stop], names[stop]):
            return None
        joined += _token_bytes(names[stop])
        if _is_text(joined):
            return stop + 1
    return None


def _is_part(text: str, name: str) -> bool:
    return REPLACEMENT in text and not _is_text(_token_bytes(name))


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _incomplete(data: bytes) -> int:
    """Return the number of trailing bytes of `data` that start an incomplete character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return len(decoder.getstate()[0])


def _token_bytes(token: str) -> bytes:
    """Return the bytes that a token stands for, from its vocabulary entry."""
    byte = _BYTE.fullmatch(token)
    if byte:
        return bytes([int(byte.group(1), 16)])
    alphabet = _byte_alphabet()
    if all(letter in alphabet for letter in token):
        return bytes(alphabet[letter] for letter in token)
    return token.encode("utf-8", "replace")


@cache
def _byte_alphabet() -> dict[str, int]:
    """Return the byte for each letter of a byte-level vocabulary (GPT-2's table)."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {letter: byte for byte, letter in bytes_to_unicode().items()}


def _decode(ids: Sequence[int], tokenizer: Any, skip_special_tokens: bool = False) -> str:
    whole = [int(token) for token in ids]
    return str(tokenizer.decode(whole, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False))
