"""Format the prompts, answers, verdicts and win rates of a judge as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from neftune_core.errors import DataError
from neftune_core.language import say
from neftune_core.studies.language_judge.endpoint import INSTRUCTIONS, Judge
from neftune_core.studies.language_judge.verdicts import TIE, JudgedPrompt, JudgeProgress
from neftune_core.studies.language_judge.win_rate import WinRate

COLUMNS = (
    "prompt", "seed", "first_arm", "second_arm", "first_answer", "second_answer", "verdict_first_shown_first",
    "verdict_second_shown_first", "score_of_first", "orders_agree", "identical",
)  # fmt: skip


def _as_json(found: JudgeProgress, judge: Judge) -> str:
    """Return the judge, the win rates with their intervals, the ties, and every prompt with both verdicts."""
    judged = [row for row in found.rows if row.score is not None]
    values = {
        "judge": {"base_url": judge.base_url, "model": judge.model, "instructions": INSTRUCTIONS},
        "arms": list(found.between),
        "prompts": found.prompts,
        "judged": len(judged),
        "ties": sum(set(row.verdicts) == {TIE} for row in judged),
        "orders_disagree": sum(not row.agrees for row in judged),
        "identical": found.identical,
        "unreadable": found.unreadable,
        "win_rate_of_first": None if found.rate is None else _rate(found.rate),
        "rows": [dict(zip(COLUMNS, _row(row, found.between), strict=True)) for row in found.rows],
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _rate(rate: WinRate) -> dict[str, Any]:
    return {
        "prompts": rate.prompts,
        "raw": asdict(rate.raw),
        "controlled_for_length": None if rate.controlled is None else asdict(rate.controlled),
        "agreement_of_orders": rate.agreement,
        "first_is_longer": rate.longer,
    }


def _as_csv(found: JudgeProgress, judge: Judge) -> str:
    """Return one line per prompt, with the judge, the answers of both arms and the verdict in each order."""
    from neftune_core.studies.prompts import spreadsheet_cell

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["judge", *COLUMNS])
    for row in found.rows:
        writer.writerow([spreadsheet_cell(value) for value in (judge.model, *_row(row, found.between))])
    return text.getvalue()


def _row(row: JudgedPrompt, between: tuple[str, str]) -> list[Any]:
    return [row.prompt, row.seed, *between, *row.answers, *row.verdicts, row.score, row.agrees, row.is_identical]


WRITERS: dict[str, Callable[[JudgeProgress, Judge], str]] = {"json": _as_json, "csv": _as_csv}


def verdicts_text(found: JudgeProgress, judge: Judge, kind: str) -> str:
    """Return the verdicts as JSON or CSV.

    Args:
        found: The verdicts.
        judge: The judge that gave them.
        kind: One of `WRITERS`.

    Returns:
        The text.

    Raises:
        DataError: If this judge has given no verdict on these arms yet.
    """
    sent = [row for row in found.rows if not row.is_identical]
    if sent and all(row.verdicts[0] is None for row in sent):
        raise DataError(say("This judge has not judged these two arms yet: press “Judge the answers” first."))
    return WRITERS[kind](found, judge)
