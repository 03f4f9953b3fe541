"""The split, duplicates, and the counts during tokenisation."""

import gc
import json
from copy import copy

import pytest
from chat_templates import TEMPLATES, tokenizer

from neftune_core.data import preparing
from neftune_core.data.chat import encode, prompt_ids
from neftune_core.data.examples import CutRow, Duplicate, Example, Message
from neftune_core.data.preparing import prepare, split
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError
from neftune_core.settings import Limits


def example(number, prompt=None, response=None):
    question = Message("user", prompt or f"Question {number}")
    return Example((question, Message("assistant", response or f"Answer {number}")), number)


ROWS = [example(number) for number in range(1, 101)]


def rows_of(part):
    return [row.row for row in part]


def written(path, pairs):
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in pairs]
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"file:{path}"


def numbered(count, start=0):
    return [(f"What is {number}?", f"It is {number}.") for number in range(start, start + count)]


def test_the_split_is_whole_and_in_order():
    train, held_out, removed = split(ROWS, DataSettings(held_out_share=0.2))
    assert sorted(rows_of(train) + rows_of(held_out)) == rows_of(ROWS)
    assert (len(held_out), removed) == (20, [])
    assert rows_of(train) == sorted(rows_of(train))
    assert rows_of(held_out) == sorted(rows_of(held_out))


def test_the_split_depends_on_its_seed_and_nothing_else():
    chosen = DataSettings(split_seed=3)
    first = rows_of(split(ROWS, chosen)[1])
    renamed = [example(row.row, f"Other {row.row}") for row in ROWS]
    assert rows_of(split(renamed, chosen.model_copy(update={"system": "x", "maximum_length": 64}))[1]) == first
    assert rows_of(split(ROWS, DataSettings(split_seed=4))[1]) != first


def test_the_split_of_a_seed_stays_what_it_was():
    # Written down once: studies that name their split seed must find the same rows again.
    assert rows_of(split(ROWS[:10], DataSettings(held_out_share=0.3, split_seed=0))[1]) == [1, 7, 9]


def test_a_share_of_nothing_holds_nothing_out():
    train, held_out, _ = split(ROWS, DataSettings(held_out_share=0))
    assert (len(train), held_out) == (100, [])


def test_a_small_share_holds_at_least_one_row_out():
    assert len(split(ROWS[:4], DataSettings(held_out_share=0.05))[1]) == 1


def test_rows_of_one_prompt_never_make_the_held_out_part_larger_than_its_share():
    rows = [example(number, f"Question {(number + 2) // 3}") for number in range(1, 31)]  # three answers to each
    sizes = {len(split(rows, DataSettings(held_out_share=0.15, split_seed=seed))[1]) for seed in range(20)}
    assert sizes == {3}  # the share is four rows, and the second prompt would make it six


def test_rows_that_say_the_same_count_once():
    copies = [example(200, "Question 1", "Answer 1"), example(201, "Question 2", "Answer 2")]
    train, held_out, removed = split([*ROWS, *copies], DataSettings())
    assert removed == [Duplicate(200, 1), Duplicate(201, 2)]
    assert {200, 201}.isdisjoint(rows_of(train) + rows_of(held_out))


def test_rows_that_differ_in_case_or_spacing_are_different_rows():
    near = [example(200, "question 1", "Answer 1"), example(201, "Question  2", "Answer 2")]
    train, held_out, removed = split([*ROWS, *near], DataSettings())
    assert (len(train) + len(held_out), removed) == (102, [])


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_rows_with_one_prompt_stay_on_one_side(share):
    twins = [example(100 + row.row, row.prompt[0].content, "Another answer") for row in ROWS]
    train, held_out, removed = split([*ROWS, *twins], DataSettings(held_out_share=share))
    assert (len(train), len(held_out), removed) == (round(200 * (1 - share)), round(200 * share), [])
    assert {row.prompt for row in train}.isdisjoint(row.prompt for row in held_out)


def test_the_smallest_prompt_is_held_out_if_each_has_more_rows_than_the_share():
    rows = [example(number, f"Question {number % 3 or 3 if number < 9 else 1}") for number in range(1, 11)]
    train, held_out, _ = split(rows, DataSettings(held_out_share=0.1))
    assert len({row.prompt for row in held_out}) == 1
    assert (len(train), len(held_out)) == (8, 2)


def test_one_prompt_with_many_answers_is_trained_on_and_the_empty_part_is_noted(tmp_path):
    source = written(tmp_path / "rows.jsonl", [("Tell a tale.", f"Tale {number}.") for number in range(20)])
    prepared = prepare(DataSettings(source=source), tokenizer("chatml"), Limits())
    assert (len(prepared.train), len(prepared.held_out), prepared.duplicates) == (20, 0, ())
    assert any("No rows are held out" in note for note in prepared.notes)


def test_another_system_prompt_is_another_row_unless_it_is_the_one_of_the_settings():
    twin = Example((Message("system", "Be brief."), *ROWS[0].messages), 300)
    assert split([*ROWS, twin], DataSettings())[2] == []
    assert split([*ROWS, twin], DataSettings(system="Be brief."))[2] == [Duplicate(300, 1)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_prepared_rows_begin_with_the_prompt_of_answering(tmp_path, name):
    source = written(tmp_path / "rows.jsonl", numbered(10))
    prepared = prepare(DataSettings(source=source, system="Be brief."), tokenizer(name), Limits())
    assert (len(prepared.train), len(prepared.held_out), prepared.kept) == (8, 2, 10)
    for row in [*prepared.train, *prepared.held_out]:
        assert row.ids[: row.prompt_length].tolist() == prompt_ids(row.example.prompt, tokenizer(name))


def test_an_own_held_out_file_is_kept_clean(tmp_path):
    source = written(tmp_path / "rows.jsonl", numbered(10))
    own = written(tmp_path / "own.jsonl", [*numbered(3, start=8), ("Empty?", ""), ("What is 10?", "It is 10.")])
    chosen = DataSettings(source=source, held_out_source=own)
    prepared = prepare(chosen, tokenizer("chatml"), Limits())
    assert (len(prepared.train), len(prepared.held_out)) == (8, 3)
    assert prepared.duplicates == (
        Duplicate(9, 1, same_as_held_out=True),
        Duplicate(10, 2, same_as_held_out=True),
        Duplicate(5, 3, held_out=True, same_as_held_out=True),
    )
    assert [(refusal.row, refusal.reason) for refusal in prepared.refusals] == [
        (4, "in the held-out file: the answer is empty")
    ]
    alone = prepare(chosen.model_copy(update={"held_out_source": ""}), tokenizer("chatml"), Limits())
    assert prepared.sha256 != alone.sha256


def test_kept_cut_and_refused_rows_are_counted(tmp_path):
    pairs = [*numbered(10), ("Long answer?", "yes " * 200), ("long " * 200, "No."), ("Nothing?", "")]
    source = written(tmp_path / "rows.jsonl", pairs)
    prepared = prepare(DataSettings(source=source, maximum_length=96), tokenizer("chatml"), Limits())
    assert (prepared.kept, prepared.cut, prepared.refused) == (11, 1, 2)
    whole = prepare(DataSettings(source=source, maximum_length=1024), tokenizer("chatml"), Limits())
    longest = max(row.length for row in [*whole.train, *whole.held_out] if row.example.row == 11)
    assert prepared.cut_rows == (CutRow(11, longest - 96),)
    assert [refusal.row for refusal in prepared.refusals] == [12, 13]
    dropped = prepare(DataSettings(source=source, maximum_length=96, too_long="drop"), tokenizer("chatml"), Limits())
    assert (dropped.kept, dropped.cut, dropped.refused) == (10, 0, 3)
    assert (prepared.title, prepared.licence, prepared.reading.layout) == ("rows.jsonl", "your own file", "question")


def test_the_same_rows_are_held_out_for_every_model(tmp_path):
    source = written(tmp_path / "rows.jsonl", numbered(30))
    parts = [prepare(DataSettings(source=source), tokenizer(name), Limits()).held_out for name in TEMPLATES]
    assert len({tuple(row.example.row for row in part) for part in parts}) == 1


@pytest.mark.parametrize(
    ("pairs", "more", "words"),
    [
        (numbered(2), {}, "Only 1 row is left for training"),
        ([("Same?", "Yes")] * 5, {"held_out_share": 0}, "4 duplicates were left out"),
        (numbered(9), {"maximum_length": 16}, "9 rows were refused; row"),
    ],
)
def test_too_few_rows_get_a_sentence(tmp_path, pairs, more, words):
    source = written(tmp_path / "rows.jsonl", pairs)
    with pytest.raises(DataError, match=words):
        prepare(DataSettings(source=source, **more), tokenizer("chatml"), Limits())


def test_a_held_out_part_that_is_lost_gets_a_sentence(tmp_path):
    source = written(tmp_path / "rows.jsonl", numbered(9))
    own = written(tmp_path / "own.jsonl", [("long " * 200, "No.")])
    chosen = DataSettings(source=source, held_out_source=own, maximum_length=64)
    with pytest.raises(DataError, match="No held-out rows are left"):
        prepare(chosen, tokenizer("chatml"), Limits())


def test_no_held_out_part_is_needed_where_none_is_asked_for(tmp_path):
    source = written(tmp_path / "rows.jsonl", numbered(3))
    prepared = prepare(DataSettings(source=source, held_out_share=0), tokenizer("chatml"), Limits())
    assert (len(prepared.train), prepared.held_out) == (3, [])


def test_progress_is_reported_while_tokenising(tmp_path):
    source = written(tmp_path / "rows.jsonl", numbered(700))
    told = []
    prepare(DataSettings(source=source), tokenizer("chatml"), Limits(), progress=lambda *numbers: told.append(numbers))
    assert told == [(500, 2000), (500, 560)]


def test_rows_that_somebody_holds_are_tokenised_once(tmp_path, monkeypatch):
    source, counted = written(tmp_path / "rows.json", numbered(10)), []
    monkeypatch.setattr(preparing, "encode", lambda *given, **named: counted.append(1) or encode(*given, **named))
    own, others = tokenizer("chatml"), copy(tokenizer("chatml"))
    first = prepare(DataSettings(source=source), own, Limits())
    again = prepare(DataSettings(source=source), own, Limits())
    assert len(counted) == 10
    assert all(one is other for one, other in zip(first.train, again.train, strict=True))
    longer = prepare(DataSettings(source=source, maximum_length=128, system="Be brief."), own, Limits())
    prepare(DataSettings(source=source), others, Limits())
    assert len(counted) == 30
    assert longer.train[0].ids.tolist() != first.train[0].ids.tolist()
    written(tmp_path / "rows.json", [("What is 0?", "It is nothing."), *numbered(9, 1)])
    changed = prepare(DataSettings(source=source), own, Limits())
    assert len(counted) == 31  # the file is read again, and the row that changed is another one
    assert "It is nothing." in {row.example.response for row in (*changed.train, *changed.held_out)}
    del first, again, longer, changed
    gc.collect()
    prepare(DataSettings(source=source), own, Limits())
    assert len(counted) == 41
