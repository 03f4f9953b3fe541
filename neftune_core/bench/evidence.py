"""Reliability of the verdicts: rate of false alarms without an effect, power with one, and computing time.

All outcomes are simulated, so that the truth is known. They are judged by the same `verdict` function as real studies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from neftune_core.bench.table import ResultTable, seconds_of
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question
from neftune_core.evaluation.overlap import bleu, bleu_score, common_run, rouge_l
from neftune_core.evaluation.statistics import (
    LEVEL,
    Floats,
    as_statistics,
    binomial_tail,
    mean_score,
    paired_bootstrap,
    sign_flip,
    t_interval,
)
from neftune_core.evaluation.verdict import CLAIMS, verdict

SEED = 2310
STUDIES = 1000
NULL_SEEDS = (3, 6, 8)
POWER_SEEDS = (6, 8, 12)
EFFECTS = (0.5, 1.0, 1.5, 2.0, 3.0)
ARMS = 3
HELD_OUT_ROWS = 240
RARE = 0.005
EXAMPLES = 500
PAIRS, PAIR_TOKENS = 1000, 100
QUESTION = Question("exact")

SampleDraw = Callable[[np.random.Generator, tuple[int, ...]], Floats]

SPREADS: dict[str, SampleDraw] = {
    "normal": lambda generator, size: generator.standard_normal(size),
    "heavy tails (t, 3 degrees)": lambda generator, size: generator.standard_t(3, size),
    "counts (exact answers of 240)": lambda generator, size: (
        generator.binomial(HELD_OUT_ROWS, 0.6, size) / HELD_OUT_ROWS
    ),
}
"""Distributions of a run's measure around its true value."""


def study(generator: np.random.Generator, draw: SampleDraw, seeds: int, arms: int, effect: float = 0.0) -> Outcomes:
    """Simulate a study with a known effect. Runs with the same seed share half of their variance.

    Args:
        generator: Random generator.
        draw: Returns random deviations in an array of the given shape.
        seeds: Number of seeds.
        arms: Number of noise arms.
        effect: True difference of every noise arm from the control.

    Returns:
        The outcomes.
    """
    shared, own = draw(generator, (seeds,)), draw(generator, (arms + 1, seeds))
    values = shared + own + effect * (np.arange(arms + 1) > 0)[:, None]
    by_arm = [{seed: Outcome({QUESTION.measure: value}) for seed, value in enumerate(row)} for row in values.tolist()]
    return Outcomes(by_arm[0], {f"arm {place}": arm for place, arm in enumerate(by_arm[1:], start=1)})


def claims(outcomes: Outcomes) -> bool:
    """Return whether the verdict claims an effect for any arm.

    Raises:
        DataError: If the runs of a record were measured on different numbers of examples.
    """
    return any(arm.status in CLAIMS for arm in verdict(outcomes, QUESTION).arms.values())


def measure_evidence(studies: int = STUDIES) -> ResultTable:
    """Simulate and judge `studies` studies per row of the table; the default takes two minutes on one core."""
    table = ResultTable(f"Verdicts on {studies} simulated studies per row")
    generator = np.random.default_rng(SEED)
    for rows in (_null_rows, _example_rows, _power_rows):
        table.rows += rows(generator, studies)
    table.rows += _time_rows(generator)
    bound = next(count for count in range(studies) if binomial_tail(count + 1, studies, 0.05) < RARE)
    table.notes += [
        f"A rule with a true rate of 5% exceeds {bound / studies:.1%} in less than {RARE:.1%} of rows.",
        f"With {ARMS} arms, a study counts as a false alarm if an effect is claimed for any arm.",
        "The bootstrap over seeds is shown for comparison only; the lab does not use it.",
        "Effects are in standard deviations of the difference between two paired runs.",
    ]
    return table


def _null_rows(generator: np.random.Generator, studies: int) -> Iterator[dict[str, Any]]:
    for seeds in NULL_SEEDS:
        for name, draw in SPREADS.items():
            several = [claims(study(generator, draw, seeds, ARMS)) for _ in range(studies)]
            single = [study(generator, draw, seeds, 1) for _ in range(studies)]
            differences = np.array([_differences(outcomes) for outcomes in single])
            yield {
                "what": f"false alarms, {name}",
                "seeds": seeds,
                "verdict, 1 arm": _share([claims(outcomes) for outcomes in single]),
                f"verdict, {ARMS} arms": _share(several),
                "t interval alone": _share([t_interval(row).excludes_zero for row in differences]),
                "sign-flip alone": _share([sign_flip(row) <= 1 - LEVEL for row in differences]),
                "bootstrap over seeds": _share(_naive_bootstrap(generator, differences)),
            }


def _differences(outcomes: Outcomes) -> list[float]:
    (arm,) = outcomes.arms.values()
    measure, epoch = QUESTION.measure, QUESTION.epoch
    return [arm[seed].value(measure, epoch) - outcomes.control[seed].value(measure, epoch) for seed in arm]


def _naive_bootstrap(generator: np.random.Generator, differences: Floats) -> list[bool]:
    """Return, for each study, whether the percentile interval over resampled seeds excludes zero."""
    studies, seeds = differences.shape
    places = generator.integers(0, seeds, (studies, 1000, seeds))
    means = np.take_along_axis(differences[:, None, :], places, axis=2).mean(2)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return list((low > 0) | (high < 0))


def _power_rows(generator: np.random.Generator, studies: int) -> Iterator[dict[str, Any]]:
    draw = SPREADS["normal"]
    for effect in EFFECTS:
        for seeds in POWER_SEEDS:
            found = [claims(study(generator, draw, seeds, 1, effect * 2**0.5)) for _ in range(studies)]
            yield {"what": f"claims, effect of {effect:g} deviations", "seeds": seeds, "verdict, 1 arm": _share(found)}


def _example_rows(generator: np.random.Generator, studies: int) -> Iterator[dict[str, Any]]:
    """Yield the false-alarm rates of a bootstrap over examples, without and with variance between runs."""
    for what, between in (("no variance between runs", 0.0), ("runs vary by 0.1 of an example's deviation", 0.1)):
        found = []
        for _ in range(studies):
            values = generator.normal(0, 1, (2, 1, HELD_OUT_ROWS)) + generator.normal(0, between, (2, 1, 1))
            arm, control = as_statistics(values)
            found.append(paired_bootstrap(arm, control, mean_score, generator, resamples=1000).excludes_zero)
        yield {"what": f"false alarms, {what}", "seeds": 1, f"bootstrap over {HELD_OUT_ROWS} examples": _share(found)}


def _share(found: list[bool]) -> float:
    return float(np.mean(found))


def _time_rows(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    texts = [[" ".join(map(str, row)) for row in generator.integers(0, 300, (EXAMPLES, 40))] for _ in range(3)]
    arm, control = (bleu(answers, texts[0]).counts[None] for answers in texts[1:])
    first, second = as_statistics(generator.random((2, 1, EXAMPLES)))
    pairs = generator.integers(0, 50, (PAIRS, 2, PAIR_TOKENS)).tolist()
    outcomes = study(generator, SPREADS["normal"], 8, ARMS)
    works: dict[str, Callable[[], Any]] = {
        f"10,000 resamples of {EXAMPLES} examples, mean": lambda: paired_bootstrap(
            first, second, mean_score, generator
        ),
        f"10,000 resamples of {EXAMPLES} examples, BLEU": lambda: paired_bootstrap(arm, control, bleu_score, generator),
        f"ROUGE-L of {PAIRS} pairs of {PAIR_TOKENS} tokens": lambda: [rouge_l(*pair) for pair in pairs],
        f"longest copy in {PAIRS} pairs of {PAIR_TOKENS} tokens": lambda: [common_run(*pair) for pair in pairs],
        f"BLEU counts of {EXAMPLES} answers of 40 words": lambda: bleu(texts[1], texts[0]),
        f"verdict on {ARMS} arms, 8 seeds": lambda: verdict(outcomes, QUESTION),
    }
    for what, work in works.items():
        yield {"what": what, "seconds": min(seconds_of(work) for _ in range(3))}
