"""The page: one strip on top, and the tabs below it."""

from __future__ import annotations

import gradio as gr

from neftune_core.training.settings import EXAMPLE
from neftune_core.ui import (
    api,
    compare_tab,
    data_tab,
    first_view,
    learn_tab,
    lesson_presets,
    model_panel,
    noise_loss,
    noise_tab,
    remembering,
    runs_tab,
    strip,
    sweep_tab,
    train_tab,
)
from neftune_core.ui.lab import Lab
from neftune_core.ui.previews import FirstPreview
from neftune_core.ui.recorded import recorded
from neftune_core.ui.wiring import fill_owner_key, owner_key

TITLE = "NEFTune Lab"
FIRST_WORDS = {
    "model": "bundled model",
    "data": EXAMPLE.data.source.removeprefix("starter:"),
    "seed": f"seed {EXAMPLE.seed}",
}


def build(lab: Lab | None = None, first: FirstPreview | None = None) -> gr.Blocks:
    """The whole page, ready for `launch.launch`."""
    lab, first = lab or Lab(), first or FirstPreview()
    shown = recorded(lab)
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as page:
        key = owner_key()
        top = strip.build(FIRST_WORDS, lab.host.profile.model)
        model = model_panel.build(top, lab.host.models)
        with gr.Tabs(elem_id="lab-tabs", selected="noise"):  # learn.js opens the one that is wanted
            with gr.Tab("Learn", id="learn", elem_id="tab-learn", render_children=True):
                learn = learn_tab.build(shown)
            with gr.Tab("Noise", id="noise", elem_id="tab-noise", render_children=True):
                noise = noise_tab.build(top, first)
            with gr.Tab("Data", id="data", elem_id="tab-data", render_children=True) as place:
                data = data_tab.build(lab, top, place)
            with gr.Tab("Train", id="train", elem_id="tab-train", render_children=True) as place:
                train = train_tab.build(train_tab.Around(lab, top, data, noise, key, place), shown)
            with gr.Tab("Compare", id="compare", elem_id="tab-compare", render_children=True):
                comparison = compare_tab.build(lab, train, key, shown)
            with gr.Tab("Sweep", id="sweep", elem_id="tab-sweep", render_children=True) as place:
                sweep_tab.build(train_tab.Around(lab, top, data, noise, key, place), train)
            with gr.Tab("Runs", id="runs", elem_id="tab-runs", render_children=True) as place:
                runs_tab.build(lab, top, train, key, place)
        learn_tab.dock()
        lesson_presets.connect(learn, lesson_presets.Page(noise, data, train), key)
        top.tools.value = {**noise_tab.link_parameters(noise), **compare_tab.link_parameters(comparison)}
        noise_tab.on_load(page, noise, first)
        compare_tab.on_load(page, comparison)
        noise_loss.build(lab, top, data, noise)
        remembering.build(page, remembering.Around(lab, top, key, noise, data, train, model))
        fill_owner_key(page, key)
        api.build(lab)
    first_view.put(page, shown)
    return page
