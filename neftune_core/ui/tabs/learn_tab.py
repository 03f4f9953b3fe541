"""The Learn tab: the lessons, and an animation of a recorded study."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from neftune_core.language import current, later, say
from neftune_core.lessons.files import Lesson, lesson_file, lessons
from neftune_core.ui.parts.markup import page_html, quiet
from neftune_core.ui.parts.plot import live_figure, part, scripted
from neftune_core.ui.parts.recorded_study import RecordedStudy
from neftune_core.ui.parts.wiring import QUIET
from neftune_core.ui.tabs import learn_faults

FORMULAS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]

ANSWERED = later(
    "The same held-out prompts, answered by the base model before training (base), the model trained without noise "
    "(control), and the arms trained with noise. Noise is off during generation."
)


def build(shown: RecordedStudy | None) -> list[tuple[Lesson, gr.Button]]:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        shown: The recorded study; None for none.

    Returns:
        The lessons, each with the button that sets up the page; `page.connect_lessons` connects it.
    """
    with gr.Column(elem_id="learn-home"):
        if shown is not None:
            scripted("recorded", page_html("stage"), shown.stage, "learn-stage")
        with gr.Row(elem_id="learn-next"):
            noise = gr.Button(say("Change the noise yourself"), variant="primary", size="md", elem_id="learn-to-noise")
            train = gr.Button(say("Set up your own study"), size="md", elem_id="learn-to-train")
            about = {"model": shown.model, "data": shown.data} if shown is not None else {}
            scripted("next-study", '<p class="lab-quiet"></p>', about, "learn-next-study")
        listed = f'<nav class="lab-lessons" aria-label="{say("Lessons")}"><h2>{say("Lessons")}</h2><ol></ol></nav>'
        scripted("lessons", listed, [_entry(lesson) for lesson in lessons()], "learn-lessons")
        if shown is not None:
            _evidence(shown)
        intro = lesson_file("intro.md", current()).read_text(encoding="utf-8")
        gr.Markdown(intro, elem_id="learn-text", latex_delimiters=FORMULAS)
    buttons = []
    for lesson in lessons():
        with gr.Column(elem_id=f"lesson-{lesson.number}", elem_classes=["lab-lesson"]):
            gr.HTML(_heading(lesson), apply_default_css=False, elem_classes=["lab-lesson-head"])
            gr.Markdown(lesson.text, latex_delimiters=FORMULAS, elem_classes=["lab-lesson-text"])
            if lesson.faults:
                learn_faults.build()
            words = say("Set up the page and open {tab}", tab=say(lesson.tab)) if lesson.preset else say("Begin")
            buttons.append(
                gr.Button(
                    words,
                    variant="primary",
                    size="md",
                    visible=bool(lesson.preset),
                    elem_id=f"lesson-begin-{lesson.number}",
                    elem_classes=["lab-begin"],
                )
            )
            gr.HTML(_tasks(lesson) + _end(lesson), apply_default_css=False, elem_classes=["lab-lesson-tasks"])
    noise.click(None, None, None, js="() => Lab.openTab('Noise')", **QUIET)
    train.click(None, None, None, js="() => Lab.openTab('Train')", **QUIET)
    return list(zip(lessons(), buttons, strict=True))


def dock() -> None:
    """Build the tasks of the open lesson, which stay visible above the tabs."""
    scripted("lesson-dock", page_html("lesson-dock"), [_entry(lesson) for lesson in lessons()], "lesson-dock")


def _evidence(shown: RecordedStudy) -> None:
    """Build the figures and the answers of the recorded study."""
    answered = f"<h2>{say('Answers after training')}</h2>{quiet(say(ANSWERED))}"
    gr.HTML(answered, apply_default_css=False, elem_id="learn-recorded")
    gr.HTML(shown.answers, apply_default_css=False, elem_id="learn-answers", js_on_load=part("recorded-answers"))
    live_figure(shown.curves, elem_id="learn-curves")


def _entry(lesson: Lesson) -> dict[str, Any]:
    tasks = [{"text": task.text, "when": task.when} for task in lesson.tasks]
    fields = {name: getattr(lesson, name) for name in ("number", "title", "minutes", "tab", "seen", "stage")}
    return {**fields, "tasks": tasks}


def _heading(lesson: Lesson) -> str:
    place = say("{number} of {count}", number=lesson.number, count=len(lessons()))
    minutes = say("{minutes} min", minutes=lesson.minutes)
    return (
        f'<p class="lab-quiet"><a href="#" data-do="lessons">{say("Lessons")}</a> · {place} · {minutes}</p>'
        f"<h2>{html.escape(lesson.title)}</h2>"
    )


def _tasks(lesson: Lesson) -> str:
    items = "".join(
        f'<li data-lesson="{lesson.number}" data-task="{place}">{html.escape(task.text)}</li>'
        for place, task in enumerate(lesson.tasks)
    )
    return f'<h3>{say("Tasks")}</h3><ul class="lab-tasks">{items}</ul>'


def _end(lesson: Lesson) -> str:
    """Return HTML with the expected observations in a collapsed section, and a button that opens the next lesson."""
    words, has_next = say("What you should have seen"), lesson.number < len(lessons())
    observations = f"<summary>{words}</summary><p>{html.escape(lesson.seen)}</p>"
    button = f'<button type="button" class="lab-next-lesson" data-do="next-lesson">{say("Next lesson")}</button>'
    return f'<details class="lab-lesson-end">{observations}</details>{button if has_next else ""}'
