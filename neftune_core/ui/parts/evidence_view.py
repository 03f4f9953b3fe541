"""The evidence for a verdict: the measures of a record, the details of the verdict, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.errors import LabError, RecordError
from neftune_core.figures import Figure
from neftune_core.figures.evidence import epochs_beside, overlap_histogram, robustness_curves, seed_differences
from neftune_core.language import later, say
from neftune_core.studies.judging import outcomes_of, overlaps_of, verdict_of
from neftune_core.studies.records.numbers import metrics, table
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.settings import CONTROL
from neftune_core.ui.parts.plot import live_figure
from neftune_core.ui.parts.verdict_card import evidence_of
from neftune_core.ui.parts.wiring import QUIET, reports_errors
from neftune_core.ui.server.lab import Lab, require_key

FIGURES = {
    "differences": later("Arm minus control, seed by seed"),
    "epochs": later("Best and last epoch"),
    "overlap": later("Memorisation"),
    "robustness": later("Under noise and typing errors"),
}


@dataclass(frozen=True)
class EvidenceView:
    """The components that show the evidence of a record.

    Attributes:
        card: The measures that matter most.
        box: Collapsed section with everything else.
        details: The details of the verdict, and the other measures.
        figures: The figures by name.
    """

    card: gr.HTML
    box: gr.Accordion
    details: gr.HTML
    figures: dict[str, gr.HTML]

    def components(self) -> list[Any]:
        """Return the components in the order of the values from `of` and `empty`."""
        return [self.card, self.box, self.details, *self.figures.values()]

    def of(self, record: Record) -> list[Any]:
        """Return the values for a finished record; figures that cannot be drawn are None."""
        found, drawn = evidence_of(record), _figures(record)
        shown = gr.update(visible=bool(found.details) or any(drawn.values()))
        return [found.card, shown, found.details, *(drawn.get(name) for name in self.figures)]

    def empty(self) -> list[Any]:
        """Return the values for no record or a running one."""
        return ["", gr.update(visible=False), "", *([None] * len(self.figures))]


def build(prefix: str) -> EvidenceView:
    """Build the components in the current column; the collapsed section is hidden until a record has results."""
    card = gr.HTML(elem_id=f"{prefix}-verdict", apply_default_css=False)
    with gr.Accordion(say("Details"), open=False, visible=False, elem_id=f"{prefix}-evidence") as box:
        details = gr.HTML(elem_id=f"{prefix}-details", apply_default_css=False)
        figures = {}
        for name, words in FIGURES.items():
            with gr.Accordion(say(words), open=name == "differences", elem_classes=["lab-group"]):
                figures[name] = live_figure(elem_id=f"{prefix}-{name}")
    return EvidenceView(card, box, details, figures)


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
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):  # shown on the card
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
        """Show the evidence of a study that has ended.

        Args:
            key: The visitor's key.
            record_id: Id of the record; "" for none.

        Returns:
            Updates of the outputs.
        """
        try:
            record = find(record_id, require_key(key)) if record_id else None
        except RecordError:  # deleted in the meantime; the status line shows the error
            record = None
        if record is None or not lab.jobs.status(record).is_over:
            return view.empty()
        return view.of(record)

    gr.on(list(changed), show, [key, record_id], view.components(), trigger_mode="always_last", **QUIET)
    for then in started:
        then(show, [key, record_id], view.components(), **QUIET)
