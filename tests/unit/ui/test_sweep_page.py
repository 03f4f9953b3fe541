"""The Sweep tab without a browser: input becomes a sweep or an error, shown in figure and table."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field, replace

import pytest

from neftune_core.errors import InvalidSetting
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question
from neftune_core.evaluation.verdict import verdict
from neftune_core.export.report_parts import verdict_html
from neftune_core.figures.effects import effect_curve
from neftune_core.home import assets
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import from_toml, to_toml
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL, EXAMPLE, StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import SweepSettings, axes, cells
from neftune_core.sweeps.table import SweepTable, TableRow
from neftune_core.ui.parts.study_form import StudyRequest, _epochs_text, study_of
from neftune_core.ui.parts.sweep_form import axis_values, first_strength, point, sweep_of
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_text import end_text
from neftune_core.ui.tabs.runs_tab import results_of
from neftune_core.ui.tabs.views.sweep_views import table_view


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("noise.strength", "0, 1, 2, 5", [0.0, 1.0, 2.0, 5.0]),
        ("noise.strength", " .5;\n2 ", [0.5, 2.0]),
        ("noise.kind", "uniform, Gaussian", ["uniform", "gaussian"]),
        ("noise.sites", "embedding; embedding, 2", ["embedding", "embedding, 2"]),
        ("noise.special_tokens", "yes, no", [True, False]),
        ("training.lora_rank", "4, 8.0", [4, 8]),
        ("data.rows", "50", [50]),
    ],
)
def test_values_are_read_as_their_setting_wants_them(name: str, text: str, values: list[object]) -> None:
    assert axis_values(name, text) == values


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("noise.strength", "", "has no values: enter some"),
        ("noise.strength", "0, one", "Strength cannot be 'one': it must be a number"),
        ("noise.strength", "-1", "Strength cannot be -1: it must be between 0 and 10,000"),
        ("noise.strength", "nan", "Strength cannot be nan"),
        ("noise.strength", "1, 1", "Strength has the value 1 more than once"),
        ("noise.kind", "round", "cannot be 'round': choose one of uniform"),
        ("noise.special_tokens", "maybe", "must be yes or no"),
        ("training.lora_rank", "4.5", "must be a whole number"),
        ("training.nothing", "1", "cannot vary 'training.nothing'"),
    ],
)
def test_values_that_cannot_be_get_one_sentence(name: str, text: str, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        axis_values(name, text)


def test_the_grid_of_the_page_becomes_a_sweep() -> None:
    given = ["noise.strength", "training.learning_rate", "", "", "0, 5", "1e-3, 2e-3", "", ""]
    sweep = sweep_of(EXAMPLE, [*given, "noise.strength = 2, noise.unit = 'std'", 4, 2, "Mine"])
    assert sweep.title == "Mine"
    assert list(sweep.seeds) == [4, 5]
    found = [(cell.varied.get("training.learning_rate"), list(cell.study.arms)[1:]) for cell in cells(sweep)[:3]]
    assert found == [(1e-3, ["uniform-alpha-5"]), (2e-3, ["uniform-alpha-5"]), (None, ["uniform-std-2"])]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["", "", "", "", "1, 2", "", "", "", "", 0, 1, ""], "No setting is chosen for the values"),
        (["noise.strength"] * 2 + ["", "", "1", "2", "", "", "", 0, 1, ""], "varied twice"),
        (["", "", "", "", "", "", "", "", "", 0, 1, ""], "needs at least one setting to vary"),
        (["noise.strength", "", "", "", "1", "", "", "", "what", 0, 1, ""], "combination 'what' cannot be read"),
        (["noise.strength", "", "", "", "1", "", "", "", "", None, 1, ""], "first seed"),
        (["noise.strength", "", "", "", "1", "", "", "", "", 0, 99, ""], "seeds cannot be 99"),
    ],
)
def test_a_grid_that_cannot_be_gets_one_sentence(given: list[object], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        sweep_of(EXAMPLE, given)


def test_a_point_is_read_as_it_would_stand_in_the_file() -> None:
    both = {"noise": {"strength": 3}, "training": {"epochs": 2}}
    assert (
        point("noise.strength = 3, training.epochs = 2") == point(" {noise.strength = 3, training.epochs = 2}") == both
    )
    assert point("noise = {strength = 3}, training = {epochs = 2}") == both


def asked(noise: NoiseSettings, names: list[str], methods: dict[str, str]) -> StudySettings:
    """Return the study that a sweep of the page starts from."""
    strength = first_strength(noise, names)
    return study_of(StudyRequest(EXAMPLE.data, EXAMPLE.model, noise, strength, methods, 0, 1, EXAMPLE.training))


def grid(name: str = "", values: str = "", points: str = "") -> list[object]:
    return [name, "", "", "", values, "", "", "", points, 0, 1, ""]


def test_a_slider_at_zero_does_not_hinder_a_sweep_over_the_strength() -> None:
    assert [noise.strength for noise in asked(CONTROL, ["noise.strength"], {}).noise] == [1]
    with pytest.raises(InvalidSetting, match="only strength is 0"):
        asked(CONTROL, ["noise.kind"], {})
    with pytest.raises(InvalidSetting, match="consistency needs noise"):  # not that of the replaced strength
        asked(CONTROL, ["noise.strength"], {"consistency": "1"})


def test_arms_with_other_methods_are_trained_in_every_study_of_a_sweep() -> None:
    base = asked(NoiseSettings(strength=5), ["noise.strength"], {"weight_noise": "0.02, 0.05", "consistency": "1"})
    others = ["consistency-1-with-uniform-alpha-5", "weight-noise-0.02", "weight-noise-0.05"]
    (cell,) = cells(sweep_of(base, grid("noise.strength", "0, 2, 5")))
    assert sorted(set(cell.study.arms) - {"control", "uniform-alpha-2", "uniform-alpha-5"}) == others
    every = cells(sweep_of(base, grid("training.learning_rate", "1e-3, 2e-3")))
    assert [sorted(cell.study.arms) for cell in every] == [["consistency-1-with-uniform-alpha-5", "control",
        "uniform-alpha-5", "weight-noise-0.02", "weight-noise-0.05"]] * 2  # fmt: skip


def test_a_sweep_of_methods_alone_varies_nothing_else_and_can_be_read_from_its_file() -> None:
    sweep = sweep_of(asked(CONTROL, [""], {"weight_noise": "0.02, 0.05"}), grid())
    (cell,) = cells(sweep)
    assert list(cell.study.arms) == ["control", "weight-noise-0.02", "weight-noise-0.05"]
    assert from_toml(SweepSettings, to_toml(sweep, comments=True)) == sweep
    with pytest.raises(InvalidSetting, match="needs at least one setting to vary"):
        sweep_of(asked(NoiseSettings(strength=5), [""], {}), grid())


def test_every_axis_is_a_setting_of_a_study() -> None:
    assert {"noise.strength", "noise.sites", "training.learning_rate", "training.epochs", "data.rows"} <= set(axes())
    assert "training.time_budget_seconds" not in axes()


@dataclass
class _Invented:
    """A sweep with eight seeds of a control and three strengths that differ by about `shifts`."""

    shifts: dict[float, float] = field(default_factory=lambda: {1: 0.0, 5: 0.1, 100: -0.3})

    def table(self) -> SweepTable:
        control = {seed: Outcome({"exact": 0.5 + seed / 100}, {"exact": 0.6}) for seed in range(8)}
        noises = {NoiseSettings(strength=strength).name: NoiseSettings(strength=strength) for strength in self.shifts}
        arms = {
            name: {
                seed: Outcome(
                    {"exact": 0.5 + seed / 100 + self.shifts[noise.strength] + seed % 2 / 100}, {"exact": 0.6}
                )
                for seed in control
            }
            for name, noise in noises.items()
        }
        outcomes, question = Outcomes(control, arms), Question("exact", "last")
        judged = verdict(outcomes, question)
        rows = [TableRow({}, CONTROL.name, CONTROL, control, {})]
        rows += [TableRow({}, name, noises[name], arms[name], {"exact": judged.arms[name].epochs}) for name in arms]
        return SweepTable(question, tuple(rows), judged, 8, 8)


def test_the_plot_has_the_differences_with_the_intervals_of_the_comparison() -> None:
    table = _Invented().table()
    figure = effect_curve(table, "exact", "last")
    (trace,) = figure["data"]
    assert trace["x"] == [1, 5, 100]
    for row, height, up, down in zip(
        table.rows[1:], trace["y"], trace["error_y"]["array"], trace["error_y"]["arrayminus"], strict=True
    ):
        found = row.effects["exact"]["last"]
        assert found.interval is not None
        assert math.isclose(height, 100 * found.difference)  # percentage points
        assert math.isclose(height + up, 100 * found.interval.high)
        assert math.isclose(height - down, 100 * found.interval.low)
    assert figure["layout"]["xaxis"]["type"] == "log"  # 1 to 100
    assert "alpha 5: +10 (" in figure["summary"]
    assert "percentage points" in figure["layout"]["yaxis"]["title"]["text"]


def test_the_plot_goes_over_the_training_where_the_strength_stands_still() -> None:
    table = _Invented({5: 0.1}).table()
    rows = [
        TableRow({"training.lora_rank": rank}, row.arm, row.noise, row.seeds, row.effects)
        for rank in (4, 8)
        for row in table.rows
    ]
    figure = effect_curve(SweepTable(table.question, tuple(rows), None, 2, 2), "exact", "last")
    assert [trace["x"] for trace in figure["data"]] == [[4, 8]]
    assert figure["layout"]["xaxis"]["title"]["text"] == "LoRA rank"


def test_a_plot_without_numbers_reports_it() -> None:
    table = _Invented().table()
    assert "no difference to show yet" in effect_curve(table, "bleu", "last")["summary"]
    assert (
        "no difference to show yet"
        in effect_curve(SweepTable(table.question, (), None, 1, 0), "exact", "last")["summary"]
    )


def test_the_table_shows_every_setting_and_marks_what_excludes_zero() -> None:
    table = _Invented().table()
    shown = table_view(table, "exact")
    assert all(arm_words(row.arm) in shown for row in table.rows)
    assert "<b>-0.295</b>" in shown
    assert "<b>+0.005</b>" in shown  # the seeds differ by a hundredth every second time, as invented
    assert "8 of 8 studies are done" in shown
    assert "illustration" not in shown
    assert table.verdict
    many = replace(
        table.verdict, arms={f"{n} {name}": arm for n in range(3) for name, arm in table.verdict.arms.items()}
    )
    assert "Arm by arm" in verdict_html(many, unfolded=False)
    assert "Arm by arm" not in verdict_html(many) + verdict_html(table.verdict, unfolded=False)


def test_the_sentences_in_the_state_of_a_finished_sweep_are_not_repeated_in_its_verdict() -> None:
    found = _Invented().table().verdict
    assert found
    said = [html.escape(line.text()) for line in found.summary]
    assert len(said) > 1
    whole = verdict_html(found, unfolded=False)
    assert all(sentence in whole for sentence in said)
    rest = verdict_html(found, unfolded=False, with_summary=False)
    assert not [sentence for sentence in said if sentence in rest]
    assert rest.count("lab-judged-arm") == whole.count("lab-judged-arm") == len(found.arms)


def test_what_a_record_says_is_never_markup() -> None:
    table = _Invented().table()
    row = table.rows[1]
    odd = TableRow({"noise.sites": "<script>"}, row.arm, row.noise, row.seeds, row.effects)
    assert "<script>" not in table_view(SweepTable(table.question, (odd,), None, 1, 1), "exact")


def test_a_sweep_is_opened_as_a_sweep_among_the_runs() -> None:
    lab = Lab()
    record = Record(assets() / "recorded" / "3-helps-noisy-labels")
    figure, results = results_of(lab, record, "losses")
    table = lab.sweep_table(Sweep(record.folder))
    assert figure == effect_curve(table, "exact", "last")
    assert results == table_view(table, "exact")
    assert "Better with alpha 12" in end_text(record, lab.jobs.status(record))


def test_many_epochs_are_counted_without_an_exponent() -> None:
    assert [_epochs_text(count) for count in (1, 2.5, 2000)] == ["1 epoch", "2.5 epochs", "2,000 epochs"]
