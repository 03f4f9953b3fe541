"""The data report: what happened to every row, on the command line, in records and in the HTML report."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from chat_templates import TEMPLATES, tokenizer

from neftune_core.cli import parse_arguments
from neftune_core.commands.data import DataCommand, data
from neftune_core.commands.train import run_record
from neftune_core.data.preparing import prepare
from neftune_core.data.report import data_report, layout_text, report_of, row_ranges, summary
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, InvalidSetting
from neftune_core.export.report import report
from neftune_core.language import CHINESE, in_language
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.views import data_views

CASES = Path(__file__).parents[2] / "cases"

KEYS = [
    "layout", "columns", "unused_columns", "train", "held_out", "refused", "cut", "duplicates", "notes", "rows",
]  # fmt: skip
ASKED = {"instruction": "Name a bird. 你好 🙂", "output": "A wren. 🐦"}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_notes_on_the_split_name_the_held_out_rows_of_the_set_also_if_they_are_left_out(share: float) -> None:
    own = data_views.split_controls(DataSettings(source="starter:world-format", held_out_share=share))
    assert own["held_out_share"]["info"].startswith("The starter set has held-out rows of its own: 0 leaves them out")
    assert own["split_seed"]["info"].startswith("Not used")
    others = data_views.split_controls(DataSettings(source="starter:open-ended", held_out_share=share))
    assert "of its own" not in str(others)


def test_columns_are_named_unless_the_words_of_the_layout_name_them() -> None:
    columns = {"instruction": "instruction", "input": "input", "response": "output"}
    assert layout_text("instruction", columns) == "instruction, input, output (response from “output”)"
    with in_language(CHINESE):
        assert layout_text("instruction", columns) == "指令、输入、输出 (instruction, input, 回答取自“output”)"


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"instruction": f"What is {number}?", "output": f"It is {number}."} for number in range(count)]


def reported(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    data(DataCommand(json=True, **options))
    return json.loads(capsys.readouterr().out)


def test_the_report_names_every_row_that_is_not_used_or_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        *numbered(3),
        {"instruction": "Empty?", "output": ""},
        {"instruction": "Long?", "output": "yes " * 400},
        {"instruction": "What is 1?", "output": "It is 1.", "source": "a book"},
        {"instruction": "Blank?", "output": " "},
    ]
    found = reported(
        capsys, file=written(tmp_path / "rows.jsonl", rows), data=DataSettings(maximum_length=64, held_out_share=0)
    )
    assert list(found) == KEYS
    assert (found["layout"], found["columns"]) == ("instruction", {"instruction": "instruction", "output": "output"})
    assert found["unused_columns"] == ["source"]
    assert (found["train"], found["held_out"]) == (4, 0)
    assert found["refused"] == [{"reason": "the output is empty", "rows": [4, 7]}]
    (cut,) = found["cut"]
    assert set(cut) == {"row", "tokens_removed"} and cut["row"] == 5 and cut["tokens_removed"] > 100
    assert found["duplicates"] == [{"row": 6, "same_as": 2}]
    assert [row["row"] for row in found["rows"]] == [1, 2, 3, 5]


def test_ten_rows_are_shown_in_the_order_of_the_file_and_all_if_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "rows.jsonl", numbered(25))
    assert [row["row"] for row in reported(capsys, file=file)["rows"]] == list(range(1, 11))
    assert [row["row"] for row in reported(capsys, file=file, all=True)["rows"]] == list(range(1, 26))


def test_a_file_without_a_usable_row_is_reported_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "rows.jsonl", [{"instruction": "Empty?", "output": ""}])
    assert data(DataCommand(file=file, json=True)) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["refused"] == [{"reason": "the output is empty", "rows": [1]}]
    assert said.err == "The only row of rows.jsonl cannot be used; row 1: the output is empty.\n"


def test_one_usable_row_is_reported_although_no_study_can_be_trained_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "rows.jsonl", [ASKED])
    assert data(DataCommand(file=file)) == 0
    said = capsys.readouterr().out
    assert "a study needs at least 2" in said and "⟦A wren. 🐦" in said


def test_rows_are_numbered_by_reason_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert data(DataCommand(file=str(CASES / "kinds.jsonl"))) == 0
    said = capsys.readouterr().out
    assert "the output is empty (rows 7–9)" in said and "the output is a list, not text (row 4)" in said


def test_starter_sets_are_reported_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    found = reported(capsys, file="starter:dialogue")
    assert found["layout"] == "messages" and any("several replies" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Exactly one source of rows"),
        ({"file": "a.jsonl", "data": DataSettings(source="starter:dialogue")}, "Exactly one source of rows"),
        ({"file": "no-such-file.jsonl"}, f"There is no file {Path.cwd() / 'no-such-file.jsonl'}"),
        ({"file": "starter:unknown"}, "no starter set called 'unknown'"),
    ],
)
def test_a_source_that_cannot_be_read_gets_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises((DataError, InvalidSetting), match=words):
        data(DataCommand(**options))


def test_the_settings_of_the_data_are_options() -> None:
    words = "rows.csv --layout question --columns question q answer a --maximum-length 64 --held-out-share 0.5"
    found = parse_arguments(DataCommand, ["data", *words.split()], None)
    assert found.data == DataSettings(
        layout="question", columns={"question": "q", "answer": "a"}, maximum_length=64, held_out_share=0.5
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_spans_of_a_row_are_its_text_and_the_trained_ones_its_replies(tmp_path: Path, name: str) -> None:
    turns = [("user", "Bird? 你好"), ("assistant", "Wren 🐦"), ("user", "Fish? 🙂"), ("assistant", "Tench 鱼")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    settings = DataSettings(source=f"file:{written(tmp_path / 'rows.jsonl', rows)}")
    made = tokenizer(name)
    prepared = prepare(settings, made, Limits(), require_rows=False)
    (row,) = data_report(prepared, made).rows
    whole = made.decode([*prepared.train, *prepared.held_out][0].ids.tolist())
    assert "".join(span.text for span in row.spans) == whole and "\ufffd" not in whole
    trained = [span.text for span in row.spans if span.trained]
    assert "鱼" in trained[-1] and not any("你好" in text or "🙂" in text for text in trained)


def test_a_template_without_a_place_for_a_system_prompt_is_reported(tmp_path: Path) -> None:
    source = f"file:{written(tmp_path / 'rows.jsonl', [ASKED])}"
    notes = {}
    for name in ("chatml", "no system"):
        prepared = prepare(
            DataSettings(source=source, system="Be brief."), tokenizer(name), Limits(), require_rows=False
        )
        notes[name] = data_report(prepared, tokenizer(name)).notes[0]
    assert "The system prompt is kept" in notes["chatml"] and "does not support system prompts" in notes["no system"]


def test_rows_that_a_template_refuses_after_the_split_are_counted_and_reported() -> None:
    source = f"file:{CASES / 'mostly_tools.jsonl'}"
    prepared = prepare(
        DataSettings(source=source, held_out_share=0.2), tokenizer("chatml"), Limits(), require_rows=False
    )
    found = data_report(prepared, tokenizer("chatml"))
    assert found.train + found.held_out + sum(len(one.rows) for one in found.refused) == 40
    after_split = (32 - found.train, 8 - found.held_out)
    assert sum(after_split) == 30
    assert found.notes == [
        "The held-out rows were drawn before the chat template was applied. Rows refused after that: "
        f"{after_split[0]} for training, {after_split[1]} held out."
    ]


def texts_of(page: str, pattern: str) -> list[str]:
    """Return the texts of the elements that match, without the markup in them."""
    return [html.unescape(re.sub("<[^>]*>", "", found)).strip() for found in re.findall(pattern, page)]


@pytest.mark.parametrize("file", sorted(CASES.iterdir()), ids=lambda file: file.name)
def test_the_page_and_the_command_report_the_same_about_every_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, read = reported(capsys, file=str(file)), load(ModelSettings()).tokenizer
    prepared = prepare(DataSettings(source=f"file:{file}"), read, Limits(), require_rows=False)
    page = data_views.report(prepared, data_report(prepared, read, rows=0))
    refused = [(row_ranges(one["rows"]), one["reason"]) for one in said["refused"]]
    changed = len(said["cut"]) + len(said["duplicates"])
    counts = [said["train"], said["held_out"], len(said["cut"]), sum(len(one["rows"]) for one in said["refused"])]
    assert texts_of(page, "<dd>(.*?)</dd>") == [str(count) for count in (*counts, len(said["duplicates"]))]
    cells = texts_of(page, "<td>(.*?)</td>")
    assert cells[: 2 * len(refused)] == [cell for row in refused for cell in row]
    assert len(cells) == 2 * (len(refused) + changed)
    whole = html.unescape(re.sub("<[^>]*>", "", page))
    assert [words for words in (*said["notes"], *said["unused_columns"]) if words not in whole] == []


def test_row_numbers_are_written_as_ranges() -> None:
    assert row_ranges([3, 1, 2, 7]) == "1–3, 7"
    assert row_ranges(range(1, 40, 2)) == "1, 3, 5, 7, 9, 11 and 14 more"


# ---------------------------------------------------------------- records


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a study on ten of forty rows."""
    rows = [*({"instruction": f"Empty {number}?", "output": ""} for number in range(30)), *numbered(10)]
    source = f"file:{written(tmp_path_factory.mktemp('rows') / 'rows.jsonl', rows)}"
    training = EXAMPLE.training.model_copy(update={"steps": 1, "evaluations": 1, "evaluation_rows": 4})
    answers = EXAMPLE.answers.model_copy(update={"new_tokens": 4})
    update = {"data": DataSettings(source=source), "training": training, "answers": answers, "seeds": 2}
    return create(EXAMPLE.model_copy(update=update), "")


def test_training_says_on_standard_error_what_became_of_the_rows(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_record(record, Limits()) == 0
    said = capsys.readouterr().err
    assert said.count("30 of 40 rows were refused (30: the output is empty).") == 1
    assert said.index("30 of 40") < said.index("seed 1 of 2")
    about = record.about_table("data")
    assert (about["train"], about["held_out"], about["refused"], about["cut"], about["duplicates"]) == (8, 2, 30, 0, 0)
    assert list(about["report"]) == KEYS
    assert about["report"]["refused"] == [{"reason": "the output is empty", "rows": list(range(1, 31)), "count": 30}]
    assert [row["row"] for row in about["report"]["rows"]] == [31, 32, 33]
    page = report(record)
    assert "30 of 40 rows were refused (30: the output is empty)." in page
    assert "<td>1–30</td>" in page and "<mark>It is 0." in page
    with in_language(CHINESE):
        assert "40 行中有 30 行无法使用" in report(record)


@pytest.mark.parametrize("kept", [{}, {"report": {"rows": [1]}}, {"report": 3}])
def test_records_without_a_report_are_summed_up_by_their_numbers(kept: dict[str, Any]) -> None:
    about = {"title": "rows.jsonl", "train": 6, "held_out": 2, "cut": 1, "refused": 2, **kept}
    assert summary(about) == [
        "rows.jsonl: 6 rows to train on, 2 held out.",
        "2 of 10 rows were refused.",
        "Rows cut to the maximum length, which lose the end of their reply: 1.",
    ]
    assert report_of(about).rows == []


def test_what_a_record_keeps_is_bounded(tmp_path: Path) -> None:
    rows = [{"instruction": f"{number}?", "output": "ab " * 2000 if number else ""} for number in range(300)]
    rows += rows[:150]
    settings = DataSettings(source=f"file:{written(tmp_path / 'rows.jsonl', rows)}", maximum_length=1024)
    prepared = prepare(settings, tokenizer("chatml"), Limits(), require_rows=False)
    kept = data_report(prepared, tokenizer("chatml")).for_record()
    assert len(json.dumps(kept)) < 60_000
    assert (len(kept["cut"]), len(kept["duplicates"]), kept["refused"][0]["count"]) == (100, 100, 2)


def test_the_page_shows_what_became_of_rows_on_which_no_study_can_be_trained(tmp_path: Path) -> None:
    rows = [ASKED, {"instruction": "Empty?", "output": ""}]
    settings = DataSettings(source=f"file:{written(tmp_path / 'rows.jsonl', rows)}")
    shown = data_views.unusable_data_updates(Lab(), settings, ModelSettings(), DataError("Too few."))
    assert "Not used: rows.jsonl" in shown[3] and "needs at least 2" in shown[3] and "the output is empty" in shown[3]
    assert "<p>Too few.</p>" in shown[7] and "Choose the columns" in shown[7]
    assert data_views.data_updates(Lab(), DataSettings(source="starter:dialogue"), ModelSettings(), "")[7] == ""
    assert "<mark>A wren. 🐦" in shown[6] and shown[4]["summary"].startswith("0 training rows and 1 held-out")
    with pytest.raises(DataError, match="a study needs at least 2"):
        Lab().prepared(settings, ModelSettings())
