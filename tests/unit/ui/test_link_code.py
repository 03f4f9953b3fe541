"""The panel of a link: its QR code, and what it offers to share."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import segno
from owned_study import owned_study

from neftune_core.errors import InvalidSetting, RecordError
from neftune_core.settings import Limits
from neftune_core.space.profiles import host_profile
from neftune_core.ui.parts.strip import code_of
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.rate_limits import HOUR, TooManyCalls, Window
from neftune_core.ui.sharing import shared_study
from neftune_core.ui.sharing.link_panel import CLASSES_AN_HOUR, content

ANN = "a1" * 32
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


def test_a_host_can_turn_sharing_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    record = owned_study(tmp_path / "runs", ANN)
    on, off = Lab(Limits()), Lab(host_profile({"NEFTUNE_LIMIT_SHARING": "0"}).limits)
    window = Window(CLASSES_AN_HOUR, HOUR)
    offered = content(on, window, ANN, LINK, record.id, "")["offers"]
    assert offered == ["share", "class"]
    shared = content(on, window, ANN, LINK, record.id, "share")
    assert shared["link"].startswith("https://lab.example.org/?shared=")
    token = shared["link"].partition("=")[2]
    assert len(shared_study.content(on, token)) == 5
    assert content(off, window, ANN, LINK, record.id, "")["offers"] == []
    for action in ("share", "withdraw", "class"):
        with pytest.raises(InvalidSetting, match="does not let visitors share"):
            content(off, window, ANN, LINK, record.id, action)
    with pytest.raises(RecordError, match="does not lead to a study"):
        shared_study.content(off, token)


def test_an_address_makes_so_many_classes_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    window = Window(1, HOUR)
    made = content(Lab(Limits()), window, ANN, LINK, "", "class")
    assert re.fullmatch(r"https://lab\.example\.org/\?class=[A-Z2-9]{6}", made["link"])
    with pytest.raises(TooManyCalls, match="Too many classes were created"):
        content(Lab(Limits()), window, ANN, LINK, "", "class")
