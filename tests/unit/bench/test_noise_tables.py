"""The table of length rules: measured on vectors and compared with the formula."""

from __future__ import annotations

import math

import pytest

from neftune_core.bench.noise import RULES, length_rules_table


def test_measured_deviations_are_those_of_the_formula_and_only_the_padded_rule_reaches_padding() -> None:
    rows = length_rules_table().rows
    for row in rows:
        # 36,864 draws of a uniform: standard error 0.25%.
        assert row["standard deviation of a coordinate"] == pytest.approx(row["by the formula"], rel=0.02)
    on_padding = {row["rule"]: row["on padding"] for row in rows[: len(RULES)]}
    assert [rule for rule, deviation in on_padding.items() if deviation] == [
        "padded length",
        "the common trainer hook itself",
    ]
    by_batch = [rows[: len(RULES)], rows[len(RULES) :]]
    ratios = [batch[0]["by the formula"] / batch[1]["by the formula"] for batch in by_batch]
    assert ratios == pytest.approx([math.sqrt(512 / 64), math.sqrt(8)])
