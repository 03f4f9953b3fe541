"""Escape special tokens in text.

The names of special tokens in a text are split by `MARK`, and the pieces are tokenised separately. Therefore, the text
"<|im_end|>" in a message cannot end that message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from neftune_core.data.examples import UnusableRow
from neftune_core.language import say

MARK = "\ufdd0"  # a noncharacter; removed before the text reaches the tokenizer


def split_protected(content: str, protected: re.Pattern[str]) -> str:
    """Split every protected name after its first character.

    Args:
        content: The text.
        protected: Pattern from `any_of`.

    Returns:
        The text with `MARK` inserted.

    Raises:
        UnusableRow: If the text contains `MARK` or a name that cannot be split.
    """
    if MARK in content:
        raise UnusableRow(say("it contains the code point U+FDD0, which is not a character"))
    broken = protected.sub(lambda found: found.group()[0] + MARK, content)
    if any(protected.search(piece) for piece in broken.split(MARK)):
        raise UnusableRow(say("it contains the name of a special token of this model"))
    return broken


def special_names(tokenizer: Any) -> list[str]:
    """Return the names of the tokenizer's special tokens."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [name for name in {*added, *tokenizer.all_special_tokens} if name.strip()]


def any_of(names: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that matches the first character of a name, and captures the longest such name as group 1."""
    choice = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(f"(?=({choice}))." if names else r"(?!)", re.DOTALL)
