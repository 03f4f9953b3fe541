"""The QR code of a link."""

from __future__ import annotations

import re

import numpy as np
import pytest
import segno

from neftune_core.ui.parts.strip import code_of

LINK = "https://lab.example.org/?tab=Train&train.epochs=8&train.strengths=5%2C+15"


@pytest.mark.parametrize("link", [LINK, f"{LINK}&text=" + "x" * 900, "https://例.example/"])
def test_the_path_draws_every_dark_module_of_the_code_once(link: str) -> None:
    code = code_of(link)
    drawn = np.zeros((code["size"], code["size"]), dtype=int)
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", code["path"]):
        drawn[int(y), int(x) : int(x) + int(width)] += 1
    wanted = np.array([[*row] for row in segno.make(link, error="l", micro=False).matrix])
    assert np.array_equal(drawn, wanted)


def test_a_link_that_is_too_long_is_answered_in_a_sentence() -> None:
    assert code_of("x" * 5000)["problem"] == "This link is too long for a QR code: copy it instead."
