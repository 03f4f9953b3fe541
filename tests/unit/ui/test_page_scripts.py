"""The page's JavaScript that knows no page, in node, against numbers that Python computes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from page_numbers import numbers

from neftune_core import javascript
from neftune_core.figures.curves import DASHES
from neftune_core.javascript import as_one
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.preview import DRAWN_AS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "assets" / "page"
RUN = """
import { readFileSync } from "node:fs";
import { test } from "node:test";
const { checks } = await import(process.env.CHECKS);
const numbers = JSON.parse(readFileSync(process.env.NUMBERS, "utf8"));
for (const [name, check] of Object.entries(checks(numbers))) test(name, check);
"""


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node on this machine: the same checks run in Chromium")
    return found


def _keys(file: str, table: str) -> set[str]:
    """Return the keys of an object literal of a script."""
    body = re.search(rf"const {table} = {{(.*?)\n}};", (PAGE / file).read_text(encoding="utf-8"), re.DOTALL)
    assert body is not None
    return set(re.findall(r'^  "?([\w-]+)"?:', body[1], re.MULTILINE))


def test_every_kind_of_noise_is_known_to_the_scripts_and_the_figures() -> None:
    kinds = {name for name, kind in KINDS.items() if not kind.drops}
    assert _keys("noise-strip.js", "KIND_NAMES") == KINDS.keys()
    assert _keys("noise-density.js", "SHAPES") == {DRAWN_AS[name] for name in kinds}
    densities = _keys("noise-maths.js", "DENSITIES")
    assert densities | {"bernoulli"} == {DRAWN_AS[name] for name in kinds}, "a discrete draw is a branch of `theory`"
    assert numbers()["densities"].keys() == densities, "every density is compared with a reference"
    assert DASHES.keys() == KINDS.keys()


def test_mathematics_of_the_page_is_that_of_python(node: str, tmp_path: Path) -> None:
    (tmp_path / "numbers.json").write_text(json.dumps(numbers()), encoding="utf-8")
    (tmp_path / "run.test.mjs").write_text(RUN, encoding="utf-8")
    places = {"CHECKS": (ROOT / "tests" / "page_modules.mjs").as_uri(), "NUMBERS": str(tmp_path / "numbers.json")}
    command = [node, "--test", str(tmp_path / "run.test.mjs")]
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "# pass 19" in done.stdout


def test_modules_that_stand_in_the_page_are_one_valid_script(node: str, tmp_path: Path) -> None:
    for name in ("page/first.js", "page/page.js", "report/report.js"):
        script = tmp_path / Path(name).name
        script.write_text(as_one(name), encoding="utf-8")
        done = subprocess.run([node, "--check", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_modules_in_one_script_keep_their_own_names(node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(javascript, "assets", lambda: tmp_path)
    (tmp_path / "one.js").write_text("const hidden = 1;\nexport const shown = hidden + 1;\n")
    (tmp_path / "two.js").write_text(
        'import { shown as other } from "./one.js";\nconst hidden = 10;\nexport const shown = other + hidden;\n'
    )
    (tmp_path / "all.js").write_text(
        'import * as one from "./one.js";\nimport { shown } from "./two.js";\nconsole.log(one.shown, shown);\n'
    )
    (tmp_path / "script.js").write_text(as_one("all.js"))
    done = subprocess.run([node, str(tmp_path / "script.js")], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2 12\n", "")


def test_every_module_of_the_page_is_in_its_one_script() -> None:
    whole = as_one("page/page.js")
    lasts = {path.name: path.read_text(encoding="utf-8").rstrip().splitlines()[-1] for path in PAGE.glob("*.js")}
    apart = {"first.js", "language.js"}  # in the HTML
    assert {name for name, last in lasts.items() if last.removeprefix("export ") not in whole} - apart == set()
    assert not re.search(r"^(import|export) |import\(", whole, re.MULTILINE)


def test_every_module_is_checked_with_its_types() -> None:
    """`tsc` is run where it is installed; nothing is fetched for it."""
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("no TypeScript compiler on this machine: npm install --global typescript")
    done = subprocess.run([compiler, "-p", str(PAGE / "jsconfig.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_two_modules_have_a_helper_of_the_same_name_and_text() -> None:
    seen: dict[str, str] = {}
    for path in sorted(PAGE.glob("*.js")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(("const ", "export const ")) and "=>" in line:
                kept = line.removeprefix("export ")
                assert kept not in seen, f"{path.name} has the helper of {seen.get(kept)}: {kept}"
                seen[kept] = path.name
    assert len(seen) > 100
