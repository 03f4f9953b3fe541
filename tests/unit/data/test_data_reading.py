"""Files of every format, and the errors for unreadable ones."""

import csv
import json

import pyarrow
import pyarrow.parquet
import pytest
from rows_of_data import GOOD, TURNS

from neftune_core.data.examples import Message
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import read
from neftune_core.errors import DataError, DoesNotFit
from neftune_core.language import CHINESE, in_language
from neftune_core.settings import Limits


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
        ("rows.txt", GOOD, "has the unknown extension .txt"),
        ("rows", GOOD, "extension .none."),
        ("rows.pkl", b"\x80\x04K\x01.", "has the unknown extension .pkl"),
        ("rows.jsonl", f"[{GOOD}]", "give the file the extension .json"),
        ("rows.json", "[]", "has no readable rows"),
        ("rows.json", "[1, 2]", "row 1: it is not an object"),
        ("rows.json", "3", "must be a list of objects"),
        ("rows.json", '{"a": [1], "b": [2]}', "exactly one list"),
        ("rows.json", "[" * 200_000, "nested too deeply"),
        ("rows.json", '{"a": ' * 200_000, "nested too deeply"),
        ("rows.parquet", "PAR1 and nothing else", "not a readable Parquet file"),
        ("rows.parquet", b"\x00" * 100, "not a readable Parquet file"),
        ("rows.csv", '"open,answer\nx', "has no header"),
        ("rows.csv", "answer,answer\na,b", "two columns called 'answer'"),
        ("rows.csv", "question,answer\n", "has no rows"),
        ("rows.jsonl", "nonsense", "row 1: it is not valid JSON"),
        ("rows.jsonl", '{"question": "Q", "answer": ""}', "The only row of"),
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
    with pytest.raises(DataError, match=r"no file /.*/rows\.jsonl"):
        read(DataSettings(source=f"file:{tmp_path / 'rows.jsonl'}"), Limits())


def test_a_large_file_is_refused_by_its_size(reading, tmp_path):
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


def test_spaces_around_the_names_of_columns_are_ignored(reading):
    found = reading("question , answer\nWhy?,Because.\n", "rows.csv")
    assert [[message.content for message in row.messages] for row in found.examples] == [["Why?", "Because."]]


def test_a_semicolon_file_may_be_full_of_commas(reading):
    found = reading("question;answer\na, b, c;d, e\n", "rows.csv")
    assert found.examples[0].response == "d, e"


def test_csv_rows_are_counted_after_the_header(reading):
    text = 'question,answer\n"two\nlines","a ""word"""\n\nx\ny,\nz,"b"c"\nlast,ok\n'
    found = reading(text, "rows.csv")
    assert [(example.row, example.response) for example in found.examples] == [(1, 'a "word"'), (6, "ok")]
    assert [refusal.row for refusal in found.refusals] == [3, 4, 5]
    reasons = [refusal.reason for refusal in found.refusals]
    assert reasons[0] == "it has 1 cell, but the header has 2"
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


def test_only_the_first_rows_are_read_and_this_is_reported(reading):
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


def test_progress_is_reported_and_may_end_the_reading(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([GOOD] * 1200))
    told = []
    read(DataSettings(source=f"file:{path}"), Limits(), progress=lambda *numbers: told.append(numbers))
    assert told == [(500, 2000), (1000, 2000)]


def test_what_is_refused_is_reported_in_the_language_of_the_page(reading):
    with in_language(CHINESE):
        found = reading(GOOD + '\n{"instruction": "Q", "output": ""}\n{"instruction": ["Q"], "output": "{A}"}\n[')
        with pytest.raises(DataError, match=r"^rows\.jsonl 仅有的一行不可用；第 1 行：输出是空的。$"):
            reading('{"instruction": "Q", "output": ""}')
    assert [refusal.reason for refusal in found.refusals] == [
        "输出是空的",
        "指令是列表，不是文本",
        "它不是有效的 JSON（expecting value，第 2 列）",
    ]
