"""Apply a lesson's preset: set the controls of the other tabs, and open its tab."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.lessons.facts import study_facts
from neftune_core.lessons.files import Lesson
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Settings, from_query
from neftune_core.studies.records.record import find
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.parts.plot import part
from neftune_core.ui.parts.wiring import QUIET, reports_errors
from neftune_core.ui.server.lab import require_key
from neftune_core.ui.tabs.data_tab import DataTab
from neftune_core.ui.tabs.learn_tab import LearnTab
from neftune_core.ui.tabs.noise_tab import FIRST_VIEW, NoiseTab, strength_of, update_range_after
from neftune_core.ui.tabs.train_form import set_together, training_updates
from neftune_core.ui.tabs.train_tab import TrainTab


@dataclass(frozen=True)
class PresetTargets:
    """The tabs that a preset sets."""

    noise: NoiseTab
    data: DataTab
    train: TrainTab

    def components(self) -> list[Any]:
        form = self.train.form
        own = [*self.noise.noise.components, self.noise.view, self.data.source, self.data.starter]
        return [*own, form.strengths, form.together, form.seed, form.seeds, *form.training.components]

    def values(self, lesson: Lesson) -> list[Any]:
        """Return updates of `components()`; settings that the preset omits get their initial values."""
        presets = {name: str(value) for name, value in lesson.preset.items()}
        noise = from_query(NoiseSettings, _of(presets, "noise."))
        values = self.noise.noise.values(noise)
        slider = strength_of(noise)
        data = presets.get("data", EXAMPLE.data.source).removeprefix("starter:")
        training = from_query(type(EXAMPLE.training), {**_text(EXAMPLE.training), **_of(presets, "train.")})
        strengths = presets.get("train.strengths", "15")
        return [
            *[slider, *values[1:], presets.get("view", FIRST_VIEW), "starter", data],
            *[strengths, set_together(strengths, noise.unit)],
            *[EXAMPLE.seed, int(presets.get("train.seeds", EXAMPLE.seeds))],
            *training_updates(self.train.form, training),
        ]


def _of(presets: dict[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in presets.items() if name.startswith(prefix)}


def _text(settings: Settings) -> dict[str, str]:
    return {name: str(value) for name, value in settings.model_dump().items()}


def connect(learn: LearnTab, page: PresetTargets, key: gr.Textbox) -> None:
    """Let each lesson's button apply its preset, and pass the results of a finished study to the browser.

    Args:
        learn: The Learn tab.
        page: The tabs that a preset sets.
        key: Component with the visitor's key.
    """
    ids = json.dumps([page.noise.noise.elem_id(name) for name in page.noise.noise.names] + ["noise-view"])
    for lesson, button in zip(learn.lessons, learn.buttons, strict=True):
        if not lesson.preset:
            continue
        then = f"() => {{ Lab.changed(...{ids}); Lab.openTab({json.dumps(lesson.tab)}); }}"
        done = button.click(functools.partial(page.values, lesson), None, page.components(), **QUIET)
        update_range_after(done, page.noise.noise)
        done = done.then(None, None, None, js=then)
        done.then(page.data.reread.handler, page.data.reread.inputs, page.data.reread.outputs, **QUIET)
    told_facts = gr.HTML({}, html_template="", js_on_load=part("facts"), apply_default_css=False, elem_id="study-facts")

    @reports_errors
    def look(key: str, finished: str) -> Any:
        return study_facts(find(finished, require_key(key))) if finished else gr.skip()

    page.train.finished.change(look, [key, page.train.finished], told_facts, **QUIET)
