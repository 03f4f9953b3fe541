"""The README and documentation: their code runs, and what they name exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from as_written import NEFTUNE, blocks
from packaging.requirements import Requirement
from PIL import Image

from neftune_core.bench.registry import BENCHMARKS
from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Settings
from tests.stress.__main__ import SUITES, TABLES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "SECURITY.md", ROOT / "tests" / "README.md", *(ROOT / "assets" / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def _commands() -> set[str]:
    """Return the commands that `neftune --help` lists."""
    asked = [NEFTUNE, "--help"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120).stdout
    return set(re.findall(r"^  ([a-z]+) ", told, re.MULTILINE))


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub creates them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_has_at_most_100_lines() -> None:
    assert len(_text("README.md").splitlines()) <= 100


def test_the_moving_picture_moves_and_has_at_most_two_megabytes() -> None:
    file = ROOT / "assets" / "docs" / "pictures" / "lab.gif"
    assert f"({file.relative_to(ROOT)})" in _text("README.md")
    assert file.stat().st_size <= 2_000_000
    with Image.open(file) as picture:
        assert picture.n_frames > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(name: str) -> None:
    page = ROOT / name
    links = [
        ((page.parent / target).resolve() if target else page, anchor) for target, anchor in LINK.findall(_text(name))
    ]
    assert [file for file, _ in links if not file.exists()] == []
    assert [(file, anchor) for file, anchor in links if anchor and anchor not in _anchors(file)] == []


def test_the_index_leads_to_every_page() -> None:
    linked = {target for target, _ in LINK.findall(_text("assets/docs/index.md"))}
    assert {page.name for page in (ROOT / "assets" / "docs").glob("*.md")} - {"index.md"} <= linked


@pytest.mark.parametrize("name", NAMES)
def test_every_source_file_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"`([a-z\d_./-]+\.(?:py|js|css))`", _text(name)))
    there = [path.as_posix() for folder in ("neftune_core", "assets", "tests") for path in (ROOT / folder).rglob("*.*")]
    missing = {file for file in named if not any(f"/{path}".endswith(f"/{file}") for path in [*there, "app.py"])}
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_is_named_exists(name: str) -> None:
    text = _text(name)
    assert set(re.findall(r"(?:^|`|&& )neftune ([a-z]+)", text, re.MULTILINE)) <= _commands()
    assert set(re.findall(r"neftune bench ([a-z]+)", text)) <= set(BENCHMARKS)
    assert set(re.findall(r"tests\.stress ([a-z]+)", text)) <= {*SUITES, *TABLES}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_that_is_named_exists(name: str) -> None:
    sections: dict[str, type[Settings]] = {
        "model": ModelSettings, "data": DataSettings, "training": TrainingSettings, "noise": NoiseSettings,
    }  # fmt: skip
    named = re.findall(rf"`({'|'.join(sections)})\.([a-z_]+)\b(?!/|\()", _text(name))
    assert [field for section, field in named if field not in sections[section].model_fields] == []


EACH_ALONE = "import sys; [exec(code, {}) for code in sys.argv[1:]]"


def test_the_python_lines_of_the_readme_run() -> None:
    codes = blocks(_text("README.md"), "python")
    shorter = [code.replace("seeds=6", "seeds=1").replace('"epochs": 3', '"steps": 3') for code in codes]
    assert all(some not in code for some in ("seeds=6", '"epochs": 3') for code in shorter)
    assert shorter != codes
    command = [sys.executable, "-c", EACH_ALONE, *shorter]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr


def test_the_example_notebook_runs_and_holds_its_outputs(tmp_path: Path) -> None:
    cells = json.loads(_text("assets/docs/example.ipynb"))["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in codes) and any("<svg" in str(cell["outputs"]) for cell in codes)
    code = "\n".join("".join(cell["source"]) for cell in codes).replace("seeds=6", "seeds=1")
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr


def test_the_constraints_pin_every_dependency_to_a_version_that_is_allowed() -> None:
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    asked = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["test"]]]
    lines = [line.split("==") for line in _text("constraints.txt").splitlines() if line and not line.startswith("#")]
    pinned = {name.lower(): version for name, version in lines}
    assert not [str(one) for one in asked if not one.specifier.contains(pinned[one.name.lower()])]
    assert not [version for version in pinned.values() if "+" in version]
