"""The model panel: a download ends with the page that asked for it, and a real model is one click."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from neftune_core.models import loading
from neftune_core.models.settings import ModelSettings
from neftune_core.ui.parts import model_panel, strip

SECONDS = 10


@pytest.fixture
def panel() -> Any:
    with gr.Blocks() as built:
        model_panel.build(strip.build({}))
        model_panel.bundled_hint()
    return built


def test_a_download_stops_when_its_page_is_gone(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    def endless(settings: ModelSettings, *, progress: Any, cancelled: Callable[[], bool]) -> None:
        limit = time.monotonic() + SECONDS
        while not cancelled() and time.monotonic() < limit:
            time.sleep(0.01)
        ended.append(cancelled())

    monkeypatch.setattr(loading, "load", endless)
    bring = next(one for one in panel.fns.values() if one.name == "load_model")
    going = bring.fn(SimpleNamespace(session_hash="gone"), *[one.value for one in bring.inputs])
    next(going)
    assert not ended
    going.close()  # as the framework does once the connection of the page is gone
    limit = time.monotonic() + SECONDS
    while not ended and time.monotonic() < limit:
        time.sleep(0.01)
    assert ended == [True]
    assert "gone" not in model_panel.stop_signals


def test_the_note_on_the_bundled_model_offers_a_real_one_with_its_size(panel: Any) -> None:
    (note,) = [one.value for one in panel.blocks.values() if "lab-hint" in str(getattr(one, "value", ""))]
    assert "knows only one invented village" in note
    assert "Use smollm2-135m-instruct (93 MB, about 15 s at 50 Mbit/s)" in note


def test_where_only_other_models_are_allowed_no_button_promises_the_real_one() -> None:
    with gr.Blocks() as built:
        model_panel.bundled_hint(["bundled"])
    (note,) = [one.value for one in built.blocks.values() if "lab-hint" in str(getattr(one, "value", ""))]
    assert "<button" not in note
