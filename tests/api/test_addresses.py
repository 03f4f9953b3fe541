"""Misuse of every route and every function of the served lab."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from public_lab import LIMITS, TOKEN

from neftune_core.ui.tabs.data_tab import FILE_TYPES
from tests.stress.fuzz import FAULT, TRACEBACK, Found, drawn
from tests.stress.hostile import Hostile
from tests.stress.visitor import Server, Visitor, described

NOT_UPLOADED = "This file was not uploaded here: upload it first."
NOT_A_FILE = f"Invalid file type. Please upload a file that is one of these formats: {FILE_TYPES}"
ROWS = b"".join(b'{"question": "What is %d?", "answer": "A number."}\n' % number for number in range(9))


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Serve another address on this machine; yield it and the requests that it received."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ROWS)

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names are the library's

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}/rows.jsonl", asked
        other.shutdown()


def read_file(visitor: Visitor, file: Any) -> Any:
    """Return what the Data tab shows for a file."""
    function = visitor.function("refresh")
    return visitor.call(function, function.usual(visitor.key, data_source="file", data_file=file))


def test_an_uploaded_file_is_read(visitor: Visitor) -> None:
    answer = read_file(visitor, visitor.upload("rows.jsonl", ROWS).outputs[0])
    assert "In use: rows.jsonl" in answer.text
    assert answer.told == ()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/self/environ",
        "../../../../etc/passwd",
        "{home}/lab.log",
        "{home}/uploads/../lab.log",
        "{home}/uploads/link.jsonl",
        "{home}/rows.jsonl",
        "{home}/uploads",
        "",
        ".",
        "rows.jsonl",
        "~/.bashrc",
    ],
)
def test_a_path_that_is_not_an_upload_is_never_read(visitor: Visitor, server: Server, path: str) -> None:
    (server.home / "rows.jsonl").write_bytes(ROWS)
    (server.home / "uploads").mkdir(exist_ok=True)
    link = server.home / "uploads" / "link.jsonl"
    if not link.is_symlink():
        link.symlink_to(server.home / "rows.jsonl")
    for changed in ({}, {"is_stream": True}, {"url": "/etc/passwd"}, {"meta": None}, {"mime_type": "text/plain"}):
        answer = read_file(visitor, {**described(path.format(home=server.home), "rows.jsonl", 9), **changed})
        assert "In use" not in answer.text
        assert FAULT not in answer.text
        if "meta" in changed:
            assert answer.status == 400
            assert "The description of a file in this call is malformed" in answer.text
        else:
            assert answer.told == (NOT_A_FILE if path.endswith("uploads") else NOT_UPLOADED,)


def test_the_lab_fetches_no_address_that_a_visitor_names(visitor: Visitor, elsewhere: tuple[str, list[str]]) -> None:
    address, asked = elsewhere
    for path in (address, " " + address, address.upper(), address.replace("http", "https"), "ftp://x/y.jsonl"):
        assert read_file(visitor, described(path, "rows.jsonl", 9)).status == 400
        assert read_file(visitor, [{"path": path}]).status == 400
    for place in ("file=", "file/", "proxy=", "file%3D"):
        for target in (address, address.replace("://", "%3A//")):
            assert visitor.send("GET", f"/gradio_api/{place}{target}").status in (403, 404)
    texts = ("textbox", "dropdown")
    naming = [function for function in visitor.functions() if any(field.kind in texts for field in function.fields)]
    assert len(naming) > 50
    for function in naming:
        visitor.call(function, [address if field.kind in texts else field.usual for field in function.fields])
    assert asked == []


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file=/proc/self/environ"),
        ("GET", "/gradio_api/file=../../../etc/passwd"),
        ("GET", "/gradio_api/file={home}/lab.log"),
        ("GET", "/gradio_api/file={home}/uploads/../rows.jsonl"),
        ("GET", "/gradio_api/file/{home}/lab.log"),
        ("GET", "/page-files/1/..%2f..%2fpyproject.toml"),
        ("GET", "/page-files/1/%2e%2e/pyproject.toml"),
        ("GET", "/static/..%2f..%2f..%2fetc/passwd"),
        ("GET", "/assets/..%5c..%5cwindows"),
        ("GET", "/gradio_api/deep_link?session_hash=x"),
        ("GET", "/gradio_api/custom_component/x/client/../../x"),
        ("GET", "/custom_component/x"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/gradio_api/runs"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/vibe-code/"),
        ("POST", "/gradio_api/stream/x"),
        ("POST", "/gradio_api/call/v2/start"),
        ("POST", "/gradio_api/call/nothing"),
        ("POST", "/gradio_api/run/nothing"),
        ("POST", "/gradio_api/queue/join"),
        ("DELETE", "/gradio_api/queue/join"),
        ("PUT", "/gradio_api/upload"),
    ],
)
def test_an_address_that_the_page_does_not_use_is_refused(
    visitor: Visitor, server: Server, method: str, address: str
) -> None:
    answer = visitor.send(method, address.format(home=server.home))
    assert answer.status in (400, 403, 404)
    assert "root:" not in answer.text
    assert TRACEBACK not in answer.text


def test_an_answer_that_nobody_asked_for_is_not_found(visitor: Visitor) -> None:
    assert visitor.send("GET", "/gradio_api/call/start/nothing").text == 'event: error\ndata: "404: Not Found"\n\n'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b"[]", 400),
        (b"{}", 404),
        (b'{"fn_index": 0}', 400),
        (b'{"fn_index": 0, "data": {}, "session_hash": "x"}', 400),
        (b'{"fn_index": 0, "data": []}', 400),
        (b'{"fn_index": true, "data": [], "session_hash": "x"}', 404),
        (b'{"fn_index": 99999, "data": [], "session_hash": "x"}', 404),
        (b'{"fn_index": -1, "data": [], "session_hash": "x"}', 404),
        (b'{"fn_index": "0", "data": [], "session_hash": "x"}', 404),
        (b'{"fn_index": 0, "data": [], "session_hash": "a/../b"}', 400),
        (b'{"fn_index": 0, "data": [], "session_hash": ["x"]}', 400),
        (b'{"fn_index": 0, "data": [], "session_hash": "x", "batched": true}', 400),
        (b'{"fn_index": 0, "data": [], "session_hash": "x", "trigger_id": "y"}', 400),
        (b'{"fn_index": 0, "data": ["\\ud800"], "session_hash": "x"}', 400),
        (b'{"fn_index": 0, "data": [NaN], "session_hash": "x"}', 400),
        (b'{"fn_index": 0, "data": [1e999], "session_hash": "x"}', 400),
        (b'{"fn_index": 0, "data": [' + b"9" * 5000 + b'], "session_hash": "x"}', 400),
        (b'{"fn_index": 0, "session_hash": "x", "data": ' + b"[" * 60 + b"]" * 60 + b"}", 400),
        (b'{"fn_index": 0, "session_hash": "x", "data": [' + b"1," * 30_000 + b"1]}", 413),
        (b"[" * 1_000_000, 413),
        (b'{"data": "' + b"x" * 7_000_000 + b'"}', 413),
    ],
)
def test_a_call_that_no_page_makes_gets_one_sentence(visitor: Visitor, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = visitor.send("POST", "/gradio_api/queue/join", content=body, headers=headers)
    assert answer.status == status
    words = json.loads(answer.text)["error"]
    assert words.endswith(".")
    assert "\n" not in words


def announced(server: Server, length: int) -> int:
    """Return the status for an upload that declares a length and sends no body."""
    connection = HTTPConnection(server.address.split("/")[2], timeout=20)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_an_upload_is_refused_by_its_size_before_it_is_read(visitor: Visitor, server: Server) -> None:
    def files() -> int:
        return sum(path.stat().st_size for path in (server.home / "uploads").rglob("*") if path.is_file())

    visitor.upload("rows.jsonl", ROWS)
    before = files()
    assert visitor.upload("rows.jsonl", b"x" * 5_000_000).status == 413
    many = [("files", (f"{number}.jsonl", b"x" * 1_000_000)) for number in range(9)]
    assert visitor.send("POST", "/gradio_api/upload", files=many).status == 413
    assert announced(server, 99_999_999_999) == 413

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="rows.jsonl"\r\n\r\n'
        for _ in range(9):
            yield b"x" * 1_000_000

    unsaid = {"content-type": "multipart/form-data; boundary=x"}
    assert visitor.send("POST", "/gradio_api/upload", content=endless(), headers=unsaid).status in (0, 413)
    assert files() - before <= 1_048_576 * (LIMITS["upload_megabytes"] + 1) * 2
    assert "In use" in read_file(visitor, visitor.upload("rows.jsonl", ROWS).outputs[0]).text


@pytest.mark.parametrize(
    "name", ["../../rows.jsonl", "/etc/rows.jsonl", "..\\rows.jsonl", "%2e%2e%2frows.jsonl", "a;b&c|d.jsonl"]
)
def test_an_uploads_name_is_only_a_name(visitor: Visitor, server: Server, name: str) -> None:
    (file,) = visitor.upload(name, ROWS).outputs
    assert Path(file["path"]).resolve().is_relative_to((server.home / "uploads").resolve())


def test_an_upload_without_a_file_gets_one_sentence(visitor: Visitor) -> None:
    assert visitor.upload("", ROWS).status == 400
    for form in (b"", b"x", b"--x--\r\n", b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--x--\r\n'):
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = visitor.send("POST", "/gradio_api/upload", content=form, headers=headers)
        assert answer.status in (200, 400)
        assert FAULT not in answer.text


def test_every_function_answers_wrong_values_with_a_sentence(visitor: Visitor) -> None:
    wrong = ({"a": [1]}, [], "\u202e<b>", -1, True, "x" * 3000)
    for function in visitor.functions():
        places = 1 if function.handler == "run" else min(3, len(function.fields))  # a fault that exists is trained
        for place in range(places):
            data = function.usual(visitor.key)
            data[place] = wrong[(place + function.number) % len(wrong)]
            answer = visitor.call(function, data, event_data={"id": wrong[function.number % len(wrong)]})
            assert answer.status in (200, 400), function.name
            assert FAULT not in answer.text, function.name
            assert all("\n" not in words and len(words) < 600 for words in answer.told), function.name


def test_too_few_values_get_a_sentence(visitor: Visitor) -> None:
    function = visitor.function("plan")
    assert visitor.call(function, []).told == (
        f"This call has too few values (expected {len(function.fields)}, given 0).",
    )


@pytest.mark.parametrize(
    "source", ["/etc", "~", "{home}", "{home}/model.gguf", "../..", "C:\\model", "\\\\host\\share"]
)
def test_a_public_lab_opens_no_model_of_its_machine(visitor: Visitor, server: Server, source: str) -> None:
    (server.home / "model.gguf").write_bytes(b"GGUF")
    function = visitor.function("load_model")
    answer = visitor.call(function, function.usual(visitor.key, model_source=source.format(home=server.home)))
    (words,) = answer.told
    assert "OWNER/NAME" in words
    assert str(server.home) not in answer.text.replace(source.format(home=server.home), "")


def test_the_hosts_token_is_in_no_answer_log_or_record(visitors: Callable[[str], Visitor], server: Server) -> None:
    visitor = visitors()
    load, fetch = visitor.function("load_model"), visitor.function("fetch")
    answers = [
        visitor.call(load, load.usual(visitor.key, model_source="owner/name")),
        visitor.call(fetch, fetch.usual(visitor.key, data_source="hub", data_hub="owner/name")),
        visitor.send("GET", "/config"),
    ]
    assert "cannot be reached" in answers[0].text + answers[1].text
    for answer in answers:
        assert TOKEN not in answer.text
    assert TOKEN not in server.printed() + server.logged()
    files = [path for path in server.home.rglob("*") if path.is_file()]
    assert server.home / "terminal.txt" in files
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_hostile_cases_find_no_crash_no_internal_error_and_no_traceback(server: Server, visitor: Visitor) -> None:
    hostile, found, functions = Hostile(seed=7), Found(), visitor.functions()
    for _ in range(100):
        sent = drawn(hostile, functions, visitor)
        found.note(sent, sent.send(visitor), 0.0)
    assert found.examples == []
    assert len(found.distinct) >= 95
    assert server.process.poll() is None
    assert TRACEBACK not in server.printed()
