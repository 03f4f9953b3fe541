"""What studies on the bundled world show: the new format, overfitting, and the curve of noise over paired seeds.

`neftune bench world` prints it all; the figures of the untouched model are in the model's own card.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neftune_core.bench.table import Table
from neftune_core.data.settings import DataSettings
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.training.settings import CONTROL, StudySettings, TrainingSettings

if TYPE_CHECKING:
    from neftune_core.training.lockstep import Event

ALPHAS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 60.0)
DEVIATIONS = (0.01, 0.05, 0.1, 0.2)
NOISES = tuple(NoiseSettings(strength=alpha) for alpha in ALPHAS) + tuple(
    NoiseSettings(strength=deviation, unit="std") for deviation in DEVIATIONS
)
CONFIRMING_SEEDS = tuple(range(11, 19))
CURVE_SETS = ("world-noisy", "world-stated", "world-format")

# The two-sided 95 % points of Student's t for 1 to 15 degrees of freedom (any statistical table).
T_POINTS = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Recipe:
    """How a set of the world is studied."""

    epochs: int
    learning_rate: float = 4e-3
    batch_size: int = 8


RECIPES = {
    "world-format": Recipe(epochs=8),
    "world-noisy": Recipe(epochs=20),
    "world-stated": Recipe(epochs=20),
}


def study(name: str, noise: Sequence[NoiseSettings], seed: int, evaluations: int) -> StudySettings:
    """The study of one set of the world."""
    recipe = RECIPES[name]
    return StudySettings(
        seed=seed,
        model=ModelSettings(),
        data=DataSettings(source=f"starter:{name}", maximum_length=128),
        training=TrainingSettings(
            epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            evaluations=evaluations,
            evaluation_rows=1000,
        ),
        noise=tuple(noise),
    )


def run(settings: StudySettings, arms: Mapping[str, NoiseSettings] | None = None) -> tuple[list[Event], float]:
    """The events `evaluated` of a study, the seconds of its steps left out of them and counted apart."""
    from neftune_core.arms.stack import AdapterStack
    from neftune_core.data.preparing import prepare
    from neftune_core.models.loading import load
    from neftune_core.training.lockstep import Lockstep

    loaded = load(settings.model)
    prepared = prepare(settings.data, loaded.tokenizer, Limits())
    chosen = settings.arms if arms is None else dict(arms)
    training = settings.training
    stack = AdapterStack(loaded, len(chosen), rank=training.lora_rank, alpha=training.lora_alpha)
    events, seconds, before = [], 0.0, time.perf_counter()
    for event in Lockstep(settings, stack, prepared, arms=chosen).run(lambda: False):
        if event["event"] == "step":
            seconds += time.perf_counter() - before
        elif event["event"] == "evaluated":
            events.append(event)
        before = time.perf_counter()
    return events, seconds


def measure_world() -> Table:
    """The whole table. The seeds are fixed, so that the figures can be made again."""
    from neftune_core.models.device import describe_machine

    table = Table("Studies on the bundled world", describe_machine())
    table.rows += _format_rows() + _overfitting_rows()
    for name in CURVE_SETS:
        table.rows += noise_curve(name, CONFIRMING_SEEDS)
    table.notes.append(
        f"Noise: one setting of training a set, chosen on the control alone, and {len(CONFIRMING_SEEDS)} seeds; "
        "differences from the control are paired by seed, with 95 % t intervals."
    )
    return table


def _format_rows() -> list[dict[str, Any]]:
    settings = study("world-format", (NoiseSettings(),), seed=11, evaluations=1)
    events, seconds = run(settings, {"control": CONTROL})
    start, end = events[0]["arms"], events[-1]["arms"]["control"]
    return [
        {"what": "new format, untouched model, exact on held-out rows", "value": start["base"]["held_out_exact"]},
        {"what": f"new format after LoRA on 150 rows ({seconds:.1f} s of training)", "value": end["held_out_exact"]},
    ]


def _overfitting_rows() -> list[dict[str, Any]]:
    rows = []
    for name in ("world-noisy", "world-stated"):
        events, _ = run(study(name, (NoiseSettings(),), seed=11, evaluations=20), {"control": CONTROL})
        losses = [event["arms"]["control"]["held_out_loss"] for event in events]
        trained = events[-1]["arms"]["control"]["train_exact"]
        rows += [
            {"what": f"{name}: held-out loss at the end over its lowest", "value": losses[-1] / min(losses)},
            {"what": f"{name}: exact on trained rows at the end", "value": trained},
        ]
    return rows


def noise_curve(name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Exact match and loss on held-out rows for every strength, at the last and at the best epoch."""
    by_seed = [run(study(name, NOISES, seed, RECIPES[name].epochs))[0] for seed in seeds]
    rows = []
    for arm in by_seed[0][-1]["arms"]:
        row: dict[str, Any] = {"what": name, "arm": arm}
        for when, pick in WHEN.items():
            for measure in ("held_out_exact", "held_out_loss"):
                values = [pick(events, arm)[measure] for events in by_seed]
                control = [pick(events, "control")[measure] for events in by_seed]
                row[f"{measure}, {when}"] = sum(values) / len(values)
                if arm != "control":
                    row[f"{measure}, {when}, over control"] = _interval(values, control)
        rows.append(row)
    return rows


def _last(events: Sequence[Event], arm: str) -> dict[str, float]:
    return events[-1]["arms"][arm]


def _best(events: Sequence[Event], arm: str) -> dict[str, float]:
    """The measures at the evaluation with the lowest held-out loss of that arm."""
    return min((event["arms"][arm] for event in events[1:]), key=lambda numbers: numbers["held_out_loss"])


WHEN = {"last epoch": _last, "best epoch": _best}


def _interval(values: Sequence[float], control: Sequence[float]) -> str:
    """Mean paired difference and its 95 % t interval, as text."""
    differences = [value - other for value, other in zip(values, control, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    if count < 2:
        return f"{mean:+.3f}"
    error = math.sqrt(sum((value - mean) ** 2 for value in differences) / (count - 1) / count)
    half = T_POINTS[count - 2] * error
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
