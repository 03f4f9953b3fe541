"""Measures of answers, compared with published examples, sacrebleu, and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from neftune_core.errors import DataError
from neftune_core.evaluation.overlap import (
    bleu,
    bleu_score,
    chrf,
    chrf_score,
    common_run,
    common_subsequence,
    rouge_l,
    tokenizer_for,
    units,
)
from neftune_core.evaluation.text_measures import (
    Reply,
    against_references,
    distinct,
    memorisation,
    repetition,
    shape,
)

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)
TEXTS = st.lists(st.text("ab cd.", max_size=24), min_size=6, max_size=6)


def _replies(*texts: str, ended: str = "stop") -> list[Reply]:
    return [Reply(text, len(text.split()), ended) for text in texts]


# Lin 2004 (W04-1013), section 3.1: scores of candidates against one reference, with beta = 1.
@pytest.mark.parametrize(
    ("candidate", "score"),
    [("police kill the gunman", 0.75), ("the gunman kill police", 0.5), ("the gunman police killed", 0.5)],
)
def test_rouge_l_scores_the_published_candidates_as_published(candidate: str, score: float) -> None:
    assert rouge_l(units(candidate), units("police killed the gunman")) == score


def test_rouge_l_does_not_see_the_gaps_that_the_longest_run_sees() -> None:
    # Lin 2004, section 3.3: the two candidates on which ROUGE-L cannot decide.
    reference, whole, scattered = "ABCDEFG", "ABCDHIK", "AHBKCID"
    assert rouge_l(whole, reference) == rouge_l(scattered, reference) == pytest.approx(4 / 7)
    assert (common_run(whole, reference), common_run(scattered, reference)) == (4, 1)


@settings(max_examples=100, deadline=None)
@given(WORDS, WORDS)
def test_common_subsequences_and_runs_are_as_long_as_the_table_says(first: list[str], second: list[str]) -> None:
    subsequence = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    run = subsequence.copy()
    for row, left in enumerate(first, start=1):
        for column, right in enumerate(second, start=1):
            beside = max(subsequence[row - 1, column], subsequence[row, column - 1])
            subsequence[row, column] = subsequence[row - 1, column - 1] + 1 if left == right else beside
            run[row, column] = run[row - 1, column - 1] + 1 if left == right else 0
    assert common_subsequence(first, second) == subsequence[-1, -1]
    assert common_run(first, second) == run.max()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The owl's HOME, 2024!", ["the", "owl", "s", "home", "2024"]),
        ("猫在哪里？ In the barn。", ["猫", "在", "哪", "里", "in", "the", "barn"]),
        ("猫はどこ", ["猫", "は", "ど", "こ"]),
        ("고양이는 어디", ["고양이는", "어디"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Ｆｕｌｌ width", ["full", "width"]),
        ("?!", []),
    ],
)
def test_units_are_words_or_characters_where_a_script_has_no_spaces(text: str, expected: list[str]) -> None:
    assert units(text) == expected


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS)
def test_bleu_and_chrf_of_resampled_counts_are_sacrebleus_of_the_resampled_corpus(
    answers: list[str], references: list[str]
) -> None:
    places = [0, 0, 2, 3, 5, 5]
    drawn = [[texts[place] for place in places] for texts in (answers, references)]
    for measure, score, metric in (
        (bleu, bleu_score, BLEU(tokenize=tokenizer_for(references))),
        (chrf, chrf_score, CHRF()),
    ):
        sums = measure(answers, references).counts[places].sum(0)
        expected = metric.corpus_score(drawn[0], [drawn[1]]).score
        assert float(score(sums)) == pytest.approx(expected, abs=1e-9)


def test_the_signature_says_how_bleu_was_taken() -> None:
    found = bleu(["the owl lives in the barn"], ["the owl lives in a barn"])
    assert "tok:13a" in found.signature
    assert "smooth:exp" in found.signature


def test_chinese_is_cut_into_characters_for_bleu() -> None:
    reference, answer = "猫头鹰住在谷仓里。", "猫头鹰住在房子里。"
    found = bleu([answer], [reference])
    assert "tok:zh" in found.signature
    assert found.score == pytest.approx(BLEU(tokenize="zh").corpus_score([answer], [[reference]]).score)
    assert found.score > 0  # uncut, the only word is wrong
    assert tokenizer_for(["フクロウは納屋に住んでいます"]) == "char"
    assert tokenizer_for(["the barn, 谷仓"]) == "13a"


def test_every_measure_has_its_examples_and_the_mean_of_them() -> None:
    replies = _replies("the owl lives in the barn", "no idea at all")
    found = against_references(replies, ["the owl lives in the barn", "in the barn"])
    assert found.scores["rouge_l"].tolist() == [1, 0]
    assert found.values["rouge_l"] == 0.5
    assert found.scores["bleu"].shape == (2, 10)
    assert found.scores["chrf"].shape == (2, 18)
    assert set(found.signatures) == {"bleu", "chrf"}


def test_an_answer_learnt_by_heart_is_one_long_run() -> None:
    response = "the owl lives in the old barn"
    replies = _replies(response, "in the old days the owl was young")
    found = memorisation(replies, [response, response])
    assert found.scores["memorised_run"].tolist() == [7, 3]
    assert found.scores["memorised_run_share"].tolist() == pytest.approx([1, 3 / 7])
    assert found.scores["memorised_rouge_l"][0] == 1


def test_repetition_is_counted_in_beginnings_of_one_length_only() -> None:
    assert repetition("ababab", 6) == pytest.approx(3 / 5)  # ab ba ab ba ab: two of five are new
    assert repetition("abcdef" + "ababab", 6) == 0
    assert math.isnan(repetition("abab", 6))


def test_distinct_counts_over_all_answers() -> None:
    assert distinct(["abc", "abd"]) == 3 / 4
    assert math.isnan(distinct(["a"]))


def test_the_shape_of_answers_has_means_medians_and_the_stop_rate() -> None:
    replies = [*_replies("one two three four", "one two"), *_replies("one one one one one one", ended="limit")]
    found = shape(replies, prefix=4)
    assert found.values["tokens"] == 4
    assert found.values["median_tokens"] == 4
    assert found.values["median_characters"] == 18
    assert found.values["stop_rate"] == pytest.approx(2 / 3)
    assert found.values["repetition"] == pytest.approx((0 + 2 / 3) / 2)  # the answer of two is left out
    assert found.values["distinct"] == 4 / 6
    assert np.isnan(found.scores["repetition"]).tolist() == [False, True, False]


def test_repetition_goes_by_the_models_tokens_where_they_are_known() -> None:
    reply = Reply("one two three", 3, "stop", ids=(7, 7, 7))
    assert shape([reply], prefix=3).values["repetition"] == 0.5


def test_answers_that_do_not_fit_their_references_are_refused() -> None:
    with pytest.raises(DataError, match="1 answers but 2 references"):
        against_references(_replies("a"), ["a", "b"])
    with pytest.raises(DataError, match="no answers"):
        memorisation([], [])
    with pytest.raises(DataError, match="no answers"):
        shape([])


def test_answers_without_a_token_score_nothing_without_a_warning() -> None:
    assert bleu(["", ""], ["a barn owl", "the pond"]).score == 0
