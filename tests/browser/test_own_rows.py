"""Rows of one's own in a real browser: uploading them, and what is reported of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_steps import BAD_ROW, choose, own_file, text_of, upload

pytestmark = pytest.mark.browser


def test_an_uploaded_file_is_in_use_and_its_bad_row_is_reported(lab_page: Any, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(BAD_ROW, encoding="utf-8")
    own_file(lab_page)
    upload(lab_page, "#data-file", tmp_path / "rows.jsonl")
    report = text_of(lab_page, "#data-report", "In use: rows.jsonl")
    assert "1 row was refused" in report
    assert lab_page.locator(".lab-refusals td").all_inner_texts() == ["3", "it has no 'output'"]
    assert "rows.jsonl, 3 rows" in lab_page.locator("#lab-words").inner_text()
    assert "trained on" in text_of(lab_page, "#data-rendered", "as the model reads it")
    assert lab_page.locator("#data-rendered i").count() == 0  # what was uploaded is never markup


def test_columns_without_known_names_are_assigned_by_hand(lab_page: Any, tmp_path: Path) -> None:
    rows = "frage,antwort\n" + "".join(f"Was ist {number}?,Die Zahl {number}\n" for number in range(6))
    (tmp_path / "zahlen.csv").write_text(rows, encoding="utf-8")
    own_file(lab_page)
    upload(lab_page, "#data-file", tmp_path / "zahlen.csv")
    lab_page.get_by_text("The columns are frage, antwort").wait_for()
    choose(lab_page, "#data-layout", "Question, answer")
    text_of(lab_page, "#data-part-0", "Question column")
    choose(lab_page, "#data-part-0", "frage")
    choose(lab_page, "#data-part-2", "antwort")
    assert "question from “frage”" in text_of(lab_page, "#data-report", "In use: zahlen.csv")


def test_a_file_that_cannot_be_read_gets_one_sentence_and_the_page_continues(lab_page: Any, tmp_path: Path) -> None:
    (tmp_path / "bytes.csv").write_bytes(bytes(range(128, 256)) * 9)
    own_file(lab_page)
    upload(lab_page, "#data-file", tmp_path / "bytes.csv")
    lab_page.get_by_text("bytes.csv is not UTF-8 text").wait_for()
    lab_page.locator("#data-source label", has_text="Starter set").click()
    choose(lab_page, "#data-starter", "dialogue: conversations of several turns")
    text_of(lab_page, "#data-report", "In use: dialogue")
