"""An arm that is stopped, and noise that is changed, while a study trains; killed runs, and what the verdict says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from steered import STOPPED, finished_run, numbers, of_three_arms, with_a_stop

from neftune_core.engine.saving import ADAPTER
from neftune_core.errors import InvalidSetting, RecordError
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question
from neftune_core.evaluation.settings import MeasuringSettings
from neftune_core.evaluation.verdict import verdict
from neftune_core.export.card import card
from neftune_core.export.report import write_report
from neftune_core.figures.curves import loss_curves
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.python_api import start_study
from neftune_core.settings import Limits
from neftune_core.studies.comparison import saved_arms
from neftune_core.studies.judging import outcomes_of, verdict_of
from neftune_core.studies.records.log import as_jsonl
from neftune_core.studies.records.progress import Status
from neftune_core.studies.records.record import LOG, Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.going_on import go_on
from neftune_core.studies.steering.log import strengths
from neftune_core.studies.steering.requests import FILE, Requests, set_strength, stop_arm
from neftune_core.studies.study import run_study
from neftune_core.sweeps.settings import SweepSettings
from neftune_core.sweeps.table import judge
from neftune_core.ui.parts.verdict_card import verdict_card
from neftune_core.ui.study_text import arm_rows


def test_a_stopped_arm_keeps_its_weights_and_the_others_train_on(tmp_path: Path) -> None:
    whole = finished_run(of_three_arms(tmp_path))
    record = create(of_three_arms(tmp_path), "")
    *events, ending = with_a_stop(record, 7)
    assert ending["event"] == "finished"
    assert [(one["step"], one["arms"]) for one in events if one["event"] == "steered"] == [
        (7, {STOPPED: {"stopped": True}})
    ]
    trained = {one["step"]: set(one["arms"]) for one in events if one["event"] == "step"}
    assert all((STOPPED in arms) == (step <= 7) for step, arms in trained.items())
    assert max(trained) == 12 and all("control" in arms for arms in trained.values())
    before = [event["arms"] for event in whole.events() if event["event"] == "step"][:7]
    assert [one["arms"] for one in events if one["event"] == "step"][:7] == before
    found = verdict_of(record, Question("held_out_loss"))
    assert found.arms[STOPPED].status in ("stopped", "void")
    steps = outcomes_of(record).stopped
    assert steps == {STOPPED: {0: (7, 6)}}
    evaluated = {event["step"]: event["arms"] for event in record.events() if event["event"] == "evaluated"}
    outcomes = outcomes_of(record)
    assert outcomes.arms[STOPPED][0].last["held_out_loss"] == evaluated[6][STOPPED]["held_out_loss"]
    assert outcomes.control_of(STOPPED)[0].last["held_out_loss"] == evaluated[6]["control"]["held_out_loss"]
    assert outcomes.control[0].last["held_out_loss"] == evaluated[12]["control"]["held_out_loss"]
    assert saved_arms(record) == ["control", "uniform-alpha-5", STOPPED]
    assert f"{arm_words(STOPPED)}, step 6 | {evaluated[6][STOPPED]['train_loss']:.4f} |" in card(
        record, STOPPED, 0, "adapter"
    )


def test_half_a_request_waits_for_its_other_half(tmp_path: Path) -> None:
    record = create(of_three_arms(tmp_path), "")
    requests, path = Requests(record), record.folder / FILE
    path.write_bytes(b'{"stop": "a"}\n{"stop"')
    assert requests.new() == [{"stop": "a"}]
    assert requests.new() == []
    with path.open("ab") as file:
        file.write(b': "b"}\n')
    assert requests.new() == [{"stop": "b"}]


def test_an_arm_that_diverged_with_an_earlier_seed_can_be_stopped_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Record, "is_running", lambda self: True)
    for seed, is_gone in ((0, False), (1, True)):
        record = create(of_three_arms(tmp_path, seeds=2), "")
        (record.folder / LOG).write_text(
            as_jsonl([{"event": "diverged", "seed": seed, "step": 3, "arms": {STOPPED: {}}}])
        )
        if is_gone:
            with pytest.raises(RecordError, match="is not being trained"):
                stop_arm(record, STOPPED)
        else:
            stop_arm(record, STOPPED)
            assert Requests(record).new() == [{"stop": STOPPED}]


def test_the_verdict_makes_no_claim_about_an_arm_that_a_person_stopped() -> None:
    values = [2.0, 2.1, 1.9, 2.05, 1.95, 2.02]

    def runs(of: list[float]) -> dict[int, Outcome]:
        return {seed: Outcome({"held_out_loss": value}, steps=100) for seed, value in enumerate(of)}

    arms = {"noise": runs([value - 0.5 - 0.01 * seed for seed, value in enumerate(values)])}
    assert verdict(Outcomes(runs(values), arms), Question()).arms["noise"].status == "better"
    stopped = {"noise": {5: (80, 70)}}
    found = verdict(Outcomes(runs(values), arms, own_controls={"noise": runs(values)}, stopped=stopped), Question())
    assert found.arms["noise"].status == "stopped"
    assert "5 (80, 70)" in found.text() and "no claim" in found.text()
    assert found.opening[0].text().startswith("Not a result for noise, stopped during the run.")
    never = {"noise": {5: (2, 0)}}
    nothing = {"noise": {5: Outcome({})}}
    found = verdict(Outcomes(runs(values), nothing, own_controls=nothing, stopped=never), Question())
    assert found.arms["noise"].status == "nothing" and "before its first evaluation" in found.text()


@pytest.mark.parametrize("at", [("step", 8), ("evaluated", 9), ("step", 11)])
def test_a_stopped_arm_stays_stopped_after_the_process_was_killed(tmp_path: Path, at: tuple[str, int]) -> None:
    expected = create(of_three_arms(tmp_path), "")
    list(with_a_stop(expected, 7))
    record = create(of_three_arms(tmp_path), "")
    events = with_a_stop(record, 7)
    for event in events:
        if (event["event"], event.get("step")) == at:
            break
    events.close()  # type: ignore[attr-defined]
    *_, ending = run_study(record, Limits(), lambda: False)
    assert ending["event"] == "finished"
    numbers = [[(one["event"], one.get("step"), one.get("arms")) for one in of.events() if one["event"] != "finished"]
               for of in (record, expected)]  # fmt: skip
    assert sorted(numbers[0], key=str) == sorted(numbers[1], key=str)
    for arm in saved_arms(expected):
        files = [one.arm_folder(arm, 0) / ADAPTER for one in (record, expected)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_an_arm_stopped_with_one_seed_is_not_trained_with_the_next(tmp_path: Path) -> None:
    record = create(of_three_arms(tmp_path, seeds=2), "")
    *_, ending = with_a_stop(record, 5)
    assert ending["event"] == "finished"
    later = [event for event in record.events() if event["event"] == "step" and event["seed"] == 1]
    assert later and all(set(event["arms"]) == {"control", "uniform-alpha-5"} for event in later)
    assert set(outcomes_of(record).stopped[STOPPED]) == {0}


def test_only_a_noise_arm_of_a_running_study_can_be_stopped(tmp_path: Path) -> None:
    run = start_study(of_three_arms(tmp_path))
    with pytest.raises(RecordError, match="not running"):
        run.stop_arm(STOPPED)
    refused = []
    for event in run:
        if event["event"] == "step" and event["step"] == 2:
            for arm, words in (("control", "whole study"), ("nobody", "choose one of uniform-alpha-5, laplace-std-1")):
                with pytest.raises(RecordError, match=words):
                    run.stop_arm(arm)
                refused.append(arm)
            run.stop_arm(STOPPED)
        if event["event"] == "step" and event["step"] == 4:
            with pytest.raises(RecordError, match="not being trained"):
                run.stop_arm(STOPPED)
    assert refused == ["control", "nobody"]


def test_a_running_arm_has_a_button_and_a_stopped_one_its_step(tmp_path: Path) -> None:
    record = create(of_three_arms(tmp_path), "")
    running = Status("running", step=3, steps=12)
    shown = arm_rows(record, running, record.log())
    assert shown.count("data-arm=") == 2 and 'data-arm="control"' not in shown
    record.append({"event": "steered", "seed": 0, "step": 3, "arms": {STOPPED: {"stopped": True}}})
    log = record.log()
    log.read()
    shown = arm_rows(record, running, log)
    assert shown.count("data-arm=") == 1 and "stopped after step 3" in shown
    assert arm_rows(record, Status("finished"), log) == ""


LIVE_ARM = "uniform-alpha-5"


def _live(folder: Path, **given: Any) -> StudySettings:
    return of_three_arms(folder, live=True, **given)


def _changed(record: Record, changes: dict[int, float], seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the events of a live run whose noise is changed after some steps of a seed."""
    for event in run_study(record, Limits(), lambda: False):
        if event["event"] == "step" and event["step"] in changes and event["seed"] == seed:
            set_strength(record, 2 * changes[event["step"]] + 1)  # a slider that moves: the last position counts
            set_strength(record, changes[event["step"]])
        yield event


def test_the_noise_of_a_live_study_changes_from_the_next_step_on(tmp_path: Path) -> None:
    plain, record = finished_run(of_three_arms(tmp_path)), create(_live(tmp_path), "")
    *_, ending = _changed(record, {4: 60.0, 8: 0.0})
    assert ending["event"] == "finished"
    log = record.events()
    assert strengths(log) == [(0, 4, 60.0), (0, 8, 0.0)]
    arms = {event["step"]: event["arms"] for event in log if event["event"] == "step"}
    before = {event["step"]: event["arms"] for event in plain.events() if event["event"] == "step"}
    assert [arms[step] for step in range(1, 5)] == [before[step] for step in range(1, 5)]
    assert arms[5][LIVE_ARM]["loss"] != before[5][LIVE_ARM]["loss"]
    for step in arms:
        for other in ("control", STOPPED):
            assert arms[step][other] == before[step][other]
    for judged in (verdict_of, judge, outcomes_of):
        with pytest.raises(RecordError, match="live"):
            judged(record)
    assert "There is no verdict: This study is live" in verdict_card(record)
    told = card(record, LIVE_ARM, 0, "adapter")
    assert "This study is live" in told and "alpha 5, changed by hand while it trained" in told
    assert "<h2>" in write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_request_after_the_last_step_is_refused_and_one_before_it_acts(tmp_path: Path) -> None:
    record, refused = create(_live(tmp_path), ""), []
    for event in run_study(record, Limits(), lambda: False):
        if (event["event"], event.get("step")) == ("step", 11):
            set_strength(record, 60.0)
        if (event["event"], event.get("step")) in [
            ("step", 12),
            ("evaluated", 12),
            ("saved", None),
            ("measured", None),
        ]:
            for asked in (lambda: set_strength(record, 7.0), lambda: stop_arm(record, STOPPED)):
                with pytest.raises(RecordError, match="training is over or in its last step, so nothing was"):
                    asked()
            refused.append(event["event"])
    assert refused == ["step", "evaluated", "saved", "measured"]
    assert strengths(record.events()) == [(0, 11, 60.0)]


def test_the_early_stop_and_seeds_of_the_control_alone_leave_no_request_unanswered(tmp_path: Path) -> None:
    rounds = (create(_live(tmp_path, measuring=MeasuringSettings(another_seed=True)), ""), 1, "step")
    study = _live(tmp_path)
    early = study.model_copy(
        update={"training": study.training.model_copy(update={"early_stop": 1, "learning_rate": 5.0})}
    )
    for record, seed, name in (rounds, (create(early, ""), 0, "saved")):
        asked = 0
        for event in run_study(record, Limits(), lambda: False):
            if event["event"] == name and event["seed"] == seed:
                asked += 1
                with pytest.raises(RecordError, match=r"nothing was changed|no longer being trained"):
                    set_strength(record, 7.0)
        assert asked
        assert strengths(record.events()) == []


def test_a_request_that_was_accepted_but_came_after_the_last_step_is_reported(tmp_path: Path) -> None:
    study = _live(tmp_path)
    training = study.training.model_copy(update={"early_stop": 1, "learning_rate": 1e-9, "evaluations": 6})
    record = create(study.model_copy(update={"training": training}), "")
    for event in run_study(record, Limits(), lambda: False):
        if (event["event"], event.get("step")) == ("evaluated", 4):  # after which the early stop ends the run
            set_strength(record, 7.0)
    assert event["event"] == "finished"
    assert event["message"] == "A change that was requested after the last step had no effect."
    other = create(_live(tmp_path), "")
    *_, ending = _changed(other, {4: 30.0}, seed=0)
    assert "message" not in ending


def test_every_later_seed_of_a_live_study_begins_with_the_last_strength(tmp_path: Path) -> None:
    record = create(_live(tmp_path, seeds=2), "")
    *_, ending = _changed(record, {4: 30.0, 8: 60.0}, seed=0)
    assert ending["event"] == "finished"
    assert strengths(record.events()) == [(0, 4, 30.0), (0, 8, 60.0), (1, 0, 60.0)]
    loud = of_three_arms(tmp_path, seed=1)
    loud = loud.model_copy(update={"noise": (NoiseSettings(strength=60), loud.noise[1])})
    steps = [event["arms"] for event in finished_run(loud).events() if event["event"] == "step"]
    own = [event["arms"] for event in record.events() if event["event"] == "step" and event["seed"] == 1]
    assert [arms[LIVE_ARM] for arms in own] == [arms["uniform-alpha-60"] for arms in steps]


def test_a_strength_asked_for_between_two_seeds_acts_from_the_first_step_of_the_next(tmp_path: Path) -> None:
    record = create(_live(tmp_path, seeds=2), "")
    for event in run_study(record, Limits(), lambda: False):
        if event["event"] == "measured" and event["seed"] == 0:
            set_strength(record, 60.0)
            stop_arm(record, STOPPED)
    steered = [(one["seed"], one["step"], one["arms"]) for one in record.events() if one["event"] == "steered"]
    assert steered == [(1, 0, {LIVE_ARM: {"strength": 60.0}}), (1, 1, {STOPPED: {"stopped": True}})]


@pytest.mark.parametrize(("seed", "step"), [(0, 12), (1, 1), (1, 6)])
def test_a_later_seed_repeats_the_strength_with_which_it_began(tmp_path: Path, seed: int, step: int) -> None:
    expected, record = create(_live(tmp_path, seeds=2), ""), create(_live(tmp_path, seeds=2), "")
    list(_changed(expected, {4: 60.0}, seed=0))
    events = _changed(record, {4: 60.0}, seed=0)
    for event in events:
        if (event["event"], event.get("step"), event["seed"]) == ("step", step, seed):
            break
    events.close()  # type: ignore[attr-defined]
    list(run_study(record, Limits(), lambda: False))
    assert numbers(record) == numbers(expected)
    assert strengths(record.events()) == strengths(expected.events()) == [(0, 4, 60.0), (1, 0, 60.0)]


def test_a_seed_that_was_changed_after_its_first_step_is_repeated_as_it_was(tmp_path: Path) -> None:
    record = create(_live(tmp_path, seeds=2), "")
    events = _changed(record, {4: 60.0}, seed=0)
    next(event for event in events if event["event"] == "answered" and event["seed"] == 0)
    events.close()  # type: ignore[attr-defined]
    record.append({"event": "steered", "seed": 1, "step": 1, "arms": {LIVE_ARM: {"strength": 60.0}}})  # as of earlier
    list(run_study(record, Limits(), lambda: False))
    assert strengths(record.events()) == [(0, 4, 60.0), (1, 1, 60.0)]


def test_the_noise_of_an_arm_that_was_stopped_or_lost_cannot_be_changed(tmp_path: Path) -> None:
    record, refused = create(_live(tmp_path), ""), 0
    for event in run_study(record, Limits(), lambda: False):
        if (event["event"], event.get("step")) == ("step", 2):
            stop_arm(record, LIVE_ARM)
        if (event["event"], event.get("step")) == ("step", 4):
            with pytest.raises(RecordError, match="no longer being trained: its noise was not changed"):
                set_strength(record, 7.0)
            record.append({"event": "diverged", "seed": 0, "step": 4, "arms": {STOPPED: {}}})
            with pytest.raises(RecordError, match="Only the control"):
                stop_arm(record, STOPPED)
            with pytest.raises(RecordError, match="still running"):
                go_on(record, 1, "", Limits())
            refused += 1
    assert refused == 1


@pytest.mark.parametrize("at", [("step", 5), ("evaluated", 9), ("step", 11)])
def test_a_live_study_that_was_killed_repeats_its_changes(tmp_path: Path, at: tuple[str, int]) -> None:
    changes = {2: 30.0, 6: 0.0, 7: 90.0}
    expected, record = create(_live(tmp_path), ""), create(_live(tmp_path), "")
    list(_changed(expected, changes))
    events = _changed(record, changes)
    for event in events:
        if (event["event"], event.get("step")) == at:
            break
    events.close()  # type: ignore[attr-defined]
    left = {step: strength for step, strength in changes.items() if step >= at[1]}
    *_, ending = _changed(record, left)
    assert ending["event"] == "finished"
    assert numbers(record) == numbers(expected)
    assert strengths(record.events()) == strengths(expected.events())


def test_only_the_noise_of_a_running_live_study_can_be_changed(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="only in a live study"):
        set_strength(create(of_three_arms(tmp_path), ""), 3.0)
    with pytest.raises(RecordError, match="not running"):
        set_strength(create(_live(tmp_path), ""), 3.0)
    run = start_study(_live(tmp_path))
    for event in run:
        if event["event"] == "step" and event["step"] == 2:
            with pytest.raises(InvalidSetting, match="strength"):
                run.set_strength(-1.0)
            run.set_strength(12.5)
    assert strengths(run.result.record.events()) == [(0, 2, 12.5)]
    with pytest.raises(InvalidSetting, match="no verdict"):
        SweepSettings(study=_live(tmp_path), axes={"noise.strength": (0, 5)})
    with pytest.raises(InvalidSetting, match="an arm whose noise"):
        StudySettings(live=True, noise=(), methods=({"weight_decay": 0.1},))


def test_the_curves_mark_every_change_in_both_panels_and_in_words() -> None:
    arms = StudySettings(noise=(NoiseSettings(strength=5),)).arms
    losses = {name: {"train_loss": 2.0, "held_out_loss": 2.5} for name in arms}
    log = [{"event": "evaluated", "seed": 0, "step": step, "steps": 9, "arms": losses} for step in (0, 9)]
    log.insert(1, {"event": "steered", "seed": 0, "step": 4, "arms": {LIVE_ARM: {"strength": 12.0}}})
    figure = loss_curves(log, arms)
    lines = figure["layout"]["shapes"]
    assert [(line["x0"], line["x1"], line["xref"]) for line in lines] == [(4, 4, "x"), (4, 4, "x2")]
    assert any(note["text"] == "strength 12" for note in figure["layout"]["annotations"])
    assert figure["summary"].endswith("Changed by hand: strength 12 after step 4.")
    assert "by hand" not in loss_curves([log[0], log[2]], arms)["summary"]
    change = {LIVE_ARM: {"strength": 12.0}}
    log += [{"event": "step", "seed": seed, "step": 1, "steps": 9, "arms": {}} for seed in (0, 1, 2)]
    log += [{"event": "steered", "seed": seed, "step": 0, "arms": change} for seed in (1, 2)]
    said = "strength 12 (seed 1, 2) after step 0, strength 12 (seed 0) after step 4."
    assert loss_curves(log, arms)["summary"].endswith(said)
