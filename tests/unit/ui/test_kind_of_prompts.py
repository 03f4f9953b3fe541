"""The kind of prompts that the Compare tab selects when a study ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neftune_core.studies import comparison
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.trained import comparison_session
from neftune_core.ui import page
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.compare_tab import FIRST_PROMPTS, HELD_OUT, TYPED

KEY = "c4" * 32


@pytest.fixture(scope="module")
def choices() -> Callable[..., Any]:
    """Return the handler that lists the studies, of the English page."""
    return next(found.fn for found in page.build(Lab()).fns.values() if found.name == "choices")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Return a record that counts as a study with saved arms and stored answers."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    made = create(EXAMPLE, KEY)
    monkeypatch.setattr(comparison_session, "answerable", lambda key: [made])
    monkeypatch.setattr(comparison_session, "offered_columns", lambda *given: ([], []))
    monkeypatch.setattr(comparison, "saved_seeds", lambda record: [0])
    arms = {"base": {"text": "no", "tokens": 1}, "control": {"text": "yes", "tokens": 1}}
    monkeypatch.setattr(Record, "answers", lambda self, seed=None: [{"prompt": "Who?", "arms": arms}])
    return made


@pytest.mark.parametrize(
    ("stored", "has_choice", "source", "prompts", "shown"),
    [
        ("", False, TYPED, FIRST_PROMPTS, HELD_OUT),  # the stored answers are to held-out rows
        ("", True, TYPED, FIRST_PROMPTS, TYPED),  # chosen in this visit
        ('{"compare.source": "typed"}', False, TYPED, FIRST_PROMPTS, TYPED),  # chosen before a reload
        ("", False, TYPED, "Who lives here?", TYPED),
        ("", False, HELD_OUT, "Who lives here?", HELD_OUT),
    ],
)
def test_a_study_that_ends_does_not_change_a_choice(
    record: Record, choices: Callable[..., Any], stored: str, has_choice: bool, source: str, prompts: str, shown: str
) -> None:
    assert choices(KEY, record.id, stored, has_choice, source, prompts)[-1] == shown
