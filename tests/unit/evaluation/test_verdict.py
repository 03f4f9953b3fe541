"""Verdicts on studies with known true effects."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from neftune_core.bench.evidence import ARMS, SPREADS, claims, study
from neftune_core.errors import DataError, InvalidSetting
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Outcome, Outcomes, Question, Rounding, Seeds
from neftune_core.evaluation.overlap import bleu
from neftune_core.evaluation.verdict import CLAIMS, Verdict, verdict
from neftune_core.evaluation.verdict_words import SENTENCES
from neftune_core.language import CHINESE, in_language

NULLS = 200
ALLOWED = 0.069
"""A rule of 5% gives more in 0.5% of rows of 1,000 studies (`neftune bench evidence`)."""

SCATTER = (0.3, -0.2, 0.1, -0.3, 0.2, -0.1, 0.25, -0.25)


def _seeds(values: Sequence[float], measure: str = "held_out_loss") -> Seeds:
    return {seed: Outcome({measure: value}) for seed, value in enumerate(values)}


def _judged(differences: Sequence[float], question: Question = Question()) -> Verdict:  # noqa: B008 - it is frozen
    """Return the verdict on one arm with the given differences from a control that varies between seeds."""
    control = [1 + scatter for scatter in SCATTER[: len(differences)]]
    arm = [value + difference for value, difference in zip(control, differences, strict=True)]
    return verdict(Outcomes(_seeds(control, question.measure), {"noise": _seeds(arm, question.measure)}), question)


def _keys(found: Verdict) -> list[str]:
    lines = [*found.opening, *(line for arm in found.arms.values() for line in arm.lines), *found.closing]
    return [line.key for line in lines]


@pytest.mark.parametrize("seeds", [6, 8])
def test_where_nothing_is_there_few_studies_claim_anything(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    alarms = [claims(study(generator, draw, seeds, ARMS)) for draw in SPREADS.values() for _ in range(NULLS)]
    assert np.mean(alarms) <= ALLOWED


def test_with_three_seeds_nothing_is_ever_claimed() -> None:
    generator = np.random.default_rng(0)
    assert not any(claims(study(generator, SPREADS["normal"], 3, ARMS, effect=10)) for _ in range(20))


def test_an_effect_of_three_deviations_is_found_with_six_seeds() -> None:
    generator = np.random.default_rng(0)
    found = [claims(study(generator, SPREADS["normal"], 6, 1, effect=3 * 2**0.5)) for _ in range(100)]
    assert np.mean(found) > 0.9  # 0.99 of 1,000 in the benchmark


def test_a_lower_loss_is_better_and_a_higher_one_worse() -> None:
    assert _judged([-0.1, -0.11, -0.09, -0.1, -0.12, -0.1]).arms["noise"].status == "better"
    assert _judged([0.1, 0.11, 0.09, 0.1, 0.12, 0.1]).arms["noise"].status == "worse"


def test_a_measure_without_a_better_side_is_only_higher_or_lower() -> None:
    found = _judged([-0.1, -0.11, -0.09, -0.1, -0.12, -0.1], Question("memorised_rouge_l"))
    assert found.arms["noise"].status == "lower"
    assert "better" not in found.text()


def test_an_interval_around_zero_is_not_a_claim_and_shows_how_many_seeds_would_show_it() -> None:
    found = _judged([-0.3, 0.1, -0.2, 0.15, -0.1, 0.05])
    assert found.arms["noise"].status == "unclear"
    assert "next.power" in _keys(found)
    assert "better" not in found.text()
    (needed,) = re.findall(r"about (\d+) seeds", found.text())
    assert int(needed) > 6


def test_an_interval_that_the_sign_flip_test_does_not_confirm_is_not_a_claim() -> None:
    differences = [-0.001, 0.0005, -1.0, -1.0, -1.0, -1.1]
    judged = _judged(differences)
    found = judged.arms["noise"]
    comparison = found.epochs["last"]
    assert comparison.interval is not None
    assert comparison.interval.excludes_zero
    assert comparison.flip_p > 0.05
    assert found.status == "unconfirmed"
    headline = judged.text().splitlines()[0]  # which does not call it no effect
    assert headline.startswith("Undecided over 6 seeds, because only one of two tests finds a difference for noise:")


def test_three_seeds_are_an_illustration_however_clear_they_look() -> None:
    found = _judged([-1.0, -1.01, -0.99])
    assert found.arms["noise"].status == "illustration"
    assert "headline.illustration" in _keys(found)
    assert "at least 6 seeds" in found.text()


def _first(differences: Sequence[float]) -> str:
    control = [1 + scatter for scatter in SCATTER[: len(differences)]]
    arm = [value + difference for value, difference in zip(control, differences, strict=True)]
    found = verdict(Outcomes(_seeds(control), {"uniform-alpha-15": _seeds(arm)}), Question())
    return found.text().splitlines()[0]


def test_the_first_sentence_says_what_the_noise_did_and_how_sure_that_is() -> None:
    worse = _first([0.1, 0.11, 0.09, 0.1, 0.12, 0.1])
    assert worse == ("Worse with alpha 15, by more than chance over 6 seeds: control 1, alpha 15 1.1 (held-out loss).")
    assert _first([-0.1, -0.11, -0.09, -0.1, -0.12, -0.1]).startswith("Better with alpha 15")
    assert _first([0.3, -0.3] * 3).startswith("No effect beyond chance over 6 seeds: control 1, alpha")


@pytest.mark.parametrize(("seeds", "words"), [(1, "a single seed"), (2, "2 seeds"), (5, "5 seeds")])
def test_a_study_of_few_seeds_does_not_sound_like_a_result(seeds: int, words: str) -> None:
    first = _first([-1.0, -1.01, -0.99, -1.0, -1.02][:seeds])
    assert first.startswith(f"Not a result yet, because {words} cannot tell an effect from chance. So far: control")


def test_the_summary_ends_with_what_would_make_it_surer() -> None:
    assert [line.key for line in _judged([-1.0]).summary] == ["headline.one_seed", "next.seeds"]
    assert [line.key for line in _judged([0.3, -0.3] * 3).summary] == ["headline.no_claim", "next.tiny"]
    assert [line.key for line in _judged([0.1, 0.11] * 3).summary] == ["headline.worse", "next.repeat"]


def _of_both(loss: Sequence[float], exact: Sequence[float], epoch: str = "last", rounding: float = 0.0) -> Verdict:
    """Return the verdict on an arm that differs from the control by these losses and shares of exact answers."""

    def side(part: float) -> Seeds:
        kept = [
            {"held_out_loss": 1 + scatter / 10 + part * one, "exact": 0.5 - scatter / 10 + part * other}
            for scatter, one, other in zip(SCATTER, loss, exact, strict=False)
        ]
        return {seed: Outcome(values, best=values) for seed, values in enumerate(kept)}

    measured = Rounding("bfloat16", {"held_out_loss": rounding})
    return verdict(Outcomes(side(0), {"uniform-alpha-5": side(1)}, rounding=measured), Question("exact", epoch))


UP, DOWN, EITHER_WAY = (0.1, 0.11, 0.09) * 2, (-0.1, -0.11, -0.09) * 2, (0.1, -0.1) * 3


@pytest.mark.parametrize("epoch", ["last", "best"])
@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_loss_and_exact_answers_that_point_in_opposite_directions_are_named(seeds: int, epoch: str) -> None:
    worse_loss = _of_both(UP[:seeds], UP[:seeds], epoch)
    assert [line.key for line in worse_loss.disagreements] == ["disagree.loss_worse"]
    assert [line.key for line in worse_loss.summary][1] == "disagree.loss_worse"  # right after the headline
    said = "held-out loss is worse with alpha 5, but the share of exact answers is better: a model may be less certain"
    assert said in worse_loss.text()
    better_loss = _of_both(DOWN[:seeds], DOWN[:seeds], epoch)
    assert [line.key for line in better_loss.disagreements] == ["disagree.loss_better"]
    assert "held-out loss is better with alpha 5, but the share of exact answers is worse" in better_loss.text()


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_loss_and_exact_answers_that_agree_are_not_contrasted(seeds: int) -> None:
    for loss, exact in ((UP, DOWN), (DOWN, UP), (UP, (0.0,) * 6), ((0.0,) * 6, UP)):
        assert _of_both(loss[:seeds], exact[:seeds]).disagreements == ()


@pytest.mark.parametrize("seeds", [2, 6])
def test_a_difference_that_may_be_chance_contradicts_nothing(seeds: int) -> None:
    assert _of_both(EITHER_WAY[:seeds], UP[:seeds]).disagreements == ()
    assert _of_both(UP[:seeds], EITHER_WAY[:seeds]).disagreements == ()


def test_a_loss_that_rounding_alone_could_change_contradicts_nothing() -> None:
    assert _of_both(UP[:1], UP[:1], rounding=0.2).disagreements == ()
    assert len(_of_both(UP[:1], UP[:1], rounding=0.05).disagreements) == 1


def test_an_arm_that_cannot_be_judged_contradicts_nothing() -> None:
    base = {"held_out_loss": 3.0, "exact": 0.0}
    control = {0: Outcome({"held_out_loss": 1.0, "exact": 0.5}, base=base)}
    broken = {0: Outcome({"held_out_loss": 9.0, "exact": 0.6}, base=base)}
    found = verdict(Outcomes(control, {"uniform-alpha-5": broken}), Question())
    assert found.arms["uniform-alpha-5"].status == "void"
    assert found.disagreements == ()


def test_arms_that_contradict_themselves_in_the_same_way_share_a_sentence() -> None:
    def run(loss: float, exact: float) -> Seeds:
        return {0: Outcome({"held_out_loss": loss, "exact": exact})}

    arms = {f"uniform-alpha-{n}": run(1 + change, 0.5 + change) for n, change in ((5, 0.1), (15, 0.2), (60, -0.1))}
    found = verdict(Outcomes(run(1, 0.5), arms), Question())
    assert [line.key for line in found.disagreements] == ["disagree.loss_worse", "disagree.loss_better"]
    assert "is worse with alpha 5 and alpha 15, but" in found.text()


def _of_arms(changes: dict[str, float]) -> Verdict:
    """Return the verdict on arms that differ from the control by these changes, with every seed."""
    control = [1 + scatter for scatter in SCATTER]
    arms = {
        name: _seeds([value + change + 0.01 * scatter for value, scatter in zip(control, SCATTER, strict=True)])
        for name, change in changes.items()
    }
    return verdict(Outcomes(_seeds(control), arms), Question())


def test_the_headline_names_every_arm_that_differs_with_its_direction_and_its_value() -> None:
    found = _of_arms({"uniform-alpha-5": -0.1, "uniform-alpha-60": 0.4, "uniform-alpha-50": 0.3})
    assert found.text().splitlines()[0] == (
        "Worse with alpha 60 and alpha 50, by more than chance over 8 seeds: control 1, alpha 60 1.4, alpha 50 1.3 "
        "(held-out loss). Better with alpha 5, by more than chance over 8 seeds: control 1, alpha 5 0.9 (held-out "
        "loss)."
    )
    three = _of_arms({"uniform-alpha-20": 0.2, "uniform-alpha-60": 0.4, "uniform-alpha-50": 0.3})
    assert three.text().startswith("Worse with alpha 60, alpha 50 and alpha 20, by more than")


def test_the_headline_on_many_arms_counts_each_direction_with_its_range() -> None:
    changes = {5: -0.1, 10: -0.05, 60: 0.4, 50: 0.3, 40: 0.2}
    first = _of_arms({f"uniform-alpha-{strength}": change for strength, change in changes.items()}).text()
    assert re.findall(r"(\w+) with (alpha \d+),", first) == [("Worse", "alpha 60"), ("Better", "alpha 5")]
    assert first.splitlines()[0].endswith(
        "In all, 5 of 5 arms differ from the control by more than chance: 3 worse (by 0.2 to 0.4), "
        "2 better (by 0.05 to 0.1)."
    )


@pytest.mark.parametrize(
    ("strengths", "end"), [((5,), "alpha 5."), ((5, 6), "alpha 5 and alpha 6."), ((5, 6, 7, 8), "4 other arms.")]
)
def test_the_headline_on_one_arm_that_differs_ends_with_those_that_do_not(strengths: Sequence[int], end: str) -> None:
    found = _of_arms({f"uniform-alpha-{strength}": 0.0 for strength in strengths} | {"uniform-alpha-60": 0.4})
    headline = found.text().splitlines()[0]
    assert headline.startswith("Worse with alpha 60, by more than chance")
    assert headline.endswith(f"(held-out loss). No effect beyond chance with {end}")


def test_a_headline_without_a_claim_is_true_for_every_arm() -> None:
    control = [1 + scatter for scatter in SCATTER]
    unclear = _seeds([value + change for value, change in zip(control, [0.3, -0.3] * 4, strict=True)])
    same = _seeds(control)
    arms = {"unclear": unclear, "stopped": same, "incomplete": {seed: one for seed, one in same.items() if seed}}
    outcomes = Outcomes(_seeds(control), arms, stopped={"stopped": {0: (3, 2)}})
    assert verdict(outcomes, Question()).text().splitlines()[0] == (
        "No effect beyond chance over 8 seeds: control 1, unclear 1 (held-out loss). "
        "No result for stopped and incomplete."
    )


def test_the_headline_on_many_arms_without_an_effect_shows_the_largest_difference() -> None:
    found = _of_arms({f"uniform-alpha-{strength}": 0.0 for strength in (1, 2, 5, 15, 60)})
    assert ", the largest difference of 5 arms (held-out loss)." in found.text().splitlines()[0]


def test_arms_with_controls_of_their_own_are_shown_beside_them() -> None:
    sides = [_seeds([value + scatter for scatter in SCATTER]) for value in (1.0, 2.0)]
    arms = {
        name: {seed: Outcome({"held_out_loss": one.last["held_out_loss"] + 0.5}) for seed, one in side.items()}
        for name, side in zip("ab", sides, strict=True)
    }
    first = verdict(Outcomes(sides[0], arms, own_controls={"b": sides[1]}), Question()).text().splitlines()[0]
    assert "a 1.5 (its control 1), b 2.5 (its control 2)" in first


def test_different_levels_of_intervals_are_explained() -> None:
    text = _of_arms({"uniform-alpha-5": -0.1, "uniform-alpha-60": 0.4}).text()
    assert "(97.5% interval over 8 seeds, wider than 95% because 2 arms are judged; Holm's correction)" in text
    assert "(95% interval over 8 seeds; last step of Holm's correction for 2 arms)" in text
    assert "Holm" not in _judged([0.1] * 5 + [0.11]).text()


def test_one_seed_has_no_interval_and_no_seed_no_numbers() -> None:
    one = _judged([-1.0]).arms["noise"]
    assert one.status == "one_seed"
    assert one.epochs["last"].interval is None
    found = verdict(Outcomes(_seeds([1.0]), {"noise": {5: Outcome({"held_out_loss": 1.0})}}), Question())
    assert found.arms["noise"].status == "nothing"
    assert "no seed" in found.text()


def test_a_seed_that_diverged_is_named_and_takes_the_claim_away() -> None:
    found = _judged([-1.0, -1.01, -0.99, float("nan"), -1.0, -1.01, -0.98])
    assert found.arms["noise"].status == "incomplete"
    assert found.arms["noise"].epochs["last"].lost == (3,)
    assert "seed 3" in found.text()


def test_more_arms_widen_each_interval() -> None:
    control, arm = _seeds(SCATTER), _seeds([value - 0.1 + 0.05 * value for value in SCATTER])
    alone = verdict(Outcomes(control, {"a": arm}), Question()).arms["a"].epochs["last"]
    others = {name: _seeds(SCATTER[::-1]) for name in "bc"}
    select_seeds = verdict(Outcomes(control, {"a": arm, **others}), Question()).arms["a"].epochs["last"]
    assert alone.interval is not None
    assert select_seeds.interval is not None
    assert (alone.interval.level, select_seeds.interval.level) == pytest.approx((0.95, 1 - 0.05 / 3))
    assert select_seeds.holm_t_p == pytest.approx(3 * alone.t_p)


def test_last_and_best_epoch_stand_side_by_side_and_the_one_named_is_judged() -> None:
    def runs(last: float, best: float) -> Seeds:
        return {
            seed: Outcome({"held_out_loss": last + scatter}, {"held_out_loss": best + scatter}, 8, 2)
            for seed, scatter in enumerate(SCATTER)
        }

    first = Outcome({"held_out_loss": 1.61 + SCATTER[0]}, {"held_out_loss": 1.49 + SCATTER[0]}, 8, 2)
    noise = {**runs(1.6, 1.5), 0: first}
    outcomes = Outcomes(runs(1.8, 1.5), {"noise": noise})
    last, best = (verdict(outcomes, Question("held_out_loss", epoch)) for epoch in ("last", "best"))
    assert last.arms["noise"].status == "better"
    assert best.arms["noise"].status == "unclear"
    for found in (last, best):
        assert "the last epoch (number 8) is -0.199" in found.text()
        assert "number 2), it is -0.00125" in found.text()
        assert "optimistic" in found.text()


def _answering(generator: np.random.Generator, gain: float, by_length: float, growth: float) -> Outcomes:
    """Return eight seeds whose scores rise by `gain`, and by `by_length` per unit of log length."""
    hard = generator.uniform(0.2, 0.5, 80)
    control, noise = {}, {}
    for seed in range(8):
        for runs, change, more in ((control, 0.0, 0.0), (noise, growth, gain)):
            longer = generator.normal(change, 0.4, 80)
            scores = hard + more + by_length * longer + generator.normal(0, 0.02, 80)
            lengths = 30 * np.exp(longer) - 1
            runs[seed] = Outcome({"rouge_l": float(scores.mean())}, scores={"rouge_l": scores}, lengths=lengths)
    return Outcomes(control, {"noise": noise})


def test_a_gain_that_comes_from_longer_answers_is_distinguished_from_one_that_does_not() -> None:
    generator = np.random.default_rng(0)
    question = Question("rouge_l")
    from_length = verdict(_answering(generator, 0.0, 0.2, 0.4), question)
    own = verdict(_answering(generator, 0.08, 0.2, 0.4), question)
    assert from_length.arms["noise"].status == own.arms["noise"].status == "better"
    assert "length.explains" in _keys(from_length)
    assert "length.remains" in _keys(own)
    adjusted = own.arms["noise"].lengths
    assert adjusted is not None
    assert adjusted.adjusted is not None
    assert adjusted.adjusted.estimate == pytest.approx(0.08, abs=0.02)  # its interval is about as wide


def test_if_every_answer_grew_length_cannot_be_separated() -> None:
    outcomes = _answering(np.random.default_rng(1), 0.3, 0.0, 0.0)
    grown = {
        seed: Outcome(run.last, scores=run.scores, lengths=outcomes.control[seed].lengths * 3 + seed)
        for seed, run in outcomes.arms["noise"].items()
    }
    assert "length.inseparable" in _keys(verdict(Outcomes(outcomes.control, {"noise": grown}), Question("rouge_l")))


def test_lengths_that_were_not_kept_are_not_ruled_out_and_a_loss_needs_none() -> None:
    assert "length.unknown" in _keys(_judged([0.1] * 6, Question("rouge_l")))
    assert "closing.no_length" in _keys(_judged([0.1] * 6))


def test_corpus_measures_are_resampled_as_corpora_for_these_seeds() -> None:
    references = [f"the {animal} lives in the old barn" for animal in ("owl", "fox", "hen", "cow")] * 5
    near, far = [text.replace("old", "red") for text in references], ["nobody knows"] * 20
    control, arm = (
        {
            seed: Outcome({"bleu": overlap.score}, scores={"bleu": overlap.counts})
            for seed, overlap in enumerate([bleu(answers, references)] * 2)
        }
        for answers in (far, near)
    )
    found = verdict(Outcomes(control, {"noise": arm}), Question("bleu"))
    examples = found.arms["noise"].examples
    assert examples is not None
    assert examples.estimate == pytest.approx(bleu(near, references).score)
    assert "with these seeds" in found.text().lower()
    assert "20 examples" in found.text()


def test_the_bootstrap_is_seeded() -> None:
    outcomes = _answering(np.random.default_rng(0), 0.1, 0.0, 0.0)
    first, same = (verdict(outcomes, Question("rouge_l")).arms["noise"].examples for _ in range(2))
    assert first == same is not None


def test_the_effect_of_the_seed_is_a_floor() -> None:
    found = _judged([-0.1, -0.11, -0.09, -0.1, -0.12, -0.1])
    assert found.floors["another_seed"].size == pytest.approx(2**0.5 * np.std(SCATTER[:6], ddof=1))
    assert "within" in _keys(found)
    assert "within" not in _keys(_judged([-1.0, -1.1, -0.9, -1.0, -1.2, -1.0]))


def test_a_comparison_of_nothing_that_comes_out_as_something_is_reported() -> None:
    control, arms = _seeds(SCATTER), {"noise": _seeds(SCATTER)}
    shifted = _seeds([value + 0.1 + 0.01 * value for value in SCATTER])
    assert "closing.alarm" in _keys(verdict(Outcomes(control, arms, {"chaos": shifted}), Question()))
    quiet = _seeds([value + 0.001 * (-1) ** place for place, value in enumerate(SCATTER)])
    found = verdict(Outcomes(control, arms, {"chaos": quiet}), Question())
    assert found.floors["chaos"].size == pytest.approx(0.001)
    assert "closing.alarm" not in _keys(found)


def test_the_same_numbers_with_every_seed_ask_for_a_finer_measure() -> None:
    found = _judged([0.0] * 6)
    assert found.arms["noise"].status == "unclear"
    assert "next.same" in _keys(found)


def test_the_headline_names_a_number_of_seeds_only_for_arms_that_have_it() -> None:
    control = _seeds(SCATTER)
    arms = {"a": _seeds([value + 0.5 for value in SCATTER[:3]]), "b": _seeds([value + 0.1 for value in SCATTER[:4]])}
    found = verdict(Outcomes(control, arms), Question())
    assert {arm.status for arm in found.arms.values()} == {"illustration"}
    headline = found.opening[0].text()
    assert "3 seeds" in headline and headline.endswith("No result for b.")


def test_every_claim_and_reason_has_its_sentence() -> None:
    reasons = ("unclear", "unconfirmed", "incomplete", "illustration", "one_seed", "nothing")
    assert {*CLAIMS, *reasons, *(f"measure.{name}" for name in MEASURES)} <= set(SENTENCES)


def test_a_verdict_is_rendered_in_the_language_of_the_page_with_the_same_numbers() -> None:
    found = _judged([-0.1, -0.11, -0.09, -0.1, -0.12, -0.1])
    english = found.text()
    with in_language(CHINESE):
        chinese = found.text()
    assert chinese.count("\n") == english.count("\n") >= 3
    assert "held-out" in english
    assert "held-out" not in chinese
    assert re.findall(r"[+-]?\d+\.\d+", chinese) == re.findall(r"[+-]?\d+\.\d+", english)


def test_a_question_that_nothing_answers_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="no measure called 'beauty'"):
        Question("beauty")
    with pytest.raises(InvalidSetting, match="no epoch called 'first'"):
        Question("bleu", "first")
    with pytest.raises(InvalidSetting, match="no floor called 'luck'"):
        Outcomes({}, {}, {"luck": {}})


def test_examples_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(DataError, match="2 to 3 examples"):
        Outcome({}, scores={"rouge_l": np.zeros(3)}, lengths=np.zeros(2))
    runs = [{0: Outcome({"rouge_l": 0.5}, scores={"rouge_l": np.zeros(count)})} for count in (3, 4)]
    with pytest.raises(DataError, match="different numbers of examples"):
        verdict(Outcomes(runs[0], {"noise": runs[1]}), Question("rouge_l"))


@pytest.mark.parametrize(("examples", "is_resampled"), [(40_000, True), (200_001, False)])
def test_very_many_examples_are_resampled_less_often_or_not_at_all(examples: int, is_resampled: bool) -> None:
    runs = [{0: Outcome({"rouge_l": 0.5 + shift}, scores={"rouge_l": np.full(examples, shift)})} for shift in (0, 0.1)]
    found = verdict(Outcomes(runs[0], {"noise": runs[1]}), Question("rouge_l")).arms["noise"].examples
    assert (found is not None) == is_resampled


def test_an_early_stop_is_reported_with_its_steps_where_arms_are_compared() -> None:
    early = {"0": (1_200, 4_000), "1": (900, 4_000)}
    runs = _seeds([1 + scatter for scatter in SCATTER[:6]])
    text = verdict(Outcomes(runs, {"noise": runs}, early=early), Question()).text()
    assert "ended training before its last planned step (seed and step: 0 (1,200/4,000), 1 (900/4,000))" in text
    lost = {seed: Outcome({}, diverged=True) for seed in runs}
    assert "Early stopping" not in verdict(Outcomes(runs, {"noise": lost}, early=early), Question()).text()


@pytest.mark.parametrize("seeds", [1, 3, 6])
@pytest.mark.parametrize("change", [0.0, 0.4])
def test_an_arm_begins_with_a_plain_sentence_and_its_terms_follow(seeds: int, change: float) -> None:
    found = _judged([change + scatter / 9 for scatter in SCATTER[:seeds]])
    first, *rest = (line.text() for line in found.arms["noise"].lines)
    assert not re.search(r"\d|interval|sign-flip|Holm|bootstrap", first)
    assert rest[0].startswith("In numbers: held-out loss is")
    if seeds > 2:
        assert rest[1].startswith("Over many seeds, the difference probably lies between")
        assert rest[2].startswith("If the arm had no effect")


def test_lists_have_the_result_in_a_few_words() -> None:
    brief = {
        change: _of_arms({"uniform-alpha-5": 0.0, "uniform-alpha-60": change}).brief.text() for change in (0.0, 0.4)
    }
    assert brief == {0.0: "no effect beyond chance (held-out loss)", 0.4: "worse with alpha 60 (held-out loss)"}
    both = _of_arms({"uniform-alpha-5": -0.3, "uniform-alpha-60": 0.4}).brief.text()
    assert both == "better with alpha 5 (held-out loss), worse with alpha 60 (held-out loss)"
    many = _of_arms({f"uniform-alpha-{strength}": 0.4 for strength in (50, 60, 70, 80)}).brief.text()
    assert many == "4 of 4 arms worse (held-out loss)"
    assert _judged([0.1] * 3).brief.text() == "not a result yet: too few seeds"
    assert _judged([0.1]).brief.text() == "not a result yet: a single seed"
