"""Fields that change the meaning of a row are supported, or the row is refused with their name."""

import gzip
import json

import pyarrow
import pytest
from rows_of_data import GOOD, TURNS

from neftune_core.data.chat import encode, prompt_ids
from neftune_core.data.examples import Message
from neftune_core.errors import DataError, DoesNotFit
from neftune_core.settings import Limits

ASKED, REPLY = TURNS
CALL = {"name": "weather", "arguments": {"days": 3, "wind": 0.5, "town": "Bern"}}
WRITTEN = '[{"type": "function", "function": ' + json.dumps(CALL) + "}]"


def one(reading, row, **more):
    """Return the messages of a single row as (role, content, trained)."""
    found = reading(json.dumps(row), **more)
    return [message[:3] for message in found.examples[0].messages]


def refusal(reading, row):
    """Return the reason why a row is refused, read together with a valid one."""
    good = {"messages": TURNS} if "messages" in row else json.loads(GOOD)
    found = reading(f"{json.dumps(good)}\n{json.dumps(row)}")
    assert [refused.row for refused in found.refusals] == [2]
    return found.refusals[0].reason


PAIR = [("user", "Q", True), ("assistant", "A", True)]


@pytest.mark.parametrize(
    "row",
    [
        {"input": "Q", "output": "A"},
        {"inputs": "Q", "targets": "A"},
        {"problem": "Q", "solution": "A"},
        {"human": "Q", "assistant": "A"},
        {"query": "Q", "response": "A"},
        {"question": "Q", "solution": "A"},
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"question": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": "Q", "chosen": [{"role": "assistant", "content": "A"}], "rejected": []},
        {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {}},
        {"prompt": "Q", "chosen": "A", "rejected": "B", "messages": TURNS},
        {"conversation": [{"human": "Q", "assistant": "A"}]},
        {"conversation": [{"input": "Q", "output": "A"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"prompt": [{"type": "text", "text": "Q"}], "completion": [{"type": "text", "text": "A"}]},
        {"question": "Q", "answers": {"text": ["A", "B"], "answer_start": [1, 2]}},
    ],
)
def test_a_row_of_a_common_layout_is_a_question_and_its_answer(reading, row):
    assert one(reading, row) == PAIR


def test_of_a_preference_the_chosen_answer_alone_is_trained_on_and_this_is_reported(reading):
    turns = [ASKED, REPLY, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Well."}]
    found = reading(json.dumps({"prompt": "Hi", "chosen": turns, "rejected": turns[:2], "score_chosen": 8}))
    assert [message.trained for message in found.examples[0].messages] == [True, False, True, True]
    assert found.unused_columns == ("rejected", "score_chosen")
    assert "The chosen answer of each preference row is used; the rejected one is not." in found.notes


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"label": False}, "it is marked as a bad answer (label is false)"),
        ({"weight": 0}, "it is marked as not to be trained on (weight is 0)"),
        ({"weight": 0.5}, "it has weight 0.5, but only 0 and 1 are supported"),
        ({"train": False}, "it is marked as not to be trained on (train is false)"),
        ({"loss": False}, "it is marked as not to be trained on (loss is false)"),
        ({"mask": True}, "it is marked as not to be trained on (mask is true)"),
        ({"mask": [0, 1]}, "it has mask [0, 1], but only 0 and 1 are supported"),
        ({"loss_weight": 0}, "it is marked as not to be trained on (loss_weight is 0)"),
        ({"sample_weight": 0.3}, "it has sample_weight 0.3, but only 0 and 1 are supported"),
        ({"trainable": False}, "it is marked as not to be trained on (trainable is false)"),
        ({"kto_tag": False}, "it is marked as a bad answer (kto_tag is false)"),
        (
            {"chat_template_kwargs": {"enable_thinking": True, "python_tools": [], "xml_tools": ["{}"]}},
            "it has chat_template_kwargs (xml_tools), which is not supported",
        ),
        ({"chat_template_kwargs": {"": "x"}}, "it has chat_template_kwargs (), which is not supported"),
        ({"images": ["a.png"]}, "it has images, but only text is supported"),
        ({"image": {"path": "a.png"}}, "it has image, but only text is supported"),
        ({"videos": ["a.mp4"]}, "it has videos, but only text is supported"),
        ({"audios": ["a.wav"]}, "it has audios, but only text is supported"),
        ({"tool_calls": [CALL]}, "it has tool_calls outside its messages"),
        ({"history": "yesterday"}, "the history cannot be read: it is not valid JSON (expecting value, column 1)"),
        ({"history": [["Q", ""]]}, "message 2 of the history is empty"),
    ],
)
def test_a_row_is_refused_by_the_name_of_its_field(reading, fields, reason):
    assert refusal(reading, {**json.loads(GOOD), **fields}) == reason


@pytest.mark.parametrize(
    "fields",
    [
        {"label": True, "weight": 1, "train": True, "loss": True, "mask": False},
        {"images": [], "videos": None, "tools": [], "history": [], "tool_calls": None, "thinking": ""},
        {"history": "[]", "tools": "", "label": None, "weight": 1.0},
        {"kto_tag": True, "functions": [], "loss_mask": 1, "sample_weight": "1", "chat_template_kwargs": {}},
    ],
)
def test_fields_that_change_nothing_are_no_reason_to_refuse(reading, fields):
    plain = reading(GOOD)
    found = reading(json.dumps({**json.loads(GOOD), **fields}))
    assert (found.examples, found.sha256, found.unused_columns) == (plain.examples, plain.sha256, ())


@pytest.mark.parametrize(
    "fields",
    [
        {"label": "sports"},
        {"train": "split 3"},
        {"loss": 2.31},
        {"reasoning": "off"},
        {"functions": "def f(): pass"},
        {"chat_template_kwargs": {"enable_thinking": False, "custom_instructions": ""}},
    ],
)
def test_a_column_that_only_has_the_name_of_such_a_field_is_reported_as_unused(reading, fields):
    found = reading(json.dumps({**json.loads(GOOD), **fields}))
    assert (len(found.examples), found.unused_columns) == (1, tuple(fields))
    assert not set(fields) & set(found.columns)


@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}, {"loss": False}, {"mask": True}])
def test_a_reply_that_is_marked_is_context_in_both_styles_of_messages(reading, flag):
    chat = [ASKED, {**REPLY, **flag}, ASKED, REPLY]
    names = {"role": "from", "content": "value"}
    sharegpt = [{names.get(name, name): value for name, value in turn.items()} for turn in chat]
    for row in ({"messages": chat}, {"conversations": sharegpt}):
        assert [trained for _, _, trained in one(reading, row)] == [True, False, True, True]
    assert [content for _, content, _ in one(reading, {"messages": [ASKED, REPLY, ASKED, {**REPLY, **flag}]})] == [
        "Hi",
        "Hello",
    ]
    assert refusal(reading, {"messages": [ASKED, {**REPLY, **flag}]}) == (
        "all of its replies are marked as not to be trained on"
    )


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "function_call": {**CALL, "arguments": json.dumps(CALL["arguments"])}},
        {"from": "function_call", "value": json.dumps(CALL)},
    ],
)
def test_a_call_of_a_tool_is_the_same_in_every_spelling_and_its_numbers_stay_numbers(reading, turn):
    for role in ("tool", "function", "observation", "tool_response", "ipython"):
        answer = {"role": role, "content": "12"} if "role" in turn else {"from": role, "value": "12"}
        found = reading(json.dumps({"messages": [ASKED, turn, answer, REPLY]})).examples[0].messages
        assert [message.role for message in found] == ["user", "assistant", "tool", "assistant"]
        assert dict(found[1].fields)["tool_calls"] == WRITTEN


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "assistant", "content": None}, "message 2 of the messages is empty"),
        ({"role": "assistant", "tool_calls": [{}]}, "message 2 of the messages has a tool call without a name"),
        ({"role": "assistant", "content": [{"type": "image_url"}]}, "contains an item of type 'image_url'"),
        ({"role": "assistant", "content": "A", "images": ["x"]}, "message 2 of the messages has images"),
        ({"role": "assistant", "content": "A", "weight": 0.3}, "message 2 of the messages has weight 0.3"),
        ({"role": "assistant", "content": None, "refusal": "I cannot."}, "has refusal, which is not supported"),
        ({**REPLY, "train_detail": [{"begin_offset": 0, "end_offset": 1}]}, "has train_detail, which is not supported"),
    ],
)
def test_a_message_that_cannot_be_honoured_refuses_its_row(reading, turn, reason):
    assert reason in refusal(reading, {"messages": [ASKED, turn]})


def test_the_older_form_of_a_list_of_tools_is_a_list_of_tools(reading):
    function = {"name": "weather", "parameters": {}}
    found = reading(json.dumps({"messages": TURNS, "functions": [function]}))
    tools = found.examples[0].messages[0].fields
    assert tools == (("tools", json.dumps([{"type": "function", "function": function}])),)
    assert (found.columns["functions"], found.unused_columns) == ("functions", ())


def test_reasoning_among_the_parts_of_a_content_is_reasoning(reading):
    parts = [{"type": "thinking", "thinking": "two and two"}, {"type": "text", "text": "Hello"}]
    found = reading(json.dumps({"messages": [ASKED, {"role": "assistant", "content": parts}]})).examples[0].messages
    assert found[-1] == Message("assistant", "Hello", fields=(("reasoning_content", '"two and two"'),))


def test_a_label_of_0_is_a_bad_answer_beside_a_completion_and_a_class_elsewhere(reading):
    rows = [{"prompt": "Q", "completion": "A", "label": label} for label in (0, 1)]
    assert [example.row for example in reading("\n".join(map(json.dumps, rows))).examples] == [2]
    assert reading(json.dumps({"question": "Q", "answer": "A", "label": 0})).unused_columns == ("label",)


@pytest.mark.parametrize("fields", [{"history": [["a", "b"]]}, {"tools": [CALL]}, {"thinking": "hm"}])
def test_a_whole_text_with_such_a_field_is_refused(reading, fields):
    rows = [{"text": "A whole text."}, {"text": "Another one.", **fields}]
    found = reading("\n".join(map(json.dumps, rows)), layout="text")
    assert [refused.reason for refused in found.refusals] == [
        "it has a history, tools or reasoning in addition to its text"
    ]


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_kept_with_its_reply_from_a_message_or_a_column(reading, name):
    fields = (("reasoning_content", '"two and two"'),)
    turns = [ASKED, {**REPLY, name: "two and two"}]
    assert reading(json.dumps({"messages": turns})).examples[0].messages[-1] == Message(*REPLY.values(), fields=fields)
    row = {"question": "Q", "answer": "A", name: "two and two"}
    assert reading(json.dumps(row)).examples[0].messages[-1].fields == fields


def test_fields_count_for_the_length_of_a_row(reading):
    rows = [{"messages": TURNS}, {"messages": [ASKED, {**REPLY, "thinking": "x" * 200}]}]
    found = reading("\n".join(map(json.dumps, rows)), limits=Limits(row_characters=100))
    assert [(one.row, one.reason) for one in found.refusals] == [(2, "it has 209 characters, but at most 100 are read")]


def test_names_that_nothing_reads_are_reported_wherever_they_stand(reading):
    turns = [{**ASKED, "id": 7, "name": "Ann"}, {**REPLY, "model": "x", "end": None}]
    rows = [{"messages": turns, "source": "s"}] * 120 + [{"messages": TURNS, "late": 1}]
    found = reading("\n".join(map(json.dumps, rows)))
    assert found.unused_columns == ("source", "late", "messages[].id", "messages[].model", "messages[].name")


def test_the_name_of_a_tool_s_reply_is_read(reading):
    reply = {"role": "tool", "content": "12", "name": "add"}
    assert reading(json.dumps({"messages": [ASKED, reply, REPLY]})).unused_columns == ()


def test_names_inside_content_parts_and_calls_that_nothing_reads_are_reported(reading):
    parts = [{"type": "text", "text": "Hi", "citations": ["a"], "annotations": []}]
    call = {"id": "1", "type": "function", "function": {**CALL, "strict": "yes"}, "index": 0}
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    found = reading(json.dumps({"messages": [*turns, {"role": "tool", "content": "12"}, REPLY]}))
    assert found.unused_columns == (
        "messages[].content[].citations", "messages[].tool_calls[].index", "messages[].tool_calls[].strict",
    )  # fmt: skip


def test_whole_texts_are_read_by_hand_only_and_all_of_them_is_trained_on(reading):
    from chat_templates import tokenizer

    text = "The owl lives in the barn, and the wren in the hedge."
    rows = json.dumps({"text": text})
    with pytest.raises(DataError, match="choose the “text” layout"):
        reading(rows)
    found = reading(rows, layout="text")
    assert found.notes == ("The loss is computed on the whole text of each row, and no chat template is used.",)
    for name in ("chatml", "plain", "plain with beginning"):
        chosen = tokenizer(name)
        row = encode(found.examples[0], chosen, 200, system="Be brief.")
        start = [chosen.bos_token_id] if name == "plain with beginning" else []
        ids = chosen(text, add_special_tokens=False)["input_ids"]
        assert row.ids.tolist() == [*start, *ids, chosen.eos_token_id]
        assert row.trained.tolist() == [False] + [True] * (len(row.ids) - 1)
        prompt = prompt_ids(found.examples[0].prompt, chosen)
        assert len(start) < len(prompt) < len(ids)
    assert "".join(message.content for message in found.examples[0].messages) == text


# ---------------------------------------------------------------- files


def packed(content, method):
    if method == ".gz":
        return gzip.compress(content)
    return pyarrow.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("method", [".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", GOOD),
        ("rows.ndjson", GOOD),
        ("rows.json", f"[{GOOD}]"),
        ("rows.csv", "instruction,output\nQ,A\n"),
        ("rows.tsv", "instruction\toutput\nQ\tA\n"),
    ],
)
def test_a_compressed_text_is_read_as_the_text_itself(reading, name, content, method):
    found = reading(packed(content.encode(), method), name + method)
    assert found.examples == reading(content, name).examples


@pytest.mark.parametrize("method", [".gz", ".zst"])
def test_a_file_that_unpacks_to_more_than_a_file_may_have_is_refused(reading, method):
    bomb = packed((b" " * 999 + b"\n") * 30_000 + GOOD.encode(), method)
    assert len(bomb) < 100_000
    with pytest.raises(DoesNotFit, match="unpacks to more than 20 MB"):
        reading(bomb, f"rows.jsonl{method}", limits=Limits(upload_megabytes=20))
    assert reading(bomb, f"rows.jsonl{method}", limits=Limits(upload_megabytes=40)).examples


@pytest.mark.parametrize("method", [".gz", ".zst"])
def test_a_compressed_file_that_ends_too_early_is_refused(reading, method):
    whole = packed(b"\n".join([GOOD.encode()] * 1000), method)
    with pytest.raises(DataError, match="cannot be unpacked: it is damaged"):
        reading(whole[: len(whole) // 2], f"rows.jsonl{method}")


def test_json_lines_in_a_json_file_are_read_as_such(reading):
    assert [example.row for example in reading(f"{GOOD}\n\n{GOOD}", "rows.json").examples] == [1, 3]
    assert len(reading(json.dumps({"rows": [json.loads(GOOD)] * 2}, indent=1), "rows.json").examples) == 2


@pytest.mark.parametrize("line", ["sep=;", "SEP=;", '"sep=;"', "sep=|"])
def test_the_first_line_names_the_separator(reading, line):
    mark = line.strip('"')[-1]
    found = reading(f"{line}\r\nquestion{mark}answer\r\n1,5?{mark}2,5\r\n", "rows.csv")
    assert [message.content for message in found.examples[0].messages] == ["1,5?", "2,5"]
    assert found.examples[0].row == 1


def test_numbers_dates_and_times_of_parquet_are_what_a_person_writes(tmp_path, reading):
    import datetime
    import decimal

    import pyarrow.parquet

    answers = {
        "single": pyarrow.array([0.1], pyarrow.float32()),
        "double": pyarrow.array([0.1], pyarrow.float64()),
        "moment": pyarrow.array([datetime.datetime(2020, 1, 2, 3, 4)]),
        "midnight": pyarrow.array([datetime.datetime(2020, 1, 2)]),
        "money": pyarrow.array([decimal.Decimal("1.50")]),
        "yes": pyarrow.array([True]),
    }
    said = {}
    for name, column in answers.items():
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"question": ["Q"], "answer": column}), path)
        said[name] = reading(path.read_bytes(), path.name).examples[0].response
    assert said == {
        "single": "0.1",
        "double": "0.1",
        "moment": "2020-01-02T03:04:00",
        "midnight": "2020-01-02",
        "money": "1.50",
        "yes": "true",
    }
