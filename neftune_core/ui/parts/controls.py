"""Convert settings to components and back, with the ranges, help texts and choices that the settings declare."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import gradio as gr
from gradio.components import Component

from neftune_core.language import say
from neftune_core.settings import Control, Settings, controls, flat, parse

S = TypeVar("S", bound=Settings)

MOST_RADIO_BUTTONS = 4
"""Maximum number of choices shown as radio buttons; more are shown as a drop-down list."""
MOST_SLIDER_STEPS = 2500
"""Maximum number of steps of a number shown as a slider."""


def component(
    control: Control, *, elem_id: str | None = None, kind: type[Component] | None = None, **changes: Any
) -> Component:
    """Build the component of one setting.

    Args:
        control: The setting.
        elem_id: Element id.
        kind: Component class; derived from the type of the setting if None.
        **changes: Arguments that override the derived ones.

    Returns:
        The component.
    """
    derived: dict[str, Any] = {
        "label": label(control),
        "info": None if control.help.rstrip(".").lower() in ("", control.label.lower()) else say(control.help),
        "value": control.default,
        "elem_id": elem_id,
        "interactive": True,  # otherwise a component set only by events would be read-only
    }
    default_kind, extra = _kind_and_extra(control)
    return (kind or default_kind)(**{**derived, **extra, **changes})


def label(control: Control) -> str:
    """Return the label in the current language, followed by the unit unless the label contains it."""
    needs_unit = control.unit and control.unit.lower() not in control.label.lower()
    return f"{say(control.label)} ({say(control.unit)})" if needs_unit else say(control.label)


def _kind_and_extra(control: Control) -> tuple[type[Component], dict[str, Any]]:
    if control.choices is not None:
        choices = [(say(words), value) for value, words in control.choices.items()]
        return (gr.Radio if len(choices) <= MOST_RADIO_BUTTONS else gr.Dropdown), {"choices": choices}
    if control.type is bool:
        return gr.Checkbox, {}
    if control.type in (int, float):
        return _number(control)
    return gr.Textbox, {}


def _number(control: Control) -> tuple[type[Component], dict[str, Any]]:
    """Return a slider if the setting declares one with at most `MOST_SLIDER_STEPS`, otherwise a number box."""
    least, most, step = control.minimum, control.slider_maximum, control.step
    if least is not None and most is not None and step is not None and (most - least) / step <= MOST_SLIDER_STEPS:
        return gr.Slider, {"minimum": _slider_minimum(control, least, step), "maximum": most, "step": step}
    extra = {"minimum": least, "maximum": control.maximum, **({} if step is None else {"step": step})}
    return gr.Number, {**extra, "precision": 0 if control.type is int else None}


def _slider_minimum(control: Control, least: float, step: float) -> float:
    """Return the lowest allowed multiple of the step.

    A slider counts steps from its minimum; with another minimum it would round a default value between two steps.
    """
    lowest = round(math.ceil(round(least / step, 9)) * step, 9)
    return int(lowest) if control.type is int else lowest


class Form(Generic[S]):
    """The components of a settings class, created in the current layout, and the conversion back to settings.

        with gr.Column():
            form = Form(TrainingSettings, names=("epochs", "batch_size"))
        button.click(lambda *values: form.settings(values), inputs=form.components)

    Args:
        settings_class: The settings class.
        names: Dotted names of the settings to show, in order; all if None.
        prefix: Prefix of every element id, such as "noise" in `noise-strength`; derived from the class name if empty.
        changes: Keyword arguments for `component`, by setting name.
    """

    def __init__(
        self,
        settings_class: type[S],
        *,
        names: Iterable[str] | None = None,
        prefix: str = "",
        changes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        known = {control.name: control for control in controls(settings_class)}
        self.settings_class = settings_class
        self.names = tuple(known if names is None else names)
        self.prefix = prefix or settings_class.__name__.removesuffix("Settings").lower()
        self.by_name: dict[str, Component] = {
            name: component(known[name], elem_id=self.elem_id(name), **(changes or {}).get(name, {}))
            for name in self.names
        }

    def elem_id(self, name: str) -> str:
        """Return the element id of the component of a setting."""
        return f"{self.prefix}-{name.replace('.', '-').replace('_', '-')}"

    def control_values(self, settings: S | None = None) -> dict[str, dict[str, Any]]:
        """Return the element id and value of every setting as `{name: {"id": ..., "value": ...}}`.

        The values are those of `settings`; the initial ones if None.
        """
        shown = [found.value for found in self.components] if settings is None else self.values(settings)
        return {name: {"id": self.elem_id(name), "value": value} for name, value in zip(self.names, shown, strict=True)}

    @property
    def components(self) -> list[Component]:
        """Return the components in the order in which `settings` expects their values."""
        return list(self.by_name.values())

    def settings(self, values: Sequence[Any], **fixed: Any) -> S:
        """Convert the values of the components to settings.

        Args:
            values: One value per component.
            **fixed: Settings that take precedence.

        Returns:
            The settings.

        Raises:
            InvalidSetting: If a value is not valid.
        """
        return parse(self.settings_class, {**self.nested(values), **fixed})

    def nested(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return the values as nested tables for `parse`; the setting of an empty box keeps its default."""
        nested: dict[str, Any] = {}
        for name, value in zip(self.names, values, strict=True):
            if value is None:
                continue
            table, (*path, last) = nested, name.split(".")
            for part in path:
                table = table.setdefault(part, {})
            table[last] = value
        return nested

    def values(self, settings: Settings) -> list[Any]:
        """Return the values that the components show for `settings`, in order."""
        known = flat(settings.model_dump())
        return [known[name] for name in self.names]

    def updates(self, settings: Settings) -> list[Any]:
        """Return one update per component, in order, that shows its value in `settings`; see `shown_value`."""
        return [shown_value(*one) for one in zip(self.components, self.values(settings), strict=True)]


def shown_value(shown: Component, value: Any) -> Any:
    """Return an update that shows a value; a slider's range is extended if necessary.

    The range is never reduced again, since Gradio would reject pending calls with a value beyond the new end.

    Args:
        shown: The component.
        value: The value to show, in the type of the component.

    Returns:
        The update.
    """
    grows = isinstance(shown, gr.Slider) and value > shown.maximum
    return gr.update(value=value, **({"maximum": value} if grows else {}))
