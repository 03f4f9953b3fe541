"""Set up the page for a lesson or for a recorded study, and show the recorded effect of noise on a starter set."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import say
from neftune_core.lessons.facts import study_facts
from neftune_core.lessons.files import Lesson
from neftune_core.studies.records.record import find
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import cells
from neftune_core.ui.page_state import PageParts, PageState
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.state_fields import Fields
from neftune_core.ui.parts.wiring import LATEST, QUIET, events, reports_errors
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.study_state import study_state
from neftune_core.ui.study_text import runs_text
from neftune_core.ui.tabs.noise_tab import update_range_after
from neftune_core.ui.tabs.train_tab import NOTHING_YET

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
