"""A hostile hub data set cannot reach this machine's files, other machines, or the host's token."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neftune_core.data.formats.hub_card import is_own
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import read
from neftune_core.errors import DataError
from neftune_core.settings import Limits

ROWS = "\n".join(json.dumps({"question": f"{n}?", "answer": str(n)}) for n in range(4)).encode()
PUBLIC = Limits(local_paths=False)
REFUSED = "refers to files outside its own repository, which the lab does not read"


def card(pattern: object) -> bytes:
    configs = [{"config_name": "default", "data_files": pattern}]
    return f"---\nconfigs: {json.dumps(configs)}\n---\n".encode()


def sentence(**settings: object) -> str:
    with pytest.raises(DataError) as refused:
        read(DataSettings(source="hub:owner/set", **settings), PUBLIC)
    return str(refused.value)


def test_a_card_cannot_search_the_disk(hub_with, tmp_path):
    """Existing and missing files get the same response."""
    (tmp_path / "uploads" / "abc123").mkdir(parents=True)
    (tmp_path / "uploads" / "abc123" / "rows.jsonl").write_bytes(ROWS)
    files = {"data_jsonl": ROWS}
    for pattern in (f"{tmp_path}/uploads/a*/*", f"{tmp_path}/uploads/z*/*", {"train": [f"{tmp_path}/**"]}):
        hub_with(README_md=card(pattern), **files)
        assert REFUSED in sentence()
    for pattern in (f"{tmp_path}/uploads/a*/*", {"train": [f"{tmp_path}/**"]}):
        hub_with(_huggingface_yaml=json.dumps({"configs": [{"data_files": pattern}]}).encode(), **files)
        assert REFUSED in sentence()


def test_a_card_cannot_have_an_address_fetched(hub_with):
    asked: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for protocol in ("http", "https", "zip://x.zip::https"):
                hub_with(README_md=card(f"{protocol}://127.0.0.1:{server.server_port}/inside.jsonl"), data_jsonl=ROWS)
                assert REFUSED in sentence()
        finally:
            server.shutdown()
    assert asked == []


def test_a_card_that_names_its_own_files_is_read(hub_with):
    hub_with(README_md=card([{"split": "train", "path": "da*.jsonl"}]), data_jsonl=ROWS)
    found = read(DataSettings(source="hub:owner/set"), PUBLIC)
    assert [example.response for example in found.examples] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("pattern", "own"),
    [
        ("data/train-*.parquet", True),
        ("**/*", True),
        ("a..b/c", True),
        ("/etc/passwd", False),
        ("//host/share", False),
        ("../other/file", False),
        ("data/../../x", False),
        ("data\\..\\x", False),
        ("C:\\Users\\x", False),
        ("C:x", False),
        ("~/x", False),
        ("file:///etc/passwd", False),
        ("hf://datasets/other/set/x", False),
        ("zip://*::data.zip", False),
    ],
)
def test_a_pattern_is_inside_its_repository_or_refused(pattern, own):
    assert is_own(pattern) == own


def test_the_token_of_the_host_is_only_for_the_host(hub_with, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    shown = hub_with(data_jsonl=ROWS)
    read(DataSettings(source="hub:owner/set"), PUBLIC)
    assert shown
    assert not any(shown)
    shown = hub_with(data_jsonl=ROWS)
    read(DataSettings(source="hub:owner/set"), Limits())
    assert "Bearer hf_0123456789abcdef" in shown


def test_a_confined_process_sees_no_home_no_other_host_and_starts_nothing(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    beside = tmp_path / "own2" / "rows.txt"  # its path begins with that of the allowed folder
    beside.parent.mkdir()
    beside.write_text("secret")
    code = f"""
import glob, os, socket, subprocess, tempfile
from pathlib import Path
tempfile.tempdir = os.environ["OWN"]
from neftune_core.data.formats.sandboxed_reader import confine
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
confine({{"localhost"}})
def refused(what):
    try:
        what()
    except PermissionError:
        return True
    return False
assert refused(lambda: open({str(secret)!r}).read())
assert refused(lambda: open({str(beside)!r}).read())
assert refused(lambda: os.listdir({str(tmp_path)!r}))
assert refused(lambda: list(os.scandir({str(tmp_path)!r})))
assert glob.glob({str(tmp_path / "s*")!r}) == []
os.symlink({str(secret)!r}, os.environ["OWN"] + "/link")
assert refused(lambda: open(os.environ["OWN"] + "/link").read())
assert refused(lambda: socket.create_connection(("127.0.0.1", port)))
assert refused(lambda: socket.socket().connect(("127.0.0.1", port)))
assert refused(lambda: socket.getaddrinfo("example.org", 80))
assert refused(lambda: socket.getaddrinfo("nothuggingface.co", 80))
assert refused(lambda: subprocess.run(["true"]))
assert refused(lambda: os.system("true"))
Path(os.environ["OWN"], "mine.txt").write_text("mine")
socket.create_connection(("localhost", port)).close()
print("held")
"""
    own = tmp_path / "own"
    own.mkdir()
    environment = {"OWN": str(own), "PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=own, timeout=60, check=False
    )
    assert done.stdout.strip() == "held", done.stderr
