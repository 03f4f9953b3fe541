"""Data: which instructions, how they were read, and what of them is trained on."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.data.hub import HUB_SETS
from neftune_core.data.layouts import LAYOUTS
from neftune_core.data.settings import DataSettings
from neftune_core.data.starters import STARTERS
from neftune_core.errors import DataError
from neftune_core.figures.lengths import length_histogram
from neftune_core.models.settings import ModelSettings
from neftune_core.ui.controls import Form
from neftune_core.ui.lab import Lab
from neftune_core.ui.plot import live_figure
from neftune_core.ui.strip import Strip
from neftune_core.ui.wiring import QUIET, events, told

if TYPE_CHECKING:
    from neftune_core.data.preparing import Prepared

FILE_TYPES = [".jsonl", ".json", ".csv", ".parquet"]
PARTS_SHOWN = 4
NOT_USED = "(not used)"
REFUSALS_SHOWN = 200
FORM = ("rows", "held_out_share", "maximum_length")
MORE = ("too_long", "system", "split_seed")
SOURCES = {"starter": "Starter set", "file": "Your file", "hub": "Hub data set"}


@dataclass(frozen=True)
class DataTab:
    """What other tabs use: the settings of the data as last read, kept a visitor."""

    settings: gr.State


@dataclass(frozen=True)
class _Inputs:
    source: gr.Radio
    starter: gr.Radio
    file: gr.File
    hub: gr.Dropdown
    configuration: gr.Textbox
    split: gr.Textbox
    fetch: gr.Button
    held_out_file: gr.File
    form: Form[DataSettings]
    layout: gr.Dropdown
    parts: list[gr.Dropdown]

    def components(self) -> list[Any]:
        """All of them, in the order that `_settings` takes their values."""
        named = [self.source, self.starter, self.file, self.hub, self.configuration, self.split, self.held_out_file]
        return [*named, self.layout, *self.parts, *self.form.components]


@dataclass(frozen=True)
class _Outputs:
    settings: gr.State
    report: gr.HTML
    lengths: gr.HTML
    row: gr.Slider
    rendered: gr.HTML
    refusals: gr.HTML


def build(lab: Lab, strip: Strip, place: gr.Tab) -> DataTab:
    """The tab, inside an open `gr.Tab`."""
    settings = gr.State(DataSettings())
    with gr.Row(elem_id="data-tab"):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            inputs = _inputs()
        with gr.Column(scale=5, min_width=320):
            report = gr.HTML(elem_id="data-report", apply_default_css=False)
            lengths = live_figure(elem_id="data-lengths", height=260)
            row = gr.Slider(1, 2, value=1, step=1, label="Row shown", elem_id="data-row")
            rendered = gr.HTML(elem_id="data-rendered", apply_default_css=False)
            refusals = gr.HTML(elem_id="data-refusals", apply_default_css=False)
    outputs = _Outputs(settings, report, lengths, row, rendered, refusals)
    _connect(lab, strip, place, inputs, outputs)
    return DataTab(settings)


def _inputs() -> _Inputs:
    source = gr.Radio([(words, name) for name, words in SOURCES.items()], value="starter", label="Instructions from")
    starter = gr.Radio(
        [(f"{name}: {found.words}", name) for name, found in STARTERS.items()],
        value="open-ended",
        label="Starter set",
        elem_id="data-starter",
    )
    file = gr.File(
        label="JSONL, JSON, CSV or Parquet", file_types=FILE_TYPES, visible=False, elem_id="data-file", height=130
    )
    with gr.Column(visible=False) as hub_box:
        hub = gr.Dropdown(
            [(f"{name} ({found.licence})", name) for name, found in HUB_SETS.items()],
            value=next(iter(HUB_SETS)),
            allow_custom_value=True,
            label="Data set on the Hugging Face hub",
            info="Its first rows are streamed; nothing of it is run.",
        )
        configuration = gr.Textbox(label="Configuration", info="Where the set has several.")
        split = gr.Textbox("train", label="Split")
        fetch = gr.Button("Fetch the first rows")
    form = Form(DataSettings, names=(*FORM, *MORE), prefix="data", changes={name: {"render": False} for name in MORE})
    with gr.Accordion("Columns, held-out file and more", open=False):
        layout = gr.Dropdown(
            [("Detect it", ""), *((found.words, name) for name, found in LAYOUTS.items())],
            value="",
            label="Layout of a row",
            elem_id="data-layout",
        )
        parts = [
            gr.Dropdown([NOT_USED], value=NOT_USED, label="Column", visible=False, elem_id=f"data-part-{place}")
            for place in range(PARTS_SHOWN)
        ]
        held_out_file = gr.File(
            label="Own held-out file, instead of a share", file_types=FILE_TYPES, elem_id="data-held-out", height=130
        )
        for name in MORE:
            form.by_name[name].render()
    boxes = {"starter": starter, "file": file, "hub": hub_box}
    source.input(
        lambda chosen: [gr.update(visible=name == chosen) for name in boxes], source, list(boxes.values()), **QUIET
    )
    return _Inputs(source, starter, file, hub, configuration, split, fetch, held_out_file, form, layout, parts)


def _settings(inputs: _Inputs, values: Sequence[Any]) -> DataSettings:
    """The components' values as settings; raises `DataError` where no file was chosen yet."""
    source, starter, file, hub, configuration, split, held_out_file, layout = values[:8]
    parts, form = values[8 : 8 + PARTS_SHOWN], values[8 + PARTS_SHOWN :]
    if source == "file" and not file:
        raise DataError("No file was chosen yet: drop a JSONL, JSON, CSV or Parquet file on the box.")
    name = {"starter": starter, "file": file, "hub": str(hub or "").strip()}[source]
    columns = {}
    if layout:
        columns = {
            part: "" if column == NOT_USED else column
            for part, column in zip(LAYOUTS[layout].parts, parts, strict=False)
            if column
        }
    hub_only = {"configuration": configuration or "", "split": split or "train"} if source == "hub" else {}
    return inputs.form.settings(
        form,
        source=f"{source}:{name}",
        held_out_source=f"file:{held_out_file}" if held_out_file else "",
        layout=layout or "",
        columns=columns,
        **hub_only,
    )


def _connect(lab: Lab, strip: Strip, place: gr.Tab, inputs: _Inputs, outputs: _Outputs) -> None:
    shown = [
        outputs.settings,
        strip.words,
        outputs.report,
        outputs.lengths,
        outputs.row,
        outputs.rendered,
        outputs.refusals,
        *inputs.parts,
    ]

    @told
    def read_rows(words: dict[str, str], *values: Any) -> list[Any]:
        *given, model = values
        settings = _settings(inputs, given)
        prepared, tokenizer = _prepared(lab, settings, model)
        lengths = [len(row.ids) for row in prepared.train], [len(row.ids) for row in prepared.held_out]
        every = [*prepared.train, *prepared.held_out]
        return [
            settings,
            {**(words or {}), "data": data_words(prepared)},
            _report(prepared),
            length_histogram(*lengths, maximum_length=settings.maximum_length),
            gr.update(maximum=len(every), value=1),
            rendered_row(every[0], tokenizer, 1, len(prepared.train)),
            _refusals(prepared),
            *_part_updates(prepared, settings),
        ]

    @told
    def show_row(place: int, settings: DataSettings, model: ModelSettings) -> str:
        prepared, tokenizer = _prepared(lab, settings, model)
        every = [*prepared.train, *prepared.held_out]
        place = min(max(int(place), 1), len(every))
        return rendered_row(every[place - 1], tokenizer, place, len(prepared.train))

    changed = [
        place.select,
        inputs.starter.input,
        inputs.file.upload,
        inputs.fetch.click,
        inputs.held_out_file.upload,
        inputs.held_out_file.clear,
        *(events(found).change for found in inputs.form.components),
        events(strip.model).change,
    ]
    reading = {"fn": read_rows, "inputs": [strip.words, *inputs.components(), strip.model], "outputs": shown}
    gr.on(changed, **reading, trigger_mode="always_last", **QUIET)
    gr.on([events(part).input for part in inputs.parts], **reading, trigger_mode="always_last", **QUIET)
    # Another layout brings other parts: the columns chosen for the old ones would be wrong.
    inputs.layout.input(lambda: [gr.update(value=None)] * PARTS_SHOWN, None, inputs.parts, **QUIET).then(
        **reading, **QUIET
    )
    outputs.row.input(
        show_row, [outputs.row, outputs.settings, strip.model], outputs.rendered, trigger_mode="always_last", **QUIET
    )


def _prepared(lab: Lab, settings: DataSettings, model: ModelSettings) -> tuple[Prepared, Any]:
    from neftune_core.data.preparing import prepare
    from neftune_core.models.loading import load

    loaded = load(model)
    return prepare(settings.within(loaded.context), loaded.tokenizer, lab.limits), loaded.tokenizer


def data_words(prepared: Prepared) -> str:
    """The data in a few words, for the strip."""
    return f"{prepared.title}, {len(prepared.train):,} rows"


def _report(prepared: Prepared) -> str:
    reading = prepared.reading
    columns = ", ".join(f"{part}: {column}" for part, column in reading.columns.items())
    numbers = [
        (len(prepared.train), "to train on"),
        (len(prepared.held_out), "held out"),
        (prepared.cut, "cut at the longest length"),
        (len(prepared.refusals), "refused"),
        (prepared.duplicates_removed, "duplicates removed"),
    ]
    cells = "".join(f"<div><dd>{count:,}</dd><dt>{words}</dt></div>" for count, words in numbers)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in reading.notes)
    return (
        f'<div class="lab-report"><p><b>{html.escape(prepared.title)}</b> '
        f"<span>{html.escape(LAYOUTS[reading.layout].words)} ({html.escape(columns)}) · "
        f"licence: {html.escape(prepared.licence)}</span></p><dl>{cells}</dl>{notes}</div>"
    )


def rendered_row(row: Any, tokenizer: Any, place: int, training_rows: int) -> str:
    """One row as the model reads it, the part that is trained on marked."""
    from neftune_core.data.preparing import preview

    pieces = "".join(
        f"<mark>{html.escape(text)}</mark>" if trained else f"<span>{html.escape(text)}</span>"
        for text, trained in preview(row, tokenizer)
    )
    part = "training row" if place <= training_rows else "held-out row"
    trained = int(row.trained.sum())
    return (
        f'<figure class="lab-rendered"><figcaption>Source row {row.example.row:,}, a {part}, as the model reads it: '
        f"{len(row.ids):,} tokens, <mark>{trained:,} of them trained on</mark></figcaption><pre>{pieces}</pre></figure>"
    )


def _refusals(prepared: Prepared) -> str:
    if not prepared.refusals:
        return ""
    rows = "".join(
        f"<tr><td>{refusal.row:,}</td><td>{html.escape(refusal.reason)}</td></tr>"
        for refusal in prepared.refusals[:REFUSALS_SHOWN]
    )
    more = len(prepared.refusals) - REFUSALS_SHOWN
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return (
        f'<details class="lab-refusals" open><summary>{len(prepared.refusals):,} refused rows</summary>'
        f"<table><thead><tr><th>Row</th><th>Why</th></tr></thead><tbody>{rows}</tbody></table>{rest}</details>"
    )


def _part_updates(prepared: Prepared, settings: DataSettings) -> list[Any]:
    """The column boxes for the layout that was used; they are the person's to correct once a layout is chosen."""
    reading = prepared.reading
    updates = []
    for place in range(PARTS_SHOWN):
        parts = list(LAYOUTS[reading.layout].parts)
        if place >= len(parts):
            updates.append(gr.update(visible=False))
            continue
        updates.append(
            gr.update(
                visible=True,
                label=parts[place].capitalize(),
                choices=[NOT_USED, *reading.available_columns],
                value=reading.columns.get(parts[place], NOT_USED),
                interactive=bool(settings.layout),
            )
        )
    return updates
