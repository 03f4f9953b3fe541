"""The Data tab beside the `neftune data` command: one report on small files of instructions, in a real browser.

`unit/data/test_data_report.py` compares the reports on the other files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from page_steps import own_file, upload

from neftune_core.commands.data import DataCommand, data
from neftune_core.data.report import row_ranges

pytestmark = pytest.mark.browser

FILES = (
    "date.parquet",
    "images.jsonl",
    "kinds.jsonl",
    "long_turns.jsonl",
    "mostly_tools.jsonl",
    "same_prompt.jsonl",
    "sep.csv",
    "squad.jsonl",
)
"""Every format, and rows that are refused, cut, or left out, and columns that are not used."""
CASES = [Path(__file__).parents[1] / "cases" / name for name in FILES]
TEXTS = "(found) => found.map((one) => one.textContent.trim())"


def seen(page: Any, file: Path) -> dict[str, Any]:
    """What the Data tab says of an uploaded file: its numbers, its tables of rows by kind, and all of its words."""
    before = page.locator("#data-file button[aria-label=Clear]")
    if before.count():
        before.click()
    upload(page, "#data-file", file)
    heading = re.compile(rf"^(In use|Not used): {re.escape(file.name)}$")
    page.locator("#data-report h3", has_text=heading).wait_for()
    cells = {
        kind: page.locator(f"#data-report {kind} td").evaluate_all(TEXTS) for kind in (".lab-refusals", ".lab-changed")
    }
    return {
        "numbers": page.locator("#data-report dd").evaluate_all(TEXTS),
        "refused": list(zip(cells[".lab-refusals"][::2], cells[".lab-refusals"][1::2], strict=True)),
        "changed": len(cells[".lab-changed"]) // 2,
        "words": page.locator("#data-report").text_content(),
    }


def test_the_data_tab_says_of_a_file_what_the_command_says(lab_page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    own_file(lab_page)
    own_rows = "The starter set has held-out rows of its own"
    assert own_rows in lab_page.locator("#data-held-out-share").text_content()
    for file in CASES:
        data(DataCommand(file=str(file), json=True))
        said, shown = json.loads(capsys.readouterr().out), seen(lab_page, file)
        refused = [(row_ranges(one["rows"]), one["reason"]) for one in said["refused"]]
        numbers = [
            said["train"],
            said["held_out"],
            len(said["cut"]),
            sum(len(one["rows"]) for one in said["refused"]),
            len(said["duplicates"]),
        ]
        assert (file.name, shown["numbers"]) == (file.name, [str(number) for number in numbers])
        assert (file.name, shown["refused"]) == (file.name, refused)
        assert shown["changed"] == len(said["cut"]) + len(said["duplicates"])
        missing = [words for words in (*said["notes"], *said["unused_columns"]) if words not in shown["words"]]
        assert (file.name, missing) == (file.name, [])
    assert own_rows not in lab_page.locator("#data-held-out-share").text_content()
