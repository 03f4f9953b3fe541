"""A Space built from the folder: a new environment, gradio, then requirements.txt, and `python app.py`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from processes import ended

from neftune_core.space import folder
from tests.stress.visitor import Answer, Visitor

TORCH = os.environ.get("NEFTUNE_TEST_SPACE_TORCH", "")
"""The lines of requirements.txt that bring torch here, such as `torch==2.13.0`; without them this is not run."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TORCH, reason="installs everything anew: say NEFTUNE_TEST_SPACE_TORCH=torch==2.13.0"),
]

STUDY_SECONDS = 120


def test_a_built_folder_serves_from_a_clean_environment(tmp_path: Path) -> None:
    space, environment = tmp_path / "space", tmp_path / "environment"
    folder.build(space, torch=TORCH.split(";"))
    version = re.search(r'^sdk_version: "(.*)"$', (space / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    for wanted in ([f"gradio=={version[1]}"], ["-r", str(space / "requirements.txt")]):
        done = subprocess.run([python, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NEFTUNE", "VIRTUAL"))}
    # As a Space has it, but for the address: its own proxy is not here.
    clean |= {"SPACE_ID": "owner/lab", "GRADIO_SERVER_NAME": "127.0.0.1", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    with (
        subprocess.Popen(
            [python, "app.py"], cwd=space, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        ended(process),
    ):
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert "is open at http" in line, process.stderr.read() if process.stderr else ""
        _answers(line.rpartition(" ")[2])


def _answers(address: str) -> None:
    """Check a page, a preview, a model that is not listed, and a whole study."""
    assert httpx.get(address, trust_env=False).status_code == 200
    visitor = Visitor(address)
    assert len(_called(visitor, "preview_noise", text="Where does the owl live?").outputs[0]["noised_norms"]) > 4
    assert "not one of the models" in _called(visitor, "preview_noise", text="Hello", model="a/b").text
    settings = {"training": {"steps": 3, "evaluations": 1}, "noise": [{"strength": 5}]}
    begun = _called(visitor, "start_study", settings=settings, key=visitor.key)
    assert begun.outputs, begun.text
    end, seen = time.monotonic() + STUDY_SECONDS, {"is_over": False}
    while not seen["is_over"] and time.monotonic() < end:
        time.sleep(1)
        seen = _called(visitor, "study_status", record=begun.outputs[0]["record"], key=visitor.key).outputs[0]
    assert seen["state"] == "finished", seen
    visitor.client.close()


def _called(visitor: Visitor, name: str, **given: object) -> Answer:
    info = json.loads(visitor.send("GET", "/gradio_api/info").text)["named_endpoints"][f"/{name}"]["parameters"]
    values = [given.get(one["parameter_name"], one["parameter_default"]) for one in info]
    return visitor.call(visitor.function(name), values)
