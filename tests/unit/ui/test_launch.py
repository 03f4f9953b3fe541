"""Launch options of a page with many visitors."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys

import gradio as gr
import pytest

from neftune_core.settings import Limits
from neftune_core.ui.server import launch, theme
from neftune_core.ui.server.launch import SESSIONS, Serving, keep_signatures, launch_options


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
    keep_signatures(page)
    assert all("__signature__" in vars(kind.__init__) for kind in kinds)
    assert {kind: inspect.signature(kind.__init__) for kind in kinds} == signatures
    assert [block.get_config() for block in page.blocks.values()] == described


def test_visitors_are_answered_soon_and_no_call_searches_for_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.getswitchinterval()
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    launch.answer_promptly()
    assert sys.getswitchinterval() == pytest.approx(launch.SWITCH_SECONDS)
    assert sys.modules["matplotlib"] is None
    monkeypatch.delitem(sys.modules, "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    launch.answer_promptly()
    assert "matplotlib" not in sys.modules
    sys.setswitchinterval(before)


def test_all_sheets_of_the_framework_are_sent_as_one_and_marked_as_known() -> None:
    sheets, head = theme.framework_sheets(), launch.head()
    assert len(sheets) > 50
    for url in sheets:
        assert f'<link rel="stylesheet" href="{url}" disabled>' in head
    merged = theme.framework_css("../..")
    used = set(re.findall(r"""url\(["']?(?!data:|#)([^)"']+)""", merged))
    assert used and all(url.startswith("../../assets/") for url in used)
    folder = next(iter(sheets.values())).parent
    assert all((folder / url.removeprefix("../../assets/")).is_file() for url in used)


def test_the_sheet_that_resets_everything_comes_first() -> None:
    names = [path.name for path in theme.framework_sheets().values()]
    assert names[0].startswith(("index-", "core-")) and names[1].startswith(("index-", "core-"))
