"""The Learn tab, which shows the lessons and an animation of a recorded study."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.language import current, later, say
from neftune_core.lessons.files import Lesson, lesson_file, lessons
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import CORNERS, live_figure, part, scripted
from neftune_core.ui.parts.recorded_study import RecordedStudy
from neftune_core.ui.parts.wiring import QUIET
from neftune_core.ui.tabs import learn_faults

FORMULAS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]

ANSWERED = later(
    "The same held-out prompts, answered by the untouched model (base), the model trained without noise (control), "
    "and the arms trained with noise. Noise is off during generation."
)


def stage_html() -> str:
    """Return the elements of the animated study, which stage.js fills."""
    norms = say(
        "The norm (vector length) of each token's embedding: grey without noise, coloured with this epoch's noise in "
        "the arm with the most noise. Every epoch draws new noise."
    )
    loss = say(
        "Loss: how surprised the model is by the right answer, measured without noise. Lower is better; 0 would mean "
        "certainty."
    )
    full = say("Full screen")
    return f"""<section class="lab-stage" aria-label="{say("A recorded study")}">
<h2>{say("What does a little noise do while a model learns?")}</h2>
<p class="lab-stage-lead"></p>
<p class="lab-stage-result"></p>
<p class="lab-stage-sure lab-quiet"></p>
<div class="lab-stage-panels">
<figure><h3>{say("Loss on the training examples")}</h3>
<svg data-panel="train" role="img" aria-label="{say("Loss on training rows")}"></svg></figure>
<figure><h3>{say("Loss on new examples")} <span class="lab-quiet">{say("held out, never trained on")}</span></h3>
<svg data-panel="held_out" role="img" aria-label="{say("Loss on held-out rows")}"></svg></figure>
</div>
<div class="lab-stage-time"><button type="button" data-do="play" aria-label="{say("Play the training")}"></button>
<input type="range" min="0" value="0" step="1" aria-label="{say("Step of the recorded training")}">
<output></output>
<button type="button" data-do="full" aria-pressed="false" title="{full}" aria-label="{full}">{CORNERS}</button></div>
<ul class="lab-stage-now" aria-label="{say("Losses at this step, noise off")}"></ul>
<p class="lab-quiet lab-stage-loss">{loss}</p>
<p class="lab-stage-best"></p>
<figure class="lab-stage-norms">
<h3>{say("One training row with its noise")} <span class="lab-quiet" data-word="epoch"></span></h3>
<div class="lab-stage-tokens" role="img"></div>
<figcaption class="lab-quiet">{norms}</figcaption></figure>
<p class="lab-stage-about"></p>
</section>"""


def _dock_html() -> str:
    busy = say(
        "Other studies are running. Until yours starts, you can look at recorded results: a study in lesson 4, and "
        "sweeps on the Sweep tab."
    )
    return f"""<aside class="lab-dock" aria-label="{say("The open lesson")}" tabindex="-1" hidden><p><b></b>
<span class="lab-quiet" data-word="count"></span></p>
<span class="lab-dock-tools"><button type="button" data-do="text">{say("Read")}</button>
<button type="button" data-do="fold" aria-expanded="true" aria-controls="lab-dock-body">{say("Collapse")}</button>
<button type="button" data-do="close" aria-label="{say("Close the lesson")}">{say("Close")}</button></span>
<div id="lab-dock-body"><ul></ul><p class="lab-quiet" data-word="busy" hidden>{busy}</p>
<p data-word="seen" hidden></p>{_next_html(" hidden")}</div></aside>"""


def _next_html(hidden: str = "") -> str:
    """Return the button that opens the next lesson; `hidden` is the HTML attribute that hides the button."""
    return f'<button type="button" class="lab-next-lesson" data-do="next-lesson"{hidden}>{say("Next lesson")}</button>'


@dataclass(frozen=True)
class LearnTab:
    """The lessons, and the button of each one that sets up the page, which are connected once the other tabs exist."""

    lessons: tuple[Lesson, ...]
    buttons: tuple[gr.Button, ...]


def build(shown: RecordedStudy | None) -> LearnTab:
    """Build the tab, inside an open `gr.Tab`; `shown` is the recorded study, None for none."""
    with gr.Column(elem_id="learn-home"):
        if shown is not None:
            scripted("recorded", stage_html(), shown.stage, "learn-stage")
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
                gr.Button(words, variant="primary", size="md", visible=bool(lesson.preset), elem_classes=["lab-begin"])
            )
            gr.HTML(_tasks(lesson) + _end(lesson), apply_default_css=False, elem_classes=["lab-lesson-tasks"])
    noise.click(None, None, None, js="() => Lab.openTab('Noise')", **QUIET)
    train.click(None, None, None, js="() => Lab.openTab('Train')", **QUIET)
    return LearnTab(lessons(), tuple(buttons))


def dock() -> None:
    """Build the task list of the open lesson, above the tabs."""
    scripted("lesson-dock", _dock_html(), [_entry(lesson) for lesson in lessons()], "lesson-dock")


def _evidence(shown: RecordedStudy) -> None:
    """Build the figures and the answers of the recorded study."""
    answered = f"<h2>{say('Answers after training')}</h2>{quiet(say(ANSWERED))}"
    gr.HTML(answered, apply_default_css=False, elem_id="learn-recorded")
    gr.HTML(shown.answers, apply_default_css=False, elem_id="learn-answers", js_on_load=part("recorded-answers"))
    live_figure(shown.curves, elem_id="learn-curves")


def _entry(lesson: Lesson) -> dict[str, Any]:
    tasks = [{"text": task.text, "when": task.when} for task in lesson.tasks]
    return {name: getattr(lesson, name) for name in ("number", "title", "minutes", "tab", "seen", "stage")} | {
        "tasks": tasks
    }


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
    """Return the expected observations in a collapsed section, and the button that opens the next lesson."""
    words = say("What you should have seen")
    return (
        f'<details class="lab-lesson-end"><summary>{words}</summary><p>{html.escape(lesson.seen)}</p></details>'
        f"{_next_html() if lesson.number < len(lessons()) else ''}"
    )
