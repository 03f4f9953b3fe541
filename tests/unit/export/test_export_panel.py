"""Exporting a record: which arms are offered, and when they are looked up."""

from __future__ import annotations

import pytest

from neftune_core.studies import comparison
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page
from neftune_core.ui.server.lab import Lab

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of its event loops

KEY = "5a" * 32


def test_the_arms_are_looked_for_again_as_one_is_asked_for_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    built = page.build(Lab())
    found = next(one for one in built.fns.values() if [part.elem_id for part in one.outputs] == ["take-arm"])
    assert sorted(event for _, event in found.targets) == ["change", "input"]
    record = create(EXAMPLE, KEY)
    assert found.fn(KEY, record.id, "adapter", None)["choices"] == []
    monkeypatch.setattr(comparison, "saved_seeds", lambda record: [0])
    monkeypatch.setattr(comparison, "saved_arms", lambda record, seed: ["control", "uniform-alpha-5"])
    shown = found.fn(KEY, record.id, "adapter", None)
    names = [("control / seed 0", "control / seed 0"), ("alpha 5 / seed 0", "uniform-alpha-5 / seed 0")]
    assert shown["choices"] == names
    assert (shown["value"], shown["visible"]) == ("control / seed 0", True)
    chosen = found.fn(KEY, record.id, "record", "uniform-alpha-5 / seed 0")
    assert (chosen["value"], chosen["visible"]) == ("uniform-alpha-5 / seed 0", False)
