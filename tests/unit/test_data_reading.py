"""Files of every format, good and hostile, and what is said about them."""

import contextlib
import csv
import json
import time

import pyarrow
import pyarrow.parquet
import pytest
from hub_mock import hub_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neftune_core.data import apart, hub, parquet
from neftune_core.data.apart import ReaderFailed
from neftune_core.data.examples import Message
from neftune_core.data.layouts import LAYOUTS
from neftune_core.data.reading import read
from neftune_core.data.settings import DataSettings
from neftune_core.data.starters import STARTERS
from neftune_core.errors import DataError, DoesNotFit, LabError, NotAvailable
from neftune_core.settings import Limits, parse

GOOD = '{"instruction": "Add 1 and 1.", "input": "", "output": "2"}'
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture
def reading(tmp_path):
    """Write `content` to a file called `name` and read it."""

    def of(content, name="rows.jsonl", limits=None, **more):
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return read(DataSettings(source=f"file:{path}", **more), limits or Limits())

    return of


LAID_OUT = {
    "instruction": {"instruction": "Q", "input": "", "output": "A"},
    "context": {"instruction": "Q", "context": "", "response": "A", "category": "open"},
    "messages": {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
    "conversations": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "completion": {"prompt": "Q", "completion": "A"},
    "question": {"question": "Q", "answer": "A"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_detected_and_reported(reading, layout):
    found = reading(json.dumps(LAID_OUT[layout]))
    assert found.layout == layout
    assert found.examples[0].messages == (Message("user", "Q"), Message("assistant", "A"))
    assert set(found.columns.values()) <= set(found.available_columns)
    assert found.title == "rows.jsonl"


@pytest.mark.parametrize("layout", LAYOUTS)
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
        ({"columns": {"output": ""}}, "which column plays which part"),
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
        ('{"instruction": "Q", "output": true}', "the output is true or false, not text"),
        ('{"instruction": "Q", "output": NaN}', "the output is empty"),
        ('{"instruction": "Q", "output": "a\\u0000b"}', "the output holds a NUL character"),
        ('{"instruction": "Q", "output": "\\ud83d"}', "lone surrogate"),
        ('{"instruction": "Q", "output": "A", "output": "B"}', "it has the same name twice"),
        ('{"instruction": "Q", "output": "A"', "it is not valid JSON"),
        ('["instruction", "output"]', "it is not an object"),
        ("7", "it is not an object"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"instruction": ' + "[" * 100_000, "it is nested too deeply"),
        ('{"instruction": "Q", "output": "' + "x" * 101 + '"}', "it has 102 characters; at most 100"),
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
        ([], "the messages are empty"),
        ("Hi", "not a list of messages"),
        (["Hi"], "message 1 of the messages is not an object"),
        ([{"role": "tool", "content": "x"}], "the role 'tool'"),
        ([{"content": "x"}], "message 1 of the messages has no role"),
        ([{"role": ["user"], "content": "x"}], "which is none of"),
        ([{"role": "user", "content": ""}, TURNS[1]], "message 1 of the messages is empty"),
        ([{"role": "user", "content": {"text": "x"}}, TURNS[1]], "is an object, not text"),
        (TURNS[:1], "no reply of the assistant"),
        ([*TURNS, TURNS[0]], "does not end with a reply"),
        (TURNS[1:], "no message of the user before"),
        ([TURNS[0], {"role": "system", "content": "x"}, TURNS[1]], "a system message stands after"),
    ],
)
def test_a_bad_conversation_is_refused_with_its_reason(reading, turns, words):
    found = reading(json.dumps({"messages": TURNS}) + "\n" + json.dumps({"messages": turns}))
    assert [refusal.row for refusal in found.refusals] == [2]
    assert words in found.refusals[0].reason


def test_a_name_that_stands_twice_in_a_message_is_refused(reading):
    bad = '{"messages": [{"role": "user", "role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}'
    found = reading(json.dumps({"messages": TURNS}) + "\n" + bad)
    assert "the same name twice" in found.refusals[0].reason


def test_numbers_keep_the_digits_they_were_written_with(reading):
    found = reading('{"instruction": 1.10, "output": -2e400}\n{"instruction": "Q", "output": ' + "9" * 5000 + "}")
    assert found.examples[0].messages == (Message("user", "1.10"), Message("assistant", "-2e400"))
    assert found.examples[1].response == "9" * 5000


def test_a_line_separator_inside_text_does_not_end_the_line(reading):
    found = reading('{"instruction": "a\u2028b\x85c", "output": "A"}\r\n' + GOOD)
    assert [example.row for example in found.examples] == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("extension", ["jsonl", "json", "csv"])
def test_unicode_files_are_read_with_or_without_a_mark(reading, encoding, extension):
    texts = {
        "jsonl": '{"question": "¿Qué?", "answer": "什么"}',
        "json": '[{"question": "¿Qué?", "answer": "什么"}]',
        "csv": "question,answer\n¿Qué?,什么\n",
    }
    found = reading(texts[extension].encode(encoding), f"rows.{extension}")
    assert found.examples[0].messages == (Message("user", "¿Qué?"), Message("assistant", "什么"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("question,answer\ncafé,x".encode("latin-1"), "byte 20"),
        ("question,answer\n".encode("utf-16-le"), "NUL character .line 1"),
        (b"question,answer\na\0b,x", "NUL character .line 2"),
        (b"\xff\xfeq", "not UTF-16 text"),
        (b"\x89PNG\r\n\x1a\n\0", "not UTF-8 text .byte 1"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"PAR1xxxx", "is a Parquet file"),
    ],
)
def test_a_file_that_is_not_text_gets_a_sentence(reading, content, words):
    with pytest.raises(DataError, match=words):
        reading(content, "rows.csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.txt", GOOD, "has the extension .txt"),
        ("rows", GOOD, "extension .none."),
        ("rows.pkl", b"\x80\x04K\x01.", "has the extension .pkl"),
        ("rows.jsonl", f"[{GOOD}]", "rename it to .json"),
        ("rows.json", f"{GOOD}\n{GOOD}", "one object a line is called .jsonl"),
        ("rows.json", "[]", "has no rows"),
        ("rows.json", "[1, 2]", "row 1: it is not an object"),
        ("rows.json", "3", "must be a list of objects"),
        ("rows.json", '{"a": [1], "b": [2]}', "exactly one list"),
        ("rows.json", "[" * 200_000, "nested too deeply"),
        ("rows.json", '{"a": ' * 200_000, "nested too deeply"),
        ("rows.parquet", "PAR1 and nothing else", "not a Parquet file"),
        ("rows.parquet", b"\x00" * 100, "not a Parquet file"),
        ("rows.csv", '"open,answer\nx', "has no header"),
        ("rows.csv", "answer,answer\na,b", "two columns called 'answer'"),
        ("rows.csv", "question,answer\n", "has no rows"),
        ("rows.jsonl", "nonsense", "row 1: it is not valid JSON"),
        ("rows.jsonl", '{"question": "Q", "answer": ""}', "None of the 1 rows"),
    ],
)
def test_an_unusable_file_gets_one_sentence(reading, name, content, words):
    with pytest.raises(DataError, match=words) as raised:
        reading(content, name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "source", ["", "rows.jsonl", "ftp:x", "file:", "file:/", "file:/no/such.jsonl", "file:a\0.csv"]
)
def test_a_source_that_is_not_there_gets_a_sentence(source):
    with pytest.raises(DataError):
        read(DataSettings(source=source), Limits())


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(DataError, match=r"no file rows\.jsonl"):
        read(DataSettings(source=f"file:{tmp_path / 'rows.jsonl'}"), Limits())


def test_a_large_file_is_refused_by_its_size_alone(reading, tmp_path):
    with (tmp_path / "big.jsonl").open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(DoesNotFit, match=r"2,000\.0 MB"):
        read(DataSettings(source=f"file:{tmp_path / 'big.jsonl'}"), Limits())


def test_an_object_with_one_list_inside_is_its_rows(reading):
    found = reading(f'{{"version": 1, "data": [{GOOD}, 5]}}', "rows.json")
    assert (len(found.examples), found.refusals[0].row) == (1, 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_delimiter_is_recognised(reading, delimiter):
    rows = f'question{delimiter}answer\n"one{delimiter} two","x"\n'.replace('","', f'"{delimiter}"')
    assert reading(rows, "rows.csv").examples[0].prompt[0].content == f"one{delimiter} two"


def test_a_semicolon_file_may_be_full_of_commas(reading):
    found = reading("question;answer\na, b, c;d, e\n", "rows.csv")
    assert found.examples[0].response == "d, e"


def test_csv_rows_are_counted_after_the_header(reading):
    text = 'question,answer\n"two\nlines","a ""word"""\n\nx\ny,\nz,"b"c"\nlast,ok\n'
    found = reading(text, "rows.csv")
    assert [(example.row, example.response) for example in found.examples] == [(1, 'a "word"'), (6, "ok")]
    assert [refusal.row for refusal in found.refusals] == [3, 4, 5]
    reasons = [refusal.reason for refusal in found.refusals]
    assert reasons[0] == "it has 1 cells where the header has 2"
    assert reasons[1] == "the answer is empty"
    assert "its quoting is wrong" in reasons[2]


def test_a_quote_that_is_never_closed_is_named(reading):
    found = reading('question,answer\na,b\nc,"d\n' + "e,f\n" * 5, "rows.csv")
    assert [(refusal.row, refusal.reason) for refusal in found.refusals] == [(2, "a quote is opened and never closed")]


def test_a_cell_longer_than_the_limit_of_the_csv_module_is_refused_as_a_row(reading):
    found = reading("question,answer\na,b\nc," + "d" * 200_000 + "\n", "rows.csv")
    assert "200,001 characters" in found.refusals[0].reason
    assert csv.field_size_limit() >= 200_000


def test_messages_written_into_a_csv_cell_are_read(reading):
    cell = json.dumps(TURNS).replace('"', '""')
    found = reading(f'messages\n"{cell}"\n"[oops"\n', "rows.csv")
    assert found.examples[0].response == "Hello"
    assert "cannot be read" in found.refusals[0].reason


def test_parquet_reads_only_the_columns_it_needs(reading, tmp_path):
    columns = {"question": ["Q", None, "R"], "answer": ["A", "B", "C"], "picture": [b"x" * 10] * 3, "score": [1, 2, 3]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    found = read(DataSettings(source=f"file:{tmp_path / 'rows.parquet'}"), Limits())
    assert found.columns == {"question": "question", "answer": "answer"}
    assert found.available_columns == list(columns)
    assert [example.row for example in found.examples] == [1, 3]
    assert found.refusals[0].reason == "the question is empty"


def test_parquet_messages_and_numbers_are_read(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"messages": [TURNS, []]}), tmp_path / "turns.parquet")
    found = read(DataSettings(source=f"file:{tmp_path / 'turns.parquet'}"), Limits())
    assert (found.examples[0].response, len(found.refusals)) == ("Hello", 1)
    numbers = pyarrow.table({"question": [1, 2], "answer": [0.5, float("nan")]})
    pyarrow.parquet.write_table(numbers, tmp_path / "numbers.parquet")
    found = read(DataSettings(source=f"file:{tmp_path / 'numbers.parquet'}"), Limits())
    assert (found.examples[0].response, found.refusals[0].reason) == ("0.5", "the answer is empty")


def test_a_damaged_parquet_file_gets_a_sentence(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q"] * 99, "answer": ["A"] * 99}), path)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.parquet"):
        read(DataSettings(source=f"file:{path}"), Limits())


def test_only_the_first_rows_are_read_and_that_is_said(reading):
    text = "\n".join([GOOD] * 10)
    found = reading(text, rows=4)
    assert (len(found.examples), "first 4 rows" in found.notes[0]) == (4, True)
    found = reading(text, rows=10, limits=Limits(rows=3))
    assert (len(found.examples), "most this server allows" in found.notes[0]) == (3, True)
    assert reading(text, rows=10).notes == ()


def test_the_fingerprint_is_of_the_examples_and_not_of_their_file(reading):
    spread = reading(f"\n{GOOD}\n")
    assert spread.sha256 == reading(f"[{GOOD}]", "rows.json").sha256
    assert spread.sha256 != reading(GOOD.replace("2", "3")).sha256


def test_progress_is_told_and_may_end_the_reading(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([GOOD] * 1200))
    told = []
    read(DataSettings(source=f"file:{path}"), Limits(), progress=lambda *numbers: told.append(numbers))
    assert told == [(500, 2000), (1000, 2000)]


@pytest.mark.parametrize("name", STARTERS)
def test_every_starter_set_is_read_whole(name):
    found = read(DataSettings(source=f"starter:{name}"), Limits())
    assert 48 <= len(found.examples) <= 400
    assert (found.refusals, found.licence, found.title) == ([], "Apache-2.0", name)
    prompts = [example.messages[:-1] for example in found.examples]
    assert len(set(prompts)) == len(prompts)


def test_the_dialogues_have_several_turns():
    found = read(DataSettings(source="starter:dialogue"), Limits())
    assert all(len(example.messages) >= 4 for example in found.examples)


@pytest.mark.parametrize("name", ["", "poems", "../../LICENSE", "open-ended/../dialogue"])
def test_an_unknown_starter_set_gets_a_sentence(name):
    with pytest.raises(DataError):
        read(DataSettings(source=f"starter:{name}"), Limits())


def test_the_first_rows_of_a_hub_set_are_streamed(monkeypatch):
    asked = []

    def stream(name, configuration, split, rows, limits):
        asked.append((name, configuration, split))
        for number in range(10**9):
            yield number + 1, {"question": f"{number}?", "answer": str(number)}

    monkeypatch.setattr(hub, "stream", stream)
    found = read(DataSettings(source="hub:openai/gsm8k", rows=5, split="test"), Limits())
    assert asked == [("openai/gsm8k", "main", "test")]
    assert (len(found.examples), found.licence, len(found.notes)) == (5, "MIT", 1)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (("ConnectionError", "no route"), NotAvailable, "cannot be reached"),
        (("OSError", "Name or service not known"), NotAvailable, "cannot be reached"),
        (("ValueError", "Config name is missing."), DataError, "several configurations"),
        (("ValueError", 'Unknown split "x".'), DataError, "no such split"),
        (("RuntimeError", "Dataset scripts are no longer supported"), DataError, "never runs"),
        (("OSError", "This is a gated repository"), NotAvailable, "signed-in"),
        (("RepositoryNotFoundError", "404"), DataError, "no public data set called someone/something"),
        (("size", "117"), DoesNotFit, "first 117 rows of someone/something are larger than 50 MB"),
        (("MemoryError", "memory"), DataError, "more memory or time"),
        (("died", "it ended in the middle"), DataError, "more memory or time"),
    ],
)
def test_what_the_hub_says_becomes_one_sentence(monkeypatch, error, kind, words):
    def stream(*asked):
        raise ReaderFailed(*error)
        yield

    monkeypatch.setattr(hub, "stream", stream)
    with pytest.raises(kind, match=words):
        read(DataSettings(source="hub:someone/something"), Limits())


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "../etc", "a b", "x/../y", "json", "text", "a/b--c", "a/..", "ö/b", "a/" + "b" * 97]
)
def test_a_hub_name_is_an_owner_and_a_name(monkeypatch, name):
    monkeypatch.setattr(hub, "stream", lambda *asked: pytest.fail("asked the hub"))
    with pytest.raises(DataError):
        read(DataSettings(source=f"hub:{name}"), Limits())


def test_a_folder_is_never_read_in_the_place_of_a_hub_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.setattr(hub, "stream", lambda *asked: pytest.fail("asked the library"))
    with pytest.raises(DataError, match="is also a folder"):
        read(DataSettings(source="hub:owner/name"), Limits())


def test_an_empty_hub_split_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(hub, "stream", lambda *asked: iter(()))
    with pytest.raises(DataError, match="no rows in its split 'train'"):
        read(DataSettings(source="hub:a/b"), Limits())


@pytest.fixture
def hub_with(monkeypatch, tmp_path):
    """Serve a hub data set of these files to the lab."""
    with contextlib.ExitStack() as stack:

        def serve(**files):
            named = {name.replace("_", "."): content for name, content in files.items()}
            address, seen = stack.enter_context(hub_of(named))
            monkeypatch.setenv("HF_ENDPOINT", address)
            monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
            return seen

        yield serve


def test_a_hub_set_is_read_in_a_process_apart(hub_with):
    lines = [json.dumps({"question": f"{n}?", "answer": str(n), "odd": None}) for n in range(9)]
    hub_with(data_jsonl="\n".join(lines).encode())
    found = read(DataSettings(source="hub:owner/set", rows=4), Limits())
    assert [example.response for example in found.examples] == ["0", "1", "2", "3"]
    assert (found.title, found.available_columns, len(found.notes)) == ("owner/set", ["question", "answer", "odd"], 1)


def test_a_hub_set_that_is_larger_than_a_file_may_be_is_refused(hub_with):
    rows = [json.dumps({"question": "q" * 90_000, "answer": str(n)}) for n in range(20)]
    hub_with(data_jsonl="\n".join(rows).encode())
    with pytest.raises(DoesNotFit, match=r"The first 12 rows of owner/set are larger than 1 MB"):
        read(DataSettings(source="hub:owner/set"), Limits(upload_megabytes=1))


def test_a_kilobyte_of_parquet_that_holds_a_terabyte_takes_no_memory(tmp_path, hub_with):
    path = tmp_path / "rows.parquet"
    path.write_bytes(terabyte())
    assert path.stat().st_size < 5000
    with pytest.raises(DataError, match="after row 0: its rows take more memory than the lab gives"):
        read(DataSettings(source=f"file:{path}"), Limits())
    hub_with(data_parquet=path.read_bytes())
    with pytest.raises(DataError, match="more memory or time than the lab gives"):
        read(DataSettings(source="hub:owner/set"), Limits())


def terabyte():
    """Parquet of 100,000 rows that all are the same ten million letters."""
    letters = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), ["x" * 10_000_000])
    table = pyarrow.table({"question": letters, "answer": ["A"] * 100_000})
    file = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, file, compression="zstd", store_schema=False)
    return file.getvalue().to_pybytes()


def test_a_reader_that_dies_or_takes_too_long_is_told_in_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q"] * 9, "answer": ["A"] * 9}), path)
    monkeypatch.setattr(parquet, "SECONDS", 0)
    with pytest.raises(DataError, match=r"rows\.parquet is not a Parquet file that can be read"):
        read(DataSettings(source=f"file:{path}"), Limits())


def test_the_process_of_a_file_knows_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123")
    monkeypatch.setenv("SOME_API_KEY", "hf_0123")
    assert not any("hf_0123" in value for value in apart._environment(secrets=False).values())
    assert apart._environment(secrets=True)["HF_TOKEN"] == "hf_0123"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", '{"a":[' + "[]," * 1_500_000 + "[]]}", "more than 4,000,000 parts|not an object"),
        ("rows.json", '[{"question": [' + "[]," * 500_000 + "[]]}]", "1,500,018 characters; at most 1,200,000"),
        ("rows.json", '["' + "x" * 2_000_000, "not valid JSON"),
        ("rows.json", '["' + "\\" * 2_000_001, "not valid JSON"),
        ("rows.json", '[{"question": "Q", "answer": "A"}, ', "not valid JSON"),
        ("rows.json", '[{"question": "Q", "answer": "A"}] x', "extra data"),
        ("rows.json", '{"rows": [1] "b"}', "expecting ',' delimiter"),
        ("rows.json", '{"rows" [1]}', "expecting a name and a colon"),
        ("rows.json", "[}", "not valid JSON"),
        ("rows.json", '[{"a": [1}]', "not valid JSON"),
        ("rows.json", "{" + ",".join(f'"{n}": 1' for n in range(99)) + "}", "exactly one list"),
        ("rows.jsonl", "{" + ",".join(f'"{n}": 1' for n in range(1001)) + "}", "1,001 columns"),
        ("rows.jsonl", "\n" * 5_000_001, "more than 5,000,000 lines|is empty"),
        ("rows.jsonl", '{"question": ' + "[]," * 500_000, "at most 1,200,000"),
        ("rows.csv", "," * 1_100_000, "no header"),
        ("rows.csv", ",".join(map(str, range(1001))) + "\n", "1,001 columns"),
        ("rows.csv", "question," * 3000 + "\n", "3,001 columns"),
        ("rows.csv", ";" * 3_000_000, "no header"),
        ("rows.csv", 'question,answer\n"' + '""' * 800_000, "at most 1,200,000"),
        ("rows.csv.gz", b"\x1f\x8b\x08", "is packed: unpack it"),
        ("rows.zip", b"PK\x03\x04", "is packed: unpack it"),
        ("rows.jsonl", b"\x1f\x8b\x08\x00", "gzip.: unpack it first"),
        ("rows.csv", b"PK\x03\x04\x14", "a zip file: unpack it first"),
        ("rows.json", b"\xfd7zXZ\0\0", "xz.: unpack it first"),
    ],
)
def test_a_file_made_to_exhaust_the_lab_gets_one_sentence_at_once(reading, name, content, words):
    started = time.perf_counter()
    with pytest.raises(DataError, match=words):
        reading(content, name)
    assert time.perf_counter() - started < 5  # seconds; a tenth of that where nothing else runs


def test_a_row_that_is_too_long_is_passed_over_and_the_next_is_read(reading):
    huge = '{"question": [' + "[]," * 500_000 + '[]], "answer": "A"}'
    good = '{"question": "Q", "answer": "A"}'
    for name, text in (("rows.json", f"[{huge}, {good}]"), ("rows.jsonl", f"{huge}\n{good}")):
        found = reading(text, name)
        assert (found.examples[0].row, found.refusals[0].row) == (2, 1)
    found = reading('question,answer\n"' + '""' * 700_000 + '",A\nQ,A\n', "rows.csv")
    assert (found.examples[0].row, found.refusals[0].row) == (2, 1)


def test_columns_that_could_not_be_shown_are_not_offered(reading):
    row = {"question": "Q", "answer": "A", "\ud800": "x", "y" * 201: "z", "a\0b": "c", "": "d"}
    assert reading(json.dumps(row)).available_columns == ["question", "answer"]


def test_a_text_of_escapes_is_as_long_as_what_it_says(reading):
    found = reading(json.dumps({"question": "\U0001f600" * 90_000, "answer": "A"}))
    assert len(found.examples[0].prompt[0].content) == 90_000


@pytest.mark.parametrize("place", ["elsewhere.jsonl", "uploads/../elsewhere.jsonl", "uploads/link.jsonl"])
def test_a_server_for_the_public_reads_no_file_of_its_own(monkeypatch, tmp_path, place):
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path / "lab"))
    (tmp_path / "lab" / "uploads").mkdir(parents=True)
    (tmp_path / "lab" / "elsewhere.jsonl").write_text(GOOD)
    (tmp_path / "lab" / "uploads" / "link.jsonl").symlink_to(tmp_path / "lab" / "elsewhere.jsonl")
    (tmp_path / "lab" / "uploads" / "own.jsonl").write_text(GOOD)
    public = Limits(local_paths=False)
    with pytest.raises(NotAvailable, match="uploaded files only"):
        read(DataSettings(source=f"file:{tmp_path / 'lab' / place}"), public)
    assert read(DataSettings(source=f"file:{tmp_path / 'lab' / place}"), Limits()).examples
    assert read(DataSettings(source=f"file:{tmp_path / 'lab' / 'uploads' / 'own.jsonl'}"), public).examples
    assert read(DataSettings(source="starter:dialogue"), public).examples


@pytest.mark.parametrize("path", ["/proc/self/environ", "/etc/passwd", "~/.ssh/id_rsa", "a\0b", "/dev/zero"])
def test_a_path_of_the_system_is_never_read(path):
    for limits in (Limits(), Limits(local_paths=False)):
        with pytest.raises(LabError):
            read(DataSettings(source=f"file:{path}"), limits)


@pytest.mark.parametrize("word", ["../x", "a/b", "train[:10%]+test", "x" * 201, "a\nb", "\ud800"])
def test_a_configuration_or_a_split_is_a_plain_word(monkeypatch, word):
    monkeypatch.setattr(hub, "stream", lambda *asked: pytest.fail("asked the hub"))
    for part in ("configuration", "split"):
        with pytest.raises(LabError, match=r"is not the name of a|at most 200|valid string"):
            read(parse(DataSettings, {"source": "hub:a/b", part: word}), Limits())


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["instruction", "output", "messages", "role", "content", "x"]), inner)
    ),
    max_leaves=12,
)
CONTENTS = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text('"\n\r,;\t ab{}[]:\\', max_size=60).map(lambda text: b"question,answer\n" + text.encode())
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | st.lists(JSON_VALUES, max_size=5).map(lambda rows: "\n".join(map(json.dumps, [json.loads(GOOD), *rows])).encode())
    | st.binary(max_size=100).map(lambda inner: b"PAR1" + inner + b"\x10\0\0\0PAR1")
)


@pytest.mark.parametrize("extension", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_no_content_of_a_file_raises_anything_but_a_sentence(tmp_path, extension):
    path = tmp_path / f"rows.{extension}"

    # A Parquet file that begins and ends as one is given to a process of its own, a third of a second each.
    @settings(
        max_examples=150 if extension != "parquet" else 40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(CONTENTS)
    def check(content):
        path.write_bytes(content)
        try:
            found = read(DataSettings(source=f"file:{path}"), Limits(row_characters=100))
        except LabError as error:
            assert isinstance(error, DataError)
            assert str(error).endswith(".")
            return
        assert found.examples
        for example in found.examples:
            "".join(message.content for message in example.messages).encode("utf-8")

    check()


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_parquet_file_with_changed_bytes_is_read_or_refused(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q", "R"], "answer": ["A", "B"]}), path)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        read(DataSettings(source=f"file:{path}"), Limits())
    except DataError as error:
        assert str(error).endswith(".")
