"""A conversation in the Compare tab keeps all of its turns, on the page and in the exported file."""

from __future__ import annotations

import csv
import io
import json

from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.trained.comparison_session import Ballot, ComparisonSession, continued, export_text
from neftune_core.ui.parts.answers import session_html

ARMS = {"uniform-alpha-5": NoiseSettings(strength=5)}


def turn(prompt: str, answer: str, ballots: tuple[Ballot, ...] = ()) -> ComparisonSession:
    arms = {name: {"text": f"{answer} of {name}", "tokens": 2} for name in ("base", "uniform-alpha-5")}
    return ComparisonSession((), ARMS, (), ({"prompt": prompt, "arms": arms},), ballots)


def talk(ballots: tuple[Ballot, ...] = ()) -> ComparisonSession:
    second = [*continued(turn("One?", "first", ballots), iter([turn("Two?", "second", ballots)]))][-1]
    return [*continued(second, iter([turn("Three?", "third", ballots)]))][-1]


def test_every_turn_is_shown_in_its_order() -> None:
    shown = session_html(talk())
    places = [shown.index(words) for words in ("Turn 1", "One?", "Turn 2", "Two?", "Turn 3", "Three?")]
    assert places == sorted(places)
    assert "Turn" not in session_html(turn("One?", "first"))


def test_the_export_has_every_turn() -> None:
    lines = [json.loads(line) for line in export_text(talk(), "jsonl").splitlines()]
    assert [(line["turn"], line["prompt"]) for line in lines] == [(1, "One?"), (2, "Two?"), (3, "Three?")]
    rows = [*csv.DictReader(io.StringIO(export_text(talk(), "csv")))]
    assert [row["turn"] for row in rows] == ["1", "1", "2", "2", "3", "3"]
    assert "turn" not in json.loads(export_text(turn("One?", "first"), "jsonl"))


def test_names_are_hidden_in_every_turn_until_they_are_shown_in_all() -> None:
    hidden = talk((Ballot(("base", "uniform-alpha-5")),))
    assert "<b>uniform-alpha-5</b>" not in session_html(hidden)
    assert (
        session_html(hidden).count("data-vote") == session_html(turn("x", "y", hidden.ballots)).count("data-vote") > 0
    )
    assert all(not one.ballots for one in hidden.revealed().turns)
