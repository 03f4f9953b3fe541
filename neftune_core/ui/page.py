"""The page: a strip at the top and tabs below it, and the set-ups of lessons and recorded studies."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core.data.formats.starters import data_title
from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import CHINESE, in_language, later, say
from neftune_core.lessons.files import Lesson, study_facts
from neftune_core.studies.records.record import find
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import cells
from neftune_core.ui import page_state
from neftune_core.ui.page_state import PageParts, PageState
from neftune_core.ui.parts import model_panel, strip
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.recorded_study import read_recorded_study
from neftune_core.ui.parts.state_fields import Fields
from neftune_core.ui.parts.wiring import LATEST, QUIET, events, owner_key, reports_errors
from neftune_core.ui.server import first_view
from neftune_core.ui.server.api import endpoints
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.previews import FirstPreview
from neftune_core.ui.sharing import class_view, link_panel, shared_study
from neftune_core.ui.study_state import study_state
from neftune_core.ui.study_text import runs_text
from neftune_core.ui.tabs import compare_tab, data_tab, learn_tab, noise_tab, runs_tab, sweep_tab, train_tab
from neftune_core.ui.tabs.noise_tab import update_range_after
from neftune_core.ui.tabs.train_tab import NOTHING_YET
from neftune_core.ui.tabs.views import compare_inside, noise_inside, noise_loss

PRESET_PREFIXES = ("noise.", "train.", "measuring.", "view")
"""Prefixes of the values that a lesson sets; those that its preset omits are reset to their initial values."""
DATA = "data"


def _preset_of(fields: Fields, lesson: Lesson) -> dict[str, Any]:
    """Return the page's values for a lesson by name; settings with `PRESET_PREFIXES` that it omits are reset."""
    given = {name: value for name, value in lesson.preset.items() if name != DATA}
    fitting, lost = fields.fitting(given)
    if lost or given.keys() - fitting.keys():
        raise ValueError(f"the preset of {lesson.title!r} does not fit: {[*lost, *(given.keys() - fitting.keys())]}")
    initial = {
        name: found["value"] for name, found in fields.initial_values().items() if name.startswith(PRESET_PREFIXES)
    }
    return {**initial, **fitting}


def connect_lessons(buttons: Sequence[tuple[Lesson, gr.Button]], page: PageParts) -> None:
    """Connect the lesson buttons to their presets, and send facts about a finished study to the browser for its tasks.

    Args:
        buttons: The lessons with their buttons.
        page: The parts of the page.
    """
    state, noise, data, key = PageState(page), page.noise.noise, page.data, page.key
    ids = json.dumps([noise.elem_id(name) for name in noise.names] + ["noise-view"])
    train, watched = page.train, page.strip.watched
    outputs = [*state.components(), data.inputs.source, data.inputs.starter, train.state, train.curves]

    def preset(lesson: Lesson, watched: str) -> list[Any]:
        """Apply the preset; a lesson on the Train tab also hides the recorded study, whose settings differ."""
        values = state.updates(_preset_of(state.fields, lesson))
        source = str(lesson.preset.get(DATA, EXAMPLE.data.source)).removeprefix("starter:")
        is_empty = lesson.tab == "Train" and not watched
        shown = [quiet(say(NOTHING_YET)), None] if is_empty else [gr.skip(), gr.skip()]
        return [*values, "starter", source, *shown]

    for lesson, button in buttons:
        if not lesson.preset:
            continue
        then = f"() => {{ Lab.changed(...{ids}); Lab.openTab({json.dumps(lesson.tab)}); Lab.showDock(); }}"
        done = button.click(functools.partial(preset, lesson), watched, outputs, **QUIET)
        update_range_after(done, noise)
        done = done.then(None, None, None, js=then)
        data.read_after(done)
    results = scripted("facts", value={}, elem_id="study-facts")

    @reports_errors
    def result_facts(key: str, finished: str) -> Any:
        return study_facts(find(finished.partition("#")[0], require_key(key))) if finished else gr.skip()

    train.finished.change(result_facts, [key, train.finished], results, **QUIET)


def recorded_studies(lab: Lab) -> dict[str, tuple[Sweep, StudySettings]]:
    """Return the recorded sweeps that compare one noise arm with the control, and their studies, by starter set.

    Each study has the number of seeds that the verdict requires for a claim.
    """
    found = {}
    for sweep in lab.recorded_sweeps:
        studies = [cell.study for cell in cells(sweep.settings)]
        if not studies or studies[0].methods:
            continue
        if {study.noise for study in studies} == {studies[0].noise} and len(studies[0].noise) == 1:
            name = studies[0].data.source.removeprefix("starter:")
            found[name] = sweep, studies[0].model_copy(update={"seeds": CLAIM_SEEDS})
    return found


def effect_words(lab: Lab, starter: str) -> str:
    """Describe the effect of noise in the recorded sweep on a starter set.

    Args:
        lab: The state shared by all visitors.
        starter: Name of the starter set.

    Returns:
        HTML; "" if there is no such sweep or it has no verdict.
    """
    sweep, study = recorded_studies(lab).get(starter, (None, None))
    found = lab.sweep_table(sweep).verdict if sweep else None
    if not sweep or not study or not found:
        return ""
    runs = runs_text(study, sweep.about_table("data").get("train", 0))
    return quiet(say("Recorded with this set, {runs}: {result}", runs=runs, result=found.opening[0].text()))


def connect_recorded(page: PageParts) -> None:
    """Connect the recorded effect to the choice of the starter set, and its button to the forms on all tabs."""
    state, lab, data = PageState(page), page.lab, page.data.inputs

    @reports_errors
    def show(source: str, starter: str) -> list[Any]:
        words = effect_words(lab, starter) if source == "starter" else ""
        return [words, gr.update(visible=bool(words))]

    @reports_errors
    def set_up(starter: str) -> list[Any]:
        _, study = recorded_studies(lab)[starter]
        return [*state.updates(study_state(state.fields, study)), *state.use(study.model, study.data)]

    chosen = [data.source, data.starter]
    changed = [page.data.tab.select, *(events(found).change for found in chosen)]
    gr.on(changed, show, chosen, [data.effect, data.use_effect], **LATEST)
    outputs = [*state.components(), *state.in_use_components()]
    done = state.after(data.use_effect.click(set_up, data.starter, outputs, **QUIET))
    done.then(None, None, None, js="() => Lab.openTab('Train')")


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
    connect_lessons(learn, parts)
    connect_recorded(parts)
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
