"""The Data tab beside the `neftune data` command: one report on small files of instructions, in a real browser.

`unit/data/test_data_report.py` compares the reports on the other files.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from page_steps import own_file, upload

from neftune_core.commands.data import DataCommand, data
from neftune_core.data.report import row_ranges

pytestmark = pytest.mark.browser

CASES = Path(__file__).parents[1] / "cases"
FILES = ("date.parquet", "kinds.jsonl", "long_turns.jsonl", "mostly_tools.jsonl", "sep.csv")
"""Rows that are refused, cut, or left out, and columns that are not used, in Parquet, JSON lines and CSV."""
TEXTS = "(found) => found.map((one) => one.textContent.trim())"


def converted(folder: Path) -> list[Path]:
    """Write three more cases in the other formats: JSON, tab-separated values, and compressed JSON lines."""
    rows = [json.loads(line) for line in (CASES / "same_prompt.jsonl").read_text(encoding="utf-8").splitlines()]
    files = [folder / name for name in ("squad.json", "same_prompt.tsv", "images.jsonl.gz")]
    files[0].write_text(f"[{','.join((CASES / 'squad.jsonl').read_text(encoding='utf-8').splitlines())}]", "utf-8")
    with files[1].open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    files[2].write_bytes(gzip.compress((CASES / "images.jsonl").read_bytes()))
    return files


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


def test_the_data_tab_and_the_command_report_the_same_about_a_file(
    lab_page: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_file(lab_page)
    own_rows = "The starter set has held-out rows of its own"
    assert own_rows in lab_page.locator("#data-held-out-share").text_content()
    for file in (*(CASES / name for name in FILES), *converted(tmp_path)):
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
