"""Text that stays text: names of special tokens inside it never become those tokens.

Each such name is broken in two with `MARK`, and the pieces are tokenised one by one, so that a row which says
"<|im_end|>" cannot end its turn. The template for tokenizers without one is here as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from neftune_core.data.examples import Message, RowRefused
from neftune_core.language import say

MARK = "\ufdd0"  # a code point that is no character; it is taken out again before the text reaches the tokenizer


def marked(content: str, protected: re.Pattern[str]) -> str:
    """`content` with every name that `protected` finds in it broken after its first character.

    Raises `RowRefused` where that cannot be done.
    """
    if MARK in content:
        raise RowRefused(say("it holds the code point U+FDD0, which is no character"))
    broken = protected.sub(lambda found: found.group()[0] + MARK, content)
    if any(protected.search(piece) for piece in broken.split(MARK)):
        raise RowRefused(say("it holds the name of a special token of this model"))
    return broken


def special_names(tokenizer: Any) -> list[str]:
    """The names of the tokenizer's special tokens."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [name for name in {*added, *tokenizer.all_special_tokens} if name.strip()]


def any_of(names: Sequence[str]) -> re.Pattern[str]:
    """A pattern for the first character of any of `names`, the longest first, with the whole name as its group 1."""
    choice = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(f"(?=({choice}))." if names else r"(?!)", re.DOTALL)


PLAIN = {
    "system": "### System:\n{content}\n\n",
    "user": "### Instruction:\n{content}\n\n",
    "assistant": "### Response:\n{content}{end}\n\n",
}
"""The template for tokenizers without one. An answer is written after "### Response:" and its line break."""


def plain_rendering(messages: Sequence[Message], end: str, *, generation: bool) -> str:
    """Return the messages in the plain template, with `end` after each reply, and the beginning of one if asked."""
    text = "".join(PLAIN[turn.role].format(content=turn.content, end=end) for turn in messages)
    return text + (PLAIN["assistant"].partition("{content}")[0] if generation else "")
