"""Comparing arms of several records: names, conversations, files and votes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import neftune_here

from neftune_core.data.examples import Message
from neftune_core.errors import DataError, DoesNotFit, InvalidSetting, RecordError
from neftune_core.evaluation.settings import AnswerSettings, DecodingSettings
from neftune_core.evaluation.text_measures import with_measures
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.studies.comparison import (
    BASE,
    SelectedArm,
    compare_arms,
    comparison_request,
    names_of,
    selected_arms,
)
from neftune_core.studies.prompts import Prompt, as_csv, continued_with, read_prompts
from neftune_core.studies.records.log import as_jsonl
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.studies.study import run_study
from neftune_core.studies.trained.comparison_session import first_columns, offered_columns
from neftune_core.studies.votes import BOTH_BAD, TIE, store_vote, tally, tally_text, votes

SHORT = DecodingSettings(new_tokens=8)
BARN = Prompt((Message("user", "Who lives in the barn?"),))


def _study(rank: int) -> StudySettings:
    training = EXAMPLE.training.model_copy(update={"epochs": 1, "lora_rank": rank, "learning_rate": 5e-3})
    data = EXAMPLE.data.model_copy(update={"rows": 8})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 0, "robustness": False})
    return EXAMPLE.model_copy(update={"data": data, "training": training, "measuring": measuring})


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Return two studies of one base model with adapters of different ranks."""
    home = tmp_path_factory.mktemp("home") / "runs"
    found = []
    for rank in (4, 8):
        record = create(_study(rank), "", folder=home)
        *_, ending = run_study(record, Limits(), lambda: False)
        assert ending["event"] == "finished", ending
        found.append(record)
    return found


def _last(chosen: list[SelectedArm], prompts: list[Prompt], settings: DecodingSettings = SHORT) -> list[dict[str, Any]]:
    *_, lines = compare_arms(chosen, prompts, settings, Limits())
    return lines


def test_arms_of_two_records_answer_together_as_each_does_alone(records: list[Record]) -> None:
    both = selected_arms(records)
    lines = _last(both, [BARN])
    names = list(lines[0]["arms"])
    assert names == [BASE, *names_of(both)]
    assert len(set(names)) == 5
    assert names[1] == f"{records[0].id}/control"
    for record in records:
        asked = AnswerSettings(prompts=(BARN.text,), new_tokens=8)
        *_, alone = compare_arms(*comparison_request(record, asked), asked, Limits())
        for name, answer in alone[0]["arms"].items():
            assert lines[0]["arms"][name if name == BASE else f"{record.id}/{name}"] == answer


def test_arms_and_seeds_can_be_named_and_a_missing_one_is_reported(records: list[Record]) -> None:
    assert [one.arm for one in selected_arms(records[:1], arms=["control"], seeds=[0])] == ["control"]
    with pytest.raises(RecordError, match=r"no trained arm 'nobody' here\. Trained arms: control, "):
        selected_arms(records, arms=["nobody"])
    with pytest.raises(RecordError, match="Seed 7"):
        selected_arms(records, seeds=[7])


def test_the_columns_before_any_choice_are_those_of_the_first_study_that_the_tab_offers(records: list[Record]) -> None:
    _, offered = offered_columns(records[0], EXAMPLE.seed, records, lambda record: "")
    assert first_columns(records) == offered != []
    assert first_columns([]) == []


def test_records_of_different_bases_are_refused_with_both_named(records: list[Record], tmp_path: Path) -> None:
    other = create(_study(4), "", folder=tmp_path)
    about = {**records[0].about_table("model"), "fingerprint": "another", "name": "Another"}
    other.update_about(model=about)
    chosen = [*selected_arms(records[:1]), SelectedArm(other, "control", 0)]
    with pytest.raises(RecordError, match=r"different base models .*Another"):
        _last(chosen, [BARN])


def test_every_arm_continues_with_its_own_answers(records: list[Record]) -> None:
    chosen = selected_arms(records[:1])
    first = _last(chosen, [BARN])[0]
    said = {name: answer["text"] for name, answer in first["arms"].items()}
    second = continued_with(BARN, said, "Why?")
    assert second.of("control")[1] == Message("assistant", said["control"])
    lines = _last(chosen, [second])
    for name in said:
        alone = Prompt((*BARN.messages, Message("assistant", said[name]), Message("user", "Why?")))
        assert _last(chosen, [alone])[0]["arms"][name] == lines[0]["arms"][name]


def test_drawn_answers_are_numbered_and_counted_by_the_limit(records: list[Record]) -> None:
    drawn = DecodingSettings(new_tokens=6, temperature=1.0, samples=3)
    lines = _last(selected_arms(records[:1]), [BARN, BARN], drawn)
    assert [line["sample"] for line in lines] == [1, 2, 3, 1, 2, 3]
    assert lines[0]["arms"] == lines[3]["arms"]  # the same prompt and number: the same draws
    with pytest.raises(DoesNotFit, match="at most 2"):
        list(compare_arms(selected_arms(records[:1]), [BARN], drawn, Limits(prompts=2)))


def test_a_study_keeps_its_decoding_through_toml() -> None:
    study = EXAMPLE.model_copy(update={"answers": AnswerSettings(temperature=0.7, samples=2, prompts=("Hello?",))})
    assert from_toml(StudySettings, to_toml(study)) == study


def test_prompts_are_texts_conversations_or_objects(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows = ["one", turns, {"prompt": "two", "reference": "three"}, {"messages": turns}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    one, talk, two, again = read_prompts(file, Limits())
    assert (one.text, talk.text, two.reference, again.messages) == ("one", "c", "three", talk.messages)
    for bad, words in ((turns[:2], "last one"), ([{"role": "cat", "content": "x"}], "role"), (3, "Line 1")):
        file.write_text(json.dumps(bad), encoding="utf-8")
        with pytest.raises(DataError, match=words):
            read_prompts(file, Limits())


LINE = {
    "prompt": "=1+1",
    "reference": "the owl lives in the barn",
    "arms": {
        "base": {"text": "the owl lives in a tree", "tokens": 6, "ended": "stop"},
        "@arm": {"text": "+red, red\nred red", "tokens": 5, "ended": "limit"},
    },
}


def test_measures_of_an_answer_are_those_of_its_words() -> None:
    arms = with_measures(LINE)["arms"]
    assert arms["base"]["rouge_l"] == pytest.approx(2 / 3)  # four of six words in order on either side
    assert arms["base"]["repetition"] == 0
    assert arms["@arm"]["repetition"] == pytest.approx(2 / 3)  # three pairs, one of them new
    assert with_measures({**LINE, "reference": ""})["arms"]["base"]["rouge_l"] is None


def test_exports_hold_every_answer_and_no_cell_is_a_formula() -> None:
    line = with_measures(LINE)
    assert json.loads(as_jsonl([line])) == line
    rows = list(csv.DictReader(io.StringIO(as_csv([{**line, "vote": "base"}]))))
    assert [row["arm"] for row in rows] == ["base", "'@arm"]
    assert [row["text"] for row in rows] == ["the owl lives in a tree", "'+red, red\nred red"]
    assert {row["prompt"] for row in rows} == {"'=1+1"}
    assert {row["vote"] for row in rows} == {"base"}


def test_votes_stay_in_the_record_and_the_last_of_a_ballot_counts(records: list[Record]) -> None:
    pair = ("control", "uniform-alpha-5")
    store_vote(records[0], "1", pair, "control", LINE)
    store_vote(records[0], "1", pair, "uniform-alpha-5", LINE)
    store_vote(records[0], "2", pair[::-1], TIE, LINE)
    store_vote(records[0], "3", pair, BOTH_BAD, LINE)
    with pytest.raises(InvalidSetting, match="one of the two"):
        store_vote(records[0], "4", pair, "base", LINE)
    with (records[0].folder / "votes.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"vote": 3}\nnot json\n')
    again = tally(Record(records[0].folder), pair)
    assert (again.wins, again.ties, again.both_bad) == ((0, 1), 1, 1)
    assert [vote["prompt"] for vote in votes(records[0])] == ["=1+1"] * 3


def test_votes_cast_again_and_again_do_not_fill_the_disk(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neftune_core.studies.votes.MOST_BYTES", 5_000)
    kept = votes(records[1])
    with pytest.raises(DoesNotFit, match="maximum number of votes"):
        for _ in range(100):
            store_vote(records[1], "again", ("control", "uniform-alpha-5"), TIE, LINE)
    assert (records[1].folder / "votes.jsonl").stat().st_size < 7_000
    assert len(votes(records[1])) == len(kept) + 1


def test_the_tally_shows_the_exact_interval_and_claims_nothing_within_it(records: list[Record]) -> None:
    pair = ("a", "b")
    for number in range(10):
        store_vote(records[1], f"x{number}", pair, "a" if number < 8 else "b", LINE)
    share = tally(records[1], pair).share
    # Clopper and Pearson's interval of 8 in 10, as published tables have it
    assert (share.low, share.high) == pytest.approx((0.4439, 0.9748), abs=5e-5)
    assert "no clear preference" in tally_text(tally(records[1], pair))
    for number in range(10, 20):
        store_vote(records[1], f"x{number}", pair, "a", LINE)
    assert tally_text(tally(records[1], pair)).endswith("a was preferred.")


def test_the_command_compares_records_and_writes_a_file(records: list[Record], tmp_path: Path) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "out.csv"
    prompts.write_text('"Who lives in the barn?"\n{"prompt": "Why?", "reference": "because"}\n', encoding="utf-8")
    command = ["compare", *(record.folder for record in records), "--prompts", prompts]
    options = ["--json", "--out", out, "--new-tokens", "6", "--arms", "control", "--system", "Be brief."]
    done = neftune_here(*command, *options)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(lines[1]["arms"]) == ["base", *(f"{record.id}/control" for record in records)]
    assert lines[1]["arms"]["base"]["rouge_l"] is not None
    assert len(list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))) == 6
    refused = neftune_here(*command, "--out", "x.txt")
    words = "The file name x.txt must end in .jsonl or .csv: choose another one.\n"
    assert (refused.returncode, refused.stderr) == (1, words)
