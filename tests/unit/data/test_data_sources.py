"""Starter sets and hub data sets."""

import json

import pytest

from neftune_core.data.formats import hub_rows
from neftune_core.data.formats.sandboxed_reader import Bounds, ReaderError, run_reader
from neftune_core.data.formats.starters import STARTERS, data_title
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import read
from neftune_core.errors import DataError, DoesNotFit, NotAvailable
from neftune_core.language import CHINESE, in_language
from neftune_core.settings import Limits


@pytest.mark.parametrize("name", STARTERS)
def test_every_starter_set_is_read_whole(name):
    found = read(DataSettings(source=f"starter:{name}"), Limits())
    assert 48 <= len(found.examples) <= 400
    assert (found.refusals, found.licence, found.title) == ([], "Apache-2.0", name)
    prompts = [example.messages[:-1] for example in found.examples]
    assert len(set(prompts)) == len(prompts)


def test_titles_of_starter_sets_are_translated_and_other_titles_are_not():
    assert [data_title(name) for name in STARTERS] == [*STARTERS]
    with in_language(CHINESE):
        assert all(data_title(name) != name for name in STARTERS)
        assert data_title("world-format") == "小世界·新格式"
        assert [data_title(title) for title in ("Model", "rows.jsonl", None)] == ["Model", "rows.jsonl", ""]


def test_the_dialogues_have_several_turns():
    found = read(DataSettings(source="starter:dialogue"), Limits())
    assert all(len(example.messages) >= 4 for example in found.examples)


@pytest.mark.parametrize("name", ["", "poems", "../../LICENSE", "open-ended/../dialogue"])
def test_an_unknown_starter_set_gets_a_sentence(name):
    with pytest.raises(DataError):
        read(DataSettings(source=f"starter:{name}"), Limits())


def test_the_first_rows_of_a_hub_set_are_streamed(monkeypatch):
    asked = []

    def run_reader(reader, request, bounds, variables):
        asked.append((reader, request["name"], request["configuration"], request["split"]))
        for number in range(10**9):
            yield ["row", number + 1, {"question": f"{number}?", "answer": str(number)}]

    monkeypatch.setattr(hub_rows, "run_reader", run_reader)
    found = read(DataSettings(source="hub:openai/gsm8k", rows=5, split="test"), Limits())
    assert asked == [("hub", "openai/gsm8k", "main", "test")]
    assert (len(found.examples), found.licence, len(found.notes)) == (5, "MIT", 1)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (("ConnectionError", "no route"), NotAvailable, "cannot be reached"),
        (("OSError", "Name or service not known"), NotAvailable, "cannot be reached"),
        (("ValueError", "Config name is missing."), DataError, "several configurations"),
        (
            ("ValueError", "BuilderConfig 'x' not found. Available: ['main', 'socratic']"),
            DataError,
            r"several configurations: choose one of them\. Available: main, socratic\.",
        ),
        (("ValueError", 'Unknown split "x".'), DataError, "does not have this split"),
        (
            ("ValueError", "Bad split: x. Available splits: ['train', 'test']"),
            DataError,
            r"does not have this split: choose one of its splits\. Available: train, test\.",
        ),
        (("DatasetNotFoundError", "Dataset 'a/b' is a gated dataset on the Hub."), NotAvailable, "is gated"),
        (("HfHubHTTPError", "403 Client Error: Forbidden for url"), NotAvailable, "has no access to the data set"),
        (("HfHubHTTPError", "429 Client Error: Too Many Requests"), NotAvailable, "rate-limiting requests"),
        (("HfHubHTTPError", "503 Server Error: Service Unavailable"), NotAvailable, "an internal error"),
        (("ReadTimeout", "The read operation timed out"), NotAvailable, "in time"),
        (("timeout", "it took more than 300 seconds"), NotAvailable, "in time"),
        (("DataFilesNotFoundError", "No (supported) data files found in a/b"), DataError, "no readable data files"),
        (("ArrowInvalid", "JSON parse error: Missing a closing quotation"), DataError, "are damaged"),
        (("RuntimeError", "Dataset scripts are no longer supported"), DataError, "never runs"),
        (("OSError", "This is a gated repository"), NotAvailable, "is gated"),
        (("RepositoryNotFoundError", "404"), DataError, "no public data set called someone/something"),
        (("size", "117"), DoesNotFit, "first 117 rows of someone/something are larger than 50 MB"),
        (("MemoryError", "memory"), DataError, "more memory"),
        (("died", "it ended in the middle"), DataError, "more memory"),
    ],
)
def test_what_the_hub_says_becomes_one_sentence(monkeypatch, error, kind, words):
    def run_reader(*asked, **options):
        raise ReaderError(*error)
        yield

    monkeypatch.setattr(hub_rows, "run_reader", run_reader)
    with pytest.raises(kind, match=words):
        read(DataSettings(source="hub:someone/something"), Limits())


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "../etc", "a b", "x/../y", "json", "text", "a/b--c", "a/..", "ö/b", "a/" + "b" * 97]
)
def test_a_hub_name_is_an_owner_and_a_name(monkeypatch, name):
    monkeypatch.setattr(hub_rows, "run_reader", lambda *asked, **options: pytest.fail("asked the hub"))
    with pytest.raises(DataError):
        read(DataSettings(source=f"hub:{name}"), Limits())


def test_a_folder_is_never_read_in_the_place_of_a_hub_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.setattr(hub_rows, "run_reader", lambda *asked, **options: pytest.fail("asked the library"))
    with pytest.raises(DataError, match="is also a folder"):
        read(DataSettings(source="hub:owner/name"), Limits())


def test_an_empty_hub_split_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(hub_rows, "run_reader", lambda *asked, **options: iter(()))
    with pytest.raises(DataError, match="no rows in its split 'train'"):
        read(DataSettings(source="hub:a/b"), Limits())


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


def test_a_hub_that_is_silent_is_distinguished_from_a_set_that_is_too_large(monkeypatch, tmp_path):
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ReaderError) as caught:
        list(run_reader("hub", {}, Bounds(4_000_000_000, 0.3, 1000, 1000), module="sleeper"))
    assert caught.value.kind == "timeout"


def test_a_wrong_split_and_a_set_that_is_not_there_are_distinguished(hub_with):
    hub_with(data_jsonl=b'{"question": "1?", "answer": "1"}\n')
    with pytest.raises(DataError, match=r"does not have this split.* Available: train\."):
        read(DataSettings(source="hub:owner/set", split="nowhere"), Limits())
