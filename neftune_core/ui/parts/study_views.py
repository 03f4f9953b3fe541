"""The figures of a study on the Train and Runs tabs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neftune_core.errors import RecordError
from neftune_core.figures.base import Figure
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.dynamics import move_curves, rate_curves
from neftune_core.language import later
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.record import Record


def _moves(record: Record, events: Sequence[Event]) -> Figure:
    try:
        clip_norm = record.study.training.clip_norm
    except RecordError:
        clip_norm = 0.0
    return move_curves(events, record.arms, clip_norm)


STUDY_VIEWS: dict[str, tuple[str, Callable[[Record, Sequence[Event]], Figure]]] = {
    "losses": (later("Losses"), lambda record, events: loss_curves(events, record.arms)),
    "moves": (later("Gradients and weights"), _moves),
    "rates": (later("Noise, rate and speed"), lambda record, events: rate_curves(events, record.arms)),
}
"""Label and drawing function of each figure, by name."""


def curves_of(record: Record, events: Sequence[Event], view: str) -> Figure:
    """Return one figure of a study.

    Args:
        record: Record of the study.
        events: Events of its log.
        view: One of `STUDY_VIEWS`.

    Returns:
        The figure, with the id of the record as `study`.
    """
    return STUDY_VIEWS[view][1](record, events) | {"study": record.id}
