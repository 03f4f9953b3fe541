"""Compute the size of each layer's adapter update, and its angle to the control's update.

The update of an adapted module is `scale * B A`, with the adapter's factors `A [r, in]` and `B [out, r]` and
`scale = lora_alpha / r` (arXiv 2106.09685). The update of a layer consists of the updates of its adapted modules. Norms
and inner products are computed from the factors, without forming `B A`. With the factors `A'` and `B'` of another arm
and the elementwise product `*`, `<B A, B' A'> = sum((B^T B') * (A A'^T))`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neftune_core.engine.saving import ADAPTER, PREFIX, read_adapter
from neftune_core.errors import NotAvailable, RecordError
from neftune_core.language import say
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL

_FACTOR = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_([AB])\.weight")
_LAYER = re.compile(r"(.*?)\.(\d+)\.")
PARTS = ("encoder", "decoder")

Factors = dict[str, tuple[Tensor, Tensor]]
"""`A [r, in]` and `B [out, r]` by module, in float64."""


@dataclass(frozen=True)
class Update:
    """The adapter update of one layer.

    Attributes:
        norm: Frobenius norm.
        angle: Angle to the control's update in degrees; None if either update is missing or zero.
    """

    norm: float
    angle: float | None


def updates(record: Record, seed: int) -> dict[str, dict[str, Update]]:
    """Return the update of every layer for each stored arm, the control first.

    Args:
        record: Record of the study.
        seed: Seed with which the arms were trained.

    Returns:
        Updates by arm and layer.

    Raises:
        NotAvailable: If the study trained all weights.
        RecordError: If an adapter cannot be read.
    """
    study = record.study
    if study.training.method != "lora":
        raise NotAvailable(say("This study trained all weights: only updates of adapters can be shown."))
    scale = study.training.lora_alpha / study.training.lora_rank
    folders = {name: record.arm_folder(name, seed) for name in study.arms}
    arms = {name: _read_factors(folder) for name, folder in folders.items() if (folder / ADAPTER).is_file()}
    if not arms:
        raise RecordError(say("The adapters of seed {seed} are not stored in this record.", seed=seed))
    control = arms.get(CONTROL.name)
    return {name: _by_layer(own, None if own is control else control, scale) for name, own in arms.items()}


def _read_factors(folder: Path) -> Factors:
    """Return the factors of a stored adapter; raise `RecordError` if it cannot be read."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_adapter(folder).items():
        found = _FACTOR.fullmatch(name)
        if found and tensor.dim() == 2:
            parts.setdefault(found[1], {})[found[2]] = tensor.to(torch.float64)
    return {name: (own["A"], own["B"]) for name, own in parts.items() if len(own) == 2}


def layer_of(module: str) -> str:
    """Return the layer of a module, such as "3" or "decoder 3" (from 1), or the module's name if it is in no layer."""
    found = _LAYER.match(module)
    if not found:
        return module
    part = next((part for part in PARTS if part in found[1].split(".")), "")
    return f"{part} {int(found[2]) + 1}".strip()


def _by_layer(own: Factors, control: Factors | None, scale: float) -> dict[str, Update]:
    sums: dict[str, list[float]] = {}
    for module, factors in own.items():
        total = sums.setdefault(layer_of(module), [0.0, 0.0, 0.0])
        other = (control or {}).get(module)
        total[0] += _product(factors, factors)
        if other and other[0].shape[1] == factors[0].shape[1]:
            total[1] += _product(factors, other)
            total[2] += _product(other, other)
    return {layer: Update(scale * math.sqrt(max(0.0, total[0])), _angle(*total)) for layer, total in sums.items()}


def _product(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    (down, up), (other_down, other_up) = one, other
    return float(((up.T @ other_up) * (down @ other_down.T)).sum())


def _angle(square: float, product: float, other_square: float) -> float | None:
    if square <= 0 or other_square <= 0:
        return None
    return math.degrees(math.acos(max(-1.0, min(1.0, product / math.sqrt(square * other_square)))))


def layers_of(found: Mapping[str, Mapping[str, Update]]) -> list[str]:
    """Return the layers of all arms in the order of the model."""
    return sorted({layer for arm in found.values() for layer in arm}, key=_order)


def _order(layer: str) -> tuple[str, int, str]:
    part, _, number = layer.rpartition(" ")
    return ({"decoder": "z"}.get(part, part), int(number), "") if number.isdigit() else ("zz", 0, layer)
