"""The API endpoints: the documented examples run unchanged, and the endpoints are protected like the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neftune_core.home import assets
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import controls
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from tests.stress.fuzz import FAULT, TRACEBACK
from tests.stress.visitor import Answer, Server, Visitor

PAGE = (assets() / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
STEERING = ("stop_arm", "set_strength", "continue_study")
ENDPOINTS = (
    "preview_noise", "read_instructions", "start_study", "study_status", "stop_study", *STEERING, "answers", "verdict",
)  # fmt: skip
HERE = "http://127.0.0.1:7860"
KEY = "7c" * 32


LONG = tuple("/continue_study" in example for example in EXAMPLES)
RUN = """
import contextlib, io, json, os, sys, tempfile, traceback

printed = []
for code in json.load(sys.stdin):
    os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
    said, failed = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})
        except BaseException:
            failed = traceback.format_exc()
    printed.append([said.getvalue(), failed])
print(json.dumps(printed))
"""
"""Runs each program of a JSON list in a new folder with names of its own; prints what they print and why they fail."""


def outcomes(server: Server, examples: list[str], folder: Path) -> list[tuple[str, str]]:
    """Run examples one after another, each in a new folder; return what each of them prints, and why it fails."""
    assert all(HERE in example for example in examples)
    programs = json.dumps([example.replace(HERE, server.address) for example in examples])
    command = [sys.executable, "-W", "error", "-c", RUN, str(folder)]
    done = subprocess.run(command, cwd=folder, input=programs, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return [(said, failed) for said, failed in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def short_examples(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Run all examples whose studies are short; return their outcomes by example."""
    short = [example for example, long in zip(EXAMPLES, LONG, strict=True) if not long]
    return dict(zip(short, outcomes(server, short, tmp_path_factory.mktemp("examples")), strict=True))


@pytest.mark.parametrize("place", [place for place, long in enumerate(LONG) if not long])
def test_an_example_of_the_page_runs_as_it_stands_there(
    server: Server, short_examples: dict[str, tuple[str, str]], place: int
) -> None:
    said, failed = short_examples[EXAMPLES[place]]
    assert not failed
    assert said.strip()
    assert TRACEBACK not in server.printed()


def test_the_example_that_steers_a_study_runs_as_it_stands_there(long_server: Server, tmp_path: Path) -> None:
    (example,) = (example for example, long in zip(EXAMPLES, LONG, strict=True) if long)
    ((said, failed),) = outcomes(long_server, [example], tmp_path)
    assert not failed
    steered, _ = said.splitlines()
    assert "{'uniform-alpha-5': {'strength': 10.0}}" in steered
    assert "{'uniform-alpha-15': {'stopped': True}}" in steered
    assert TRACEBACK not in long_server.printed()


def test_every_endpoint_is_on_the_page_with_an_example() -> None:
    for name in ENDPOINTS:
        assert f"| `/{name}` |" in PAGE
        assert any(f'api_name="/{name}"' in example for example in EXAMPLES), name


def test_the_endpoints_are_the_only_ones_that_are_offered(visitor: Visitor) -> None:
    info = json.loads(visitor.send("GET", "/gradio_api/info").text)
    assert set(info["named_endpoints"]) == {f"/{name}" for name in ENDPOINTS}
    assert info["unnamed_endpoints"] == {}
    parameters = {entry["parameter_name"] for entry in info["named_endpoints"]["/preview_noise"]["parameters"]}
    assert {found.name for found in controls(NoiseSettings)} <= parameters


def called(visitor: Visitor, name: str, **values: object) -> Answer:
    """Call an endpoint with keyword arguments; other parameters keep the defaults from its description."""
    info = json.loads(visitor.send("GET", "/gradio_api/info").text)["named_endpoints"][f"/{name}"]["parameters"]
    function = visitor.function(name)
    return visitor.call(function, [values.get(one["parameter_name"], one["parameter_default"]) for one in info])


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("preview_noise", {"text": ""}, "nothing to show"),
        ("preview_noise", {"text": 5}, "must be text"),
        ("preview_noise", {"text": "x" * 9_000}, "at most 2,000 characters"),
        ("preview_noise", {"text": "hello", "strength": -1}, "strength"),
        ("preview_noise", {"text": "hello", "strength": "many"}, "strength"),
        ("preview_noise", {"text": "hello", "kind": "none"}, "Kind must be one of"),
        ("preview_noise", {"text": "hello", "draw": 1.5}, "must be a whole number"),
        ("preview_noise", {"text": "hello", "draw": -1}, "must be a whole number"),
        ("preview_noise", {"text": "hello", "model": "/etc"}, "not a model that this server offers"),
        ("preview_noise", {"text": "hello", "model": ["bundled"]}, "source"),
        ("read_instructions", {"source": "file:/etc/passwd"}, "This file was not uploaded"),
        ("read_instructions", {"source": "file:uploads/../lab.log"}, "This file was not uploaded"),
        ("read_instructions", {"source": "file:\0"}, "This file was not uploaded"),
        ("read_instructions", {"source": "file:/" + "x" * 1_000}, "This file was not uploaded"),
        ("read_instructions", {"held_out_source": "file:/etc/passwd"}, "This file was not uploaded"),
        ("read_instructions", {"file": "rows.jsonl"}, "not an upload"),
        ("read_instructions", {"rows": 10**9}, "rows"),
        ("start_study", {"settings": {}, "key": ""}, "no key"),
        ("start_study", {"settings": {}, "key": "short"}, "too easy to guess"),
        ("start_study", {"settings": [], "key": KEY}, "must be a table of settings"),
        ("start_study", {"settings": {"training": {"speed": 1}}, "key": KEY}, "no setting called"),
        ("start_study", {"settings": {"training": {"steps": 10**6}}, "key": KEY}, "this server allows at most 5"),
        (
            "start_study",
            {"settings": {"data": {"source": "file:/etc/passwd"}}, "key": KEY},
            "This file was not uploaded",
        ),
        ("start_study", {"settings": {"model": {"source": "/etc"}}, "key": KEY}, "not a model that this server offers"),
        ("study_status", {"record": "../..", "key": KEY}, "no record called"),
        ("study_status", {"record": None, "key": KEY}, "must be text"),
        ("stop_study", {"record": "20200101-000000-abcdef", "key": KEY}, "no record called"),
        ("answers", {"record": "x", "key": KEY, "prompts": 5}, "no record called"),
        ("verdict", {"record": "x", "key": KEY}, "no record called"),
        ("stop_arm", {"record": "x", "key": KEY, "arm": "control"}, "no record called"),
        ("set_strength", {"record": "x", "key": "short", "strength": 3}, "too easy to guess"),
        ("continue_study", {"record": "../x", "key": KEY}, "no record called"),
    ],
)
def test_a_wrong_value_gets_the_sentence_of_the_page(
    visitor: Visitor, name: str, values: dict[str, object], words: str
) -> None:
    answer = called(visitor, name, **values)
    assert any(words in told for told in answer.told), answer.told
    assert FAULT not in answer.text


def test_a_neighbour_of_the_uploads_is_never_read(visitor: Visitor, server: Server) -> None:
    neighbour = server.home / "uploads2" / "rows.jsonl"
    neighbour.parent.mkdir(exist_ok=True)
    neighbour.write_text('{"instruction": "Name 1.", "output": "It is 1."}\n' * 6, encoding="utf-8")
    source = {"source": f"file:{neighbour}"}
    for name, values in (("read_instructions", source), ("start_study", {"settings": {"data": source}, "key": KEY})):
        (told,) = called(visitor, name, **values).told
        assert "This file was not uploaded" in told


def test_no_endpoint_reveals_or_stops_another_visitors_study(
    visitors: Callable[[str], Visitor], server: Server
) -> None:
    word = "Violet-Marker-8"
    made = create(EXAMPLE.model_copy(update={"title": word}), KEY, folder=server.home / "runs")
    made.append({"event": "started", "steps": 1, "message": word})
    arms = {name: {"text": word, "tokens": 3, "ended": "stop"} for name in ("base", *EXAMPLE.arms)}
    made.write_answers([{"prompt": word, "reference": word, "arms": arms}], EXAMPLE.seed)
    own = visitors(KEY)
    assert word in called(own, "study_status", record=made.id, key=KEY).text
    assert word in called(own, "answers", record=made.id, key=KEY).text
    other = visitors()
    for name in ("study_status", "stop_study", *STEERING, "answers", "verdict"):
        for key in ("6b" * 32, KEY.upper(), KEY + " ", KEY[:-1], [KEY], None, ""):
            answer = called(other, name, record=made.id, key=key)
            assert word not in answer.text
            assert answer.told
            assert FAULT not in answer.text


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("stop_arm", {"arm": "uniform-alpha-5"}, "This study is not running"),
        ("stop_arm", {"arm": ["uniform-alpha-5"]}, "arm must be text"),
        ("stop_arm", {"arm": "a" * 201}, "at most 200 characters"),
        ("set_strength", {"strength": 3}, "only in a live study"),
        ("set_strength", {"strength": "many"}, "strength must be a number"),
        ("continue_study", {"epochs": 1}, "Only a finished study can be trained further"),
        ("continue_study", {"epochs": True}, "epochs must be a number"),
    ],
)
def test_steering_a_study_that_does_not_run_gets_one_sentence(
    visitor: Visitor, server: Server, name: str, values: dict[str, object], words: str
) -> None:
    made = create(EXAMPLE, KEY, folder=server.home / "runs")
    made.append({"event": "started", "steps": 1})
    answer = called(visitor, name, record=made.id, key=KEY, **values)
    assert any(words in told for told in answer.told), answer.told
    assert FAULT not in answer.text
    assert not (made.folder / "requests.jsonl").exists()
    made_on_command_line = create(EXAMPLE, "", folder=server.home / "runs")
    answer = called(visitor, name, record=made_on_command_line.id, key=KEY, **values)
    assert any("started from the command line" in told for told in answer.told), answer.told


def test_nothing_is_counted_and_no_cookie_is_set(visitor: Visitor) -> None:
    page = visitor.client.get("/")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "camera=()" in page.headers["permissions-policy"]
    assert "set-cookie" not in page.headers
    config = visitor.client.get("/config")
    assert config.json()["analytics_enabled"] is False
    assert "set-cookie" not in config.headers
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["'](https?:[^"']+)""", page.text)
    assert [address for address in loaded if not address.startswith(str(visitor.client.base_url))] == []
