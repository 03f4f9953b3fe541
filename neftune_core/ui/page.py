"""The page: a strip at the top and tabs below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from gradio.components import Component

from neftune_core.data.formats.starters import data_title
from neftune_core.language import CHINESE, in_language, later, say
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page_presets, page_state
from neftune_core.ui.parts import model_panel, strip
from neftune_core.ui.parts.recorded_study import read_recorded_study
from neftune_core.ui.parts.wiring import owner_key
from neftune_core.ui.server import first_view
from neftune_core.ui.server.api import endpoints
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.previews import FirstPreview
from neftune_core.ui.sharing import class_view, link_panel, shared_study
from neftune_core.ui.tabs import compare_tab, data_tab, learn_tab, noise_tab, runs_tab, sweep_tab, train_tab
from neftune_core.ui.tabs.views import compare_inside, noise_inside, noise_loss

TITLE = "NEFTune Lab"
CHINESE_PATH = "/zh"


def build(lab: Lab | None = None, first: FirstPreview | None = None) -> gr.Blocks:
    """Build the page for `launch.launch`, in English at the root and in Chinese at `CHINESE_PATH`.

    Args:
        lab: The state shared by all visitors; a new one if None.
        first: The first preview; a new one if None.

    Returns:
        The page.

    Raises:
        InvalidSetting: If a variable of the environment is not valid.
        NotAvailable: If the tracker is not installed.
    """
    lab, first = lab or Lab(), first or FirstPreview()
    with gr.Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as page:
        _build(page, lab, first)
        endpoints.build(lab)
    with in_language(CHINESE), page.route("中文", CHINESE_PATH, show_in_navbar=False):
        _build(page, lab, first)
    return page


def _build(page: gr.Blocks, lab: Lab, first: FirstPreview) -> None:
    """Build the page in the current language, inside the open `page`."""
    shown = read_recorded_study(lab)
    key = owner_key()
    words = {
        "model": say("bundled model"),
        "data": data_title(EXAMPLE.data.source.removeprefix("starter:")),
        "seed": say("seed {seed}", seed=EXAMPLE.seed),
    }
    top = strip.build(words, lab.host.profile.model)
    model = model_panel.build(top, lab.host.models)
    link_panel.build(lab, key)
    shared_study.build(lab, key)
    class_view.build(lab, key)
    learn_tab.dock()
    with gr.Tabs(elem_id="lab-tabs", selected="noise"):  # learn.js then opens the requested tab
        with _tab("learn"):
            learn = learn_tab.build(shown)
        with _tab("noise"):
            noise = noise_tab.build(top, first)
        with _tab("data") as tab:
            data = data_tab.build(lab, top, tab)
        with _tab("train") as tab:
            train = train_tab.build(train_tab.TabContext(lab, top, data, noise, key, tab), shown)
        with _tab("compare") as tab:
            comparison = compare_tab.build(lab, top, train, key, shown, tab)
            compare_inside.build(lab, key, comparison)
        with _tab("sweep") as tab:
            sweep = sweep_tab.build(train_tab.TabContext(lab, top, data, noise, key, tab), train)
        with _tab("runs") as tab:
            runs_tab.build(lab, top, train, key, tab)
    noise_tab.on_load(page, noise, first)
    noise_inside.build(lab, top, noise)
    noise_loss.build(lab, top, data, noise)
    parts = page_state.PageParts(lab, top, key, noise, data, train, comparison, sweep, model, first)
    page_presets.connect_lessons(learn, parts)
    page_presets.connect_recorded(parts)
    page_state.build(page, parts)
    first_view.put(page, shown)
    _hide_progress(page, key)


def _hide_progress(page: gr.Blocks, hidden: Component) -> None:
    """Assign hidden progress indicators to one hidden component.

    By default Gradio assigns them to every output, and then updates all components that were ever outputs at each step
    of each call.
    """
    for function in page.fns.values():
        if function.targets and function.show_progress == "hidden" and function.show_progress_on is None:
            function.show_progress_on = [hidden]


TABS = {
    "learn": later("Learn"),
    "noise": later("Noise"),
    "data": later("Data"),
    "train": later("Train"),
    "compare": later("Compare"),
    "sweep": later("Sweep"),
    "runs": later("Runs"),
}


@contextmanager
def _tab(name: str) -> Iterator[gr.Tab]:
    """Open a tab that is mounted with the page and has a heading for screen readers.

    Scripts and links refer to the tab by `name`, which is not translated.
    """
    with gr.Tab(say(TABS[name]), id=name, elem_id=f"tab-{name}", render_children=True) as tab:
        gr.HTML(f"<h2>{say(TABS[name])}</h2>", elem_classes=["visually-hidden"], apply_default_css=False)
        yield tab
