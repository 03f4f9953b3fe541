"""Apply the preset of a lesson to the page, and open the tab of the lesson."""

from __future__ import annotations

import functools
import json
from typing import Any

import gradio as gr

from neftune_core.language import say
from neftune_core.lessons.facts import study_facts
from neftune_core.lessons.files import Lesson
from neftune_core.studies.records.record import find
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page_state
from neftune_core.ui.page_state import PageParts
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.state_fields import Fields
from neftune_core.ui.parts.wiring import QUIET, reports_errors
from neftune_core.ui.server.lab import require_key
from neftune_core.ui.tabs.learn_tab import LearnTab
from neftune_core.ui.tabs.noise_tab import update_range_after
from neftune_core.ui.tabs.train_tab import NOTHING_YET

SET = ("noise.", "train.", "measuring.", "view")
"""Prefixes of the values that a lesson sets; values missing from its preset are reset to their initial values."""
DATA = "data"


def preset_of(fields: Fields, lesson: Lesson) -> dict[str, Any]:
    """Return the values that a lesson sets, by name.

    Args:
        fields: The named components of the page.
        lesson: The lesson.

    Returns:
        The values of the lesson, and the initial values of all other settings.

    Raises:
        ValueError: If the preset has an unknown name or an invalid value.
    """
    given = {name: value for name, value in lesson.preset.items() if name != DATA}
    fitting, lost = fields.fitting(given)
    if lost or given.keys() - fitting.keys():
        raise ValueError(f"the preset of {lesson.title!r} does not fit: {[*lost, *(given.keys() - fitting.keys())]}")
    initial = {name: place["value"] for name, place in fields.places().items() if name.startswith(SET)}
    return {**initial, **fitting}


def connect(learn: LearnTab, page: PageParts) -> None:
    """Connect the lesson buttons to their presets, and send the results of a finished study to the browser.

    Args:
        learn: The Learn tab.
        page: The parts of the page.
    """
    fields, noise, data, key = page_state.fields_of(page), page.noise.noise, page.data, page.key
    ids = json.dumps([noise.elem_id(name) for name in noise.names] + ["noise-view"])
    train, watched = page.train, page.strip.watched
    outputs = [*page_state.state_components(page, fields), data.source, data.starter, train.state, train.curves]

    def preset(lesson: Lesson, watched: str) -> list[Any]:
        """Apply the preset; a lesson on the Train tab also hides the recorded study, which has other settings."""
        values = page_state.state_updates(page, fields, preset_of(fields, lesson))
        source = str(lesson.preset.get(DATA, EXAMPLE.data.source)).removeprefix("starter:")
        is_empty = lesson.tab == "Train" and not watched
        shown = [quiet(say(NOTHING_YET)), None] if is_empty else [gr.skip(), gr.skip()]
        return [*values, "starter", source, *shown]

    for lesson, button in zip(learn.lessons, learn.buttons, strict=True):
        if not lesson.preset:
            continue
        then = f"() => {{ Lab.changed(...{ids}); Lab.openTab({json.dumps(lesson.tab)}); Lab.showDock(); }}"
        done = button.click(functools.partial(preset, lesson), watched, outputs, **QUIET)
        update_range_after(done, noise)
        done = done.then(None, None, None, js=then)
        done.then(data.reread.handler, data.reread.inputs, data.reread.outputs, **QUIET)
    results = scripted("facts", value={}, elem_id="study-facts")

    @reports_errors
    def look(key: str, finished: str) -> Any:
        return study_facts(find(finished.partition("#")[0], require_key(key))) if finished else gr.skip()

    train.finished.change(look, [key, train.finished], results, **QUIET)
