"""The package: the cost of importing it, and the contents of its wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _runs(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


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
