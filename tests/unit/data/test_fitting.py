"""Prompts that are longer than the model can read: what is left out of them, and what a study says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_templates import tokenizer

from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Message
from neftune_core.data.fitting import Room, fitted_prompt, room_for
from neftune_core.data.preparing import prepare
from neftune_core.errors import DoesNotFit
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.catalogue import estimate
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.studies.comparison import chosen_arms, compare_arms
from neftune_core.studies.planning import work_of
from neftune_core.studies.prompts import Prompt, further
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.studies.study import run_study
from tests import standin

CASES = Path(__file__).parents[2] / "cases"
SYSTEM = Message("system", "Be brief.")
TURNS = tuple(
    Message(role, f"{role} {number} " + "says a word " * 5) for number in range(4) for role in ("user", "assistant")
)[:-1]


def fitted(messages: Any, room: int, **more: Any) -> tuple[str, bool]:
    """The text of a prompt of at most `room` tokens, and whether it was cut."""
    found = fitted_prompt(messages, tokenizer("chatml"), Room(room, room + 30), **more)
    assert found is not None
    assert len(found.ids) <= room or not more.get("shorten", True)
    return tokenizer("chatml").decode(found.ids), found.cut


def length(messages: Any) -> int:
    return len(prompt_ids(messages, tokenizer("chatml")))


def test_a_prompt_that_fits_stays_as_it_is() -> None:
    found = fitted_prompt(TURNS, tokenizer("chatml"), Room(length(TURNS), 10_000))
    assert found is not None
    assert (found.ids, found.cut) == (prompt_ids(TURNS, tokenizer("chatml")), False)


def test_the_earliest_turns_go_first_and_the_system_prompt_stays() -> None:
    text, cut = fitted((SYSTEM, *TURNS), length((SYSTEM, *TURNS)) - 1)
    assert cut
    assert "Be brief." in text
    assert "user 0" not in text
    assert "assistant 0" not in text, "what is left begins with the user"
    assert "user 1" in text
    text, _ = fitted((SYSTEM, *TURNS), length((SYSTEM, TURNS[-1])))
    assert ("user 3" in text, "user 2" in text, "Be brief." in text) == (True, False, True)


def test_then_the_last_message_loses_its_beginning_and_then_the_system_prompt_goes() -> None:
    asked = (SYSTEM, Message("user", "abc " * 40 + "the end 你好🙂"))
    room = length((SYSTEM, Message("user", ""))) + 30
    text, cut = fitted(asked, room)
    assert cut
    assert "Be brief." in text
    assert "\ufffd" not in text
    assert text.endswith("the end 你好🙂<|im_end|>\n<|im_start|>assistant\n")
    for smaller in range(length((Message("user", "🙂"),)), room):
        text, _ = fitted(asked, smaller)
        assert text.endswith("🙂<|im_end|>\n<|im_start|>assistant\n")


def test_a_prompt_of_which_nothing_fits_is_left_out() -> None:
    assert fitted_prompt(TURNS, tokenizer("chatml"), Room(5, 5)) is None


def test_what_a_person_wrote_last_is_never_shortened() -> None:
    last = length((SYSTEM, TURNS[-1]))
    for room in (last, last - 10):
        text, cut = fitted((SYSTEM, *TURNS), room, shorten=False)
        assert (cut, "user 3" in text, "Be brief." in text) == (True, True, True)
    assert fitted_prompt((SYSTEM, *TURNS), tokenizer("chatml"), Room(last - 40, last - 1), shorten=False) is None


def test_a_prompt_leaves_room_for_the_answer_that_may_be_written() -> None:
    assert room_for(1024, 96, encoder_decoder=False) == Room(928, 1023)
    assert room_for(100, 96, encoder_decoder=False) == Room(50, 99)
    assert room_for(100, 96, encoder_decoder=True) == Room(100, 100)


def study(**changes: Any) -> StudySettings:
    """Two steps on the long conversations, for which the stand-in's context is too short."""
    data = EXAMPLE.data.model_copy(
        update={"source": f"file:{CASES / 'long_turns.jsonl'}", "held_out_share": 0.3, "maximum_length": 1024}
    )
    training = EXAMPLE.training.model_copy(update={"steps": 1, "batch_size": 1, "evaluations": 1})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 8, "new_tokens": 8, "robustness": False})
    answers = AnswerSettings(new_tokens=8, **changes)
    model = ModelSettings(source=str(standin.standin()), precision="float32")
    parts = {"data": data, "training": training, "measuring": measuring, "answers": answers, "model": model}
    return EXAMPLE.model_copy(update=parts)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    record = create(study(), "", folder=tmp_path_factory.mktemp("home") / "runs")
    *_, ending = run_study(record, Limits(), lambda: False)
    assert ending["event"] == "finished", ending
    return record


def test_a_study_on_long_conversations_ends_finished_and_counts_what_it_cut(record: Record) -> None:
    started = next(event for event in record.events() if event["event"] == "started")
    notes = [note for note in started["data"]["report"]["notes"] if "longer than the model can read" in note]
    assert len(notes) == 1
    assert int(notes[0].split(" cut")[0].rpartition(" ")[2]) > 0
    assert any(line.get("cut") for line in record.answers())


def test_the_memory_of_long_prompts_is_counted(record: Record) -> None:
    loaded = load(record.study.model)
    prepared = prepare(record.study.data.within(loaded.context), loaded.tokenizer, Limits())
    long = Message("user", "word " * 300)
    tokens = len(prompt_ids([long], loaded.tokenizer)) + 8
    usual, asked = (work_of(one, prepared, loaded) for one in (study(), study(prompts=(long.content, "Hi"))))
    assert asked.answered == 3 * 2 * tokens > usual.answered > 0, "two prompts, padded, of the base and two arms"
    few, many = (estimate(loaded, replace(usual, answered=count), record.study.model) for count in (0, 1_000_000))
    assert many.memory_bytes > few.memory_bytes


def test_an_own_prompt_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    record = create(study(prompts=("Why? " * 3000,)), "", folder=tmp_path / "runs")
    events = list(run_study(record, Limits(), lambda: False))
    assert [event["event"] for event in events] == ["failed"]
    assert "longer than the 1,023 tokens that this model can read before an answer: shorten it." in events[0]["message"]


def test_a_conversation_that_grew_too_long_loses_its_earliest_turns(record: Record) -> None:
    chosen, settings = chosen_arms([record]), AnswerSettings(new_tokens=4)
    told = dict.fromkeys(("base", *(one.arm for one in chosen)), "word " * 990)
    grown = further(Prompt((Message("user", "Hello"),)), told, "And then?")
    *_, lines = compare_arms(chosen, [grown, Prompt((Message("user", "Hi"),))], settings, Limits())
    assert [line.get("cut", False) for line in lines] == [True, False]
    typed = Prompt((Message("user", "word " * 1100),))
    with pytest.raises(DoesNotFit, match="shorten it"):
        list(compare_arms(chosen, [typed], settings, Limits()))


def test_the_whole_prompt_of_a_row_with_one_reply_is_not_made_anew(tmp_path: Path) -> None:
    from neftune_core.studies.prompts import fitted_rows

    loaded = load(ModelSettings())
    prepared = prepare(EXAMPLE.data.within(loaded.context), loaded.tokenizer, Limits())
    found = fitted_rows(prepared.train[:20], loaded, 16)
    expected = [prompt_ids(row.example.prompt, loaded.tokenizer) for row in prepared.train[:20]]
    assert [one.ids for one in found if one] == expected
