"""Typing errors: letters swapped, left out, doubled, or replaced by another of the same text."""

from __future__ import annotations

import numpy as np


def with_typos(text: str, rate: float, generator: np.random.Generator) -> str:
    """`text` in which each letter has an error with probability `rate`; all else stays where it is.

    A replacement is a letter drawn from the text itself, so that it is of its script.
    """
    letters = [character for character in text if character.isalpha()]
    found: list[str] = []
    place = 0
    while place < len(text):
        character, following = text[place], text[place + 1 : place + 2]
        place += 1
        if not character.isalpha() or generator.random() >= rate:
            found.append(character)
            continue
        kind = generator.integers(4)
        if kind == 0 and following.isalpha():
            found += [following, character]
            place += 1
        elif kind == 1:
            found += [character, character]
        elif kind == 2:
            found.append(letters[generator.integers(len(letters))])
    return "".join(found)
