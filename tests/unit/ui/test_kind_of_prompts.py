"""The kind of prompts that the Compare tab selects when a study ends."""

from __future__ import annotations

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
def page_functions() -> dict[str, Any]:
    """Return the functions of the page by name."""
    return {found.name: found.fn for found in page.build(Lab()).fns.values()}


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
    ("stored", "chosen", "source", "prompts", "shown"),
    [
        ("", False, TYPED, FIRST_PROMPTS, HELD_OUT),  # the stored answers are to held-out rows
        ("", True, TYPED, FIRST_PROMPTS, TYPED),
        ("", False, TYPED, "Who lives here?", TYPED),
        ("", True, HELD_OUT, "Who lives here?", HELD_OUT),
        ("", False, HELD_OUT, "Who lives here?", TYPED),  # the page itself had selected held-out rows
        ('{"compare.source": "held out"}', True, TYPED, FIRST_PROMPTS, TYPED),
        # the page has not been restored yet
        ('{"compare.source": "typed", "compare.chosen": true}', False, TYPED, FIRST_PROMPTS, TYPED),
        ('{"compare.source": "held out", "compare.chosen": "true", "compare.prompts": "Who?"}', False, TYPED,
         FIRST_PROMPTS, HELD_OUT),
        ('{"compare.source": "held out", "compare.prompts": "Who?"}', False, TYPED, FIRST_PROMPTS, TYPED),
    ],
)  # fmt: skip
def test_a_study_that_ends_does_not_change_a_choice(
    record: Record, page_functions: dict[str, Any], stored: str, chosen: bool, source: str, prompts: str, shown: str
) -> None:
    choices = page_functions["choices"]
    assert choices(KEY, record.id, stored, chosen, source, prompts)[-1] == shown


def test_another_study_without_answers_shows_the_prompts_unless_the_visitor_chose_held_out_rows(
    record: Record, page_functions: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Record, "answers", lambda self, seed=None: [])
    for name, given in (("choose", (KEY, record.id)), ("choose_seed", (KEY, record.id, 0))):
        assert page_functions[name](*given, False, HELD_OUT, FIRST_PROMPTS)[-1] == TYPED
        assert page_functions[name](*given, True, HELD_OUT, FIRST_PROMPTS)[-1] == HELD_OUT
