"""The page: one strip on top, and the tabs below it."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from neftune_core.models.settings import ModelSettings
from neftune_core.ui import learn_tab, noise_tab, strip
from neftune_core.ui.previews import FirstPreview
from neftune_core.ui.wiring import fill_owner_key, owner_key

TITLE = "NEFTune Lab"


def build(first: FirstPreview | None = None, models: Sequence[tuple[str, str]] = ()) -> gr.Blocks:
    """The whole page, ready for `serve.serve`."""
    first = first or FirstPreview()
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as page:
        key = owner_key()
        top = strip.build(models or [("Bundled model", ModelSettings().source)], {})
        with gr.Tabs(elem_id="lab-tabs", selected="noise"):
            with gr.Tab("Learn", id="learn"):
                learn_tab.build()
            with gr.Tab("Noise", id="noise"):
                noise = noise_tab.build(top, first)
        top.tools.value = noise_tab.link_parameters(noise)
        noise_tab.on_load(page, noise, first)
        fill_owner_key(page, key)
    return page
