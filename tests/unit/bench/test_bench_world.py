"""The table of studies on the bundled world: intervals and best epochs."""

from __future__ import annotations

import pytest

from neftune_core.bench import world
from neftune_core.bench.world import EpochMeasures


def test_an_interval_is_that_of_student_on_paired_differences() -> None:
    values, control = [0.8, 0.9, 0.7, 0.86], [0.75, 0.8, 0.72, 0.75]
    # Differences .05, .10, -.02, .11: mean .06, standard error .02972, t(3) = 3.182.
    assert world.interval(values, control) == "+0.060 [-0.035, +0.155]"


def test_one_seed_has_no_interval() -> None:
    assert world.interval([0.5], [0.25]) == "+0.250"


def epochs_of(losses: list[tuple[float, float]]) -> world.SeedEpochs:
    return [
        {"control": EpochMeasures(({"loss": first, "exact": 0.0}, {"loss": second, "exact": 0.0}), None)}
        for first, second in losses
    ]


def test_the_best_epoch_is_chosen_on_one_half_and_read_on_the_other() -> None:
    course = epochs_of([(9.0, 9.0), (1.0, 3.0), (2.0, 2.5), (4.0, 4.0)])
    # The first half chooses epoch 1 (read on the second: 3.0), the second half epoch 2 (read on the first: 2.0).
    assert world.WHEN["best epoch"](course, "control")["loss"] == pytest.approx(2.5)


def test_the_untrained_model_is_not_a_candidate_epoch() -> None:
    course = epochs_of([(0.1, 0.1), (1.0, 1.0), (2.0, 2.0)])
    assert world.WHEN["best epoch"](course, "control")["loss"] == 1.0
    assert world.WHEN["last epoch"](course, "control")["loss"] == 2.0


def test_no_confirming_seed_was_searched_with() -> None:
    assert not set(world.SEARCH_SEEDS) & set(world.CONFIRMING_SEEDS)
    assert len(world.CONFIRMING_SEEDS) >= 8
