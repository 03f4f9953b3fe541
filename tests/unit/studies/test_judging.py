"""From a study's record to its verdict: what is stored and read, and what remains after damage."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import neftune_here

from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Example, Message
from neftune_core.data.settings import DataSettings
from neftune_core.engine.row_measures import CleanMeasures, RowMeasures
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import InvalidSetting
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question, combine_cells, merge_seeds
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.evaluation.text_measures import with_typos
from neftune_core.evaluation.verdict import verdict
from neftune_core.figures.evidence import epochs_beside, overlap_histogram, robustness_curves, seed_differences
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.judging import NAMES, outcomes_of, overlaps_of, question_of, verdict_of
from neftune_core.studies.metadata import frequency_loss
from neftune_core.studies.records.log import append
from neftune_core.studies.records.numbers import EXAMPLES, metrics, rows_by_step
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.results import mean_results
from neftune_core.studies.settings import CHAOS_ARM, EXAMPLE, StudySettings
from neftune_core.studies.study import run_study
from neftune_core.ui.parts.verdict_card import verdict_card
from neftune_core.ui.study_text import end_text

ARM = "uniform-alpha-5"
EXAMPLE_ROW = Example((Message("user", "Hello"), Message("assistant", "Hi")), 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a short study of the bundled model: two seeds, both floors, four evaluated rows and two prompts."""
    study = StudySettings(
        seed=3,
        seeds=2,
        data=DataSettings(source="starter:world-noisy", rows=12),
        training=TrainingSettings(steps=10, batch_size=4, evaluations=2, evaluation_rows=4),
        measuring=MeasuringSettings(prompts=2, new_tokens=4, chaos=True, another_seed=True),
        answers={"new_tokens": 2},
    )
    record = create(study, "", folder=tmp_path_factory.mktemp("runs"))
    assert [*run_study(record, Limits(), lambda: False)][-1]["event"] == "finished"
    return record


def test_a_finished_record_names_its_question_and_is_judged_by_it(trained: Record) -> None:
    assert question_of(trained) == Question("exact", "last")  # the world has known answers
    found = verdict_of(trained)
    assert found.arms.keys() == {ARM}  # the floors are no arms
    assert found.arms[ARM].epochs["last"].seeds == (3, 4)
    assert found.arms[ARM].epochs["last"].interval is None  # two seeds have none
    assert found.floors.keys() == {"another_seed", "chaos"}


def test_both_floors_are_trained_and_paired_with_the_control(trained: Record) -> None:
    outcomes = outcomes_of(trained, Question("held_out_loss"))
    again, control = outcomes.floors["another_seed"], outcomes.control
    assert again.keys() == control.keys() == {3, 4}
    assert all(again[seed].last["held_out_loss"] != control[seed].last["held_out_loss"] for seed in (3, 4))
    parted = [
        abs(outcomes.floors["chaos"][seed].last["held_out_loss"] - control[seed].last["held_out_loss"])
        for seed in (3, 4)
    ]
    assert all(0 < part < 0.05 for part in parted)  # noise a hundred times smaller than the paper's moves little


def test_every_measure_of_an_arm_is_kept_and_has_its_definition(trained: Record) -> None:
    means = mean_results(trained).last
    without = {"repetition", "distinct"}  # of answers of fifty tokens, which four tokens are not
    assert MEASURES.keys() - without <= means[ARM].keys() | {"bleu"}
    computed = {name for seed in metrics(trained).values() for name in seed["arms"].get(ARM, {})}
    assert computed <= MEASURES.keys(), "a measure without an entry in measures.toml is shown nowhere"
    assert means["control"]["noise_penalty"] == 0
    assert means[ARM]["gap"] == pytest.approx(means[ARM]["held_out_loss"] - means[ARM]["train_loss"])
    assert "noise_loss" not in means["base"]


def test_the_numbers_of_each_row_give_the_losses_of_the_log(trained: Record) -> None:
    rows = rows_by_step(trained)
    events = [event for event in trained.events() if event["event"] == "evaluated" and event["step"] > 0]
    assert {event["seed"] for event in events} == {3, 4, 5, 6}
    for event in events:
        kept = rows[event["seed"], event["step"]]["held_out"]["control"].of(0)
        # Six digits behind the point are kept of each row.
        assert kept.loss == pytest.approx(event["arms"]["control"]["held_out_loss"], rel=1e-5, abs=5e-7)
        assert "rows" not in event


def test_answers_signatures_and_samples_are_kept(trained: Record) -> None:
    kept = metrics(trained)
    assert kept.keys() == {"3", "4", "5", "6"}
    assert 0 < verdict_of(trained).rounding.sizes["held_out_loss"] < 1e-4
    assert [bool(numbers["floor"]) for numbers in kept.values()] == [True, False, False, False]
    assert "held-out prompts" in kept["3"]["samples"]["answers"]
    assert "tok:" in kept["3"]["signatures"]["bleu"]
    assert {len(values) for values in overlaps_of(trained).values()} <= {2, 4, 8}


def shown(record: Record) -> str:
    """Return what the page shows of the results of a finished record."""
    return end_text(record, of_record(record)) + verdict_card(record)


def test_the_page_shows_what_the_command_line_prints(trained: Record) -> None:
    card = shown(trained)
    assert "There is nothing to judge: the share of exact answers is 1" in card  # for all on four rows
    assert all(f"<summary>{MEASURES[name].label} <small>" in card for name in ("held_out_loss", "memorised_run"))
    as_json, as_text = (
        neftune_here("verdict", trained.folder, *options) for options in (["--json"], ["--measure", "held_out_loss"])
    )
    assert (as_json.returncode, as_text.returncode) == (0, 0)
    told = json.loads(as_json.stdout)
    assert told["named_before"]
    assert told["text"][0].startswith("There is nothing to judge")
    assert [line for line in told["text"] if html.escape(line.strip()) not in card] == []
    assert as_text.stdout.startswith("Chosen after the run")


def test_the_loss_of_guessing_by_frequency_is_that_of_a_table_of_the_response_tokens(trained: Record) -> None:
    def row(prompt: list[int], response: list[int]) -> EncodedExample:
        trained_on = np.array([False] * len(prompt) + [True] * len(response))
        return EncodedExample(np.array(prompt + response, dtype=np.int32), trained_on, EXAMPLE_ROW)

    rows = [row([9, 9, 5], [5, 7]), row([9], [5, 5, 6])]  # of five response tokens: 5 three times, 6 and 7 once
    assert frequency_loss(rows, rows[:1]) == pytest.approx(-(math.log(3 / 5) + math.log(1 / 5)) / 2)
    assert frequency_loss(rows, []) == 0
    kept = trained.about_table("data")["frequency_loss"]
    assert 1 < kept < math.log(2104)  # below a uniform guess in the bundled vocabulary
    assert {one.frequency_loss for one in outcomes_of(trained).control.values()} == {kept}


def test_what_was_damaged_takes_no_more_than_itself(trained: Record, tmp_path: Path) -> None:
    import shutil

    copy = Record(shutil.copytree(trained.folder, tmp_path / trained.folder.name))
    (copy.folder / "metrics.json").write_text('{"seeds": {"3": [1, 2], "4": {"arms": {"control": 5}}}}')
    with (copy.folder / "examples.jsonl").open("a") as file:
        file.write('{"kind": "rows", "seed": 3, "step": 2, "samples": {"held_out": {"tokens": [1], "arms": 1}}}\n{')
    assert "There is nothing to judge" in shown(copy)
    (copy.folder / "examples.jsonl").unlink()
    assert (
        "optimistic" in verdict_of(copy, Question("held_out_loss")).text()
    )  # without rows, best epochs are chosen by the rows they are read on


def _written(folder: Path, courses: dict[str, Sequence[Sequence[float]]]) -> Record:
    """Return a record whose arms have these losses of one-token held-out rows at each evaluation."""
    record = create(EXAMPLE, "", folder=folder)
    record.update_about(data={"train": 8}, question={"measure": "held_out_loss", "epoch": "best"})
    steps = len(next(iter(courses.values())))
    for step in range(1, steps + 1):
        kept: dict[str, Any] = {}
        arms = {}
        for name, course in courses.items():
            losses = list(course[step - 1])
            arms[name] = {"held_out_loss": float(np.mean(losses)), "train_loss": 1.0}
            kept[name] = {"loss": losses, "hits": [0] * len(losses)}
        samples = {"held_out": {"tokens": [1] * len(losses), "arms": kept}}
        append(record.folder / EXAMPLES, {"kind": "rows", "seed": 0, "step": step, "samples": samples})
        record.append({"event": "evaluated", "seed": 0, "step": step, "steps": steps, "arms": arms})
    return record


def test_the_best_epoch_is_chosen_on_one_half_and_read_on_the_other(tmp_path: Path) -> None:
    # Even rows are best at the first evaluation, odd ones at the second: each half is read at the other's choice.
    record = _written(tmp_path, {"control": [[1.0, 9.0, 1.0, 9.0], [5.0, 2.0, 5.0, 2.0]], ARM: [[1.0] * 4, [2.0] * 4]})
    outcomes = outcomes_of(record)
    assert outcomes.halves
    assert outcomes.control[0].best["held_out_loss"] == pytest.approx((5 + 9 + 5 + 9) / 4)
    assert outcomes.arms[ARM][0].best["held_out_loss"] == pytest.approx(1.0)
    assert outcomes.arms[ARM][0].best_epoch == 1.0
    assert outcomes.arms[ARM][0].last["held_out_loss"] == pytest.approx(2.0)
    assert outcomes.control[0].scores["held_out_loss"][:, 0].tolist() == [5.0, 9.0, 5.0, 9.0]


def test_a_new_measure_of_rows_is_known_at_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class More(CleanMeasures):
        longest: float

    before = RowMeasures.of
    monkeypatch.setattr(RowMeasures, "of", lambda rows, index: More(**vars(before(rows, index)), longest=7.0))
    monkeypatch.setitem(NAMES, "held_out_longest", "longest")
    record = _written(tmp_path, {"control": [[1.0] * 4, [2.0] * 4]})
    assert outcomes_of(record).control[0].best["longest"] == 7.0


def test_best_of_many_evaluations_of_pure_chance_is_not_optimistic(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    course = generator.normal(1.0, 0.3, (30, 200)).tolist()
    record = _written(tmp_path, {"control": course, ARM: course})
    best = outcomes_of(record).control[0].best["held_out_loss"]
    assert min(np.mean(one) for one in course) < 0.97
    assert abs(best - 1.0) < 4 * 0.3 / 200**0.5  # four standard errors of a mean of 200 rows


def test_a_seed_on_its_way_does_not_count_beside_a_whole_one(tmp_path: Path) -> None:
    record = _written(tmp_path, {"control": [[1.0] * 4] * 2, ARM: [[1.0] * 4] * 2})
    numbers = {"held_out_loss": 9.0, "train_loss": 1.0}
    record.append({"event": "evaluated", "seed": 1, "step": 1, "steps": 2, "arms": {"control": numbers, ARM: numbers}})
    assert outcomes_of(record).control.keys() == {0}


def test_an_arm_that_diverged_has_no_number_and_is_reported(tmp_path: Path) -> None:
    record = _written(tmp_path, {"control": [[1.0] * 4] * 2, ARM: [[1.0] * 4] * 2})
    record.append({"event": "evaluated", "seed": 0, "step": 3, "steps": 3, "arms": {"control": {"held_out_loss": 1.0}}})
    assert verdict_of(record).arms[ARM].status == "nothing"


def test_records_of_other_seeds_come_together_and_cells_keep_their_own_control() -> None:
    def part(seed: int, control: float, arm: float) -> Outcomes:
        runs = [{seed: Outcome({"held_out_loss": value})} for value in (control, arm)]
        return Outcomes(runs[0], {"noise": runs[1]})

    whole = merge_seeds([part(seed, 1.0, 0.9 + 0.001 * seed) for seed in range(6)])
    assert whole.control.keys() == whole.arms["noise"].keys() == set(range(6))
    other = merge_seeds([part(seed, 2.0, 2.1 + 0.001 * seed) for seed in range(6)])
    found = verdict(combine_cells({"slow": whole, "fast": other}), Question())
    assert found.arms["slow: noise"].status == "better"
    assert found.arms["fast: noise"].status == "worse"  # than 2.0, the control of its own cell
    assert found.arms["fast: noise"].epochs["last"].interval is not None


def test_a_question_is_part_of_the_settings_and_a_wrong_one_is_refused() -> None:
    study = EXAMPLE.model_copy(update={"measuring": MeasuringSettings(primary="rouge_l", epoch="best", chaos=True)})
    assert from_toml(StudySettings, to_toml(study)) == study
    assert CHAOS_ARM in study.arms
    with pytest.raises(InvalidSetting, match="primary must be one of"):
        from_toml(StudySettings, '[measuring]\nprimary = "beauty"')


def test_typing_errors_change_only_letters() -> None:
    text = "What do 3 foxes eat, and 我们 too?"
    assert with_typos(text, 0.0, np.random.default_rng(0)) == text
    changed = with_typos(text, 1.0, np.random.default_rng(0))
    assert changed != text
    assert [one for one in changed if not one.isalpha()] == [one for one in text if not one.isalpha()]
    words = "letters " * 400
    errors = sum(
        one != other
        for one, other in zip(words.split(), with_typos(words, 0.1, np.random.default_rng(1)).split(), strict=True)
    )
    assert 150 < errors < 270  # of 400 words of seven letters: 1 - 0.9**7 = 52%, some replaced by the same letter


def test_the_figures_say_in_words_what_they_show() -> None:
    arms = {"control": NoiseSettings(strength=0), ARM: NoiseSettings()}
    runs = {seed: Outcome({"held_out_loss": 1.0 + seed}, {"held_out_loss": 0.9 + seed}, 2, 1) for seed in range(3)}
    noisy = {seed: Outcome({"held_out_loss": 1.5 + seed}, {"held_out_loss": 0.9 + seed}, 2, 1) for seed in range(3)}
    outcomes = Outcomes(runs, {ARM: noisy})
    shown = seed_differences(verdict(outcomes, Question()), arms)
    assert "alpha 5, last epoch: +0.5 (+0.5 to +0.5)" in shown["summary"]
    assert "control 1.9 at the best epoch, 2 at the last" in epochs_beside(outcomes, "control", arms)["summary"]
    histogram = overlap_histogram({ARM: [0.0, 0.05, 1.0, 0.55]}, arms)
    assert histogram["data"][0]["y"] == pytest.approx([0.5, 0, 0, 0, 0, 0.25, 0, 0, 0, 0.25])
    measured = {"noise": {"amounts": [0.0, 1.0], "arms": {ARM: {"loss": [1.0, 3.0]}}}}
    assert robustness_curves([measured, measured], arms)["data"][0]["y"] == [1.0, 3.0]
