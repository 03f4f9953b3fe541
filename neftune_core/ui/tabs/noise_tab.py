"""The Noise tab: the effect of the chosen noise on the tokens of a sentence.

The browser redraws the figure when strength, unit, kind or view changes (assets/page/noise.js). Only a new sentence,
model, site or draw calls the server.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.figures.base import figure
from neftune_core.figures.colours import SINGLE_NOISE, token
from neftune_core.figures.noise_views import GROUPS, HEIGHT, NOISE_VIEWS, adaptive_illustration, view_layouts
from neftune_core.language import later, say
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.names import unit_words
from neftune_core.noise.preview import BINS_PER_DEVIATION, PADDED_LENGTH, RESOLUTION
from neftune_core.noise.schedules import LAST_SHARE, SCHEDULES
from neftune_core.noise.settings import NoiseSettings
from neftune_core.noise.strength import SHARE
from neftune_core.settings import control, controls
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.markup import page_html
from neftune_core.ui.parts.plot import live_figure, scripted
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import QUIET, UNREAD, events, in_browser, reports_errors
from neftune_core.ui.server.previews import FIRST_SENTENCE, FirstPreview, Payload

# Notes on kinds that do more than add one random draw.
_KIND_NOTES = {
    "symmetric": later(
        "Every batch is used twice, once with the noise added and once with it subtracted; the figure shows the former."
    ),
    "adversarial": later(
        "The figure shows the initial uniform draw: the ascent on the loss keeps its norm but "
        "has no closed form. The Loss view measures its effect."
    ),
    "token-dropout": later(
        "A baseline rather than noise: whole tokens are set to zero, so there is no standard deviation to match."
    ),
}


def short_text(words: str) -> str:
    """Return the translated label of a choice, without the text in parentheses."""
    return re.split(r" \(|（", say(words))[0]


def _help_html() -> str:
    """Return HTML with the help texts of the settings in `FIRST`, in a collapsed section."""
    known = (control(NoiseSettings, name) for name in FIRST)
    rows = "".join(f"<p><b>{say(found.label)}.</b> {say(found.help)}</p>" for found in known)
    return f'<details class="lab-more"><summary>{say("What do these mean?")}</summary>{rows}</details>'


# Maximum and step of the strength slider by unit. On a short sentence, all maxima are about equally strong.
SLIDERS = {
    "alpha": {"maximum": 100, "step": 0.5},
    "std": {"maximum": 1.0, "step": 0.001},
    "relative": {"maximum": 2.0, "step": 0.005},
    SHARE: {"maximum": 1.0, "step": 0.01},
}


def strengths_at(shares: Iterable[float], unit: str) -> list[float]:
    """Return the strengths at fractions of the slider's range.

    Args:
        shares: Fractions of the range, from 0 to 1.
        unit: Unit of the slider, a key of `SLIDERS`.

    Returns:
        The strengths, in `unit`.
    """
    return [float(f"{share * SLIDERS[unit]['maximum']:.6g}") for share in shares]


FIRST_STRENGTH = 2.0
"""Strength when the page opens, in alpha. Elsewhere, the default is the strength in the paper."""
RECORDED = "6-first-study"
RECORDED_WORDS = later(
    "Recorded with this model on world-format, 114 steps at learning rate 0.003, mean of 8 seeds: alpha 1 to 5 makes "
    "no clear difference; alpha 15 lowers the share of exact answers from 93% to 80%."
)
"""Result of the recorded sweep `RECORDED`, shown below the first controls."""

FIRST = ("strength", "unit", "kind")
MORE = tuple(found.name for found in controls(NoiseSettings) if found.name not in FIRST)
FIRST_VIEW = "norms"
LONGEST_TEXT = 2000

ControlValues = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class NoiseTab:
    """The components of the tab that other modules use.

    Attributes:
        noise: Form of the noise settings.
        text: The sentence.
        view: Choice of the view.
        figure: The live figure.
        details: Further values of the preview, which the browser requests after it has drawn the preview.
        draw: Seed of the noise shown.
        inside: Row reserved for `noise_inside`.
        loss: Row reserved for `noise_loss`.
    """

    noise: Form[NoiseSettings]
    text: gr.Textbox
    view: gr.Radio
    figure: gr.HTML
    details: gr.HTML
    draw: gr.State
    inside: gr.Row
    loss: gr.Row


def build(strip: Strip, first: FirstPreview) -> NoiseTab:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        strip: The strip at the top of the page.
        first: The first preview.

    Returns:
        The components that other modules use.
    """
    with gr.Row(elem_id="noise-tab"):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            noise, again = _settings()
        with gr.Column(scale=5, min_width=320, elem_classes=["lab-stays"]):
            text = gr.Textbox(
                FIRST_SENTENCE,
                label=say("Your sentence"),
                lines=1,
                max_lines=4,
                max_length=LONGEST_TEXT,
                elem_id="noise-text",
            )
            chips = f'<ol class="lab-chips" aria-label="{say("The sentence as tokens")}"></ol>'
            scripted("noise-chips", chips, elem_id="noise-chips")
            choices = [(say(view.words), name) for name, view in NOISE_VIEWS.items()]
            view = gr.Radio(choices, value=FIRST_VIEW, label=say("View"), elem_id="noise-view", container=False)
            groups = [
                {"words": say(words), "names": [name for name, found in NOISE_VIEWS.items() if found.group == group]}
                for group, words in GROUPS.items()
            ]
            scripted("view-groups", "", {"of": "noise-view", "groups": groups}, "noise-view-groups")
            opening = figure_of(first.payload, control_values_of(noise)) if first.payload else None
            loss = gr.Row(elem_id="noise-loss-row")  # above the figure, so that its button is visible
            shown = live_figure(opening, elem_id="noise-figure", height=HEIGHT)
            inside = gr.Row(elem_id="noise-inside-row")
            details = scripted("noise-details", "", first.first_details, "noise-details")
    tab = NoiseTab(noise, text, view, shown, details, draw=gr.State(0), inside=inside, loss=loss)
    _connect(tab, strip, first, again)
    return tab


def _settings() -> tuple[Form[NoiseSettings], gr.Button]:
    changes: dict[str, dict[str, Any]] = {
        "strength": {"info": None, "value": FIRST_STRENGTH, **SLIDERS["alpha"]},
        "unit": {"info": None, "kind": gr.Radio, "choices": [(unit_words(name), name) for name in SLIDERS]},
        "kind": {
            "info": say(
                "At the same strength, all kinds except token dropout have the same standard deviation; some papers do "
                "not equalise the standard deviations."
            ),
            "kind": gr.Radio,
            "choices": [(short_text(kind.words), name) for name, kind in KINDS.items()],
        },
        **{name: {"render": False} for name in MORE},
    }
    changes["schedule"] |= {
        "kind": gr.Radio,
        "choices": [(short_text(found.words), name) for name, found in SCHEDULES.items()],
    }
    noise = Form(NoiseSettings, names=(*FIRST, *MORE), prefix="noise", changes=changes)
    words = page_html("noise-words", recorded=say(RECORDED_WORDS))
    ruler = page_html("noise-ruler", about='<span data-word="about"></span>')
    scripted("noise-words", words, elem_id="noise-words")
    scripted("noise-ruler", ruler, elem_id="noise-ruler")
    again = gr.Button(say("Draw the noise again"), elem_id="noise-again", size="md")
    unfold = '<button type="button" class="lab-unfold" aria-expanded="false" aria-controls="noise-more">'
    unfold += f"\n{say('Where and when: tokens, sites, schedule')}</button>"
    scripted("unfold", unfold, elem_id="noise-more-button")
    with gr.Column(elem_id="noise-more"):  # an accordion would mount its content only when opened
        for name in MORE:
            noise.by_name[name].render()
    gr.HTML(_help_html(), apply_default_css=False, elem_id="noise-help")
    return noise, again


def control_values_of(
    noise: Form[NoiseSettings], settings: NoiseSettings | None = None, view: str = FIRST_VIEW
) -> ControlValues:
    """Return the element ids and values of the noise settings and the view.

    Args:
        noise: The form of the noise.
        settings: The settings; the defaults if None.
        view: Name of the view.

    Returns:
        A dict with `id` and `value` for each name.
    """
    return {**noise.control_values(settings), "view": {"id": "noise-view", "value": view}}


def figure_of(payload: Payload, control_values: ControlValues) -> Figure:
    """Build the live figure of a preview.

    Args:
        payload: The preview.
        control_values: Ids and values of the controls, from `control_values_of`.

    Returns:
        The figure.
    """
    constants = {
        "colours": [token("base"), SINGLE_NOISE],
        "views": view_layouts(payload),
        "padded_length": PADDED_LENGTH,
        "bins_a_deviation": BINS_PER_DEVIATION,
        "fineness": RESOLUTION,
        "kind_notes": {name: say(_KIND_NOTES.get(name, "")) for name in KINDS},
        "schedules": {name: say(found.words) for name, found in SCHEDULES.items()},
        "adaptive": adaptive_illustration(),
        "last_share": LAST_SHARE,
    }
    shell = figure("noise", [], {"height": HEIGHT}, "")
    return {**shell, "source": "noise", "payload": {**payload, **constants}, "controls": control_values}


def strength_of(noise: NoiseSettings) -> dict[str, Any]:
    """Return an update that sets the slider to the strength of `noise`.

    The update sets the largest range of all units, since Gradio rejects values outside the range.
    `update_range_after` then sets the range of the unit.
    """
    most = max(offered["maximum"] for offered in SLIDERS.values())
    step = _step(SLIDERS[noise.unit]["step"], noise.strength)
    return gr.update(value=noise.strength, maximum=max(most, noise.strength), step=step)


def _step(usual: float, strength: float) -> float:
    """Return a slider step fine enough to show three digits of `strength`, like `reaching` in numbers.js."""
    stops = strength / usual
    if strength == 0 or (stops > 0.5 and abs(stops - round(stops)) < 1e-6):
        return usual
    return min(usual, float(f"1e{math.floor(math.log10(strength)) - 2}"))


def update_range_after(event: Any, noise: Form[NoiseSettings]) -> None:
    """Set the slider's range to fit its unit and strength after an event.

    Args:
        event: Event after which the unit or the strength may have changed.
        noise: The form.
    """
    strength, unit = noise.by_name["strength"], noise.by_name["unit"]
    ranged = in_browser(f"Lab.ranged(strength, unit, {json.dumps(SLIDERS)})", "strength, unit")
    event.then(None, [strength, unit], strength, js=ranged)


def _connect(tab: NoiseTab, strip: Strip, first: FirstPreview, again: gr.Button) -> None:
    count = len(tab.noise.components)

    @reports_errors
    def redraw(text: str, draw: int, view: str, *values: Any) -> Figure:
        """Draw the figure.

        Args:
            text: The sentence.
            draw: Seed of the noise.
            view: Name of the view.
            *values: Noise settings, then the model settings.

        Returns:
            The figure.
        """
        noise, model = tab.noise.settings(values[:count]), values[count]
        payload = first.previewer(text, model, draw, noise.sites)
        return figure_of(payload, control_values_of(tab.noise, noise, view))

    @reports_errors
    def details(text: str, draw: int, sites: str, model: ModelSettings) -> Payload:
        """Return details of the sentence.

        Args:
            text: The sentence.
            draw: Seed of the noise.
            sites: Noise sites.
            model: The model settings.

        Returns:
            The details.
        """
        return first.details(text, model, draw, sites)

    inputs = [tab.text, tab.draw, tab.view, *tab.noise.components, strip.model]
    sites = tab.noise.by_name["sites"]
    # `change` rather than `input`, which misses pasted, deleted or composed text.
    changed = [tab.text.change, events(strip.model).change, events(sites).submit, events(sites).blur]
    gr.on(changed, redraw, inputs, tab.figure, trigger_mode="always_last", **UNREAD)
    drawn = again.click(lambda draw: draw + 1, tab.draw, tab.draw, **QUIET)
    drawn.then(redraw, inputs, tab.figure, **UNREAD)
    asked = [tab.text, tab.draw, sites, strip.model]
    events(tab.details).click(details, asked, tab.details, trigger_mode="always_last", **UNREAD)

    strength, unit, kind = (tab.noise.by_name[name] for name in FIRST)
    sliders = json.dumps(SLIDERS)
    convert = f"(strength, unit) => Lab.changeUnit(strength, unit, {sliders})"
    events(unit).input(None, [strength, unit], strength, js=convert)
    follow = f"(kind, unit, strength) => Lab.changeKind(kind, unit, strength, {sliders})"
    events(kind).input(None, [kind, unit, strength], [unit, strength], js=follow)


def on_load(page: gr.Blocks, tab: NoiseTab, first: FirstPreview) -> None:
    """Show the first preview when the page opens, unless the page contains it or the link describes another figure.

    Args:
        page: The page that is being built.
        tab: The components.
        first: The first preview.
    """

    @reports_errors
    def first_figure(request: gr.Request) -> Any:
        has_own = any(name.startswith("noise.") or name in ("text", "view") for name in request.query_params)
        return gr.skip() if has_own else figure_of(first.get(), control_values_of(tab.noise))

    if first.payload is None:
        page.load(first_figure, None, tab.figure, **QUIET)
