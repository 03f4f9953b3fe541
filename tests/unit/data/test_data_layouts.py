"""Layouts of rows: detection, manual correction, and refused rows."""

import json

import pytest
from rows_of_data import GOOD, TURNS

from neftune_core.data.examples import Message
from neftune_core.errors import DataError
from neftune_core.settings import Limits

LAID_OUT = {
    "instruction": {"instruction": "Q", "input": "", "output": "A"},
    "context": {"instruction": "Q", "context": "", "response": "A", "category": "open"},
    "messages": {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
    "conversations": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "preference": {"prompt": "Q", "chosen": "A", "rejected": "B"},
    "completion": {"prompt": "Q", "completion": "A"},
    "question": {"question": "Q", "answer": "A"},
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_every_layout_is_detected_and_reported(reading, layout):
    found = reading(json.dumps(LAID_OUT[layout]))
    assert found.layout == layout
    assert found.examples[0].messages == (Message("user", "Q"), Message("assistant", "A"))
    assert set(found.columns.values()) <= set(found.available_columns)
    assert found.title == "rows.jsonl"


@pytest.mark.parametrize("layout", LAID_OUT)
def test_column_names_are_read_in_any_case(reading, layout):
    shouted = {name.upper() + " ": value for name, value in LAID_OUT[layout].items()}
    assert reading(json.dumps(shouted)).layout == layout


def test_a_conversational_prompt_and_completion_become_one_conversation(reading):
    row = {"prompt": TURNS[:1], "completion": TURNS[1:]}
    assert [turn.content for turn in reading(json.dumps(row)).examples[0].messages] == ["Hi", "Hello"]


def test_an_input_is_put_under_the_instruction(reading):
    row = {"instruction": "Translate.", "input": "Hi", "output": "Salut"}
    assert reading(json.dumps(row)).examples[0].prompt == (Message("user", "Translate.\n\nHi"),)


def test_a_system_column_becomes_the_system_message(reading):
    row = {"system_prompt": "Be brief.", "question": "Q", "response": "A"}
    assert reading(json.dumps(row)).examples[0].messages[0] == Message("system", "Be brief.")


def test_columns_are_corrected_by_hand(reading):
    row = json.dumps({"q": "Q", "reply": "A", "output": "wrong"})
    found = reading(row, columns={"instruction": "q", "output": "reply"})
    assert (found.layout, found.examples[0].response) == ("instruction", "A")
    assert found.available_columns == ["q", "reply", "output"]


def test_a_part_is_left_out_by_hand(reading):
    row = json.dumps({"instruction": "Q", "input": "noise", "output": "A"})
    assert reading(row, columns={"input": ""}).examples[0].prompt[0].content == "Q"


def test_a_layout_is_chosen_by_hand(reading):
    row = json.dumps({"instruction": "Q", "output": "A", "prompt": "P", "completion": "C"})
    assert reading(row).examples[0].response == "A"
    assert reading(row, layout="completion").examples[0].response == "C"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"layout": "poem"}, "no layout called 'poem'"),
        ({"layout": "question"}, "needs question and answer"),
        ({"columns": {"verse": "output"}}, "no part called 'verse'"),
        ({"columns": {"output": "gone"}}, "no column called 'gone'"),
        ({"columns": {"output": ""}}, "assign the columns by hand"),
    ],
)
def test_a_wrong_correction_gets_a_sentence(reading, more, words):
    with pytest.raises(DataError, match=words):
        reading(GOOD, **more)


def test_unknown_columns_are_named(reading):
    with pytest.raises(DataError, match="The columns are colour, size"):
        reading('{"colour": "red", "size": 3}')


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"instruction": "Q", "input": ""}', "it has no 'output'"),
        ('{"instruction": "Q", "output": "  "}', "the output is empty"),
        ('{"instruction": null, "output": "A"}', "the instruction is empty"),
        ('{"instruction": "Q", "output": ["A"]}', "the output is a list, not text"),
        ('{"instruction": "Q", "output": {"a": 1}}', "the output is an object, not text"),
        ('{"instruction": "Q", "output": NaN}', "the output is empty"),
        ('{"instruction": "Q", "output": "a\\u0000b"}', "the output contains a NUL character"),
        ('{"instruction": "Q", "output": "\\ud83d"}', "lone surrogate"),
        ('{"instruction": "Q", "output": "A", "output": "B"}', "it has the same key twice"),
        ('{"instruction": "Q", "output": "A"', "it is not valid JSON"),
        ('["instruction", "output"]', "it is not an object"),
        ("7", "it is not an object"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"instruction": ' + "[" * 100_000, "it is nested too deeply"),
        ('{"instruction": "Q", "output": "' + "x" * 101 + '"}', "it has 102 characters, but at most 100"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_reason(reading, row, words):
    found = reading(f"{GOOD}\n\n{row}\n{GOOD}", limits=Limits(row_characters=100))
    assert [example.row for example in found.examples] == [1, 4]
    assert [refusal.row for refusal in found.refusals] == [3]
    assert words in found.refusals[0].reason


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([], "“messages” is empty"),
        ("Hi", "not a list of messages"),
        (["Hi"], "message 1 of the messages is not an object"),
        ([{"role": "critic", "content": "x"}], "the unknown role 'critic'"),
        ([{"content": "x"}], "message 1 of the messages has no role"),
        ([{"role": ["user"], "content": "x"}], "has the unknown role"),
        ([{"role": "user", "content": ""}, TURNS[1]], "message 1 of the messages is empty"),
        ([{"role": "user", "content": {"text": "x"}}, TURNS[1]], "is an object, not text"),
        (TURNS[:1], "no assistant reply"),
        ([*TURNS, TURNS[0]], "does not end with an assistant reply"),
        (TURNS[1:], "no user message before"),
        ([TURNS[0], {"role": "system", "content": "x"}, TURNS[1]], "a system message follows"),
    ],
)
def test_a_bad_conversation_is_refused_with_its_reason(reading, turns, words):
    found = reading(json.dumps({"messages": TURNS}) + "\n" + json.dumps({"messages": turns}))
    assert [refusal.row for refusal in found.refusals] == [2]
    assert words in found.refusals[0].reason


def test_a_name_that_stands_twice_in_a_message_is_refused(reading):
    bad = '{"messages": [{"role": "user", "role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}'
    found = reading(json.dumps({"messages": TURNS}) + "\n" + bad)
    assert "the same key twice" in found.refusals[0].reason
