"""Results of studies on the bundled world: a new answer format, overfitting, the effect of noise, and durations.

`neftune bench world` prints all of them. The results of the bundled model without fine-tuning are in its card. The
learning rate of each set is chosen on the control only, with seeds 1 to 3. The reported results come from other seeds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from neftune_core.bench.table import ResultTable
from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.home import assets
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.settings import CONTROL, StudySettings

if TYPE_CHECKING:
    from neftune_core.data.chat import EncodedExample
    from neftune_core.data.preparing import PreparedData
    from neftune_core.engine.lockstep import Lockstep

ALPHAS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 60.0)
DEVIATIONS = (0.01, 0.05, 0.1, 0.2)
NOISES = tuple(NoiseSettings(strength=alpha) for alpha in ALPHAS) + tuple(
    NoiseSettings(strength=deviation, unit="std") for deviation in DEVIATIONS
)
SEARCH_SEEDS = (1, 2, 3)
SEARCHED_RATES = (2e-3, 4e-3, 6e-3)
CONFIRMING_SEEDS = tuple(range(11, 19))
EPOCHS = {"world-format": 8, "world-noisy": 20, "world-stated": 20}
CURVE_SETS = tuple(EPOCHS)
BATCH = 8
EVERY = 2
"""Number of epochs between two measurements on a curve."""

LATENCY_PROMPTS, LATENCY_TOKENS, LATENCY_ROWS = 5, 48, 128

Numbers = dict[str, float]


@dataclass(frozen=True)
class EpochMeasures:
    """Measures of one arm after an epoch, by name.

    Attributes:
        halves: Measures on the two halves of the held-out rows.
        train: Measures on the training rows; None if not measured.
    """

    halves: tuple[Numbers, Numbers]
    train: Numbers | None


SeedEpochs = list[dict[str, EpochMeasures]]
"""Measures by arm at each measured epoch. The first entry is the untrained model (epoch 0, arm `base`)."""


def study(name: str, noise: Sequence[NoiseSettings], seed: int, rate: float) -> StudySettings:
    """Return the settings of a study on one instruction set.

    Args:
        name: Name of the set.
        noise: Noise of the arms.
        seed: The seed.
        rate: The learning rate.

    Returns:
        The study settings.
    """
    return StudySettings(
        seed=seed,
        model=ModelSettings(),
        data=DataSettings(source=f"starter:{name}", maximum_length=128),
        training=TrainingSettings(epochs=EPOCHS[name], learning_rate=rate, batch_size=BATCH, evaluations=1),
        noise=tuple(noise),
    )


def course(
    settings: StudySettings,
    arms: Mapping[str, NoiseSettings] | None = None,
    *,
    every: int = 1,
    train: bool = False,
    wanted: Callable[[EncodedExample], bool] = lambda row: True,
) -> tuple[SeedEpochs, float]:
    """Run a study and measure its arms after every few epochs.

    Args:
        settings: The study.
        arms: Arms to train in place of those of the study.
        every: Epochs between measurements.
        train: Whether to measure the training rows too.
        wanted: Returns whether to measure a held-out row.

    Returns:
        The measures, and the duration of the training steps alone in seconds.
    """
    run, prepared = _start_run(settings, arms)
    held_out = [row for row in prepared.held_out if wanted(row)]
    samples = [held_out[::2], held_out[1::2]] + ([prepared.train] if train else [])
    per_epoch = -(-len(prepared.train) // BATCH)
    found: SeedEpochs = [_measure(run, [0], samples)]
    seconds = 0.0
    for step in run.steps():
        before = time.perf_counter()
        run.step(step, rate=_rate(run, step.number), should_stop=lambda: False)
        seconds += time.perf_counter() - before
        if step.number % (per_epoch * every) == 0:
            found.append(_measure(run, run.alive, samples))
    return found, seconds


def _start_run(
    settings: StudySettings, arms: Mapping[str, NoiseSettings] | None, rows: int | None = None
) -> tuple[Lockstep, PreparedData]:
    from neftune_core.data.preparing import prepare
    from neftune_core.engine.lockstep import Lockstep
    from neftune_core.engine.stack import AdapterStack
    from neftune_core.models.loading import load

    loaded = load(settings.model)
    prepared = prepare(settings.data, loaded.tokenizer, Limits())
    prepared = replace(prepared, train=prepared.train[:rows])
    chosen = settings.arms if arms is None else dict(arms)
    training = settings.training
    stack = AdapterStack(loaded, len(chosen), rank=training.lora_rank, alpha=training.lora_alpha)
    return Lockstep(settings, stack, prepared, arms=chosen), prepared


def _rate(run: Lockstep, step: int) -> float:
    from neftune_core.engine.settings import rate_at

    return rate_at(step, run.total, run.study.training)


def _measure(run: Lockstep, slots: Sequence[int], samples: Sequence[list[EncodedExample]]) -> dict[str, EpochMeasures]:
    from neftune_core.engine.clean_loss import row_measures

    by_sample = [
        [vars(found.of(index)) for index in range(len(slots))]
        for found in (row_measures(run.stack, sample, slots, batch_size=40) for sample in samples)
    ]
    return {
        run.name(slot): EpochMeasures(
            (by_sample[0][place], by_sample[1][place]), by_sample[2][place] if len(by_sample) > 2 else None
        )
        for place, slot in enumerate(slots)
    }


def measure_world() -> ResultTable:
    """Measure all results with fixed seeds, and return them as a table."""
    from neftune_core.models.device import describe_machine

    table = ResultTable("Studies on the bundled world", describe_machine())
    table.rows += latency_rows() + _format_rows() + _overfitting_rows()
    for name in CURVE_SETS:
        table.rows += noise_curve(name, CONFIRMING_SEEDS)
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
def best_rate(name: str) -> float:
    """Return the learning rate at which the best epoch of the control has the lowest mean held-out loss."""

    def loss(rate: float) -> float:
        losses = []
        for seed in SEARCH_SEEDS:
            epochs, _ = course(study(name, (NoiseSettings(),), seed, rate), {"control": CONTROL}, every=EVERY)
            losses.append(_best(epochs, "control")["loss"])
        return statistics.mean(losses)

    return min(SEARCHED_RATES, key=loss)


def _format_rows() -> list[dict[str, Any]]:
    name = "world-format"
    epochs, seconds = course(study(name, (NoiseSettings(),), 11, best_rate(name)), {"control": CONTROL})
    return [
        {
            "what": "new format before training, exact on held-out rows",
            "value": _whole(epochs[0]["base"])["exact"],
        },
        {
            "what": f"new format after LoRA on 150 rows ({seconds:.1f} s of training), exact on held-out rows",
            "value": _whole(epochs[-1]["control"])["exact"],
        },
    ]


def _overfitting_rows() -> list[dict[str, Any]]:
    """Return measures of the control at the highest rate tried, averaged over three seeds."""
    rate, seeds = SEARCHED_RATES[-1], CONFIRMING_SEEDS[:3]
    rows: list[dict[str, Any]] = []
    for name, (words, wanted) in OVERFITTED.items():
        ratios, trained = [], []
        for seed in seeds:
            settings = study(name, (NoiseSettings(),), seed, rate)
            epochs, _ = course(settings, {"control": CONTROL}, train=True, wanted=wanted)
            losses = [_whole(measured["control"])["loss"] for measured in epochs[1:]]
            ratios.append(losses[-1] / min(losses))
            trained.append((epochs[-1]["control"].train or {})["exact"])
        where = f"{name}, rate {rate:g}, {len(seeds)} seeds"
        rows += [
            {"what": f"{where}: final loss {words} over the lowest", "value": statistics.mean(ratios)},
            {"what": f"{where}: exact on training rows at the end", "value": statistics.mean(trained)},
        ]
    return rows


def _fact_was_not_trained(row: EncodedExample) -> bool:
    """Return whether the training rows of `world-stated` lack this row's fact; training helps with the other facts."""
    held_out = (assets() / "world" / "stated-held-out.jsonl").read_text(encoding="utf-8").splitlines()
    return not json.loads(held_out[row.example.row - 1])["trained_fact"]


OVERFITTED: dict[str, tuple[str, Callable[[EncodedExample], bool]]] = {
    "world-noisy": ("on held-out rows", lambda row: True),
    "world-stated": ("on held-out rows about other facts", _fact_was_not_trained),
}


def noise_curve(name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Measure exact match and loss on held-out rows at every strength, for the last and the best epoch.

    Args:
        name: Name of the set.
        seeds: The seeds.

    Returns:
        Rows of the table.
    """
    rate = best_rate(name)
    by_seed = [course(study(name, NOISES, seed, rate), every=EVERY)[0] for seed in seeds]
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


def _whole(measured: EpochMeasures) -> Numbers:
    """Return the mean over the two halves, which have the same size."""
    first, second = measured.halves
    return {name: (first[name] + second[name]) / 2 for name in first}


def _last(epochs: SeedEpochs, arm: str) -> Numbers:
    return _whole(epochs[-1][arm])


def _best(epochs: SeedEpochs, arm: str) -> Numbers:
    """Return measures on one half at the epoch chosen on the other half, averaged over both choices of halves."""
    trained = [measured[arm].halves for measured in epochs[1:]]
    found = []
    for choosing, reading in ((0, 1), (1, 0)):
        found.append(min(trained, key=lambda halves: halves[choosing]["loss"])[reading])
    return {name: (found[0][name] + found[1][name]) / 2 for name in found[0]}


WHEN = {"last epoch": _last, "best epoch": _best}


def interval(values: Sequence[float], control: Sequence[float]) -> str:
    """Format the mean paired difference with its 95% t interval.

    Args:
        values: Values of the arm.
        control: Values of the control, seed by seed.

    Returns:
        For example "+0.020 [+0.010, +0.030]".
    """
    from neftune_core.evaluation.statistics import t_interval

    differences = [value - other for value, other in zip(values, control, strict=True)]
    if len(differences) < 2:
        return f"{differences[0]:+.3f}"
    found = t_interval(differences)
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def latency_rows() -> list[dict[str, Any]]:
    """Time the answers of the base and three arms, and a small study that includes these answers."""
    _small_study()  # warm-up: the first call with a new shape is slower
    answering, whole = _small_study()
    return [
        {
            "what": f"answers of base and 3 arms to {LATENCY_PROMPTS} prompts, up to {LATENCY_TOKENS} tokens (seconds)",
            "value": answering,
        },
        {
            "what": f"study of 3 arms, {LATENCY_ROWS} rows, 8 epochs with held-out loss each, and answers (seconds)",
            "value": whole,
        },
    ]


def _small_study() -> tuple[float, float]:
    """Time the final answers of a small study, and the whole study after tokenisation, in seconds."""
    from neftune_core.data.chat import prompt_ids
    from neftune_core.evaluation.answers import stream_answers
    from neftune_core.evaluation.settings import AnswerSettings

    settings = StudySettings(
        seed=11,
        data=DataSettings(source="starter:world-facts", maximum_length=128),
        training=TrainingSettings(epochs=8, learning_rate=SEARCHED_RATES[1], batch_size=BATCH, evaluations=8),
        noise=(NoiseSettings(strength=3), NoiseSettings()),
    )
    run, prepared = _start_run(settings, None, rows=LATENCY_ROWS)
    began = time.perf_counter()
    for _ in run.run(lambda: False):
        pass
    trained = time.perf_counter()
    prompts = [
        prompt_ids(row.example.prompt, run.stack.loaded.tokenizer) for row in prepared.held_out[:LATENCY_PROMPTS]
    ]
    for _ in stream_answers(run.stack, [0, *run.alive], prompts, AnswerSettings(new_tokens=LATENCY_TOKENS)):
        pass
    ended = time.perf_counter()
    return ended - trained, ended - began
