"""The panel of the lesson on faults: a training script that runs with or without one of five faults."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.figures.faults import fault_curves
from neftune_core.language import later, say
from neftune_core.lessons.faults import FAULTS, Fault, RunMeasurements, damage
from neftune_core.ui.parts.markup import bar, quiet
from neftune_core.ui.parts.plot import live_figure, part
from neftune_core.ui.parts.wiring import HIDDEN, LATEST, QUIET, events, reports_errors, visibility

REDRAW_SECONDS = 0.25
FIRST = next(iter(FAULTS))
ABOUT = later("A run takes about ten seconds; both runs start from the same model and use the same rows.")

Runs = dict[str, RunMeasurements]
"""Finished runs of one visitor, by keys such as "NAME/right" and "NAME/wrong"."""


@dataclass(frozen=True)
class FaultPanel:
    """The components of the panel.

    Attributes:
        fault, switch: Choice of the fault, and whether it is on.
        code: The lines of the script that the fault changes.
        run, stop: Buttons that run and stop the script.
        words, curves: Progress or result of the runs, as text and as a figure.
        runs: The visitor's finished runs.
        facts: Component that passes the counts from the function `facts` to the browser.
    """

    fault: gr.Radio
    switch: gr.Checkbox
    code: gr.HTML
    run: gr.Button
    stop: gr.Button
    words: gr.HTML
    curves: gr.HTML
    runs: gr.State
    facts: gr.HTML


def build() -> FaultPanel:
    """Build and connect the panel, inside an open column."""
    fault = gr.Radio(
        [(say(found.words), name) for name, found in FAULTS.items()],
        value=FIRST,
        label=say("Fault"),
        elem_id="fault-name",
    )
    switch = gr.Checkbox(False, label=say("Turn the fault on"), elem_id="fault-switch")
    code = gr.HTML(_code(FIRST, False), apply_default_css=False, elem_id="fault-code")
    with gr.Row(elem_id="fault-buttons"):
        run = gr.Button(say("Run the script"), variant="primary", size="md", elem_id="fault-run")
        stop = gr.Button(say("Stop"), size="md", visible=HIDDEN, elem_id="fault-stop")
    words = gr.HTML(quiet(say(ABOUT)), apply_default_css=False, elem_id="fault-words")
    curves = live_figure(elem_id="fault-curves")
    facts = gr.HTML({}, html_template="", js_on_load=part("facts"), apply_default_css=False, elem_id="fault-facts")
    panel = FaultPanel(fault, switch, code, run, stop, words, curves, gr.State({}), facts)
    _connect(panel)
    return panel


def _connect(panel: FaultPanel) -> None:
    @reports_errors
    def choose(name: str, wrong: bool, runs: Runs) -> list[Any]:
        return [_code(name, wrong), _summary(name, runs), _curves(name, runs)]

    @reports_errors
    def go(name: str, wrong: bool, runs: Runs) -> Iterator[list[Any]]:
        from neftune_core.lessons.snippet import run_script
        from neftune_core.models.accelerator import holding
        from neftune_core.models.loading import load
        from neftune_core.models.settings import ModelSettings

        fault, which = FAULTS[name], _key(name, wrong)
        shown_at = time.monotonic()
        for found in holding(run_script(load(ModelSettings()), fault.faulty if wrong else fault.script)):
            if time.monotonic() - shown_at >= REDRAW_SECONDS:
                shown_at = time.monotonic()
                share = bar(len(found.steps) / found.total, say("The script is running"))
                yield [share, _curves(name, {**runs, which: found}), gr.skip(), gr.skip()]
        done = {**runs, which: found}
        yield [_summary(name, done), _curves(name, done), done, facts(done)]

    changed = [events(panel.fault).input, events(panel.switch).input]
    chosen = [panel.fault, panel.switch, panel.runs]
    gr.on(changed, choose, chosen, [panel.code, panel.words, panel.curves], **LATEST)
    shown = [panel.words, panel.curves, panel.runs, panel.facts]
    panel.run.click(lambda: visibility(True), None, panel.stop, **QUIET)
    running = panel.run.click(go, chosen, shown, **QUIET, concurrency_limit=2)
    running.then(lambda: visibility(False), None, panel.stop, **QUIET)
    about = quiet(say(ABOUT))
    panel.stop.click(lambda: [visibility(False), about], None, [panel.stop, panel.words], cancels=running, **QUIET)


def facts(runs: Runs) -> dict[str, int]:
    """Count the faults with a finished run of the correct script, of the faulty script, and of both."""
    right, wrong = ({name for name in FAULTS if _key(name, on) in runs} for on in (False, True))
    return {"faults.right": len(right), "faults.wrong": len(wrong), "faults.pairs": len(right & wrong)}


def _key(name: str, wrong: bool) -> str:
    return f"{name}/{'wrong' if wrong else 'right'}"


def _curves(name: str, runs: Mapping[str, RunMeasurements]) -> Figure:
    return fault_curves(runs.get(_key(name, False)), runs.get(_key(name, True)))


def _summary(name: str, runs: Mapping[str, RunMeasurements]) -> str:
    right, wrong = (runs.get(_key(name, on)) for on in (False, True))
    if right and wrong:
        damage_text = html.escape(damage(FAULTS[name], right, wrong))
        return f'<p class="lab-fault-damage">{damage_text}</p>{_table(right, wrong)}{quiet(say(FAULTS[name].why))}'
    if not right and not wrong:
        return quiet(say(ABOUT))
    after = say("Now turn the fault on and run it again.") if right else say("Now turn the fault off and run it again.")
    return quiet(after) + _table(right, wrong)


def _table(right: RunMeasurements | None, wrong: RunMeasurements | None) -> str:
    """Return the results of both runs as a table, with dashes for a missing run."""
    lines = {
        later("Held-out loss, reported"): lambda run: f"{run.said[-1]:.3f}",
        later("Held-out loss, true"): lambda run: f"{run.true[-1]:.3f}",
        later("Exact answers, reported"): lambda run: f"{run.exact_said:.0%}",
        later("Exact answers, true"): lambda run: f"{run.exact_true:.0%}",
        later("Exact answers of the saved model"): lambda run: f"{run.exact_saved:.0%}",
    }
    rows = ""
    for words, value in lines.items():
        cells = [value(run) if run else "–" for run in (right, wrong)]
        differs = ' class="lab-differs"' if right and wrong and cells[0] != cells[1] else ""
        rows += (
            f'<tr{differs}><th scope="row">{say(words)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        )
    head = (
        f'<tr><td></td><th scope="col">{say("without the fault")}</th><th scope="col">{say("with the fault")}</th></tr>'
    )
    return f'<table class="lab-table"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _code(name: str, wrong: bool) -> str:
    fault: Fault = FAULTS[name]
    text = html.escape(fault.wrong if wrong else fault.right)
    return f'<pre class="lab-code" data-fault="{str(wrong).lower()}" tabindex="0"><code>{text}</code></pre>'
