"""The page's state as a table of named values, each with its component.

A name consists of a section and a setting, such as `noise.strength`, `train.epochs` or `sweep.seeds`. The browser
stores the values by these names, and a link contains the values that differ from the initial ones.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core.errors import InvalidSetting
from neftune_core.language import say
from neftune_core.settings import control, flat, from_query
from neftune_core.ui.parts.controls import Form, label, shown_value

MOST_CHARACTERS = 200_000
"""Maximum length of a state in characters."""

State = Mapping[str, Any]


@dataclass(frozen=True)
class Fields:
    """The components whose values are the page's state.

    Attributes:
        forms: Forms by section.
        others: Further components by name.
        of_records: Choices among the visitor's records, by name. The browser stores them too, but the tabs that list
            the records restore them, and links do not contain them.
    """

    forms: Mapping[str, Form[Any]]
    others: Mapping[str, Component]
    of_records: Mapping[str, Component] = field(default_factory=dict)

    @functools.cached_property
    def by_name(self) -> dict[str, Component]:
        """Return all components of `forms` and `others` by name."""
        of_forms = {
            f"{section}.{name}": found for section, form in self.forms.items() for name, found in form.by_name.items()
        }
        return {**of_forms, **self.others}

    def initial_values(self) -> dict[str, dict[str, Any]]:
        """Return each component's element id and initial value, and whether it shows labels instead of values."""
        return {
            name: {"id": found.elem_id, "value": found.value, "listed": isinstance(found, gr.Dropdown)}
            for name, found in self.by_name.items()
        }

    def kept(self) -> dict[str, Component]:
        """Return every component whose value the browser stores, by name."""
        return {**self.by_name, **self.of_records}

    def of_settings(self, section: str, settings: Any) -> dict[str, Any]:
        """Return the values that a form shows for settings, by name.

        Args:
            section: Section of the form, such as "noise".
            settings: The settings of that form.

        Returns:
            Values by dotted name.
        """
        form = self.forms[section]
        return {f"{section}.{name}": value for name, value in zip(form.names, form.values(settings), strict=True)}

    def fitting(self, given: State) -> tuple[dict[str, Any], list[str]]:
        """Split a state into the values that the components can show, by name, and messages about the others."""
        fitting: dict[str, Any] = {}
        lost: list[str] = []
        for section, form in self.forms.items():
            found, more = _of_form(section, form, given)
            fitting |= found
            lost += more
        for name, shown in self.others.items():
            if given.get(name) is None:
                continue
            try:
                fitting[name] = _convert(shown, given[name])
            except (TypeError, ValueError, OverflowError):
                lost.append(_invalid_value(str(getattr(shown, "label", "") or name), given[name]))
        return fitting, lost

    def updates(self, values: State) -> list[Any]:
        """Return an update for every component; components without a value are unchanged."""
        return [
            shown_value(found, values[name]) if name in values else gr.skip() for name, found in self.by_name.items()
        ]


def _of_form(section: str, form: Form[Any], given: State) -> tuple[dict[str, Any], list[str]]:
    values = {name: given.get(f"{section}.{name}") for name in form.names}
    texts = {name: str(value) for name, value in values.items() if value is not None}
    try:
        settings = from_query(form.settings_class, texts)
    except InvalidSetting as error:
        return {}, [str(error)]
    parsed = {name: value for name, value in flat(settings.model_dump()).items() if name in texts}
    lost = [
        _invalid_value(label(control(form.settings_class, name)), texts[name])
        for name, value in parsed.items()
        if not _is_same(texts[name], value)
    ]
    return {f"{section}.{name}": value for name, value in parsed.items()}, lost


def _is_same(text: str, value: Any) -> bool:
    """Return whether a text was parsed without changing its value."""
    if isinstance(value, bool):
        return (text.lower() in ("1", "true", "yes", "on")) == value
    try:
        return float(text) == float(value)
    except (TypeError, ValueError):
        return text == str(value)


def _invalid_value(what: str, given: Any) -> str:
    return say("{what} cannot be {value}.", what=what, value=repr(given)[:40])


def _convert(component: Component, given: Any) -> Any:
    """Convert a value to the type of a component; raise `ValueError` if the component does not accept it."""
    if isinstance(component, gr.Checkbox):
        return str(given).lower() == "true"
    if isinstance(component, gr.Slider | gr.Number):
        number = float(given)
        low, high = getattr(component, "minimum", None), getattr(component, "maximum", None)
        if number != number or (low is not None and number < low) or (high is not None and number > high):
            raise ValueError(given)
        is_whole = getattr(component, "precision", None) == 0 or isinstance(component.value, int)
        return int(number) if is_whole else number
    if isinstance(component, gr.Radio | gr.Dropdown):
        if given not in [value for _, value in component.choices]:
            raise ValueError(given)
        return given
    text, most = str(given), getattr(component, "max_length", None) or MOST_CHARACTERS
    if len(text) > most:
        raise ValueError(given)
    return text


def parse_state(text: str) -> dict[str, Any]:
    """Parse the state that a browser sent; return an empty dict if it is not valid."""
    try:
        state = json.loads(text) if text and len(text) <= MOST_CHARACTERS else {}
    except (ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}


def stored_if_initial(stored: str, initial: Mapping[str, str], values: Sequence[str]) -> tuple[str, ...]:
    """Return the values of text controls, or those of the stored state while the page has not applied it yet.

    Args:
        stored: State from the browser or the link, as JSON.
        initial: Initial values of the controls by name.
        values: Their present values, in the same order.

    Returns:
        The values.
    """
    if tuple(values) != tuple(initial.values()):
        return tuple(values)
    state = parse_state(stored)
    return tuple(str(state.get(name, value)) for name, value in initial.items())
