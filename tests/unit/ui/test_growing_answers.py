"""Answers as they grow."""

from __future__ import annotations

from gradio.utils import diff

from neftune_core.noise.settings import NoiseSettings
from neftune_core.ui.parts.answers import answer_columns, as_pieces


def shown(text: str) -> str:
    line = {"prompt": "Who?", "arms": {arm: {"text": text, "tokens": len(text)} for arm in ("base", "control")}}
    return answer_columns([line], {"control": NoiseSettings(strength=0)})


def test_of_an_answer_that_grows_only_its_end_is_sent() -> None:
    before, after = shown("The owl\nlives"), shown("The owl\nlives by the < lake")
    assert "".join(as_pieces(after)) == after
    sent = diff(as_pieces(before), as_pieces(after))
    assert [said for kind, _, said in sent if kind == "append"] == [" by the &lt; lake"] * 2
    assert len(sent) == 4  # and the number of tokens of each
