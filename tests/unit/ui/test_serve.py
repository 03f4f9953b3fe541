"""Startup of the server: errors are one sentence with exit status 2, before anything is served."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_core.errors import InvalidSetting, NotAvailable
from neftune_core.space.profiles import VARIABLES, host_profile, known_variables, named_hosts
from neftune_core.sweeps.sweep import run_record
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.serve import listening

ROOT = Path(__file__).parents[3]


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that another socket listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)


def test_a_port_that_is_taken_is_refused_wherever_it_is_set(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotAvailable, match=f"Port {taken} is already in use"):
        listening(None, taken)
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken))
    with pytest.raises(NotAvailable, match=f"Port {taken} is already in use"):
        listening(None, None)


@pytest.mark.parametrize("said", ["abc", "0", "65536", "-1", "7860.0", "１", "7 860"])
def test_an_invalid_port_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", said)
    with pytest.raises(InvalidSetting, match="number from 1 to 65,535"):
        listening(None, None)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(NotAvailable, match=r"cannot listen on '192\.0\.2\.1'"):
        listening("192.0.2.1", None)


def test_an_empty_port_is_as_if_it_were_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", " ")
    assert listening(None, None) == (None, None)
    assert "GRADIO_SERVER_PORT" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("NEFTUNE_LIMIT_STEPS", "2k", "NEFTUNE_LIMIT_STEPS cannot be '2k'"),
        ("GRADIO_SERVER_PORT", "{taken}", "already in use"),
        ("GRADIO_NUM_PORTS", "many", "An internal error occurred"),
    ],
)
def test_a_wrong_start_ends_with_one_sentence_and_status_2(
    taken: int, tmp_path: Path, variable: str, value: str, words: str
) -> None:
    own = {variable: value.format(taken=taken), "NEFTUNE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr


# ---------------------------------------------------------------- the variables of the environment


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NEFTUNE_LIMIT_STEPS", "2k"),
        ("NEFTUNE_LIMIT_STEPS", "0"),
        ("NEFTUNE_LIMIT_STEPS", "1e99"),
        ("NEFTUNE_LIMIT_CALLS_A_MINUTE", "100/min"),
        ("NEFTUNE_LIMIT_VISITOR_GIGABYTES", "200MB"),
        ("NEFTUNE_LIMIT_VISITOR_GIGABYTES", "nan"),
        ("NEFTUNE_LIMIT_RECORD_DAYS", "7d"),
        ("NEFTUNE_LIMIT_RECORD_DAYS", "inf"),
        ("NEFTUNE_LIMIT_LOCAL_PATHS", "perhaps"),
        ("NEFTUNE_PUBLIC", "perhaps"),
        ("NEFTUNE_MCP", "perhaps"),
        ("NEFTUNE_TRACK", "abacus"),
        ("NEFTUNE_PROFILE", "moon"),
        ("NEFTUNE_MODELS", "owner/name other"),
        ("NEFTUNE_HOSTS", "https://lab.example.org"),
        ("NEFTUNE_DEVICE", "toaster"),
    ],
)
def test_an_invalid_value_ends_the_start_and_its_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        host_profile({variable: value})
    assert variable in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("NEFTUNE_LIMITS_STEPS", "NEFTUNE_LIMIT_STEPS"),
        ("NEFTUNE_LIMIT_STEP", "NEFTUNE_LIMIT_STEPS"),
        ("NEFTUNE_PUBLICK", "NEFTUNE_PUBLIC"),
        ("NEFTUNE_HOMES", "NEFTUNE_HOME"),
        ("neftune_public", "NEFTUNE_PUBLIC"),
        ("NEFTUNE_LIMIT_QUEUE", "NEFTUNE_LIMIT_QUEUE_PLACES"),
    ],
)
def test_a_misspelt_variable_ends_the_start_with_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(InvalidSetting, match=f"no environment variable {wrong}: did you mean {right}?"):
        host_profile({wrong: "1"})


def test_an_empty_value_is_as_if_it_were_not_set() -> None:
    empty = dict.fromkeys(known_variables(), " ")
    assert host_profile(empty) == host_profile({})
    assert host_profile({**empty, "SPACE_ID": "a/b"}) == host_profile({"SPACE_ID": "a/b"})
    assert not host_profile({"NEFTUNE_PUBLIC": "", "SPACE_ID": "a/b"}).limits.local_paths


def test_public_brings_the_limits_of_a_public_server() -> None:
    public, space = host_profile({"NEFTUNE_PUBLIC": "1"}).limits, host_profile({"SPACE_ID": "a/b"}).limits
    assert public == space
    assert public != host_profile({}).limits
    assert host_profile({"NEFTUNE_PUBLIC": "yes", "NEFTUNE_LIMIT_STEPS": "7"}).limits.steps == 7


def test_a_host_can_name_a_tracker_for_the_studies_of_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    here = host_profile({"NEFTUNE_TRACK": "trackio:owner/space"})
    assert here.track == "trackio:owner/space"
    assert Lab(host=here).jobs.run is not run_record


def test_every_variable_that_the_code_reads_is_known() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "neftune_core").rglob("*.py")]
    read = {name for source in sources for name in re.findall(r"\bNEFTUNE_[A-Z_]+\b", source)}
    allowed = {*known_variables(), "NEFTUNE_LIMIT_", "NEFTUNE_", "NEFTUNE_TEST_"}
    assert read - allowed == set()
    assert set(VARIABLES) <= read


def test_names_of_hosts_lose_their_ports_and_spaces() -> None:
    assert named_hosts({"NEFTUNE_HOSTS": " Lab.Example.org:443 ,10.0.0.1,[::1]:80"}) == (
        "lab.example.org",
        "10.0.0.1",
        "[::1]",
    )
