"""Store the state of the page in the browser, and restore it from the browser, a link or a record.

The state is a table of values by name (`state_fields`), plus the model and the data in use. The browser sends the
state that it stored, or the state in the link, as JSON. A record is converted to the same table. Values that cannot be
restored are reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, LabError
from neftune_core.language import say
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import EMBEDDING, NoiseSettings
from neftune_core.settings import from_query, parse
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.records.user_rows import FILE, SOURCE_SETTINGS
from neftune_core.studies.settings import EXAMPLE, PRESETS
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.state_fields import Fields, State, parse_state
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.study_form import method_field
from neftune_core.ui.parts.wiring import QUIET, events, in_browser, reports_errors, show_error, show_note
from neftune_core.ui.server.calls import SERVER
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.previews import FIRST_SENTENCE, FirstPreview
from neftune_core.ui.server.uploads import link_or_copy, output_folder, upload_quota
from neftune_core.ui.study_state import study_state, warn_of_missing_arms
from neftune_core.ui.tabs import noise_tab, train_form
from neftune_core.ui.tabs.compare_tab import CompareTab
from neftune_core.ui.tabs.data_tab import DataTab
from neftune_core.ui.tabs.noise_tab import NoiseTab
from neftune_core.ui.tabs.sweep_tab import SweepTab
from neftune_core.ui.tabs.train_tab import TrainTab

STARTER = "starter:"


@dataclass(frozen=True)
class PageParts:
    """The parts of the page whose state is stored and restored.

    Attributes:
        lab: The state shared by all visitors.
        strip: The strip at the top.
        key: Component with the visitor's key.
        noise, data, train, compare, sweep: The tabs.
        model: Form of the model settings.
        first: The preview that the page opens with.
    """

    lab: Lab
    strip: Strip
    key: gr.Textbox
    noise: NoiseTab
    data: DataTab
    train: TrainTab
    compare: CompareTab
    sweep: SweepTab
    model: Form[ModelSettings]
    first: FirstPreview


def fields_of(page: PageParts) -> Fields:
    """Return all components that a visitor can set, by name, except the model and the data in use."""
    train, form, compare, sweep, own = page.train, page.train.form, page.compare, page.sweep, page.sweep.form

    def named(section: str, holder: Any, *names: str) -> dict[str, Component]:
        return {f"{section}.{name}": getattr(holder, name) for name in names}

    def methods(section: str, boxes: Mapping[str, Component]) -> dict[str, Component]:
        return {f"{section}.{method_field(name)}": box for name, box in boxes.items()}

    forms: dict[str, Form[Any]] = {
        "noise": page.noise.noise,
        "train": form.training,
        "measuring": form.measuring,
        "compare": compare.form,
        "sweep": sweep.measuring,
    }
    others: dict[str, Component] = {
        "text": page.noise.text,
        "view": page.noise.view,
        **named("train", form, "preset", "strengths"),
        **methods("train", form.methods),
        **named("train", form, "seed", "seeds"),
        **named("train", train, "live", "view"),
        **named("compare", compare, "view", "source", "chosen", "prompts", "rows", "blind"),
        **{f"sweep.vary-{number}": name for number, name in enumerate(own.names, start=1)},
        **{f"sweep.values-{number}": text for number, text in enumerate(own.values, start=1)},
        "sweep.points": own.points,
        **methods("sweep", own.methods),
        "sweep.first-seed": own.first_seed,
        **named("sweep", own, "seeds", "title"),
    }
    of_records = named("compare", compare, "record", "seed", "columns") | named("sweep", sweep, "shown", "measure")
    return Fields(forms, others, {**of_records, "sweep.at": sweep.epoch})


class PageState:
    """The components that show the page's state, and their updates."""

    def __init__(self, page: PageParts) -> None:
        self.page, self.fields = page, fields_of(page)

    def components(self) -> list[Any]:
        """Return the components that `updates` updates."""
        form = self.page.train.form
        return [*self.fields.by_name.values(), form.together, form.about]

    def updates(self, values: State) -> list[Any]:
        """Return updates of `components` that show values by name; other components are unchanged."""
        updates = dict(zip(self.fields.by_name, self.fields.updates(values), strict=True))
        unit = values.get("noise.unit", NoiseSettings().unit)
        if "noise.strength" in values:
            noise = NoiseSettings.model_construct(strength=values["noise.strength"], unit=unit)
            updates["noise.strength"] = noise_tab.strength_of(noise)
        strengths, preset = values.get("train.strengths"), values.get("train.preset")
        sweep = any(name.startswith(("sweep.values-", "sweep.points")) for name in values)
        is_set = sweep or strengths is not None
        together = train_form.set_together(strengths, unit, sweep=sweep) if is_set else gr.skip()
        about = gr.skip() if preset is None else train_form.about(preset)
        return [*updates.values(), together, about]

    def in_use_components(self) -> list[Any]:
        """Return the components that show the model and the data in use."""
        page = self.page
        return [page.strip.model, page.train.form.model_of, *page.model.components, *page.data.restored_components()]

    def use(self, model: ModelSettings, data: DataSettings) -> list[Any]:
        """Return updates of `in_use_components` that apply a model and data.

        If the data cannot be used, the reason is shown and nothing changes.

        Args:
            model: The model to use.
            data: The data to use.

        Returns:
            One update per component.
        """
        page = self.page
        shown = _or_report(lambda: page.data.restored(data, model), [])
        return [model, model, *page.model.values(model), *shown] if shown else self.unchanged()

    def unchanged(self) -> list[Any]:
        """Return updates of `in_use_components` that change nothing."""
        return [gr.skip()] * len(self.in_use_components())

    def after(self, restored: Any) -> Any:
        """After an event that restored controls, redraw everything that depends on them; return the last event.

        The seed and the number of seeds are passed to the script, because their tab may not be mounted.
        """
        noise = self.page.noise.noise
        ids = json.dumps([*(noise.elem_id(name) for name in noise.names), "noise-view", "train-strengths"])
        redraw = f"(seed, seeds) => {{ Lab.state.restored(); Lab.changed(...{ids}); Lab.seedIs(seed, seeds); }}"
        noise_tab.update_range_after(restored, noise)
        return restored.then(None, [self.page.train.form.seed, self.page.train.form.seeds], None, js=redraw)


def build(blocks: gr.Blocks, page: PageParts) -> None:
    """Connect the storing and restoring of the state, once all tabs have been built.

    Args:
        blocks: The open page.
        page: The parts of the page.
    """
    state = PageState(page)
    in_use = gr.Textbox(visible=False, elem_id="lab-in-use", label=say("Model and data in use"))
    page.strip.tools.value = {
        "fields": state.fields.initial_values(),
        "in_use": {"model": ModelSettings().model_dump(), "data": EXAMPLE.data.model_dump()},
        "presets": _presets(state.fields),
        "server": SERVER,
    }
    _connect_storing(page, state.fields, in_use)
    _connect_opening(blocks, state)
    _connect_record(state)


def _presets(fields: Fields) -> dict[str, dict[str, Any]]:
    """Return the training settings of every preset, which the browser compares with the form to detect changes."""
    found = {name: train_form.trainings_of(name) for name in (train_form.USUAL, *PRESETS)}
    values = {name: [fields.of_settings("train", training) for training in both] for name, both in found.items()}
    return {name: {"bundled": bundled, "others": others} for name, (bundled, others) in values.items()}


def _connect_storing(page: PageParts, fields: Fields, in_use: gr.Textbox) -> None:
    """Store every value in the browser when it changes, including the model and the data in use."""
    states = [page.strip.model, page.data.outputs.settings]

    def describe(model: ModelSettings, data: DataSettings) -> str:
        """Return the model and the data in use as JSON.

        Args:
            model: The model settings.
            data: The data settings.

        Returns:
            The text to store.
        """
        return json.dumps({"model": model.model_dump(), "data": data.model_dump()})

    gr.on([events(state).change for state in states], describe, states, in_use, **QUIET)
    stored: dict[str, Component] = {**fields.kept(), "in_use": in_use}
    for name, found in stored.items():  # one event for all fields would send all values at each change
        store = in_browser(f"void Lab.state.keep({json.dumps(name)}, value)", "value")
        events(found).change(None, found, None, js=store)


def _connect_opening(blocks: gr.Blocks, state: PageState) -> None:
    """Restore the stored state or that of the link when the page opens; without either, do not call the server."""
    page = state.page
    opened = in_browser("[Lab.ownerKey(), Lab.state.opened()]")
    blocks.load(None, None, [page.key, page.strip.kept], js=opened)

    @reports_errors
    def restore(stored: str, model: ModelSettings, data: DataSettings) -> list[Any]:
        """Restore the stored state of the page.

        Args:
            stored: The state, as JSON.
            model: The current model settings.
            data: The current data settings.

        Returns:
            Updates of the outputs.
        """
        given = parse_state(stored)
        fitting, lost = state.fields.fitting(given)
        if lost:
            show_note(say("Some settings of the page could not be restored. {what}", what=" ".join(lost)))
        in_use = _or_report(lambda: _in_use(state, given, model, data), state.unchanged())
        (figure,) = _or_report(lambda: [_figure(page, fitting, in_use[0], model)], [gr.skip()])
        return [*state.updates(fitting), figure, *in_use]

    shown = [*state.components(), page.noise.figure, *state.in_use_components()]
    states = [page.strip.model, page.data.outputs.settings]
    state.after(page.strip.kept.change(restore, [page.strip.kept, *states], shown, **QUIET))


def _figure(page: PageParts, values: State, model: Any, before: ModelSettings) -> Any:
    """Return the figure of the Noise tab for these values; no update if none of them affects the figure."""
    if not any(name.startswith("noise.") or name in ("text", "view") for name in values):
        return gr.skip()
    query = {name.removeprefix("noise."): str(value) for name, value in values.items() if name.startswith("noise.")}
    kind = KINDS.get(query.get("kind", ""))
    if query.get("unit", "alpha") == "alpha" and not (kind and kind.drops):
        query.setdefault("strength", str(noise_tab.FIRST_STRENGTH))
    noise = from_query(NoiseSettings, query)
    text, view = values.get("text", FIRST_SENTENCE), values.get("view", noise_tab.FIRST_VIEW)
    model = model if isinstance(model, ModelSettings) else before
    is_first = text == FIRST_SENTENCE and noise.sites == EMBEDDING and model == ModelSettings()
    payload = page.first.get() if is_first else page.first.previewer(text, model, 0, noise.sites)
    return noise_tab.figure_of(payload, noise_tab.control_values_of(page.noise.noise, noise, view))


def _or_report(found: Callable[[], list[Any]], otherwise: list[Any]) -> list[Any]:
    """Return the result of a function; if it fails, report the reason and return `otherwise`."""
    try:
        return found()
    except LabError as error:
        show_error(error)
        return otherwise


def _connect_record(state: PageState) -> None:
    """Restore the settings of the study in the link, unless the page restores a stored state."""
    page, outputs = state.page, [*state.components(), *state.in_use_components()]
    attached = gr.Textbox("", visible=False, label=say("Study in the link"))
    taken = gr.Textbox("", visible=False, label=say("Training settings of the study in the link"))

    @reports_errors
    def restore(key: str, record_id: str) -> list[Any]:
        """Set the page to the settings of a record.

        Args:
            key: The visitor's key.
            record_id: Id of the record; "" for none.

        Returns:
            Updates of the outputs.
        """
        record = find(record_id, require_key(key)) if record_id else None
        if record is None or record.is_sweep or record.is_newer:
            return [gr.skip()] * (len(outputs) + 1)
        study = record.study
        warn_of_missing_arms(study)
        data = study.data.model_copy(update=link_files(record, key))
        training = json.dumps(state.fields.of_settings("train", study.training))
        return [*state.updates(study_state(state.fields, study)), *state.use(study.model, data), training]

    fresh = in_browser("Lab.state.isKept() ? '' : id", "id")
    page.train.attached.change(None, page.train.attached, attached, js=fresh)
    state.after(attached.change(restore, [page.key, attached], [*outputs, taken], **QUIET))
    taken.change(None, taken, None, js=in_browser("void Lab.state.take(settings)", "settings"))


def _in_use(state: PageState, given: State, model: ModelSettings, data: DataSettings) -> list[Any]:
    """Return updates of `in_use_components` for the model and the data in a stored state or a link."""
    if not given.get("in_use"):
        return _of_link(state, given, model, data)
    stored = _parse_in_use(given["in_use"])
    stored_model = parse(ModelSettings, stored["model"])
    stored_data = _require_uploads(state.page.lab, parse(DataSettings, stored["data"]))
    is_same = (stored_model, stored_data) == (model, data)
    return state.unchanged() if is_same else state.use(stored_model, stored_data)


def _of_link(state: PageState, given: State, model: ModelSettings, data: DataSettings) -> list[Any]:
    """Return updates of `in_use_components` for a link.

    A starter set is loaded. For another model only a note is shown, because loading a model takes time.
    """
    wanted = {name.removeprefix("data."): str(value) for name, value in given.items() if name.startswith("data.")}
    if str(given.get("model.source", model.source)) != model.source:
        named = str(given["model.source"])[:80]
        show_note(say("This link is for the model {model}: choose it under Model.", model=named))
    if given.get("data"):
        wanted["source"] = f"{STARTER}{given['data']}"
    if not wanted:
        return state.unchanged()
    settings = from_query(DataSettings, {**wanted, "source": wanted.get("source", data.source)})
    return state.use(model, settings) if settings.source.startswith(STARTER) else state.unchanged()


def _parse_in_use(given: Any) -> Mapping[str, Any]:
    """Parse the model and data stored by the browser; raise `DataError` if they are malformed."""
    try:
        found = json.loads(given) if isinstance(given, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in ("model", "data")):
        raise DataError(say("The model and data saved in this browser cannot be read: choose them again."))
    return found


def _require_uploads(lab: Lab, data: DataSettings) -> DataSettings:
    """Return the data settings; raise `DataError` if a file is not an existing upload of this visitor."""
    for setting in SOURCE_SETTINGS:
        source: str = getattr(data, setting)
        name = source.removeprefix(FILE)
        if source.startswith(FILE) and not (upload_quota(lab.limits).holds(name) and Path(name).is_file()):
            raise DataError(say("The uploaded file is no longer on the server: upload it again."))
    return data


def link_files(record: Record, key: str) -> dict[str, str]:
    """Make the user rows of a record available as uploads of this visitor, for the next study.

    The uploads are hard links, or copies if the file system does not support hard links. Their names are the same for
    each call.

    Args:
        record: Record with copies of the rows.
        key: The visitor's key.

    Returns:
        The fields of the data settings to change, with their new values.

    Raises:
        DataError: If the rows no longer exist.
    """
    changed = {}
    for setting in SOURCE_SETTINGS:
        source: str = getattr(record.study.data, setting)
        if source.startswith(FILE):
            path = Path(source.removeprefix(FILE))
            try:
                changed[setting] = FILE + str(link_or_copy(path, output_folder("rows", key, record.id, setting)))
            except FileNotFoundError:
                raise DataError(
                    say("The rows of this study, {file}, no longer exist: choose the data again.", file=path.name)
                ) from None
    return changed
