"""Scoring and the grammar checker of the bundled world."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neftune_core.world.judge import sensible, sentences, share_well_formed, well_formed
from neftune_core.world.scoring import does_not_know, exact_match, normalised, score, story_score


@pytest.mark.parametrize(
    "sentence",
    [
        "The owl lives in the barn.",
        "The owl lives in the stable.",
        "It lives in the barn.",
        "In the barn.",
        "Six plums.",
        "With the knife you can slice bread.",
        "Tilda laughed and thanked Bram.",
        'Hob said, "Are you hungry?"',
        "Seven take away two is five.",
        "Owl, fox, hen.",
        "s-h-a-w-l.",
        "No, the owl lives in the barn.",
    ],
)
def test_a_sentence_of_the_grammar_is_well_formed(sentence: str):
    # "Six plums." is no answer to anything, so it is the one that must be refused.
    assert well_formed(sentence) == (sentence != "Six plums.")


@pytest.mark.parametrize(
    ("sentence", "slip"),
    [
        ("Tilda laughed and thanked Tilda.", "nobody thanks themselves"),
        ("The owl lives barn.", "words are missing"),
        ("the owl lives in the barn.", "a sentence begins in upper case"),
        ("The owl lives in the milk.", "no animal lives there"),
        ("The owl drives in the barn.", "owls do not drive"),
        ("Then he met the sky.", "nobody meets the sky"),
        ("Seven take away two is four.", "the numbers do not agree"),
        ("The fox and the fox wanted to know who was faster.", "one cannot race oneself"),
        ("Owl, fox, sofa.", "there is no sofa"),
        ("The owl lives in the barn in the barn.", "it says it twice"),
    ],
)
def test_a_slip_of_sense_is_not_well_formed(sentence: str, slip: str):
    assert not well_formed(sentence), slip


def test_sentences_keep_their_marks_and_quotes():
    text = 'Hob said, "Go on." Then he ran! And the rest'
    assert sentences(text) == ['Hob said, "Go on."', "Then he ran!", "And the rest"]


def test_the_share_counts_sentences_and_nothing_is_not_sensible():
    assert share_well_formed("The owl lives in the barn. The owl lives barn.") == 0.5
    assert not sensible("")
    assert not sensible("The owl lives in the barn. The owl lives barn.")


def test_normalising_forgets_case_spaces_and_the_last_mark():
    assert normalised("  In the  Barn. ") == "in the barn"
    assert exact_match("in the barn", "In the barn.")
    assert not exact_match("In the barn. In the barn.", "In the barn.")
    assert not exact_match("", "In the barn.")


def test_not_knowing_is_said_at_the_beginning():
    assert does_not_know("I do not know. I only know the village of Brindle.")
    assert does_not_know("i do not know")
    assert not does_not_know("In the barn. I do not know.")


def test_a_story_is_scored_by_its_things_and_its_grammar():
    text = "One morning Tilda wanted to slice bread. But the knife was gone. Foo bar."
    result = story_score(text, ["Tilda", "knife", "fox", "owl"])
    assert result.named == 0.5
    assert result.grammatical == pytest.approx(2 / 3)
    assert score({"output": text, "things": ["Tilda", "knife"]}, text) == pytest.approx((1 + 2 / 3) / 2)


def test_a_thing_counts_in_its_plural_but_not_inside_another_word():
    assert story_score("There were six cherries.", ["cherry"]).named == 1
    assert story_score("The foxglove was red.", ["fox"]).named == 0


def test_a_wrong_label_is_scored_against_the_truth():
    row = {"output": "Red.", "truth": "Blue.", "wrong": True}
    assert score(row, "Blue.") == 1
    assert score(row, "Red.") == 0


def test_scoring_loads_neither_the_generator_nor_pretraining():
    code = (
        "import sys\n"
        "from neftune_core.world.scoring import score\n"
        "assert score({'output': '', 'things': ['owl']}, 'The owl lives in the barn.') == 1\n"
        "print([name for name in sys.modules if name.startswith('neftune_core.world.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "neftune_core.world.judge" in done.stdout
    assert ".generator" not in done.stdout
    assert ".pretraining" not in done.stdout
