"""What cannot be judged is reported first, with what to change, and no difference is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from neftune_core.commands import records, train
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question, Rounding, Seeds
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.evaluation.verdict import CLAIMS, Verdict, verdict
from neftune_core.export.report import write_report
from neftune_core.figures.curves import loss_curves
from neftune_core.lessons.files import held_out_losses
from neftune_core.settings import Limits
from neftune_core.studies.judging import verdict_of
from neftune_core.studies.records.numbers import write_metrics
from neftune_core.studies.records.progress import Status
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.results import mean_results
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui.parts import run_actions
from neftune_core.ui.parts.verdict_card import verdict_card
from neftune_core.ui.study_text import end_text

PRAISE = ("better", "worse", "difference of", "interval over", "best epoch")
BASE = {"held_out_loss": 5.27, "train_loss": 5.3}


def _runs(values: Sequence[float], base: Mapping[str, float] = BASE, **more: Any) -> Seeds:
    return {
        seed: Outcome({"held_out_loss": value, "train_loss": value}, base=base, steps=100, **more)
        for seed, value in enumerate(values)
    }


def _lost(seeds: int) -> Seeds:
    return {seed: Outcome({}, base=BASE, steps=100, diverged=True) for seed in range(seeds)}


def _first(found: Verdict) -> str:
    return found.text().splitlines()[0]


def _is_silent(found: Verdict) -> bool:
    return not any(word in found.text() for word in PRAISE) and not any(
        arm.status in CLAIMS for arm in found.arms.values()
    )


def test_arms_far_worse_than_the_base_are_not_compared() -> None:
    control = [7328.0, 7400.0, 7250.0, 7310.0, 7290.0, 7350.0]
    found = verdict(Outcomes(_runs(control), {"noise": _runs([value - 3000 for value in control])}), Question())
    assert _first(found).startswith("There is nothing to judge: even without noise, training raised held-out loss")
    assert "from 5.27 (the base model) to" in _first(found)
    assert "smaller learning rate" in _first(found)
    assert _is_silent(found)
    assert "The base model before training: held-out loss 5.27." in found.text()


def test_one_arm_that_broke_is_named_and_the_others_are_judged() -> None:
    control = [4.0, 4.1, 3.9, 4.05, 3.95, 4.02]
    arms = {"fine": _runs([value - 0.5 for value in control]), "wild": _runs([90.0] * 6)}
    found = verdict(Outcomes(_runs(control), arms), Question())
    assert _first(found).startswith("Not every arm can be judged: wild ended far worse than the base model")
    assert "less noise" in _first(found)
    assert (found.arms["fine"].status, found.arms["wild"].status) == ("better", "void")


def test_a_control_a_little_worse_than_the_base_on_its_own_rows_is_not_a_comparison() -> None:
    # Guessing evenly among 2,104 tokens: 7.65 nats, 1.07 times the loss of this base.
    base = {"held_out_loss": 7.15, "train_loss": 7.14}
    found = verdict(Outcomes(_runs([7.65] * 6, base), {"noise": _runs([7.2] * 6, base)}), Question())
    assert _first(found).startswith("There is nothing to judge: even without noise, training raised held-out loss")
    assert "from 7.15 (the base model) to 7.65" in _first(found)
    assert _is_silent(found)


def test_a_control_above_the_base_by_less_than_rounding_is_compared() -> None:
    runs, rounding = _runs([5.302] * 6), Rounding("bfloat16", {"held_out_loss": 0.04, "train_loss": 0.004})
    assert not verdict(Outcomes(runs, {"noise": runs}, rounding=rounding), Question()).warnings
    assert verdict(Outcomes(runs, {"noise": runs}), Question()).warnings


def test_an_arm_a_little_worse_than_the_base_is_a_result() -> None:
    arms = {"noise": _runs([5.4, 5.41, 5.42, 5.4, 5.41, 5.42])}
    found = verdict(Outcomes(_runs([4.0, 4.1, 3.9, 4.05, 3.95, 4.02]), arms), Question())
    assert (found.warnings, found.arms["noise"].status) == ((), "worse")


def test_models_that_learnt_only_frequencies_are_not_compared() -> None:
    collapsed = _runs([4.2] * 6, frequency_loss=3.58)
    found = verdict(Outcomes(collapsed, {"noise": _runs([4.1] * 6, frequency_loss=3.58)}), Question())
    assert _first(found).startswith("There is nothing to judge: even without noise, the model learnt no more than how")
    assert "is 4.2; guessing by frequency alone reaches 3.58. Choose a smaller learning rate" in _first(found)
    assert _is_silent(found)
    arm = verdict(Outcomes(_runs([2.0] * 6, frequency_loss=3.58), {"noise": collapsed}), Question())
    assert _first(arm).startswith("There is nothing to judge: noise learnt no more than how often each token occurs")
    assert "Choose less noise" in _first(arm)


def test_overfitting_is_a_result_and_no_obstacle() -> None:
    base = {"held_out_loss": 1.65, "train_loss": 1.7}
    runs = {
        seed: Outcome({"held_out_loss": 3.0 + seed / 100, "train_loss": 0.2}, base=base, steps=100) for seed in range(6)
    }
    noisy = {
        seed: Outcome({"held_out_loss": 2.5 + seed / 100, "train_loss": 0.4}, base=base, steps=100) for seed in range(6)
    }
    found = verdict(Outcomes(runs, {"noise": noisy}), Question())
    assert found.warnings == ()
    assert found.arms["noise"].status == "better"


@pytest.mark.parametrize(("value", "end"), [(0.0, "lowest"), (1.0, "highest")])
def test_a_share_at_the_end_of_its_range_shows_nothing(value: float, end: str) -> None:
    runs = {
        seed: Outcome({"exact": value}, scores={"exact": np.full(12, value)}, steps=100, base={"exact": 0.0})
        for seed in range(6)
    }
    found = verdict(Outcomes(runs, {"noise": runs}), Question("exact"))
    assert _first(found).startswith("There is nothing to judge")
    assert f"on 12 examples, the {end} possible value" in _first(found)
    assert "Choose held-out loss" in _first(found)
    assert _is_silent(found)


def test_one_right_answer_is_not_a_floor() -> None:
    control = {0: Outcome({"exact": 0.0}, steps=100)}
    found = verdict(Outcomes(control, {"noise": {0: Outcome({"exact": 1 / 12}, steps=100)}}), Question("exact"))
    assert found.warnings == ()


def test_a_few_steps_teach_nothing() -> None:
    runs = {seed: Outcome({"held_out_loss": 5.0 + seed / 10}, base=BASE, steps=3) for seed in range(6)}
    fewer = {seed: Outcome({"held_out_loss": 4.0 + seed / 10}, base=BASE, steps=3) for seed in range(6)}
    found = verdict(Outcomes(runs, {"noise": fewer}), Question())
    assert _first(found).startswith("There is nothing to judge: noise took 3 steps")
    assert "10 steps or more" in _first(found)
    assert _is_silent(found)


def test_a_diverged_arm_is_reported_first_and_so_is_a_diverged_control() -> None:
    arm = verdict(Outcomes(_runs([4.0] * 6), {"noise": _lost(6)}), Question())
    assert _first(arm).startswith("There is nothing to judge: the loss of noise became NaN or infinite")
    control = verdict(Outcomes(_lost(6), {"noise": _runs([4.0] * 6)}), Question())
    assert "the loss of the control became NaN or infinite" in _first(control)
    assert _is_silent(arm)
    assert _is_silent(control)
    assert not arm.is_empty


def test_an_arm_that_lost_some_seeds_is_reported_first() -> None:
    runs = {**_runs([4.0, 4.1, 3.9, 4.2, 4.0, 4.1]), 6: Outcome({}, diverged=True)}
    found = verdict(Outcomes(_runs([4.3] * 7), {"noise": runs}), Question())
    assert _first(found).startswith("noise diverged with 1 of 7 seeds")
    assert found.arms["noise"].status == "incomplete"


def test_two_seeds_get_no_interval_and_three_do() -> None:
    def judged(*values: float) -> str:
        return verdict(Outcomes(_runs([4.0] * len(values)), {"noise": _runs(values)}), Question()).text()

    assert "interval over" not in judged(3.9, 3.9)
    assert " to +" not in judged(3.9, 4.2).replace("from 4 to", "")
    assert "95% interval over 3 seeds" in judged(3.9, 4.2, 4.0)


def test_an_interval_without_width_is_not_printed() -> None:
    found = verdict(Outcomes(_runs([4.0] * 6), {"noise": _runs([3.5] * 6)}), Question())
    assert "is the same with each of 6 seeds" in found.text()
    assert "-0.5 to -0.5;" not in found.text()


def test_a_difference_below_rounding_is_not_an_effect() -> None:
    control = [4.0, 4.1, 3.9, 4.05, 3.95, 4.02]
    arm = _runs([value - 0.002 - 0.0001 * seed for seed, value in enumerate(control)])
    rounded = Rounding("bfloat16", {"held_out_loss": 0.004})
    found = verdict(Outcomes(_runs(control), {"noise": arm}, rounding=rounded), Question())
    assert found.arms["noise"].status == "rounding"
    assert "Rounding numbers to bfloat16 alone changes held-out loss by up to 0.004" in found.text()
    assert "better" not in found.text()
    unknown = verdict(Outcomes(_runs(control), {"noise": arm}), Question())
    assert unknown.arms["noise"].status == "better"
    assert "was not measured" in unknown.text()


ARM = "uniform-alpha-5"


def _record(
    folder: Path, courses: Mapping[int, Mapping[str, Sequence[float]]], *, seeds: int = 1, **measuring: Any
) -> Record:
    """Return a finished record with these losses at steps 0, 10 and 20; a shorter list means divergence."""
    settings = MeasuringSettings(primary="held_out_loss", **measuring)
    study = EXAMPLE.model_copy(update={"seeds": seeds, "measuring": settings})
    record = create(study, "", folder=folder)
    record.update_about(data={"train": 8}, question={"measure": "held_out_loss", "epoch": "last"})
    for seed, arms in courses.items():
        for place, step in enumerate((0, 10, 20)):
            numbers = {
                name: {"held_out_loss": values[place], "train_loss": values[place]}
                for name, values in arms.items()
                if place < len(values)
            }
            base = {"base": {"held_out_loss": 5.0, "train_loss": 5.0}} if step == 0 else {}
            if numbers:
                record.append({"event": "evaluated", "seed": seed, "step": step, "steps": 20, "arms": base | numbers})
            lost: dict[str, dict[str, float]] = {
                name: {} for name, values in arms.items() if place == len(values) - 1 < 2
            }
            if lost:
                record.append({"event": "diverged", "seed": seed, "step": step + 5, "arms": lost})
    record.append({"event": "finished", "seed": 0})
    return record


def test_a_diverged_arm_never_shows_the_loss_that_it_began_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = _record(tmp_path, {0: {"control": (5.0, 4.0, 3.0), ARM: (5.0,)}})
    printed = train.losses_text(record)
    line = next(line for line in printed.splitlines() if line.startswith(ARM + " "))
    assert line.split()[1:] == ["-", "-"]
    assert next(line for line in printed.splitlines() if line.startswith("base")).split()[1:] == ["5.0000", "5.0000"]
    assert "alpha 5 diverged with seed 0." in printed
    assert "alpha 5 diverged" in loss_curves(record.events(), record.arms)["summary"]
    assert f"{ARM} not judged" in records.runs_table([record])[1]
    report = write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
    cells = report.partition("alpha 5</th>")[2].partition("</tr>")[0]
    assert cells.count("<td>–</td>") == 4
    assert "There is nothing to judge: the loss of" in end_text(record, Status("failed"))
    assert ARM not in held_out_losses(record.events())
    assert "More seeds" not in train.verdict_text(record)  # which would not help
    assert not _more_button(record)["visible"]
    record.append({"event": "finished", "seed": 0, "message": "The loss stopped."})
    assert train.run_record(record, Limits()) == 1
    assert capsys.readouterr().err == "The loss stopped.\n"


def test_every_rendering_says_first_that_the_models_only_guess(tmp_path: Path) -> None:
    record = _record(tmp_path, {0: {"control": (5.0, 4.5, 4.2), ARM: (5.0, 4.4, 4.1)}})
    record.update_about(data={"train": 8, "frequency_loss": 3.58})
    says = "There is nothing to judge: even without noise, the model learnt no more than how often each token occurs."
    assert train.verdict_text(record).strip().startswith(says)
    assert f"{ARM} not judged" in records.runs_table([record])[1]
    report = write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.partition('lab-judged-warning">')[2].startswith(says)
    assert end_text(record, Status("finished")).startswith(f'<p class="lab-end">{says}')
    for rendered in (report, verdict_card(record)):
        assert 'data-claims="0"' in rendered
        assert not any(word in rendered.partition("</section>")[0] for word in ("difference of", "interval over"))
    assert not _more_button(record)["visible"]


def _more_button(record: Record) -> dict[str, Any]:
    """Return the update of the button that trains more seeds of a finished study."""
    with gr.Blocks():
        actions = run_actions.build("train")
    updates = dict(zip(actions.components(), actions.fitting(record, Status("finished")), strict=True))
    found: dict[str, Any] = updates[actions.more]
    return found


def test_more_seeds_are_offered_where_they_would_say_more(tmp_path: Path) -> None:
    record = _record(tmp_path, {0: {"control": (5.0, 4.0, 3.0), ARM: (5.0, 4.0, 3.5)}})
    assert f"neftune runs resume {record.id} --seeds 6" in train.verdict_text(record)
    assert _more_button(record)["value"].startswith("Run 6 seeds")
    end = end_text(record, Status("finished"))
    assert end.startswith(
        '<p class="lab-end">Not a result yet, because a single seed cannot tell an effect from chance.'
    )
    assert "train with at least 6 seeds" in end
    assert end_text(record, Status("running")) == ""


def test_where_every_arm_diverged_before_the_first_evaluation_this_is_reported(tmp_path: Path) -> None:
    found = verdict_of(_record(tmp_path, {0: {"control": (5.0,), ARM: (5.0,)}}))
    assert "the loss of the control became NaN or infinite" in _first(found)


def test_a_noise_arm_that_lives_with_one_seed_is_not_lost(tmp_path: Path) -> None:
    courses = {0: {"control": (5.0, 4.0, 3.0), ARM: (5.0,)}, 1: {"control": (5.0, 4.0, 3.0), ARM: (5.0, 4.0, 3.5)}}
    record = _record(tmp_path, courses, seeds=2)
    assert train.run_record(record, Limits()) == 0
    found = mean_results(record)
    assert found.seeds == (1,)  # of both, also of the control
    assert found.last["control"]["held_out_loss"] == 3.0
    assert verdict_of(record).text().startswith("alpha 5 diverged with 1 of 2 seeds")


def test_the_control_of_the_floor_is_not_in_the_means(tmp_path: Path) -> None:
    study = {"control": (5.0, 4.0, 3.0), ARM: (5.0, 4.0, 3.5)}
    again = {"control": (5.0, 4.0, 9.0)}
    courses: Mapping[int, Mapping[str, Sequence[float]]] = {0: study, 1: study, 2: again, 3: again}
    record = _record(tmp_path, courses, seeds=2, another_seed=True)
    printed = train.losses_text(record)
    assert "means over 2 seeds" in printed
    assert next(line for line in printed.splitlines() if line.startswith("control")).split()[1:] == ["3.0000", "3.0000"]
    curves = loss_curves(record.events(), record.arms)
    assert "means over 2 seeds" in curves["summary"]
    assert "control training 3.000, held-out 3.000" in curves["summary"]
    report = write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
    cells = report.partition("control</th>")[2].partition("</tr>")[0]
    assert cells == "<td>3.0000</td>" * 4
    assert held_out_losses(record.events())["control"] == [5.0, 4.0, 3.0]


def test_every_table_reports_the_effect_of_rounding(tmp_path: Path) -> None:
    record = _record(tmp_path, {0: {"control": (5.0, 4.0, 3.0), ARM: (5.0, 4.0, 3.5)}})
    unknown = "The effect of rounding on held-out loss was not measured."
    measured = "Rounding numbers to bfloat16 alone changes held-out loss by up to 0.0012"
    for words in (unknown, measured):
        assert words in train.losses_text(record)
        assert words in verdict_card(record)
        assert words in write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
        write_metrics(record, 0, {"floor": {"precision": "bfloat16", "largest": {"held_out_loss": 0.0012}}})
