"""The verdict on a record as a card with a table of all measures, and components that show it with its figures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import LabError, RecordError
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Question
from neftune_core.evaluation.verdict import Verdict
from neftune_core.export.report_parts import verdict_html
from neftune_core.figures import Figure
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.evidence import epochs_beside, overlap_histogram, robustness_curves, seed_differences
from neftune_core.language import later, say, translate_finished
from neftune_core.noise.names import arm_label
from neftune_core.sentences import sentence
from neftune_core.studies.judging import outcomes_of, overlaps_of, verdict_of
from neftune_core.studies.records.numbers import metrics, table
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.results import MeanResults, mean_results
from neftune_core.studies.settings import CONTROL
from neftune_core.sweeps.table import judge
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import live_figure
from neftune_core.ui.parts.wiring import QUIET, reports_errors
from neftune_core.ui.server.lab import Lab, require_key

FIGURES = {
    "differences": later("Arm minus control, seed by seed"),
    "epochs": later("Best and last epoch"),
    "overlap": later("Memorisation"),
    "robustness": later("Under noise and typing errors"),
}
SAMPLED = {
    "train_loss": later("training loss"),
    "held_out_loss": later("held-out loss"),
    "robustness": later("robustness"),
    "answers": later("answers"),
}


@dataclass(frozen=True)
class EvidenceView:
    """The components that show the evidence of a record: verdict and measures, and an accordion with the figures."""

    card: gr.HTML
    box: gr.Accordion
    figures: dict[str, gr.HTML]

    def components(self) -> list[Any]:
        """Return the components in the order of the values from `of` and `empty`."""
        return [self.card, self.box, *self.figures.values()]

    def of(self, record: Record) -> list[Any]:
        """Return the values for a finished record; figures that cannot be drawn are None."""
        card, drawn = verdict_card(record), _figures(record)
        return [card, gr.update(visible=any(drawn.values())), *(drawn.get(name) for name in self.figures)]

    def empty(self) -> list[Any]:
        """Return the values for no record or a running one."""
        return ["", gr.update(visible=False), *([None] * len(self.figures))]


def build(prefix: str) -> EvidenceView:
    """Build the components in the current column; the figures stay hidden until a record has results."""
    card = gr.HTML(elem_id=f"{prefix}-verdict", apply_default_css=False)
    with gr.Accordion(say("Figures behind the verdict"), open=True, visible=False, elem_classes=["lab-group"]) as box:
        figures = {}
        for name, words in FIGURES.items():
            with gr.Accordion(say(words), open=name == "differences", elem_classes=["lab-group"]):
                figures[name] = live_figure(elem_id=f"{prefix}-{name}")
    return EvidenceView(card, box, figures)


def _figures(record: Record) -> dict[str, Figure | None]:
    """Return the figures of a record by name; None for a figure without data."""
    try:
        arms, outcomes, found = record.arms, outcomes_of(record), verdict_of(record)
        overlaps = overlaps_of(record)
        measured = [table(kept.get("robustness")) for kept in metrics(record).values()]
        drawn = {
            "differences": seed_differences(found, arms),
            "epochs": epochs_beside(outcomes, CONTROL.name, arms),
            "overlap": overlap_histogram(overlaps, arms),
            "robustness": robustness_curves(measured, arms),
        }
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):  # the card shows the error
        return {}
    return {name: figure if figure["data"] else None for name, figure in drawn.items()}


def connect(
    view: EvidenceView, lab: Lab, key: gr.Textbox, record_id: Any, changed: Sequence[Any], started: Sequence[Any] = ()
) -> None:
    """Show the evidence of a finished record whenever one of several events fires.

    Args:
        view: The components.
        lab: The state shared by all visitors.
        key: Component with the visitor's key.
        record_id: Component with the id of the record.
        changed: The events.
        started: Events that start further training of the same record, after which its evidence is hidden.
    """

    @reports_errors
    def show(key: str, record_id: str) -> list[Any]:
        try:
            record = find(record_id, require_key(key)) if record_id else None
        except RecordError:  # removed in the meantime; the status line reports it
            record = None
        if record is None or not lab.jobs.status(record).is_over:
            return view.empty()
        return view.of(record)

    gr.on(list(changed), show, [key, record_id], view.components(), trigger_mode="always_last", **QUIET)
    for then in started:
        then(show, [key, record_id], view.components(), **QUIET)


def verdict_card(record: Record) -> str:
    """Return the verdict and the measures of a record as HTML; "" before anything has been measured."""
    try:
        found = judge(record)
        if found.is_empty:
            return ""
        card = f"<h3>{html.escape(say('The verdict'))}</h3>{verdict_html(found, unfolded=False)}"
        measures = "" if record.is_sweep else _table(record, found, mean_results(record))
        return f'<section class="lab-evidence">{card}{measures}</section>'
    except LabError as error:
        return quiet(say("There is no verdict: {reason}", reason=error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # the numbers were not written by the lab
        unread = say("There is no verdict: the numbers of this record cannot be read.")
        return quiet(f"{unread} {sentence(error)}")


def _table(record: Record, found: Verdict, numbers: MeanResults) -> str:
    arms, means = record.arms, numbers.last
    names = [name for name in ("base", *arms) if means.get(name)]
    colours = arm_colours(arms)
    heads = "".join(
        f'<th scope="col" style="--arm: {colours[name]}">{html.escape(arm_label(name))}</th>' for name in names
    )
    groups = dict.fromkeys(definition.group for definition in MEASURES.values())
    body = "".join(_group(group, names, means, found.question) for group in groups)
    about = say(
        "Only the measure chosen as the question is tested; all others are descriptive. Press a name for its "
        "definition."
    )
    return (
        f'<div class="lab-measures"><h3>{say("Every measure after the last epoch")}{numbers.of_seeds}</h3>'
        + quiet(f"{about} {' '.join(numbers.notes)}")
        + f'<div class="lab-measures-scroll" tabindex="0" role="region" aria-label="{say("Measures")}"><table>'
        + f"<thead><tr><th></th>{heads}</tr></thead>{body}</table></div>{_samples(record)}</div>"
    )


def _group(group: str, names: list[str], means: Mapping[str, Mapping[str, float]], question: Question) -> str:
    rows = [
        _row(measure, names, means, question)
        for measure, definition in MEASURES.items()
        if definition.group == group and any(measure in means[name] for name in names)
    ]
    if not rows:
        return ""
    words = html.escape(say(group))
    head = f'<tr class="lab-measures-group"><th scope="rowgroup" colspan="{len(names) + 1}">{words}</th></tr>'
    return f"<tbody>{head}{''.join(rows)}</tbody>"


def _row(measure: str, names: list[str], means: Mapping[str, Mapping[str, float]], question: Question) -> str:
    definition = MEASURES[measure]
    cells = "".join(f"<td>{_number(means[name].get(measure))}</td>" for name in names)
    asked = ' class="lab-measures-asked"' if measure == question.measure else ""
    label, words = html.escape(say(definition.label)), html.escape(say(definition.words))
    details = f"<details><summary>{label}</summary><p>{words}</p></details>"
    return f'<tr{asked}><th scope="row">{details}</th>{cells}</tr>'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _samples(record: Record) -> str:
    """Describe the rows and prompts of the measurements, and the sacrebleu signature."""
    kept = next(iter(metrics(record).values()), {})
    samples = {**record.about_table("samples"), **table(kept.get("samples"))}
    entries = [
        say(": ").join((say(SAMPLED.get(name, name)), translate_finished(words)))
        for name, words in samples.items()
        if isinstance(words, str)
    ]
    entries += [
        say(": ").join((name, words)) for name, words in table(kept.get("signatures")).items() if isinstance(words, str)
    ]
    listed = "".join(f"<li>{html.escape(words)}</li>" for words in entries)
    return (
        f'<details class="lab-more"><summary>{say("Measured on")}</summary><ul>{listed}</ul></details>'
        if listed
        else ""
    )
