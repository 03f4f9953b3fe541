"""Restore a visitor's settings: after a reload from the browser, and with the link of a study from its record."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, LabError
from neftune_core.home import home
from neftune_core.language import say
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import parse
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.records.user_rows import FILE, FILE_PARTS
from neftune_core.studies.settings import CONTROL, StudySettings
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import QUIET, SECONDS_SHOWN, events, in_browser, reports_errors, show_error
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.uploads import linked, own_folder, room_of
from neftune_core.ui.tabs import noise_tab, train_form
from neftune_core.ui.tabs.data_tab import DataTab
from neftune_core.ui.tabs.noise_tab import NoiseTab
from neftune_core.ui.tabs.train_tab import TrainTab

KEPT = ("train-", "noise-", "compare-prompts", "sweep-")
"""How the elem_ids begin whose values the browser keeps."""
KEPT_KINDS = (gr.Slider, gr.Number, gr.Textbox, gr.Radio, gr.Checkbox, gr.Dropdown)


@dataclass(frozen=True)
class PageParts:
    """The parts of the page whose state is restored."""

    lab: Lab
    strip: Strip
    key: gr.Textbox
    noise: NoiseTab
    data: DataTab
    train: TrainTab
    model: Form[ModelSettings]


def build(page: gr.Blocks, around: PageParts) -> None:
    """Connect saving and restoring, after all tabs have been built.

    Args:
        page: The open page.
        around: The parts of the page.
    """
    kept = [
        block
        for block in page.blocks.values()
        if isinstance(block, KEPT_KINDS)
        and block.page == page.current_page
        and str(block.elem_id or "").startswith(KEPT)
    ]
    in_use = gr.Textbox(visible=False, elem_id="lab-in-use", label=say("Model and data in use"))
    asked = gr.Textbox(visible=False, label=say("Settings last in use"))
    _connect_keeping(around, kept, in_use)
    _connect_reload(page, around, kept, asked)
    _connect_record(around)


def _names(kept: list[Any]) -> str:
    return json.dumps([block.elem_id for block in kept])


def _connect_keeping(around: PageParts, kept: list[Any], in_use: gr.Textbox) -> None:
    """Save every value in the browser when it is set; of model and data, those in use."""
    states = [around.strip.model, around.data.settings]

    def describe(model: ModelSettings, data: DataSettings) -> str:
        return json.dumps({"model": model.model_dump(), "data": data.model_dump()})

    gr.on([events(state).change for state in states], describe, states, in_use, **QUIET)
    changed = [events(found).change for found in (*kept, in_use)]
    keep = f"(...values) => Lab.remember({_names([*kept, in_use])}, values)"
    gr.on(changed, None, [*kept, in_use], None, js=keep)


def _connect_reload(page: gr.Blocks, around: PageParts, kept: list[Any], asked: gr.Textbox) -> None:
    """Restore the values from the browser after a reload, and load the model and the data."""
    ranges = json.dumps(noise_tab.SLIDERS)
    given = in_browser(f"Lab.remembered({_names(kept)}, {ranges})")
    page.load(None, None, [*kept, around.train.form.together, asked], js=given).then(
        None, around.train.form.seed, None, js=_look_again(kept)
    )

    @reports_errors
    def restore(said: str, model: ModelSettings, data: DataSettings) -> list[Any]:
        found = _said(said)
        before = parse(ModelSettings, found["model"])
        uploaded = _uploaded(around.lab, parse(DataSettings, found["data"]))
        return _in_use(around, before, uploaded) if (before, uploaded) != (model, data) else [gr.skip()] * len(shown)

    shown = _shown(around)
    asked.change(restore, [asked, around.strip.model, around.data.settings], shown, **QUIET)


def _connect_record(around: PageParts) -> None:
    """Restore the settings of a linked study, unless this is a reload after others have been set."""
    form, noise = around.train.form, around.noise.noise
    attached = gr.Textbox(visible=False, label=say("Study in the link"))
    filled = [*noise.components, form.together, *form.all_components()]

    @reports_errors
    def restore(key: str, record_id: str) -> list[Any]:
        record = find(record_id, require_key(key)) if record_id else None
        if record is None or record.is_sweep or record.is_newer:
            return [gr.skip()] * (len(filled) + len(shown))
        study = record.study
        _warn_of_missing_arms(study)
        data = study.data.model_copy(update=_linked(record, key))
        return [*_arms(around, study), *_in_use(around, study.model, data)]

    shown = _shown(around)
    fresh = in_browser("Lab.isRemembered() ? '' : id", "id")
    around.train.attached.change(None, around.train.attached, attached, js=fresh)
    restored = attached.change(restore, [around.key, attached], [*filled, *shown], **QUIET)
    noise_tab.ranged_after(restored, noise)
    restored.then(None, form.seed, None, js=_look_again([*noise.components, form.strengths]))


def _look_again(changed: list[Any]) -> str:
    """Return the script that redraws what depends on controls; the seed is passed, since its tab may be closed."""
    return f"(seed) => {{ Lab.changed(...{_names(changed)}); Lab.seedIs(seed); }}"


def _shown(around: PageParts) -> list[Any]:
    """Return the components that `_in_use` returns values for."""
    return [
        around.strip.model,
        around.train.form.model_of,
        *around.model.components,
        *around.data.restored_components(),
    ]


def _in_use(around: PageParts, model: ModelSettings, data: DataSettings) -> list[Any]:
    """Return the model and the data in use and the values of their components.

    If they cannot be used, the reason is shown and nothing changes.
    """
    try:
        shown = around.data.restored(data, model)
    except LabError as error:
        show_error(error)
        return [gr.skip()] * len(_shown(around))
    return [model, model, *around.model.values(model), *shown]


def _arms(around: PageParts, study: StudySettings) -> list[Any]:
    """Return the values of the Noise and the Train tab for `study`.

    The noise is that of the first arm; arms that differ from it only in strength become further strengths.
    """
    noise = study.noise[0] if study.noise else CONTROL
    rest = [arm for arm in study.noise[1:] if _differs_in_strength(arm, noise)]
    values = train_form.Arms(
        strengths=_listed(arm.strength for arm in rest),
        dropouts=_listed(arm.lora_dropout for arm in study.regularisers if arm.weight_decay is None),
        decays=_listed(arm.weight_decay for arm in study.regularisers if arm.lora_dropout is None),
        seed=study.seed,
        seeds=study.seeds,
    )
    together = train_form.set_together(values.strengths, noise.unit)
    return [*_noise(around.noise, noise), together, *train_form.restored(around.train.form, values, study)]


def _differs_in_strength(arm: NoiseSettings, noise: NoiseSettings) -> bool:
    """Return whether `arm` differs from `noise` only in its strength."""
    return arm == noise.model_copy(update={"strength": arm.strength})


def _warn_of_missing_arms(study: StudySettings) -> None:
    """Report the arms of the study that the forms cannot represent, if any."""
    noises = [arm.name for arm in study.noise[1:] if not _differs_in_strength(arm, study.noise[0])]
    regularisers = [arm.name for arm in study.regularisers if None not in (arm.lora_dropout, arm.weight_decay)]
    if noises or regularisers:
        arms = ", ".join([*noises, *regularisers])
        words = say(
            "The forms of this page cannot show these arms of the study: {arms}. A new study will not include them.",
            arms=arms,
        )
        gr.Info(html.escape(words, quote=False), title=say("Note"), duration=SECONDS_SHOWN)


def _noise(tab: NoiseTab, noise: NoiseSettings) -> list[Any]:
    return [noise_tab.strength_of(noise), *tab.noise.values(noise)[1:]]


def _listed(numbers: Any) -> str:
    return ", ".join(f"{number:.15g}" for number in numbers if number is not None)


def _said(text: str) -> Mapping[str, Any]:
    """Return the model and data stored by the browser; raise `DataError` if the page did not write them."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in ("model", "data")):
        raise DataError(say("The model and data saved in this browser cannot be read: choose them again."))
    return found


def _uploaded(lab: Lab, data: DataSettings) -> DataSettings:
    """Return the data settings if their files are uploads that still exist; otherwise raise `DataError`."""
    uploads = (home() / "uploads").resolve()
    for part in FILE_PARTS:
        source: str = getattr(data, part)
        name = source.removeprefix(FILE)
        usable = _is_in(uploads, name) and room_of(lab.limits).may_name(name)
        if source.startswith(FILE) and not usable:
            raise DataError(say("The uploaded file is no longer on the server: upload it again."))
    return data


def _is_in(folder: Path, name: str) -> bool:
    try:
        path = Path(name).resolve()
        return path.is_relative_to(folder) and path.is_file()
    except (OSError, ValueError, RuntimeError):  # not a possible file name
        return False


def _linked(record: Record, key: str) -> dict[str, str]:
    """Return the files of a record as uploads of this visitor, for the rows of the next study.

    They are hard links to the rows of the record, always with the same names, and take no space.
    """
    changed = {}
    for part in FILE_PARTS:
        source: str = getattr(record.study.data, part)
        if source.startswith(FILE):
            path = Path(source.removeprefix(FILE))
            try:
                changed[part] = FILE + str(linked(path, own_folder("rows", key, record.id, part)))
            except FileNotFoundError:
                raise DataError(say("The rows of this study, {file}, no longer exist.", file=path.name)) from None
    return changed
