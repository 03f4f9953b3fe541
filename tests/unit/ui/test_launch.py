"""Launch options of a page with many visitors."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from neftune_core.settings import Limits
from neftune_core.ui.server import framework, launch
from neftune_core.ui.server.launch import SESSIONS, Serving, cache_signatures, launch_options


def small_page() -> gr.Blocks:
    with gr.Blocks() as page:
        gr.Slider(0, 10, value=3, elem_id="strength")
        gr.Textbox("Hello", elem_id="text")
        gr.HTML("<p>figure</p>")
    return page


def test_what_the_server_keeps_of_calls_and_visitors_is_bounded() -> None:
    page = small_page()
    assert launch_options(page, Serving(), Limits())["state_session_capacity"] == SESSIONS
    page.queue()
    assert page._queue.ANALYTICS_MAX_EVENTS == 100
    assert page._queue.ANAYLTICS_CACHE_FREQUENCY == 1000


def test_a_kept_signature_is_that_of_the_class_and_describes_the_component_as_before() -> None:
    page = small_page()
    kinds = {type(block) for block in page.blocks.values()}
    signatures = {kind: inspect.signature(kind.__init__) for kind in kinds}
    described = [block.get_config() for block in page.blocks.values()]
    cache_signatures(page)
    assert all("__signature__" in vars(kind.__init__) for kind in kinds)
    assert {kind: inspect.signature(kind.__init__) for kind in kinds} == signatures
    assert [block.get_config() for block in page.blocks.values()] == described


def test_visitors_are_answered_soon_and_no_call_searches_for_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.getswitchinterval()
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    launch.reduce_call_latency()
    assert sys.getswitchinterval() == pytest.approx(launch.SWITCH_SECONDS)
    assert sys.modules["matplotlib"] is None
    monkeypatch.delitem(sys.modules, "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    launch.reduce_call_latency()
    assert "matplotlib" not in sys.modules
    sys.setswitchinterval(before)


def test_all_sheets_of_the_framework_are_sent_as_one_and_marked_as_known() -> None:
    sheets, head = framework.sheets(), launch.head()
    assert len(sheets) > 50
    for url in sheets:
        assert f'<link rel="stylesheet" href="{url}" disabled>' in head
    merged = framework.one_sheet()
    used = set(re.findall(r"""url\(["']?(?!data:|#)([^)"']+)""", merged))
    assert used and all(url.startswith("../../assets/") for url in used)
    folder = next(iter(sheets.values())).parent
    assert all((folder / url.removeprefix("../../assets/")).is_file() for url in used)


def test_the_sheet_that_resets_everything_comes_first() -> None:
    names = [path.name for path in framework.sheets().values()]
    assert names[0].startswith(("index-", "core-")) and names[1].startswith(("index-", "core-"))


def test_the_small_scripts_of_the_framework_are_sent_as_one_and_keep_their_imports() -> None:
    found = framework.scripts(["slider", "textbox", "html"])
    alone = framework.scripts(["slider"])
    assert alone.keys() < found.keys()
    for name, text in found.items():
        served = (framework.FOLDER / name).read_text(encoding="utf-8")
        assert text.replace(framework.SPECIFIER, "./") == served
        assert "./" not in re.findall(r'(?:from|import)"([^"]*/)', text)
        assert len(served) <= framework.LARGEST_SCRIPT and "import(" not in served and "import.meta" not in served
    assert json.dumps(found) in framework.one_script(["slider", "textbox", "html"])


def test_a_script_of_the_framework_that_was_renamed_is_only_fetched_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "assets"
    folder.mkdir()
    monkeypatch.setattr(framework, "FOLDER", folder)
    (tmp_path / "index.html").write_text('<script type="module" src="./other/entry.js"></script>')
    assert framework.scripts(["slider"]) == {}
    (tmp_path / "index.html").write_text('<script type="module" src="./assets/entry.js"></script>')
    (folder / "entry.js").write_text(
        'import{a}from"./small.js";import"./gone.js";'
        "b={slider:{component:()=>v(()=>import(`./Index-slider.js`),[1],import.meta.url)},"
        "plot:{component:()=>v(()=>import(`./Index-plot.js`),[1],import.meta.url)}};c=import(`./Blocks-x.js`)"
    )
    (folder / "small.js").write_text('import"./leaf.js";export const a=1')
    (folder / "leaf.js").write_text("export{}")
    for name in ("Index-slider.js", "Index-plot.js"):
        (folder / name).write_text('import k from"./small.js";export{k}')
    (folder / "Blocks-x.js").write_text("import(`./late.js`)")
    assert framework.scripts(["slider"]) == {
        "Index-slider.js": 'import k from"framework/small.js";export{k}',
        "leaf.js": "export{}",
        "small.js": 'import"framework/leaf.js";export const a=1',
    }


def test_mended_scripts_of_the_framework_differ_by_what_is_inserted() -> None:
    inserted = {
        "Blocks": r"async set_event_args\(\w+,(\w+)\)\{(if\(!Object\.keys\(\1\)\.length\)return\(\)=>\{\};)",
        "statustracker": r"()((\w+)\(\(\)=>(\w+)\),)\3\(\(\)=>\{\w+\.status===`pending`.{1,30}\4\(\)",
    }
    mended = framework.patched_scripts()
    assert {name.partition("-")[0] for name in mended} == set(inserted)
    for name, text in mended.items():
        found = re.search(inserted[name.partition("-")[0]], text)
        assert found and text.replace(found[2], "", 1) == (framework.FOLDER / name).read_text(encoding="utf-8")


def test_scripts_of_the_framework_without_these_places_are_served_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Blocks-1.js").write_text("async set_properties(e,t){}", encoding="utf-8")
    (tmp_path / "statustracker-1.js").write_text("O(()=>{o.status===`busy`?Ve():ee(()=>{He()})})", encoding="utf-8")
    monkeypatch.setattr(framework, "FOLDER", tmp_path)
    framework.patched_scripts.cache_clear()
    try:
        assert framework.patched_scripts() == {}
    finally:
        framework.patched_scripts.cache_clear()


def test_gradio_is_imported_without_comparing_its_classes_with_stub_files() -> None:
    code = """
import ast
parsed = []
parse, ast.parse = ast.parse, lambda source, *given, **named: (parsed.append(source), parse(source, *given, **named))[1]
from neftune_core.ui.server import launch
assert not [source for source in parsed if "(FormComponent" in str(source)], parsed
import inspect
from gradio.components import Slider
assert inspect.getfile(Slider).endswith("slider.py")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
