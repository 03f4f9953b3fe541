"""Files in the format of well-known public data sets, with original rows: what is read of each row."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from chat_templates import tokenizer

from neftune_core.data.preparing import prepare
from neftune_core.data.report import DataReport, data_report
from neftune_core.data.settings import DataSettings
from neftune_core.settings import Limits


def turns(*texts: str, names: tuple[str, str] = ("role", "content"), roles: tuple[str, ...] = ()) -> list[Any]:
    said = roles or ("user", "assistant") * 9
    return [dict(zip(names, turn, strict=True)) for turn in zip(said, texts, strict=False)]


SHAREGPT = ("from", "value")
CALL = ("system", "human", "function_call", "observation", "gpt")
DOLLY = {"instruction": "When?", "context": "The ferry began in 1931.", "response": "In 1931.", "category": "closed_qa"}
ULTRACHAT = {"prompt": "Bees?", "prompt_id": "00ab", "messages": turns("Bees?", "By scent.", "At night?", "They rest.")}
FEEDBACK = {
    "prompt": "What thaws ice?",
    "chosen": turns("What thaws ice?", "Warmth."),
    "rejected": turns("What thaws ice?", "Cold."),
    "score_chosen": 8.5,
}
NO_ROBOTS = {
    "prompt": "A heron?",
    "messages": turns("Rhyme.", "A heron?", "Grey.", roles=("system", "user", "assistant")),
}
TOOLS = {
    "conversations": turns("Tides.", "Whitby?", '{"name": "tide", "arguments": {}}', "14:20", "At 14:20.",
                           names=SHAREGPT, roles=CALL),
    "tools": '[{"name": "tide"}]',
}  # fmt: skip
ORCA = {"id": "niv.1", "system_prompt": "Think.", "question": "Is 7 prime?", "response": "Yes."}
METAMATH = {"type": "GSM", "query": "3 pears and 4?", "original_question": "3 pears?", "response": "7"}
CHOICES = {"question": "Which melts?", "choices": ["stone", "ice"], "answer": 1, "subject": "physics"}


@pytest.mark.parametrize(
    ("row", "layout", "prompt", "trained", "unused"),
    [
        (DOLLY, "context", "When?\n\nThe ferry began in 1931.", ["In 1931."], ["category"]),
        (ULTRACHAT, "messages", "Bees?", ["By scent.", "They rest."], ["prompt", "prompt_id"]),
        (FEEDBACK, "preference", "What thaws ice?", ["Warmth."], ["rejected", "score_chosen"]),
        (NO_ROBOTS, "messages", "<|im_start|>system\nRhyme.<|im_end|>", ["Grey."], ["prompt"]),
        (ORCA, "question", "<|im_start|>system\nThink.<|im_end|>", ["Yes."], ["id"]),
        (METAMATH, "completion", "3 pears and 4?", ["7"], ["type", "original_question"]),
        ({"question": "12 eggs, 5 break?", "answer": "12 - 5 = <<12-5=7>>7\n#### 7"}, "question", "12 eggs, 5 break?",
         ["12 - 5 = <<12-5=7>>7\n#### 7"], []),
        ({"instruction": "翻译：今天下雨。", "input": "", "output": "It rains.\n"}, "instruction", "翻译：今天下雨。",
         ["It rains.\n"], []),
        ({"kind": "Couplet", "input": "上联：春风", "target": "下联：明月 🌙"}, "completion", "上联：春风",
         ["下联：明月 🌙"], ["kind"]),
        ({"inputs": "To French: cat", "targets": "chat"}, "completion", "To French: cat", ["chat"], []),
        ({"source": "olympiads", "problem": "x+1=2", "solution": "x=1"}, "completion", "x+1=2", ["x=1"], ["source"]),
        ({**CHOICES, "answer": "ice"}, "question", "Which melts?", ["ice"], ["choices", "subject"]),
    ],
)  # fmt: skip
def test_a_row_is_read_as_its_set_means_it(
    tmp_path: Path, row: dict[str, Any], layout: str, prompt: str, trained: list[str], unused: list[str]
) -> None:
    found = reported(tmp_path / "rows.jsonl", json.dumps(row).encode())
    assert (found.layout, found.refused) == (layout, [])
    assert set(found.unused_columns) == set(unused)
    spans = found.rows[0].spans
    assert prompt in "".join(span.text for span in spans if not span.trained)
    assert [span.text for span in spans if span.trained] == [f"{text}<|im_end|>" for text in trained]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (TOOLS, "it has tool calls, which this model's chat template does not support"),
        (
            {"image": "c.jpg", "conversations": turns("<image>", "A cat.", names=SHAREGPT)},
            "it has image, but only text",
        ),
        (CHOICES, "the answer 1 only refers to one of the choices"),
        ({**CHOICES, "answer": "B"}, "the answer B only refers to one of the choices"),
        ({"conversations": turns("A knot?", "Granny.", names=SHAREGPT), "kto_tag": False}, "kto_tag is false"),
        ({**NO_ROBOTS, "chat_template_kwargs": {"custom_instructions": "Be terse."}}, "(custom_instructions)"),
        ({**ULTRACHAT, "functions": [{"name": "tide"}]}, "it has a list of tools, which this model's chat template"),
        (
            {"messages": [*turns("A key?"), {"role": "assistant", "refusal": "I cannot."}]},
            "message 2 of the messages has refusal",
        ),
        ({"conversations": ["Can it?", "It can."]}, "message 1 of the conversations is not an object"),
        ({"conversations": turns("I begin.", names=SHAREGPT, roles=("gpt",))}, "no user message before"),
    ],
)
def test_a_row_that_cannot_be_read_as_meant_is_refused_by_its_reason(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    (refused,) = reported(tmp_path / "rows.jsonl", json.dumps(row).encode()).refused
    assert reason in refused.reason and refused.rows == [1]


def test_the_choices_of_a_parquet_file_are_seen_as_well(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    written = io.BytesIO()
    parquet.write_table(Table.from_pylist([CHOICES]), written)
    (refused,) = reported(tmp_path / "rows.parquet", written.getvalue()).refused
    assert refused.reason == "the answer 1 only refers to one of the choices: write out the choice"


def _csv(rows: list[list[str]], delimiter: str = ",") -> str:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows(rows)
    return written.getvalue()


CODE = _csv([["instruction", "input", "output"], ["Print 0 to 2.", '"abc", 3', "for i in range(3):\n    print(i)"]])
PAIRS = [["prompt", "completion"], ["Name a; river", 'The "Ouse"']]
LINE = json.dumps({"question": "Name a; river", "answer": 'The "Ouse"'})


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("code.csv", b"\xef\xbb\xbf" + CODE.encode(), ['"abc", 3', "for i in range(3):\n    print(i)"]),
        ("excel.csv", b"\xef\xbb\xbf" + ("sep=;\r\n" + _csv(PAIRS, ";")).encode(), ["Name a; river", 'The "Ouse"']),
        ("excel.tsv", _csv(PAIRS, "\t").encode("utf-16"), ["Name a; river", 'The "Ouse"']),
        ("plain.tsv", b'question\tanswer\nName a; river\tThe "Ouse"\n', ["Name a; river", 'The "Ouse"']),
        ("packed.jsonl.gz", gzip.compress(LINE.encode(), mtime=0), ["Name a; river", 'The "Ouse"']),
        ("lines.json", f"{LINE}\n{LINE}".encode(), ["Name a; river", 'The "Ouse"']),
        ("list.json", f"[{LINE}]".encode(), ["Name a; river", 'The "Ouse"']),
    ],
)
def test_a_file_is_read_as_programs_write_it(tmp_path: Path, name: str, content: bytes, texts: list[str]) -> None:
    found = reported(tmp_path / name, content)
    whole = "".join(span.text for span in found.rows[0].spans)
    assert found.refused == [] and all(text in whole for text in texts)


def reported(path: Path, content: bytes) -> DataReport:
    path.write_bytes(content)
    made = tokenizer("chatml")
    return data_report(prepare(DataSettings(source=f"file:{path}"), made, Limits(), require_rows=False), made)
