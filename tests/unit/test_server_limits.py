"""What a server allows: exactly its limits, and not one more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.owners import require_space

LIMITS = Limits(prompts=6, prompt_characters=100, new_tokens=50)


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (AnswerSettings, {"prompts": ("a",) * 6}, {"prompts": ("a",) * 7}),
        (
            AnswerSettings,
            {"prompts": ("a", "b"), "temperature": 1.0, "samples": 3},
            {"prompts": ("a", "b"), "temperature": 1.0, "samples": 4},
        ),
        (AnswerSettings, {"prompts": ("a", "x" * 100)}, {"prompts": ("a", "x" * 101)}),
        (AnswerSettings, {"new_tokens": 50}, {"new_tokens": 51}),
        (MeasuringSettings, {"prompts": 6}, {"prompts": 7}),
        (MeasuringSettings, {"prompts": 6, "new_tokens": 50}, {"prompts": 6, "new_tokens": 51}),
    ],
)
def test_a_setting_at_its_limit_is_allowed_and_above_it_refused(
    kind: Any, allowed: dict[str, Any], refused: dict[str, Any]
) -> None:
    usual = {"new_tokens": 50}
    kind(**(usual | allowed)).check(LIMITS)
    with pytest.raises(DoesNotFit):
        kind(**(usual | refused)).check(LIMITS)


def test_records_may_take_the_disk_that_the_host_allows(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(bytes(2_000_000))
    require_space(tmp_path, "", Limits(disk_gigabytes=0.0021))
    with pytest.raises(DoesNotFit, match=r"more than the 0\.001 GB allowed"):
        require_space(tmp_path, "", Limits(disk_gigabytes=0.001))
