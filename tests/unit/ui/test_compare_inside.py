"""The Compare tab's views of trained arms: what they say of a record that does not hold their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.tabs.views.compare_inside import ROBUSTNESS, ROWS, WEIGHTS, show_view

KEY = "c2" * 32


def test_what_a_record_does_not_hold_is_said_and_measured_only_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    record = create(EXAMPLE, KEY)
    for view, words, can_measure in (
        (ROWS, "Press “Measure now” to measure them", True),
        (ROBUSTNESS, "Press “Measure now” to see how much noise", True),
        (WEIGHTS, "adapters of seed 0 are not stored", False),
    ):
        said, button, rows, figure = show_view(KEY, view, record.id, None)
        assert words in said
        assert button["visible"] is can_measure
        assert rows is figure is None
    assert show_view(KEY, "answers", record.id, 0)[0] == ""
    assert "Train a study first" in show_view(KEY, ROWS, None, None)[0]
