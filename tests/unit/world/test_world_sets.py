"""The instruction sets of the bundled world: disjoint combinations, and answers that a model can give."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from neftune_core.home import assets
from neftune_core.world.generator import vocabulary
from neftune_core.world.generator.facts import FACTS
from neftune_core.world.generator.sets import SETS, WRONG_SHARE, as_lines, instruction_set, write
from neftune_core.world.generator.text import documents
from neftune_core.world.judge import sensible
from neftune_core.world.scoring import score

OFTEN_PER_MILLION = 5


def combination(row: dict) -> tuple:
    """Return the topic and wording of a row, the pair by which the parts must differ."""
    if "things" in row:
        return tuple(sorted(row["things"]))
    return (row.get("relation", row.get("skill")), row["about"], row["wording"])


@pytest.mark.parametrize("name", list(SETS))
def test_no_held_out_combination_occurs_in_training(name: str):
    train, held_out = instruction_set(name)
    trained = {combination(row) for row in train}
    assert len(trained) == len(train)
    assert [row for row in held_out if combination(row) in trained] == []


@pytest.mark.parametrize("name", list(SETS))
def test_no_held_out_prompt_occurs_in_training(name: str):
    train, held_out = instruction_set(name)
    prompts = {(row["instruction"], row["input"]) for row in train}
    assert [row for row in held_out if (row["instruction"], row["input"]) in prompts] == []


@pytest.mark.parametrize("name", list(SETS))
def test_the_parts_have_the_promised_numbers_of_rows(name: str):
    train, held_out = instruction_set(name)
    assert 120 <= len(train) <= 400
    assert len(held_out) >= 200


@pytest.mark.parametrize("name", list(SETS))
def test_the_shipped_files_are_what_the_code_makes(name: str):
    for part, rows in zip(("train", "held-out"), instruction_set(name), strict=True):
        file = assets() / "world" / f"{name}-{part}.jsonl"
        assert file.read_text(encoding="utf-8") == as_lines(rows)


def test_writing_gives_two_files_per_set(tmp_path):
    files = write(tmp_path / "new")
    assert len(files) == 2 * len(SETS)
    assert all(json.loads(line)["instruction"] for file in files for line in file.read_text().splitlines())


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.train()


@pytest.fixture(scope="module")
def occurrences(tokenizer) -> tuple[Counter, int]:
    encoded = tokenizer.encode_batch(list(documents(8)), add_special_tokens=False)
    counts = Counter(number for entry in encoded for number in entry.ids)
    return counts, sum(counts.values())


@pytest.mark.parametrize("name", list(SETS))
def test_answers_use_only_pieces_that_pretraining_met_often(name: str, tokenizer, occurrences):
    counts, total = occurrences
    rare = []
    for rows in instruction_set(name):
        for row in rows:
            for number in tokenizer.encode(row["output"], add_special_tokens=False).ids:
                if counts[number] * 1e6 / total < OFTEN_PER_MILLION:
                    rare.append(tokenizer.id_to_token(number))
    assert sorted(set(rare)) == []


def test_every_word_and_letter_of_the_vocabulary_is_met(tokenizer, occurrences):
    counts, _ = occurrences
    words = [number for piece, number in tokenizer.get_vocab().items() if piece.strip(vocabulary.SPACE).isalnum()]
    assert len(words) > 1_700
    assert [tokenizer.id_to_token(number) for number in words if counts[number] == 0] == []


def test_the_new_format_never_occurs_in_the_text():
    ends = {f" = {row['about']}" for rows in instruction_set("format") for row in rows}
    outputs = [row["output"] for rows in instruction_set("format") for row in rows]
    text = "\n".join(documents(2))
    assert all(any(output.endswith(f"{end}.") for end in ends) for output in outputs)
    assert [end for end in sorted(ends) if end in text] == []


def test_a_fifth_of_the_noisy_answers_is_wrong_and_marked():
    train, held_out = instruction_set("noisy")
    truth = {
        fact.ask(wording): fact.answer() for fact in FACTS for wording in (*fact.relation.asks, *fact.relation.held)
    }
    wrong = [row for row in train if row["wrong"]]
    assert len(wrong) == round(WRONG_SHARE * len(train))
    for row in train:
        assert (row["output"] != truth[row["instruction"]]) == row["wrong"]
        assert score(row, truth[row["instruction"]]) == 1
    assert not any(row["wrong"] for row in held_out)


def test_the_right_answers_score_fully_in_every_set():
    for name in SETS:
        for rows in instruction_set(name):
            wrong = [row for row in rows if score(row, row.get("truth", row["output"])) < 1]
            assert wrong == [], name


def test_all_answers_but_the_new_format_are_sensible_english():
    for name in SETS:
        if name != "format":
            for rows in instruction_set(name):
                assert [row["output"] for row in rows if not sensible(row["output"])] == [], name


def test_the_stated_set_holds_out_facts_and_wordings():
    _, held_out = instruction_set("stated")
    other_facts = [row for row in held_out if not row["trained_fact"]]
    assert 100 <= len(other_facts) <= 160
