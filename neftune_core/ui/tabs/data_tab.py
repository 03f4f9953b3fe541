"""The Data tab, which selects a data set, assigns its columns and shows the prepared rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr

from neftune_core.data.formats.files import COMPRESSIONS, EXTENSIONS
from neftune_core.data.formats.hub_rows import HUB_SETS
from neftune_core.data.formats.starters import STARTERS, data_title
from neftune_core.data.layouts import LAYOUTS
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, LabError
from neftune_core.language import later, say
from neftune_core.models.settings import ModelSettings
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.parts.controls import Form
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.model_panel import bundled_hint
from neftune_core.ui.parts.plot import live_figure, part
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import LATEST, QUIET, events, reports_errors, shown_among
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.views import data_views

FILE_TYPES = [*EXTENSIONS, *COMPRESSIONS]
# Indices of the first column dropdown and of the first component of the form in `DataInputs.components`.
PARTS_FROM = 8
FORM_FROM = PARTS_FROM + data_views.PARTS_SHOWN
FORM = ("rows", "held_out_share", "maximum_length")
MORE = ("too_long", "trained_turns", "system", "split_seed")
SOURCES = {"starter": later("Starter set"), "file": later("Your file"), "hub": later("Hub data set")}


@dataclass(frozen=True)
class DataInputs:
    """The inputs of the tab.

    Attributes:
        source, starter: Choice of the kind of source, and of the starter set.
        effect, use_effect: Recorded effect of noise on the starter set, and the button that sets up the recorded study.
        problem: Explanation of why the data cannot be used.
        by_hand: Collapsed section with the choice of `layout` and the column of each of its `parts`.
    """

    source: gr.Radio
    starter: gr.Dropdown
    effect: gr.HTML
    use_effect: gr.Button
    file: gr.File
    hub: gr.Column
    hub_parts: list[Any]
    fetch: gr.Button
    problem: gr.HTML
    held_out_file: gr.File
    form: Form[DataSettings]
    by_hand: gr.Accordion
    layout: gr.Dropdown
    parts: list[gr.Dropdown]

    def components(self) -> list[Any]:
        """Return all components in the order in which `_InputValues.of` expects their values."""
        return [*self.chosen()[:PARTS_FROM], *self.parts, *self.form.components]

    def chosen(self) -> list[Any]:
        """Return all components except the column dropdowns, whose choices depend on the data."""
        sources = [self.source, self.starter, self.file, *self.hub_parts]
        return [*sources, self.held_out_file, self.layout, *self.form.components]

    def shown(self, settings: DataSettings) -> list[Any]:
        """Return updates of `chosen()` for `settings`; the inputs of other sources keep their values."""
        source, _, name = settings.source.partition(":")
        hub = [name, settings.configuration, settings.split] if source == "hub" else [gr.skip()] * 3
        held_out = settings.held_out_source.removeprefix("file:")
        return [
            source,
            gr.update(visible=source == "starter", **({"value": name} if source == "starter" else {})),
            gr.update(visible=source == "file", value=name if source == "file" else None),
            *hub,
            held_out or None,
            settings.layout,
            *self.form.values(settings),
        ]


@dataclass(frozen=True)
class _InputValues:
    """The values of the components of `DataInputs`.

    Attributes:
        source: Kind of source: "starter", "file" or "hub".
        starter: Name of the starter set.
        file, held_out_file: Paths of the uploads; None for none.
        hub, configuration, split: Hub id of the data set, its configuration, and its split.
        layout: Layout chosen by hand; "" to detect it.
        parts: Column of each part of the layout; None if not chosen.
        form: Values of the other data settings.
    """

    source: str
    starter: str
    file: str | None
    hub: str
    configuration: str
    split: str
    held_out_file: str | None
    layout: str
    parts: Sequence[str | None]
    form: Sequence[Any]

    @classmethod
    def of(cls, values: Sequence[Any]) -> _InputValues:
        source, starter, file, hub, configuration, split, held_out, layout = values[:PARTS_FROM]
        parts, form = values[PARTS_FROM:FORM_FROM], values[FORM_FROM:]
        hub, configuration, split = (str(text or "").strip() for text in (hub, configuration, split))
        return cls(source, starter, file, hub, configuration, split or "train", held_out, layout or "", parts, form)

    @property
    def name(self) -> str:
        """Source as written in the settings, such as "starter:NAME"; "" if none has been chosen."""
        chosen = {"starter": self.starter, "file": self.file, "hub": self.hub}[self.source]
        return f"{self.source}:{chosen}" if chosen else ""

    def columns(self) -> dict[str, str]:
        """Return the manually chosen columns, by role."""
        if not self.layout:
            return {}
        parts = zip(LAYOUTS[self.layout].parts, self.parts, strict=False)
        return {part: "" if column == data_views.NOT_USED else column for part, column in parts if column}


class DataOutputs(NamedTuple):
    """The components that contain or show the data.

    Attributes:
        settings: Settings of the data in use.
        shown: Key of the shown data, from `_key`.
        words: Description of the next study, in the strip.
        report: Report on how the data was read.
        lengths: Figure of the row lengths.
        row: Number of the row shown.
        rendered: The row shown, as the model reads it.
        problem: Explanation of why the data cannot be used.
    """

    settings: gr.State
    shown: gr.State
    words: gr.HTML
    report: gr.HTML
    lengths: gr.HTML
    row: gr.Slider
    rendered: gr.HTML
    problem: gr.HTML


@dataclass(frozen=True)
class DataTab:
    """The components of the tab, and the handlers that read the data.

    Each handler takes the values of `handler_inputs()`: the data settings in use, the key of the shown data, the model
    settings, and the values of `DataInputs`. It returns updates of `handler_outputs()`.

    Attributes:
        lab: The state shared by all visitors.
        inputs, outputs: The components of the tab.
        tab: The tab itself.
        model: State with the model settings.
    """

    lab: Lab
    inputs: DataInputs
    outputs: DataOutputs
    tab: gr.Tab
    model: gr.State

    def handler_inputs(self) -> list[Any]:
        """Return the input components of every handler."""
        return [self.outputs.settings, self.outputs.shown, self.model, *self.inputs.components()]

    def handler_outputs(self) -> list[Any]:
        """Return the output components of every handler."""
        return [*self.outputs, self.inputs.by_hand, *self.inputs.parts]

    def read_after(self, event: Any) -> None:
        """Read the data again after an event."""
        event.then(reports_errors(self._refresh), self.handler_inputs(), self.handler_outputs(), **QUIET)

    def restored_components(self) -> list[Any]:
        """Return the components that `restored` updates."""
        return [*self.handler_outputs(), *self.inputs.chosen(), self.inputs.hub]

    def restored(self, settings: DataSettings, model: ModelSettings) -> list[Any]:
        """Return the updates that apply data settings and show their rows.

        Args:
            settings: The data settings.
            model: The model settings.

        Returns:
            One update per component.

        Raises:
            LabError: If the data cannot be used.
        """
        shown = data_views.data_updates(self.lab, settings, model, _key(settings, model))
        return [*shown, *self.inputs.shown(settings), gr.update(visible=settings.source.startswith("hub:"))]

    def connect(self) -> None:
        """Connect the inputs to the handlers."""
        inputs, outputs = self.inputs, self.outputs
        changed = [
            *(self.tab.select, inputs.source.input, inputs.starter.input, inputs.file.upload),
            *(inputs.held_out_file.upload, inputs.held_out_file.clear),
            *(events(found).change for found in (*inputs.form.components, self.model)),
        ]
        columns = [events(found).input for found in inputs.parts]
        asked, filled = self.handler_inputs(), self.handler_outputs()
        gr.on(changed, reports_errors(self._refresh), asked, filled, **LATEST)
        inputs.fetch.click(reports_errors(self._fetch), asked, filled, **QUIET)
        inputs.layout.input(reports_errors(self._change_layout), asked, filled, **LATEST)
        gr.on(columns, reports_errors(self._change_column), asked, filled, **LATEST)

        def show_split(settings: DataSettings) -> list[Any]:
            return [gr.update(**changed) for changed in data_views.split_controls(settings).values()]

        split = [inputs.form.by_name[name] for name in data_views.SPLIT]
        events(outputs.settings).change(show_split, outputs.settings, split, **LATEST)

        @reports_errors
        def show_row(number: int, settings: DataSettings, model: ModelSettings) -> str:
            """Render one row.

            Args:
                number: Number of the row, from 1.
                settings: The data settings.
                model: The model settings.

            Returns:
                The row as HTML.
            """
            return data_views.rendered_row(*self.lab.prepared(settings, model), int(number))

        # `change` rather than `input`, since the page reduces the value when the range shrinks.
        events(outputs.row).change(show_row, [outputs.row, outputs.settings, self.model], outputs.rendered, **LATEST)

    def _refresh(self, in_use: DataSettings, shown: str, model: ModelSettings, *values: Any) -> list[Any]:
        """Read the data, unless a file must be chosen or a data set from the hub downloaded first."""
        given = _InputValues.of(values)
        is_ready = given.name and (given.source != "hub" or given.name == in_use.source)
        return self._read(given, shown, model) if is_ready else self._unchanged()

    def _fetch(self, in_use: DataSettings, shown: str, model: ModelSettings, *values: Any) -> list[Any]:
        """Download and read a data set from the hub; raise `DataError` if no name is given."""
        given = _InputValues.of(values)
        if not given.name:
            raise DataError(say("No data set was given: enter its hub id as OWNER/NAME."))
        return self._read(given, "", model)

    def _change_layout(self, in_use: DataSettings, shown: str, model: ModelSettings, *values: Any) -> list[Any]:
        """Read the data with a different layout, without the columns chosen for the previous one.

        If the columns of the new layout are not found, no error is shown, since the visitor can choose them.
        """
        given = replace(_InputValues.of(values), parts=())
        return self._read(given, "", model, show_error=not given.layout) if given.name else self._unchanged()

    def _change_column(self, in_use: DataSettings, shown: str, model: ModelSettings, *values: Any) -> list[Any]:
        """Read the data with the chosen columns, once all required ones are chosen."""
        given = _InputValues.of(values)
        missing = given.layout and set(LAYOUTS[given.layout].required) - set(given.columns())
        return self._unchanged() if missing else self._refresh(in_use, shown, model, *values)

    def _unchanged(self) -> list[Any]:
        return [gr.skip()] * len(self.handler_outputs())

    def _read(self, given: _InputValues, shown: str, model: ModelSettings, *, show_error: bool = True) -> list[Any]:
        settings = self.inputs.form.settings(
            given.form,
            source=given.name,
            held_out_source=f"file:{given.held_out_file}" if given.held_out_file else "",
            layout=given.layout,
            columns=given.columns(),
            **({"configuration": given.configuration, "split": given.split} if given.source == "hub" else {}),
        )
        key = _key(settings, model)
        if key == shown:
            return self._unchanged()
        try:
            return data_views.data_updates(self.lab, settings, model, key)
        except LabError as error:
            return data_views.unusable_data_updates(self.lab, settings, model, error, show_error=show_error)


def _key(settings: DataSettings, model: ModelSettings) -> str:
    """Return a key that identifies the prepared data."""
    return settings.model_dump_json() + model.model_dump_json()


def build(lab: Lab, strip: Strip, tab: gr.Tab) -> DataTab:
    """Build the tab, inside an open `gr.Tab`.

    Args:
        lab: The state shared by all visitors.
        strip: The strip at the top of the page.
        tab: The tab itself.

    Returns:
        The components and handlers.
    """
    settings = gr.State(EXAMPLE.data)
    with gr.Row(elem_id="data-tab", elem_classes=["lab-two"]):
        with gr.Column(scale=2, min_width=280, elem_classes=["lab-side"]):
            inputs = _inputs()
            bundled_hint(lab.host.models)
        with gr.Column(scale=5, min_width=320):
            report = gr.HTML(elem_id="data-report", apply_default_css=False)
            lengths = live_figure(elem_id="data-lengths", height=260)
            row = gr.Slider(1, 2, value=1, step=1, label=say("Row shown"), elem_id="data-row")
            rendered = gr.HTML(elem_id="data-rendered", apply_default_css=False)
    outputs = DataOutputs(settings, gr.State(""), strip.words, report, lengths, row, rendered, inputs.problem)
    data = DataTab(lab, inputs, outputs, tab, strip.model)
    data.connect()
    return data


def _inputs() -> DataInputs:
    sources = [(say(words), name) for name, words in SOURCES.items()]
    source = gr.Radio(sources, value="starter", label=say("Source of the instructions"), elem_id="data-source")
    starter = gr.Dropdown(
        [(_starter_text(name, found.words), name) for name, found in STARTERS.items()],
        value=EXAMPLE.data.source.removeprefix("starter:"),
        label=say("Starter set"),
        info=say("Small data sets included with the lab."),
        elem_id="data-starter",
    )
    effect = gr.HTML(elem_id="data-effect", apply_default_css=False)
    use_effect = gr.Button(say("Set up this recorded study"), size="md", visible=False, elem_id="data-effect-use")
    file = gr.File(
        label=say("JSONL, JSON, CSV or Parquet"), file_types=FILE_TYPES, visible=False, elem_id="data-file", height=130
    )
    gr.HTML(quiet(say(data_views.FILE_ROWS)), elem_id="data-file-rows", apply_default_css=False)
    hub, *hub_inputs, fetch = _hub()
    problem = gr.HTML(elem_id="data-problem", apply_default_css=False, js_on_load=part("data-problem"))
    changes = data_views.split_controls(EXAMPLE.data)
    changes = {
        name: {**changes.get(name, {}), **({"render": False} if name in MORE else {})} for name in (*FORM, *MORE)
    }
    form = Form(DataSettings, names=(*FORM, *MORE), prefix="data", changes=changes)
    with gr.Accordion(say("Columns, held-out file and more"), open=False, elem_id="data-by-hand") as by_hand:
        layout = gr.Dropdown(
            [(say("Detect automatically"), ""), *((say(found.words), name) for name, found in LAYOUTS.items())],
            value="",
            label=say("Layout of a row"),
            info=say("Choose a layout to assign the columns by hand."),
            elem_id="data-layout",
        )
        none = data_views.NOT_USED
        parts = [
            gr.Dropdown(
                [(say(none), none)], value=none, label=say("Column"), visible=False, elem_id=f"data-part-{place}"
            )
            for place in range(data_views.PARTS_SHOWN)
        ]
        words = say("Separate held-out file, instead of a share of the rows")
        held_out_file = gr.File(label=words, file_types=FILE_TYPES, elem_id="data-held-out", height=130)
        for name in MORE:
            form.by_name[name].render()
    boxes = {"starter": starter, "file": file, "hub": hub}
    source.input(shown_among([*boxes]), source, [*boxes.values()], **LATEST)
    given = source, starter, effect, use_effect, file, hub, hub_inputs, fetch
    return DataInputs(*given, problem, held_out_file, form, by_hand, layout, parts)


def _starter_text(name: str, words: str) -> str:
    said, title = say(words), data_title(name)
    named = title if title == name else say("{title} ({name})", title=title, name=name)
    return say(": ").join((named, said[:1].lower() + said[1:]))


def _hub() -> tuple[Any, ...]:
    """Build the column of the hub; return it, its inputs (data set, configuration, split), and the Fetch button."""
    with gr.Column(visible=False) as box:
        name = gr.Dropdown(
            [(f"{name} ({found.licence})", name) for name, found in HUB_SETS.items()],
            value=next(iter(HUB_SETS)),
            allow_custom_value=True,
            label=say("Data set on the Hugging Face Hub"),
            info=say("Only the first rows are streamed, and no code from the data set is run."),
            elem_id="data-hub",
        )
        configuration = gr.Textbox(label=say("Configuration"), info=say("Needed if there are several configurations."))
        split = gr.Textbox("train", label=say("Split"), info=say("The name of the split on the hub."))
        fetch = gr.Button(say("Fetch the first rows"), elem_id="data-fetch", size="md")
    return box, name, configuration, split, fetch
