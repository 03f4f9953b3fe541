"""The page's state: stored in the browser, in links and in records, and restored when the page opens.

The state is one table of values by name (`state_fields`), with the model and the data in use. The browser sends the
stored state, or the state in the link, as JSON; a record is converted to the same table. Invalid values are reported.
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
from neftune_core.home import home
from neftune_core.language import say
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import EMBEDDING, NoiseSettings
from neftune_core.settings import from_query, parse
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.records.user_rows import FILE, FILE_PARTS
from neftune_core.studies.settings import EXAMPLE, PRESETS
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.state_fields import Fields, State, read
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
    """The parts of the page whose state is kept and restored."""

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
    """Return the table of all values that a visitor can set, except the model and the data in use."""
    train, compare, sweep = page.train, page.compare, page.sweep
    form = train.form
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
        "train.preset": form.preset,
        "train.strengths": form.strengths,
        **{f"train.{method_field(name)}": box for name, box in form.methods.items()},
        "train.seed": form.seed,
        "train.seeds": form.seeds,
        "train.live": train.live,
        "train.view": train.view,
        "compare.view": compare.view,
        "compare.source": compare.source,
        "compare.prompts": compare.prompts,
        "compare.rows": compare.rows,
        "compare.blind": compare.blind,
        **{f"sweep.vary-{place + 1}": name for place, name in enumerate(sweep.form.names)},
        **{f"sweep.values-{place + 1}": text for place, text in enumerate(sweep.form.values)},
        "sweep.points": sweep.form.points,
        **{f"sweep.{method_field(name)}": box for name, box in sweep.form.methods.items()},
        "sweep.first-seed": sweep.form.first_seed,
        "sweep.seeds": sweep.form.seeds,
        "sweep.title": sweep.form.title,
    }
    of_records: dict[str, Component] = {
        "compare.record": compare.record,
        "compare.seed": compare.seed,
        "compare.columns": compare.columns,
        "sweep.shown": sweep.shown,
        "sweep.measure": sweep.measure,
        "sweep.at": sweep.epoch,
    }
    return Fields(forms, others, of_records)


def build(blocks: gr.Blocks, page: PageParts) -> None:
    """Connect storing and restoring of the state, after all tabs have been built.

    Args:
        blocks: The open page.
        page: The parts of the page.
    """
    fields = fields_of(page)
    in_use = gr.Textbox(visible=False, elem_id="lab-in-use", label=say("Model and data in use"))
    page.strip.tools.value = {
        "fields": fields.places(),
        "in_use": {"model": ModelSettings().model_dump(), "data": EXAMPLE.data.model_dump()},
        "presets": _presets(fields),
        "server": SERVER,
    }
    _connect_keeping(page, fields, in_use)
    _connect_opening(blocks, page, fields)
    _connect_record(page, fields)


def _presets(fields: Fields) -> dict[str, dict[str, Any]]:
    """Return the training settings of every preset, for the bundled model and for others, to detect changes."""
    usual = {"bundled": EXAMPLE.training, "others": train_form.USUAL_OF_OTHERS}
    known = {name: {"bundled": found.bundled, "others": found.others} for name, found in PRESETS.items()}
    return {
        name: {of: fields.of_settings("train", training) for of, training in both.items()}
        for name, both in {train_form.USUAL: usual, **known}.items()
    }


def _connect_keeping(page: PageParts, fields: Fields, in_use: gr.Textbox) -> None:
    """Store every value in the browser when it changes, and the model and the data in use."""
    states = [page.strip.model, page.data.settings]

    def describe(model: ModelSettings, data: DataSettings) -> str:
        return json.dumps({"model": model.model_dump(), "data": data.model_dump()})

    gr.on([events(state).change for state in states], describe, states, in_use, **QUIET)
    kept: dict[str, Component] = {**fields.kept(), "in_use": in_use}
    for name, found in kept.items():  # one event for all would collect all values at each change
        keep = in_browser(f"void Lab.state.keep({json.dumps(name)}, value)", "value")
        events(found).change(None, found, None, js=keep)


def _connect_opening(blocks: gr.Blocks, page: PageParts, fields: Fields) -> None:
    """Restore the stored state, or the link's state, when the page opens; without one, the server is not called."""
    opened = in_browser("[Lab.ownerKey(), Lab.state.opened()]")
    blocks.load(None, None, [page.key, page.strip.kept], js=opened)

    unchanged = [gr.skip()] * len(in_use_components(page))

    @reports_errors
    def restore(said: str, model: ModelSettings, data: DataSettings) -> list[Any]:
        given = read(said)
        fitting, lost = fields.fitting(given)
        if lost:
            show_note(say("Some settings of the page could not be restored. {what}", what=" ".join(lost)))
        in_use = _or_report(lambda: _in_use(page, given, model, data), unchanged)
        (figure,) = _or_report(lambda: [_figure(page, fitting, in_use[0], model)], [gr.skip()])
        return [*state_updates(page, fields, fitting), figure, *in_use]

    shown = [*state_components(page, fields), page.noise.figure, *in_use_components(page)]
    states = [page.strip.model, page.data.settings]
    restored = page.strip.kept.change(restore, [page.strip.kept, *states], shown, **QUIET)
    noise_tab.update_range_after(restored, page.noise.noise)
    restored.then(None, page.train.form.seed, None, js=look_again(page))


def state_components(page: PageParts, fields: Fields) -> list[Any]:
    """Return the components that `state_updates` returns values for.

    Args:
        page: The parts of the page.
        fields: The components that have a name.

    Returns:
        The components, in the order of the updates.
    """
    return [*fields.by_name.values(), page.train.form.together, page.train.form.about]


def state_updates(page: PageParts, fields: Fields, values: State) -> list[Any]:
    """Return updates of `state_components` that show `values`, by name.

    Args:
        page: The parts of the page.
        fields: The components that have a name.
        values: Values by name.

    Returns:
        One update per component.
    """
    updates = dict(zip(fields.by_name, fields.updates(values), strict=True))
    if "noise.strength" in values:
        unit = values.get("noise.unit", NoiseSettings().unit)
        noise = NoiseSettings.model_construct(strength=values["noise.strength"], unit=unit)
        updates["noise.strength"] = noise_tab.strength_of(noise)
    unit = values.get("noise.unit", NoiseSettings().unit)
    strengths = values.get("train.strengths")
    together = gr.skip() if strengths is None else train_form.set_together(strengths, unit)
    preset = values.get("train.preset")
    about = gr.skip() if preset is None else train_form.about(preset)
    return [*updates.values(), together, about]


def _figure(page: PageParts, values: State, model: Any, before: ModelSettings) -> Any:
    """Return the figure of the Noise tab for these values, so that it agrees with the controls."""
    if not any(name.startswith("noise.") or name in ("text", "view") for name in values):
        return gr.skip()
    said = {name.removeprefix("noise."): str(value) for name, value in values.items() if name.startswith("noise.")}
    if said.get("unit", "alpha") == "alpha" and not _drops(said.get("kind", "")):
        said.setdefault("strength", str(noise_tab.FIRST_STRENGTH))
    noise = from_query(NoiseSettings, said)
    text, view = values.get("text", FIRST_SENTENCE), values.get("view", noise_tab.FIRST_VIEW)
    model = model if isinstance(model, ModelSettings) else before
    usual = text == FIRST_SENTENCE and noise.sites == EMBEDDING and model == ModelSettings()
    payload = page.first.get() if usual else page.first.previewer(text, model, 0, noise.sites)
    return noise_tab.figure_of(payload, noise_tab.places_of(page.noise.noise, noise, view))


def _drops(kind: str) -> bool:
    return kind in KINDS and KINDS[kind].drops


def _or_report(found: Callable[[], list[Any]], otherwise: list[Any]) -> list[Any]:
    """Return the result of a function; if it fails, report the reason and return `otherwise`."""
    try:
        return found()
    except LabError as error:
        show_error(error)
        return otherwise


def _connect_record(page: PageParts, fields: Fields) -> None:
    """Restore the settings of a linked study, unless the browser has stored others since."""
    attached = gr.Textbox("", visible=False, label=say("Study in the link"))

    @reports_errors
    def restore(key: str, record_id: str) -> list[Any]:
        record = find(record_id, require_key(key)) if record_id else None
        if record is None or record.is_sweep or record.is_newer:
            return [gr.skip()] * (len(filled) + len(shown))
        study = record.study
        warn_of_missing_arms(study)
        data = study.data.model_copy(update=link_files(record, key))
        return [*state_updates(page, fields, study_state(fields, study)), *use(page, study.model, data)]

    filled, shown = state_components(page, fields), in_use_components(page)
    fresh = in_browser("Lab.state.isKept() ? '' : id", "id")
    page.train.attached.change(None, page.train.attached, attached, js=fresh)
    restored = attached.change(restore, [page.key, attached], [*filled, *shown], **QUIET)
    noise_tab.update_range_after(restored, page.noise.noise)
    restored.then(None, page.train.form.seed, None, js=look_again(page))


def look_again(page: PageParts) -> str:
    """Return the script that ends restoring and redraws what depends on controls.

    The seed is passed in, since its tab may be closed.
    """
    noise = page.noise.noise
    ids = json.dumps([*(noise.elem_id(name) for name in noise.names), "noise-view", "train-strengths"])
    return f"(seed) => {{ Lab.state.restored(); Lab.changed(...{ids}); Lab.seedIs(seed); }}"


def in_use_components(page: PageParts) -> list[Any]:
    """Return the components that `_in_use` returns values for."""
    return [
        page.strip.model,
        page.train.form.model_of,
        *page.model.components,
        *page.data.restored_components(),
    ]


def _in_use(page: PageParts, given: State, model: ModelSettings, data: DataSettings) -> list[Any]:
    """Return the values of `in_use_components` for the model and the data of a stored state or of a link."""
    kept = given.get("in_use")
    if not kept:
        return _of_link(page, given, model, data)
    found = _stored_choice(kept)
    before = parse(ModelSettings, found["model"])
    uploaded = _require_uploads(page.lab, parse(DataSettings, found["data"]))
    return (
        [gr.skip()] * len(in_use_components(page))
        if (before, uploaded) == (model, data)
        else use(page, before, uploaded)
    )


def _of_link(page: PageParts, given: State, model: ModelSettings, data: DataSettings) -> list[Any]:
    """Return the values of `in_use_components` for a link.

    A starter set is put into use; a model is only mentioned in a note, because loading takes time.
    """
    wanted = {name.removeprefix("data."): str(value) for name, value in given.items() if name.startswith("data.")}
    if str(given.get("model.source", model.source)) != model.source:
        words = say("This link is for the model {model}: choose it under Model.", model=str(given["model.source"])[:80])
        show_note(words)
    if given.get("data"):
        wanted["source"] = f"{STARTER}{given['data']}"
    if not wanted:
        return [gr.skip()] * len(in_use_components(page))
    settings = from_query(DataSettings, {**wanted, "source": wanted.get("source", data.source)})
    return (
        use(page, model, settings)
        if settings.source.startswith(STARTER)
        else [gr.skip()] * len(in_use_components(page))
    )


def use(page: PageParts, model: ModelSettings, data: DataSettings) -> list[Any]:
    """Return the model and the data in use and the values of their components.

    If they cannot be used, the reason is shown and nothing changes.

    Args:
        page: The parts of the page.
        model: The model to use.
        data: The data to use.

    Returns:
        The values, in the order of `in_use_components`.
    """
    try:
        shown = page.data.restored(data, model)
    except LabError as error:
        show_error(error)
        return [gr.skip()] * len(in_use_components(page))
    return [model, model, *page.model.values(model), *shown]


def _stored_choice(given: Any) -> Mapping[str, Any]:
    """Return the model and data stored by the browser; raise `DataError` if the page did not write them."""
    try:
        found = json.loads(given) if isinstance(given, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in ("model", "data")):
        raise DataError(say("The model and data saved in this browser cannot be read: choose them again."))
    return found


def _require_uploads(lab: Lab, data: DataSettings) -> DataSettings:
    """Return the data settings if their files are uploads that still exist; otherwise raise `DataError`."""
    uploads = (home() / "uploads").resolve()
    for part in FILE_PARTS:
        source: str = getattr(data, part)
        name = source.removeprefix(FILE)
        usable = _is_in(uploads, name) and upload_quota(lab.limits).may_name(name)
        if source.startswith(FILE) and not usable:
            raise DataError(say("The uploaded file is no longer on the server: upload it again."))
    return data


def _is_in(folder: Path, name: str) -> bool:
    try:
        path = Path(name).resolve()
        return path.is_relative_to(folder) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # not a possible file name
        return False


def link_files(record: Record, key: str) -> dict[str, str]:
    """Return the files of a record as uploads of this visitor, for the rows of the next study.

    They are hard links to the rows of the record, always with the same names, and take no space.

    Args:
        record: The record.
        key: The visitor's key.

    Returns:
        Changed fields of the data settings.

    Raises:
        DataError: If the rows no longer exist.
    """
    changed = {}
    for part in FILE_PARTS:
        source: str = getattr(record.study.data, part)
        if source.startswith(FILE):
            path = Path(source.removeprefix(FILE))
            try:
                changed[part] = FILE + str(link_or_copy(path, output_folder("rows", key, record.id, part)))
            except FileNotFoundError:
                raise DataError(
                    say("The rows of this study, {file}, no longer exist: choose the data again.", file=path.name)
                ) from None
    return changed
