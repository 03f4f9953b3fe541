"""Train: a control and noise arms in lockstep, with live curves. The study is a job; the page only watches it."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import InvalidSetting, RecordError
from neftune_core.figures.curves import loss_curves
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import controls, parse
from neftune_core.training.record import Record, find
from neftune_core.training.settings import StudySettings, TrainingSettings
from neftune_core.ui.controls import Form
from neftune_core.ui.data_tab import DataTab
from neftune_core.ui.lab import Lab
from neftune_core.ui.noise_tab import NoiseTab
from neftune_core.ui.plot import live_figure
from neftune_core.ui.strip import Strip
from neftune_core.ui.wiring import QUIET, in_browser, told

FORM = ("epochs", "batch_size", "learning_rate", "lora_rank")
WATCH_SECONDS = 0.7
NOTHING_YET = '<p class="lab-quiet">Nothing has been trained yet: choose the settings and press <b>Train</b>.</p>'


@dataclass(frozen=True)
class TrainTab:
    """What other tabs use. `watched` is the id of the record that the page watches, `finished` of one that is over;
    `seen` is how much of its log has been drawn."""

    watched: gr.State
    finished: gr.State
    seen: gr.State
    timer: gr.Timer
    strengths: gr.Textbox
    seed: gr.Number
    form: Form[TrainingSettings]


def build(lab: Lab, strip: Strip, data: DataTab, noise: NoiseTab, key: gr.Textbox) -> TrainTab:
    """The tab, inside an open `gr.Tab`."""
    with gr.Row(elem_id="train-tab"):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            strengths = gr.Textbox(
                "15",
                label="More strengths",
                info="Besides the one on the Noise tab, in its unit and kind; the control is always there.",
                elem_id="train-strengths",
            )
            more = [found.name for found in controls(TrainingSettings) if found.name not in FORM]
            form = Form(
                TrainingSettings,
                names=(*FORM, *more),
                prefix="train",
                changes={name: {"render": False} for name in more},
            )
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="train-seed")
            with gr.Accordion("More settings", open=False):
                for name in more:
                    form.by_name[name].render()
        with gr.Column(scale=5, min_width=320):
            state = gr.HTML(NOTHING_YET, elem_id="train-state", apply_default_css=False)
            curves = live_figure(elem_id="train-curves", height=420)
    timer = gr.Timer(WATCH_SECONDS, active=False)
    tab = TrainTab(gr.State(""), gr.State(""), gr.State(-1), timer, strengths, seed, form)
    _connect_start(lab, strip, tab, noise, data, key)
    _connect_watch(lab, strip, tab, key, [state, curves])
    return tab


def study_of(
    strengths: str, seed: Any, data: Any, model: Any, noise: NoiseSettings, training: TrainingSettings
) -> StudySettings:
    """The study that the page describes; raises `InvalidSetting` with one sentence."""
    arms = {found.name: found for found in (noise, *_more(strengths, noise)) if not found.is_silent}
    if not arms:
        raise InvalidSetting(
            "The strength is 0, which is the control: move it on the Noise tab, or add strengths here."
        )
    return parse(
        StudySettings,
        {
            "seed": int(seed or 0),
            "model": model,
            "data": data,
            "training": training,
            "noise": sorted(arms.values(), key=lambda found: found.strength),
        },
    )


def _more(text: str, noise: NoiseSettings) -> list[NoiseSettings]:
    words = [word for word in re.split(r"[,;\s]+", text or "") if word]
    try:
        return [parse(NoiseSettings, {**noise.model_dump(), "strength": float(word)}) for word in words]
    except ValueError:
        raise InvalidSetting(f"The strengths {text[:60]!r} are not numbers: write them as 5, 15.") from None


def _connect_start(lab: Lab, strip: Strip, tab: TrainTab, noise: NoiseTab, data: DataTab, key: gr.Textbox) -> None:
    noise_count = len(noise.noise.components)

    @told
    def start(key: str, strengths: str, seed: Any, data: Any, model: Any, *values: Any) -> list[Any]:
        chosen = noise.noise.settings(values[:noise_count])
        training = tab.form.settings(values[noise_count:])
        study = study_of(strengths, seed, data, model, chosen, training)
        record = lab.jobs.submit(study, require_key(key))
        return [record.id, -1, gr.Timer(active=True)]

    asked = [key, tab.strengths, tab.seed, data.settings, strip.model]
    inputs = [*asked, *noise.noise.components, *tab.form.components]
    started = strip.train.click(start, inputs, [tab.watched, tab.seen, tab.timer], **QUIET)
    started.success(None, tab.watched, None, js="(id) => { Lab.setParameter('job', id); Lab.openTab('Train'); }")

    @told
    def stop(key: str, watched: str) -> None:
        lab.jobs.stop(watched, require_key(key))

    strip.stop.click(stop, [key, tab.watched], None, **QUIET)


def require_key(key: str) -> str:
    """The visitor's key; raises `RecordError` where the browser gave none."""
    if not key or len(key) > 200:
        raise RecordError("This browser gave no key to keep your studies apart: reload the page.")
    return key


def _connect_watch(lab: Lab, strip: Strip, tab: TrainTab, key: gr.Textbox, shown: Sequence[Any]) -> None:
    @told
    def attach(key: str, asked: str) -> list[Any]:
        """The job named in the link, or else the visitor's own that is under way."""
        record = find(asked, key) if asked else lab.jobs.current_of(require_key(key))
        return [record.id if record else "", -1, gr.Timer(active=record is not None)]

    @told
    def look(key: str, watched: str, seen: int) -> list[Any]:
        if not watched:
            return [*(gr.skip() for _ in range(5)), gr.Timer(active=False), gr.skip()]
        record = find(watched, key)
        status = lab.jobs.status(record)
        events, size = record.events()
        curves = gr.skip() if size == seen else loss_curves(events, record.study.arms)
        over = status.is_over
        return [
            state_words(record, status),
            curves,
            size,
            progress_words(status),
            gr.update(visible=not over),
            gr.Timer(active=not over),
            record.id if over else gr.skip(),
        ]

    outputs = [*shown, tab.seen, strip.progress, strip.stop, tab.timer, tab.finished]
    watching = [key, tab.watched, tab.seen]
    asked = gr.Textbox(visible=False)
    key.change(None, None, asked, js=in_browser("Lab.parameter('job') || ''")).then(
        attach, [key, asked], [tab.watched, tab.seen, tab.timer], **QUIET
    ).then(look, watching, outputs, **QUIET)
    tab.timer.tick(look, watching, outputs, **QUIET)


def state_words(record: Record, status: Any) -> str:
    """Where the study stands, in one unambiguous word and the numbers behind it."""
    from neftune_core.training.jobs import WORDS

    numbers = []
    if status.place:
        numbers.append(f"place {status.place} in the queue")
    if status.steps:
        numbers.append(f"step {status.step:,} of {status.steps:,}")
    if status.state == "running" and status.seconds_left is not None:
        numbers.append(f"{duration(status.seconds_left)} left")
    if status.tokens_per_second and not status.is_over:
        numbers.append(f"{status.tokens_per_second:,.0f} tokens a second, all arms together")
    message = f"<p>{html.escape(status.message)}</p>" if status.message else ""
    samples = record.about.get("samples", {})
    measured = f'<p class="lab-quiet">Losses with noise off are measured on {_listed(samples)}.</p>' if samples else ""
    return (
        f'<div class="lab-state" data-state="{status.state}"><p><b>{WORDS[status.state]}</b> '
        f"<span>{' · '.join(numbers)}</span></p>{message}{measured}</div>"
    )


def _listed(samples: dict[str, Any]) -> str:
    return html.escape(" and ".join(str(words) for words in samples.values()))


def progress_words(status: Any) -> str:
    """A short line for the strip, with a bar."""
    from neftune_core.training.jobs import WORDS

    if status.is_over:
        return f'<span class="lab-progress">{WORDS[status.state]}</span>'
    share = status.step / status.steps if status.steps else 0
    left = f", {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    return (
        f'<span class="lab-progress"><progress max="1" value="{share:.3f}" aria-label="Progress"></progress> '
        f"{WORDS[status.state]} {share:.0%}{left}</span>"
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
