"""On the Noise tab, measure the untrained model's loss at several noise strengths, with rows from the Data tab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.figures.sensitivity import loss_by_strength
from neftune_core.language import say
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, parse
from neftune_core.ui.parts.markup import bar, quiet
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import HIDDEN, QUIET, events, reports_errors, visibility
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.data_tab import DataTab
from neftune_core.ui.tabs.noise_tab import NoiseTab, strengths_at

if TYPE_CHECKING:
    from neftune_core.data.preparing import PreparedData
    from neftune_core.data.settings import DataSettings

ROWS = 8
REDRAW_SECONDS = 0.2
# Fractions of the slider's range at which the loss is measured: alpha 1, 2, 5, 10, 15, 30, 60 and 100.
MEASURED_AT = (0.01, 0.02, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0)


def _measured_losses(prepared: PreparedData, model: ModelSettings, noise: NoiseSettings) -> Iterator[dict[str, Any]]:
    """Yield the fields of a growing `Sensitivity` except `noise`, and whether its rows are `held_out`.

    The rows are the first held-out rows, or the first training rows if none are held out. Other visitors can use the
    accelerator between passes.
    """
    from neftune_core.evaluation.sensitivity import measure_sensitivity
    from neftune_core.models.accelerator import holding
    from neftune_core.models.loading import load

    sample = (prepared.held_out or prepared.train)[:ROWS]
    for found in holding(measure_sensitivity(load(model), sample, noise, strengths_at(MEASURED_AT, noise.unit))):
        values = {field: getattr(found, field) for field in ("strengths", "planned", "losses", "tokens", "progress")}
        yield {**values, "held_out": bool(prepared.held_out)}


def _losses_in_call(
    data: dict[str, Any], model: dict[str, Any], noise: dict[str, Any], limits: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Run `_measured_losses` for settings given as plain values."""
    from neftune_core.data.preparing import prepare
    from neftune_core.data.settings import DataSettings
    from neftune_core.models.loading import load

    chosen = parse(ModelSettings, model)
    loaded = load(chosen)
    rows = prepare(parse(DataSettings, data).within(loaded.context), loaded.tokenizer, parse(Limits, limits))
    return _measured_losses(rows, chosen, parse(NoiseSettings, noise))


def measure_loss(
    lab: Lab, data: DataSettings, model: ModelSettings, noise: NoiseSettings
) -> Iterator[tuple[Figure, float]]:
    """Measure the loss at several strengths, on the GPU allocated per call if there is one.

    Args:
        lab: The state shared by all visitors.
        data: The data settings.
        model: The model settings.
        noise: The noise settings; strength and schedule are ignored.

    Yields:
        The figure so far, and the completed share of the work, from 0 to 1.

    Raises:
        LabError: If the model cannot be loaded, the data cannot be read, or the GPU call fails.
    """
    from neftune_core.evaluation.sensitivity import Sensitivity
    from neftune_core.models.loading import load
    from neftune_core.space.gpu_seconds import pass_seconds

    prepared, _ = lab.prepared(data, model)
    given = (data.model_dump(), model.model_dump(), noise.model_dump(), lab.limits.model_dump())
    passes = 2 * ROWS * (len(MEASURED_AT) + 1) * (noise.ascent_steps + 1)
    if lab.gpu is None:
        stream = _measured_losses(prepared, model, noise)
    else:
        stream = lab.gpu.run(_losses_in_call, given, pass_seconds(passes, load(model).layers))
    for values in stream:
        words = say("held-out rows") if values.pop("held_out") else say("training rows")
        found = Sensitivity(noise=noise, **values)
        yield loss_by_strength(found, words), found.progress


def build(lab: Lab, strip: Strip, data: DataTab, tab: NoiseTab) -> None:
    """Build the buttons, the progress and the figure in the row reserved by the tab.

    Args:
        lab: The state shared by all visitors.
        strip: The strip at the top of the page.
        data: The Data tab.
        tab: The Noise tab.
    """
    about = quiet(
        say(
            "Measured on the first {count} held-out rows from the Data tab, or on training rows if no rows are held "
            "out; nothing is trained.",
            count=ROWS,
        )
    )
    with tab.loss:
        ask = gr.Button(say("Measure the loss"), variant="primary", size="md", elem_id="noise-measure")
        stop = gr.Button(say("Stop"), size="md", elem_id="noise-measure-stop", visible=HIDDEN)
        progress = gr.HTML(about, apply_default_css=False, elem_id="noise-measure-progress")
        found = scripted("noise-loss", elem_id="noise-loss")

    @reports_errors
    def measure(settings: Any, model: ModelSettings, *values: Any) -> Iterator[list[Any]]:
        """Measure the loss by strength, and show the progress.

        Args:
            settings: The data settings.
            model: The model settings.
            *values: Noise settings.

        Yields:
            Updates of the figure and the text.
        """
        noise = tab.noise.settings(values)
        shown_at = -REDRAW_SECONDS
        drawn: Figure = {}
        for drawn, share in measure_loss(lab, settings, model, noise):
            if time.monotonic() - shown_at >= REDRAW_SECONDS:
                shown_at = time.monotonic()
                yield [drawn, bar(share, say("Measuring"))]
        yield [drawn, about]

    ask.click(lambda: visibility(True), None, stop, **QUIET)
    given = [data.outputs.settings, strip.model, *tab.noise.components]
    asking = ask.click(measure, given, [found, progress], **QUIET, concurrency_limit=2)
    asking.then(lambda: visibility(False), None, stop, **QUIET)
    stop.click(lambda: [visibility(False), about], None, [stop, progress], cancels=asking, **QUIET)
    # After a change of model or rows, the measured losses no longer match the page.
    others = [events(state).change for state in (data.outputs.settings, strip.model)]
    shown = [found, stop, progress]
    gr.on(others, lambda: [{}, visibility(False), about], None, shown, cancels=asking, **QUIET)
