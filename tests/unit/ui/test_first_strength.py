"""What the page says beside its first strength is what its recorded sweep shows."""

from __future__ import annotations

import re

import pytest

from neftune_core.home import assets
from neftune_core.studies.settings import EXAMPLE
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.table import SweepTable, sweep_table
from neftune_core.ui.study_text import runs_text
from neftune_core.ui.tabs.noise_tab import FIRST_STRENGTH, RECORDED, RECORDED_WORDS


@pytest.fixture(scope="module")
def table() -> SweepTable:
    return sweep_table(Sweep(assets() / "recorded" / RECORDED))


def test_the_recorded_sweep_is_of_the_first_study_and_its_strength() -> None:
    study = Sweep(assets() / "recorded" / RECORDED).settings.study
    assert (study.model, study.data, study.training) == (EXAMPLE.model, EXAMPLE.data, EXAMPLE.training)
    assert FIRST_STRENGTH in Sweep(assets() / "recorded" / RECORDED).settings.axes["noise.strength"]


def test_the_numbers_beside_the_first_strength_are_those_of_the_record(table: SweepTable) -> None:
    rows = {row.arm: row for row in table.rows}
    effects = {arm: row.effects["exact"]["last"].interval for arm, row in rows.items() if arm != "control"}
    for arm in ("uniform-alpha-1", "uniform-alpha-2", "uniform-alpha-5"):
        assert effects[arm].low < 0 < effects[arm].high
    assert effects["uniform-alpha-15"].high < 0
    shares = [f"{100 * rows[arm].mean('exact', 'last'):.0f}" for arm in ("control", "uniform-alpha-15")]
    assert re.findall(r"(\d+)%", RECORDED_WORDS) == shares
    assert all(len(row.seeds) == 8 for row in rows.values())
    sweep = Sweep(assets() / "recorded" / RECORDED)
    assert f"{runs_text(sweep.settings.study, sweep.about['data']['train'])}, mean of 8 seeds" in RECORDED_WORDS
