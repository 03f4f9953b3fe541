"""Hostile files and names: each gets an error of one sentence."""

import json
import os
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows_of_data import GOOD

from neftune_core.data.formats import hub_rows, sandboxed_reader, tables
from neftune_core.data.formats.sandboxed_reader import Bounds
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import read
from neftune_core.errors import DataError, LabError, NotAvailable
from neftune_core.settings import Limits, parse


def test_a_kilobyte_of_parquet_that_holds_a_terabyte_takes_no_memory(tmp_path, hub_with):
    path = tmp_path / "rows.parquet"
    path.write_bytes(terabyte())
    assert path.stat().st_size < 5000
    with pytest.raises(DataError, match="after row 0: its rows take more memory than one file may use"):
        read(DataSettings(source=f"file:{path}"), Limits())
    hub_with(data_parquet=path.read_bytes())
    with pytest.raises(DataError, match="more memory than one data set may use"):
        read(DataSettings(source="hub:owner/set"), Limits())


def terabyte():
    """Return a Parquet file with 100,000 rows of the same ten million letters."""
    letters = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), ["x" * 10_000_000])
    table = pyarrow.table({"question": letters, "answer": ["A"] * 100_000})
    file = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, file, compression="zstd", store_schema=False)
    return file.getvalue().to_pybytes()


@pytest.mark.parametrize("part", ["first", "last"])
def test_no_process_reads_a_file_without_the_marks_of_parquet(tmp_path, monkeypatch, part):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q"] * 9, "answer": ["A"] * 9}), path)
    content = path.read_bytes()
    path.write_bytes(b"JUNK" + content[4:] if part == "first" else content[:-4] + b"JUNK")
    monkeypatch.setattr(tables, "run_reader", lambda *asked, **options: pytest.fail("started a process"))
    with pytest.raises(DataError, match=r"rows\.parquet is not a readable Parquet file"):
        read(DataSettings(source=f"file:{path}"), Limits())


def test_a_reader_that_dies_or_takes_too_long_is_reported_in_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["Q"] * 9, "answer": ["A"] * 9}), path)
    monkeypatch.setattr(tables, "SECONDS", 0)
    with pytest.raises(DataError, match=r"rows\.parquet is not a readable Parquet file"):
        read(DataSettings(source=f"file:{path}"), Limits())


def test_the_process_of_a_file_knows_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123")
    monkeypatch.setenv("SOME_API_KEY", "hf_0123")
    (tmp_path / "variables.py").write_text(READER_OF_VARIABLES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    given = {"variables": {"HF_HUB_DISABLE_XET": "1"}, "module": "variables"}
    ((_, _, found),) = sandboxed_reader.run_reader("variables", {}, Bounds(2**31, 60, 100_000, 100_000), **given)
    assert not any("hf_0123" in value for value in found.values())
    assert (found["HOME"], found["HF_HOME"], found["HF_HUB_DISABLE_XET"]) == (found["here"], found["here"], "1")
    assert found["here"] != str(Path.cwd())


READER_OF_VARIABLES = """
import os, sys
from neftune_core.data.formats.sandboxed_reader import main
main(sys.argv[1], {"variables": lambda: iter([["row", 1, {**os.environ, "here": os.getcwd()}]])})
"""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.json", '{"a":[' + "[]," * 1_500_000 + "[]]}", "more than 4,000,000 elements|not an object"),
        ("rows.json", '[{"question": [' + "[]," * 500_000 + "[]]}]", "1,500,018 characters, but at most 1,200,000"),
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
        ("rows.csv.gz", b"\x1f\x8b\x08", "cannot be unpacked: it is damaged"),
        ("rows.csv.zst", b"PK\x03\x04", "cannot be unpacked: it is damaged, or not compressed with zstd"),
        ("rows.tar.gz", b"\x1f\x8b\x08", "is an archive: unpack it"),
        ("rows.zip", b"PK\x03\x04", "is an archive: unpack it"),
        ("rows.jsonl", b"\x1f\x8b\x08\x00", "gzip: append .gz"),
        ("rows.csv", b"PK\x03\x04\x14", "a zip file: unpack it first"),
        ("rows.json", b"\xfd7zXZ\0\0", "xz: unpack it first"),
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
    with pytest.raises(NotAvailable, match="only reads uploaded files"):
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
    monkeypatch.setattr(hub_rows, "run_reader", lambda *asked, **options: pytest.fail("asked the hub"))
    for part in ("configuration", "split"):
        with pytest.raises(LabError, match=r"is not a valid name for a|at most 200|must be valid Unicode"):
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
)
MARKED_AS_PARQUET = st.builds(
    lambda inner, length: b"PAR1" + inner + length.to_bytes(4, "little") + b"PAR1",
    st.binary(max_size=100),
    st.sampled_from([16, 1, 100, 2**32 - 1]),
)
"""Contents that begin and end as a Parquet file does. Each takes a process, which takes a third of a second."""


def _contents_by_extension():
    """Yield every extension with its contents, and with how many of them are tried; the long variants are slow."""
    texts = [(extension, CONTENTS | MARKED_AS_PARQUET) for extension in ("jsonl", "json", "csv", "tsv")]
    for marks, count, marked in (([], 75, 6), ([pytest.mark.slow], 150, 40)):
        for extension, contents in [*texts, ("parquet", CONTENTS)]:
            yield pytest.param(extension, contents, count, id=f"{extension}-{count}", marks=marks)
        yield pytest.param("parquet", MARKED_AS_PARQUET, marked, id=f"marked as parquet-{marked}", marks=marks)


@pytest.mark.parametrize(("extension", "contents", "count"), list(_contents_by_extension()))
def test_no_content_of_a_file_raises_anything_but_a_sentence(tmp_path, extension, contents, count):
    path = tmp_path / f"rows.{extension}"

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(contents)
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
