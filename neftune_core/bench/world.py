"""Results of studies on the bundled world: a new answer format, overfitting, and the effect of noise.

`neftune bench world` prints all of them. The results of the bundled model without fine-tuning are in its card. The
learning rate of each set is chosen on the control only, with seeds 1 to 3. The reported results come from other seeds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from neftune_core.bench.table import ResultTable
from neftune_core.bench.train_sides import lockstep
from neftune_core.data.chat import EncodedExample
from neftune_core.data.preparing import prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.clean_loss import row_measures
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings, rate_at
from neftune_core.evaluation.statistics import t_interval
from neftune_core.home import assets
from neftune_core.models.loading import load
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.settings import CONTROL, StudySettings

ALPHAS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 60.0)
DEVIATIONS = (0.01, 0.05, 0.1, 0.2)
NOISES = tuple(NoiseSettings(strength=alpha) for alpha in ALPHAS) + tuple(
    NoiseSettings(strength=deviation, unit="std") for deviation in DEVIATIONS
)
SEARCH_SEEDS = (1, 2, 3)
SEARCHED_RATES = (2e-3, 4e-3, 6e-3)
CONFIRMING_SEEDS = tuple(range(11, 19))
EPOCHS = {"world-format": 8, "world-noisy": 20, "world-stated": 20}
BATCH = 8
EVERY = 2
"""Number of epochs between measurements on a curve."""

Numbers = dict[str, float]


class EpochMeasures(NamedTuple):
    """Measures of one arm, by name.

    Attributes:
        halves: Measures on the two halves of the held-out rows.
        train: Measures on the training rows; None if they were not measured.
    """

    halves: tuple[Numbers, Numbers]
    train: Numbers | None = None


SeedEpochs = list[dict[str, EpochMeasures]]
"""Measures by arm at each measured epoch. The first entry is the untrained model (epoch 0, arm `base`)."""


def _study(name: str, noise: Sequence[NoiseSettings], seed: int, rate: float) -> StudySettings:
    return StudySettings(
        seed=seed,
        data=DataSettings(source=f"starter:{name}", maximum_length=128),
        training=TrainingSettings(epochs=EPOCHS[name], learning_rate=rate, batch_size=BATCH, evaluations=1),
        noise=tuple(noise),
    )


def _measure_course(
    settings: StudySettings,
    arms: Mapping[str, NoiseSettings],
    *,
    every: int = 1,
    train: bool = False,
    wanted: Callable[[EncodedExample], bool] = lambda row: True,
) -> tuple[SeedEpochs, float]:
    """Train arms, and measure them before training and after every `every` epochs.

    They are measured on the held-out rows for which `wanted` is true and, if `train` is set, on the training rows.

    Returns:
        The measures, and the duration of the training steps alone in seconds.
    """
    loaded = load(settings.model)
    prepared = prepare(settings.data, loaded.tokenizer, Limits())
    run = lockstep(settings, loaded, prepared, arms)
    held_out = [row for row in prepared.held_out if wanted(row)]
    samples = [held_out[::2], held_out[1::2]] + ([prepared.train] if train else [])
    per_epoch = -(-len(prepared.train) // BATCH)
    found: SeedEpochs = [_measure(run, [0], samples)]
    seconds = 0.0
    for step in run.steps():
        before = time.perf_counter()
        run.step(step, rate_at(step.number, run.total, settings.training), should_stop=lambda: False)
        seconds += time.perf_counter() - before
        if step.number % (per_epoch * every) == 0:
            found.append(_measure(run, run.alive, samples))
    return found, seconds


def _control_course(name: str, seed: int, rate: float, **options: Any) -> tuple[SeedEpochs, float]:
    return _measure_course(_study(name, (NoiseSettings(),), seed, rate), {"control": CONTROL}, **options)


def _measure(run: Lockstep, slots: Sequence[int], samples: Sequence[list[EncodedExample]]) -> dict[str, EpochMeasures]:
    measured = (row_measures(run.stack, sample, slots, batch_size=40) for sample in samples)
    by_slot = zip(*([vars(found.of(place)) for place in range(len(slots))] for found in measured), strict=True)
    return {
        run.name(slot): EpochMeasures((first, second), *train)
        for slot, (first, second, *train) in zip(slots, by_slot, strict=True)
    }


def measure_world() -> ResultTable:
    """Measure all results with fixed seeds, and return them as a table."""
    table = ResultTable("Studies on the bundled world")
    table.rows += _format_rows() + _overfitting_rows()
    for name in EPOCHS:
        table.rows += _noise_curve(name)
    tried = len(SEARCHED_RATES)
    table.notes += [
        f"Learning rates: {tried} were tried per set, on the control only, with seeds {SEARCH_SEEDS[0]} to "
        f"{SEARCH_SEEDS[-1]}; the one with the lowest held-out loss was used. Strengths: all {len(NOISES)} that were "
        "tried are shown.",
        f"Noise: {len(CONFIRMING_SEEDS)} other seeds. Differences from the control are paired by seed, with 95% t "
        "intervals. The best epoch is chosen by the loss on one half of the held-out rows and measured on the other "
        "half, and vice versa; the mean of both is shown.",
    ]
    return table


@cache
def _best_rate(name: str) -> float:
    """Return the learning rate with the lowest held-out loss of the control at its best epoch, averaged over seeds."""

    def loss(rate: float) -> float:
        courses = (_control_course(name, seed, rate, every=EVERY)[0] for seed in SEARCH_SEEDS)
        return statistics.mean(_at_best_epoch(epochs, "control")["loss"] for epochs in courses)

    return min(SEARCHED_RATES, key=loss)


def _format_rows() -> list[dict[str, Any]]:
    name = "world-format"
    epochs, seconds = _control_course(name, 11, _best_rate(name))
    after = f"new format after LoRA on 150 rows ({seconds:.1f} s of training), exact on held-out rows"
    return [
        {"what": "new format before training, exact on held-out rows", "value": _mean(epochs[0]["base"])["exact"]},
        {"what": after, "value": _mean(epochs[-1]["control"])["exact"]},
    ]


def _overfitting_rows() -> list[dict[str, Any]]:
    """Return measures of the control at the highest of the searched learning rates, averaged over three seeds."""
    rate, seeds = SEARCHED_RATES[-1], CONFIRMING_SEEDS[:3]
    rows: list[dict[str, Any]] = []
    for name, (words, wanted) in OVERFITTED.items():
        ratios, trained = [], []
        for seed in seeds:
            epochs, _ = _control_course(name, seed, rate, train=True, wanted=wanted)
            losses = [_mean(measured["control"])["loss"] for measured in epochs[1:]]
            ratios.append(losses[-1] / min(losses))
            trained.append((epochs[-1]["control"].train or {})["exact"])
        where = f"{name}, rate {rate:g}, {len(seeds)} seeds"
        rows += [
            {"what": f"{where}: final loss {words} over the lowest", "value": statistics.mean(ratios)},
            {"what": f"{where}: exact on training rows at the end", "value": statistics.mean(trained)},
        ]
    return rows


def _fact_was_not_trained(row: EncodedExample) -> bool:
    """Return whether the fact of this held-out row is absent from the training rows of `world-stated`."""
    held_out = (assets() / "world" / "stated-held-out.jsonl").read_text(encoding="utf-8").splitlines()
    return not json.loads(held_out[row.example.row - 1])["trained_fact"]


OVERFITTED: dict[str, tuple[str, Callable[[EncodedExample], bool]]] = {
    "world-noisy": ("on held-out rows", lambda row: True),
    "world-stated": ("on held-out rows about other facts", _fact_was_not_trained),
}


def _noise_curve(name: str) -> list[dict[str, Any]]:
    """Measure exact match and loss on held-out rows at every strength, at the last and the best epoch."""
    rate = _best_rate(name)
    studies = [_study(name, NOISES, seed, rate) for seed in CONFIRMING_SEEDS]
    by_seed = [_measure_course(study, study.arms, every=EVERY)[0] for study in studies]
    rows = []
    for arm in by_seed[0][-1]:
        row: dict[str, Any] = {"what": f"{name}, rate {rate:g}", "arm": arm}
        for when, pick in WHEN.items():
            for measure in ("exact", "loss"):
                values = [pick(epochs, arm)[measure] for epochs in by_seed]
                control = [pick(epochs, "control")[measure] for epochs in by_seed]
                row[f"{measure}, {when}"] = statistics.mean(values)
                if arm != "control":
                    row[f"{measure}, {when}, minus control"] = interval(values, control)
        rows.append(row)
    return rows


def _mean(measured: EpochMeasures) -> Numbers:
    """Return the mean over the two halves, which have the same size."""
    first, second = measured.halves
    return {name: (first[name] + second[name]) / 2 for name in first}


def _at_last_epoch(epochs: SeedEpochs, arm: str) -> Numbers:
    return _mean(epochs[-1][arm])


def _at_best_epoch(epochs: SeedEpochs, arm: str) -> Numbers:
    """Return measures on one half at the epoch chosen on the other half, averaged over both choices of halves."""
    trained = [measured[arm].halves for measured in epochs[1:]]
    second = min(trained, key=lambda halves: halves[0]["loss"])[1]
    first = min(trained, key=lambda halves: halves[1]["loss"])[0]
    return _mean(EpochMeasures((second, first)))


WHEN = {"last epoch": _at_last_epoch, "best epoch": _at_best_epoch}


def interval(values: Sequence[float], control: Sequence[float]) -> str:
    """Format the mean paired difference with its 95% t interval.

    Args:
        values: Values of the arm.
        control: Values of the control, seed by seed.

    Returns:
        For example "+0.020 [+0.010, +0.030]".
    """
    differences = [value - other for value, other in zip(values, control, strict=True)]
    if len(differences) < 2:
        return f"{differences[0]:+.3f}"
    found = t_interval(differences)
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
