"""Measure the effect of rounding on a study's measures, by evaluating the same arms a second time.

For bfloat16 and float16, the second evaluation uses the same weights in float32. For float32, it uses another batch
size, which changes the order of summation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from neftune_core.engine.clean_loss import row_measures
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.row_measures import RowMeasures
from neftune_core.engine.settings import evaluation_batch
from neftune_core.models.accelerator import accelerator
from neftune_core.models.device import BYTES, available_memory
from neftune_core.studies.judging import measures_of

logger = logging.getLogger(__name__)

FREE_SHARE = 1.5
"""Free memory required for a float32 copy of the weights, as a multiple of its size."""


def measure_rounding(run: Lockstep, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Measure the effect of rounding at the end of a run.

    Args:
        run: A run at its last step.
        should_stop: Polled between layers; return true to cancel.

    Returns:
        `precision` of the study, `against` (the second evaluation), and by measure the `largest` and `typical` (root
        mean square) difference over the arms still in training. Empty if no arm is still in training, if a float32
        copy of the weights does not fit in memory, or if the model does not support one.
    """
    precision = run.stack.loaded.precision
    is_wide = precision == "float32"
    if not run.alive or not (is_wide or _fits(run)):
        return {}
    size, samples = evaluation_batch(run.study.training), run.samples()
    sizes = {part: max(1, min(size, len(rows)) // 2) if is_wide else size for part, rows in samples.items()}
    try:
        with accelerator.held(), nullcontext() if is_wide else run.stack.in_precision(torch.float32):
            again = {
                part: row_measures(run.stack, rows, run.alive, batch_size=sizes[part], should_stop=should_stop)
                for part, rows in samples.items()
            }
    except (RuntimeError, TypeError, ValueError):  # some model code only accepts weights in their original precision
        logger.warning("the effect of rounding to %s could not be measured", precision, exc_info=True)
        return {}
    with accelerator.held():
        before = {part: run.rows_now(part, run.alive, len(rows.tokens), should_stop) for part, rows in again.items()}
    pairs = [(_measures(before, index), _measures(again, index)) for index in range(len(run.alive))]
    known = [name for name in pairs[0][0] if all(name in one for pair in pairs for one in pair)]
    found = {name: np.array([abs(one[name] - other[name]) for one, other in pairs]) for name in known}
    words, values = run.stack.loaded.vocabulary, pairs[0][0]
    least = {name: _resolution(name, values[name], words) if is_wide else 0.0 for name in found}
    return {
        "precision": precision,
        "against": "batches of a different size" if is_wide else "float32",
        "largest": {name: max(float(differences.max()), least[name]) for name, differences in found.items()},
        "typical": {name: math.sqrt(float((differences**2).mean())) for name, differences in found.items()},
    }


def _fits(run: Lockstep) -> bool:
    loaded = run.stack.loaded
    return available_memory(str(loaded.device)) > FREE_SHARE * loaded.parameters * BYTES["float32"]


def _measures(rows: Mapping[str, RowMeasures], index: int) -> dict[str, float]:
    return measures_of(
        {f"{part}_{name}": value for part, found in rows.items() for name, value in vars(found.of(index)).items()}
    )


def _resolution(measure: str, value: float, words: int) -> float:
    """Return the float32 resolution of a loss: machine epsilon times `log(words)`, with the vocabulary size `words`.

    `log(words)` is the loss of uniform guessing. The resolution is a lower bound on the effect of rounding, because the
    results of two batch sizes can agree bit for bit by chance. It is 0 for other measures.
    """
    if not measure.endswith(("loss", "gap", "perplexity")):
        return 0.0
    return float(np.finfo(np.float32).eps) * math.log(words) * (value if measure == "perplexity" else 1.0)
