"""The form of the Sweep tab (axes, points, seeds and methods), and its conversion to a sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core.bounded_io import read_toml
from neftune_core.errors import InvalidSetting
from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import later, say
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Control, control, parse
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.settings import NOISE, SweepSettings, axes
from neftune_core.ui.parts.controls import component
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.study_form import method_boxes, whole_number

NO_AXIS = ""
AXES, AXES_SHOWN = 4, 2
FIRST_AXIS, FIRST_VALUES, FIRST_SEEDS = "noise.strength", "0, 5, 15", CLAIM_SEEDS
"""With the bundled model, this sweep takes about four minutes on two processor cores."""
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
SEEDS_INFO = later("Number of seeds per arm; a conclusion needs at least six.")
POINTS_INFO = later(
    "One combination per line, in addition to those above, such as noise.strength = 3, noise.kind = 'gaussian'"
)
AXIS_LABELS = (
    later("Setting to vary"),
    later("Second setting to vary"),
    later("Third setting to vary"),
    later("Fourth setting to vary"),
)
COMBINED = later("Every combination of its values with those above is an arm.")


@dataclass(frozen=True)
class SweepForm:
    """The components of the form.

    Attributes:
        names: Setting of each axis.
        values: Values of each axis, as typed.
        points: Further combinations, one per line.
        first_seed: First seed.
        seeds: Number of seeds.
        title: Title of the sweep.
        methods: Boxes for arms with other methods, by the names in `METHOD_VALUES`.
    """

    names: list[gr.Dropdown]
    values: list[gr.Textbox]
    points: gr.Textbox
    first_seed: Any
    seeds: Any
    title: gr.Textbox
    methods: dict[str, Component]

    def components(self) -> list[Any]:
        """Return all components in the order in which `sweep_of` expects their values."""
        return [*self.names, *self.values, self.points, self.first_seed, self.seeds, self.title]


def build() -> SweepForm:
    """Build the components in the current column."""
    choices = [(say("Nothing"), NO_AXIS), *((_axis_text(name, found), name) for name, found in axes().items())]
    shown = [_axis(place, choices) for place in range(AXES_SHOWN)]
    seeds = component(control(StudySettings, "seeds"), elem_id="sweep-seeds", value=FIRST_SEEDS, info=say(SEEDS_INFO))
    with gr.Accordion(say("More settings to vary"), open=False, elem_classes=["lab-group"]):
        shown += [_axis(place, choices) for place in range(AXES_SHOWN, AXES)]
        points = gr.Textbox(
            "",
            label=say("Further combinations"),
            info=say(POINTS_INFO),
            lines=3,
            max_length=4000,
            elem_id="sweep-points",
        )
    methods = method_boxes("sweep")
    with gr.Accordion(say("Title and first seed"), open=False, elem_classes=["lab-group"]):
        title = gr.Textbox("", label=say("Title"), max_length=200, elem_id="sweep-title")
        first_seed = component(
            control(StudySettings, "seed"), elem_id="sweep-first-seed", value=1, label=say("First seed"), info=None
        )
    names, values = zip(*shown, strict=True)
    return SweepForm([*names], [*values], points, first_seed, seeds, title, methods)


def _axis(place: int, choices: list[tuple[str, str]]) -> tuple[gr.Dropdown, gr.Textbox]:
    """Build the components of one axis: setting and values."""
    name, text = (FIRST_AXIS, FIRST_VALUES) if place == 0 else (NO_AXIS, "")
    with gr.Column(elem_classes=["lab-axis"]):
        axis = gr.Dropdown(
            choices,
            value=name,
            label=say(AXIS_LABELS[place]),
            info=say(COMBINED) if place == 1 else None,
            elem_id=f"sweep-axis-{place + 1}",
        )
        values = gr.Textbox(
            text,
            label=say("Values {place}", place=place + 1),
            show_label=False,
            placeholder="0, 1, 2, 5",
            max_length=1000,
            elem_id=f"sweep-values-{place + 1}",
        )
        if place == 0:
            scripted("sweep-unit", '<p class="lab-quiet"></p>', elem_id="sweep-unit")
    return axis, values


def _axis_text(name: str, found: Control) -> str:
    part, label = say(name.partition(".")[0].capitalize()), say(found.label)
    return say(": ").join((part, label[:1].lower() + label[1:] if label[1:2].islower() else label))


def sweep_of(base: StudySettings, given: Sequence[Any]) -> SweepSettings:
    """Build the sweep that the tab describes.

    Args:
        base: The study from the other tabs, including the arms with other methods.
        given: Values of `SweepForm.components()`.

    Returns:
        The sweep. It has a single point if no setting varies and `base` has arms with other methods.

    Raises:
        InvalidSetting: If a value is not valid.
    """
    names, values, (typed, first_seed, seeds, title) = given[:AXES], given[AXES : 2 * AXES], given[2 * AXES :]
    grid: dict[str, Any] = {}
    for name, text in zip(names, values, strict=True):
        given_values = (text or "").strip()
        if not name and given_values:
            words = later("No setting is chosen for the values {text!r}: choose what to vary.")
            raise InvalidSetting(say(words, text=given_values[:60]))
        if name in grid:
            raise _invalid(
                _known(name), later("{label} is varied twice: give all its values in one place."), given_values
            )
        if name:
            grid[name] = axis_values(name, given_values)
    lines = [line for line in (typed or "").splitlines() if line.strip()]
    points = [*map(point, lines)] if lines or grid or not base.methods else [{}]
    seed = whole_number(first_seed, later("first seed"), example=FIRST_SEEDS)
    count = whole_number(seeds, later("number of seeds"), example=FIRST_SEEDS)
    study = base.model_copy(update={"seed": seed, "seeds": count, "title": ""}).model_dump()
    sweep = {"title": title or "", "keep_adapters": False, "axes": grid, "points": points, "study": study}
    return parse(SweepSettings, sweep)


def _known(name: str) -> Control:
    found = axes().get(name)
    if found is None:
        raise InvalidSetting(say("A sweep cannot vary {name!r}: choose another setting.", name=str(name)[:60]))
    return found


def axis_values(name: str, text: str) -> list[Any]:
    """Parse the values of one axis, such as `0, 1, 2, 5`.

    Sites contain commas (`embedding, 2`), so their values are separated by semicolons only.

    Args:
        name: Name of the setting.
        text: The values as typed.

    Returns:
        The values.

    Raises:
        InvalidSetting: If there are no values, or one of them is invalid or repeated.
    """
    found = _known(name)
    parts = [part.strip() for part in re.split(r";" if found.name == "sites" else r"[,;\n]", text) if part.strip()]
    if not parts:
        raise _invalid(
            found, later("{label} has no values: enter some (for example 0, 1, 2, 5), or choose Nothing."), text
        )
    values = [_value(found, part) for part in parts]
    doubled = next((part for part, value in zip(parts, values, strict=True) if values.count(value) > 1), None)
    if doubled is not None:
        words = later("{label} has the value {doubled} more than once: list it only once.")
        raise _invalid(found, words, text, doubled=doubled[:40])
    return values


def _invalid(found: Control, words: str, text: str, **more: Any) -> InvalidSetting:
    """Return the error for a value of an axis as typed; `words` may name its `{label}` and `{text}`."""
    return InvalidSetting(say(words, label=say(found.label), text=text[:40], **more))


def _value(found: Control, text: str) -> Any:
    if found.choices is not None:
        by_words = {name.lower(): value for value, words in found.choices.items() for name in (words, value)}
        if text.lower() not in by_words:
            words = later("{label} cannot be {text!r}: choose one of {choices}.")
            raise _invalid(found, words, text, choices=", ".join(found.choices))
        return by_words[text.lower()]
    if found.type is bool:
        if text.lower() not in BOOLEANS:
            raise _invalid(found, later("{label} must be yes or no (given {text!r})."), text)
        return BOOLEANS[text.lower()]
    if found.type not in (int, float):
        return text
    try:
        number = float(text)
    except ValueError:
        raise _invalid(found, later("{label} cannot be {text!r}: it must be a number."), text) from None
    least, most = found.minimum, found.maximum
    if number != number or (least is not None and number < least) or (most is not None and number > most):
        words = later("{label} cannot be {text}: it must be between {least:,g} and {most:,g}.")
        raise _invalid(found, words, text, least=least, most=most)
    if found.type is int and number != int(number):
        raise _invalid(found, later("{label} cannot be {text}: it must be a whole number."), text)
    return int(number) if found.type is int else number


def point(line: str) -> Mapping[str, Any]:
    """Parse one point of the sweep, such as `noise.strength = 3, noise.kind = 'gaussian'`.

    Raises:
        InvalidSetting: If the line cannot be parsed.
    """
    try:
        line = re.sub(r"\{(.*)\}", r"\1", line.strip()) if line.strip().startswith("{") else line.strip()
        found = read_toml(f"point = {{{line}}}")["point"]
    except (InvalidSetting, KeyError):
        found = None
    if not isinstance(found, dict):
        words = later("The combination {point!r} cannot be read: enter it in the form noise.strength = 3.")
        raise InvalidSetting(say(words, point=line.strip()[:60]))
    return found


def first_strength(noise: NoiseSettings, names: Sequence[str]) -> str:
    """Return a base strength for a sweep that varies the strength although the noise of the Noise tab is off.

    Args:
        noise: The noise of the Noise tab.
        names: Names of the settings that vary.

    Returns:
        "1" if the noise is off and its strength varies; otherwise "".
    """
    return "1" if noise.is_silent and f"{NOISE}strength" in names else ""
