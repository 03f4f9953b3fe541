"""The panel of the lesson on faults: run a training script with or without one of five faults."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from neftune_core.figures import Figure
from neftune_core.figures.faults import fault_curves
from neftune_core.language import later, say
from neftune_core.lessons.faults import FAULTS, RunMeasurements, damage
from neftune_core.ui.parts.markup import bar, quiet
from neftune_core.ui.parts.plot import live_figure, scripted
from neftune_core.ui.parts.wiring import HIDDEN, LATEST, QUIET, events, reports_errors, visibility

REDRAW_SECONDS = 0.25
FIRST = next(iter(FAULTS))
ABOUT = later("A run takes about ten seconds; both runs start from the same model and use the same rows.")

Runs = dict[str, RunMeasurements]
"""Finished runs of one visitor, by keys such as "NAME/right" and "NAME/wrong"."""


def build() -> None:
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
    about = quiet(say(ABOUT))
    words = gr.HTML(about, apply_default_css=False, elem_id="fault-words")
    curves = live_figure(elem_id="fault-curves")
    counts = scripted("facts", value={}, elem_id="fault-facts")
    chosen = [fault, switch, gr.State({})]
    gr.on(
        [events(fault).input, events(switch).input],
        reports_errors(_show_fault),
        chosen,
        [code, words, curves],
        **LATEST,
    )
    run.click(lambda: visibility(True), None, stop, **QUIET)
    outputs = [words, curves, chosen[-1], counts]
    running = run.click(reports_errors(_run), chosen, outputs, **QUIET, concurrency_limit=2)
    running.then(lambda: visibility(False), None, stop, **QUIET)
    stop.click(lambda: [visibility(False), about], None, [stop, words], cancels=running, **QUIET)


def _show_fault(name: str, wrong: bool, runs: Runs) -> list[Any]:
    """Return the code, the summary and the curves of a fault."""
    return [_code(name, wrong), _summary(name, runs), _curves(name, runs)]


def _run(name: str, wrong: bool, runs: Runs) -> Iterator[list[Any]]:
    """Run the script with or without a fault; yield the text, the curves, the finished runs and their counts."""
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


RESULTS: dict[str, Callable[[RunMeasurements], str]] = {
    later("Held-out loss, reported"): lambda run: f"{run.reported[-1]:.3f}",
    later("Held-out loss, true"): lambda run: f"{run.true[-1]:.3f}",
    later("Exact answers, reported"): lambda run: f"{run.exact_reported:.0%}",
    later("Exact answers, true"): lambda run: f"{run.exact_true:.0%}",
    later("Exact answers of the saved model"): lambda run: f"{run.exact_saved:.0%}",
}


def _table(right: RunMeasurements | None, wrong: RunMeasurements | None) -> str:
    """Return the results of both runs as an HTML table, with dashes for a missing run."""
    rows = ""
    for words, value in RESULTS.items():
        cells = [value(run) if run else "–" for run in (right, wrong)]
        differs = ' class="lab-differs"' if right and wrong and cells[0] != cells[1] else ""
        rows += f'<tr{differs}><th scope="row">{say(words)}</th><td>{cells[0]}</td><td>{cells[1]}</td></tr>'
    head = (
        f'<tr><td></td><th scope="col">{say("without the fault")}</th><th scope="col">{say("with the fault")}</th></tr>'
    )
    return f'<table class="lab-table"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _code(name: str, wrong: bool) -> str:
    text = html.escape(FAULTS[name].wrong if wrong else FAULTS[name].right)
    return f'<pre class="lab-code" data-fault="{str(wrong).lower()}" tabindex="0"><code>{text}</code></pre>'
