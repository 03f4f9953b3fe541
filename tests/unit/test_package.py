"""The package: the cost of importing it, and the contents of its wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import grimp

import neftune_core

ROOT = Path(__file__).parents[2]


def _runs(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_map_lists_every_package_in_the_order_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [name.removeprefix("neftune_core.") for name in contract[0]["layers"]]
    assert re.findall(r"^    (\w+)  ?\s*\w", neftune_core.__doc__ or "", re.MULTILINE)[: len(layers) - 1] == layers[1:]


def test_packages_list_modules_that_exist() -> None:
    listed = 0
    for file in (ROOT / "neftune_core").rglob("__init__.py"):
        words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        names = re.findall(r"^ *(\w+)  +\w", words, re.MULTILINE) if file.parent.name != "neftune_core" else []
        listed += len(names)
        assert [name for name in names if not [*file.parent.rglob(f"{name}.py"), *file.parent.rglob(name)]] == [], file
    assert listed > 50


def test_no_module_imports_itself_through_others() -> None:
    """Imports for types and imports inside functions count too."""
    graph = grimp.build_graph("neftune_core", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports["neftune_core.noise.batch"]) > 2
    TopologicalSorter(imports).prepare()  # raises CycleError with the cycle


def test_folders_files_and_functions_stay_small() -> None:
    files = [*(ROOT / "neftune_core").rglob("*.py")]
    folders = Counter(file.parent for file in files if file.name != "__init__.py")
    assert {str(folder): count for folder, count in folders.items() if count > 15} == {}
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    assert [str(file) for file, text in texts.items() if len(text.splitlines()) > 400] == []
    functions = (node for text in texts.values() for node in ast.walk(ast.parse(text)))
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno
        for node in functions
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_every_class_has_a_name_of_its_own() -> None:
    texts = (file.read_text(encoding="utf-8") for file in (ROOT / "neftune_core").rglob("*.py"))
    classes = Counter(node.name for text in texts for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    assert classes["StudyProgress"] == 1
    assert {name for name, count in classes.items() if count > 1} == set()


def test_importing_the_page_brings_neither_torch_nor_plotly() -> None:
    heavy = _runs(
        "import sys; from neftune_core.ui import page; from neftune_core.ui.server import serve; page.build(); "
        "print([name for name in ('torch', 'transformers', 'datasets', 'plotly') if name in sys.modules])"
    )
    assert heavy.strip().splitlines()[-1] == "[]"


def test_a_wheel_carries_the_assets_and_serves_them_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert "neftune_core/assets/page/plot.js" in names
    assert "neftune_core/assets/starters/open-ended.jsonl" in names
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import neftune_core.home as home; "
        "from neftune_core.ui import page; page.build(); print(home.assets())"
    )
    assert _runs(code).strip().splitlines()[-1] == str(tmp_path / "site" / "neftune_core" / "assets")


INSIDE = {"gradio_client": "gradio", "pydantic_core": "pydantic"}  # versions that another package pins exactly


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", one)[0].lower().replace("_", "-") for one in requirements}


def test_every_package_that_is_imported_is_declared() -> None:
    told = project()["project"]
    declared = names_of([*told["dependencies"], *chain(*told["optional-dependencies"].values())])
    imported = {
        name.split(".")[0]
        for path in (ROOT / "neftune_core").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    outside = imported - set(sys.stdlib_module_names) - {"neftune_core", "__future__"}
    known = packages_distributions()
    missing = {name for name in outside if not names_of([INSIDE.get(name, known.get(name, [name])[0])]) & declared}
    assert missing == set()


def test_the_groups_for_development_are_the_extra_for_tests() -> None:
    groups, extra = project()["dependency-groups"], project()["project"]["optional-dependencies"]["test"]
    listed = [one for found in groups["dev"] for one in groups[found["include-group"]]]
    assert sorted(listed) == sorted(extra)


def test_the_tested_set_lies_in_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    for one in map(Requirement, project()["project"]["dependencies"]):
        assert one.specifier.contains(tested[one.name.lower().replace("_", "-")]), one
