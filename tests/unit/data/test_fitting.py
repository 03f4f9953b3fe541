"""Prompts longer than the context: what is removed, and what a study reports."""

from __future__ import annotations

import copy
import csv
import functools
import html
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_templates import tokenizer
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from neftune_core.commands.train import run_record
from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Message
from neftune_core.data.fitting import TokenLimits, fitted_prompt, token_limits
from neftune_core.data.preparing import prepare
from neftune_core.errors import DoesNotFit, LabError
from neftune_core.evaluation.settings import CUT, AnswerSettings
from neftune_core.export.report import report
from neftune_core.home import home
from neftune_core.models.estimates import estimate
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.studies.comparison import compare_arms, selected_arms
from neftune_core.studies.planning import workload_of
from neftune_core.studies.prompts import Prompt, as_csv, continued_with
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
    """Return the text of a prompt of at most `room` tokens, and whether it was cut."""
    found = fitted_prompt(messages, tokenizer("chatml"), TokenLimits(room, room + 30), **more)
    assert found is not None
    assert len(found.ids) <= (room if more.get("shorten", True) else room + 30)
    return tokenizer("chatml").decode(found.ids), found.cut


def length(messages: Any) -> int:
    return len(prompt_ids(messages, tokenizer("chatml")))


def test_a_prompt_that_fits_stays_as_it_is() -> None:
    found = fitted_prompt(TURNS, tokenizer("chatml"), TokenLimits(length(TURNS), 10_000))
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
    assert fitted_prompt(TURNS, tokenizer("chatml"), TokenLimits(5, 5)) is None


def test_a_prompt_of_a_system_prompt_alone_loses_its_beginning() -> None:
    text, cut = fitted((SYSTEM._replace(content="abc " * 90 + "the end"),), 60)
    assert (cut, "the end" in text) == (True, True)


def test_what_a_person_wrote_last_is_never_shortened() -> None:
    last = length((SYSTEM, TURNS[-1]))
    for room in (last, last - 10):
        text, cut = fitted((SYSTEM, *TURNS), room, shorten=False)
        assert (cut, "user 3" in text, "Be brief." in text) == (True, True, True)
    assert fitted_prompt((SYSTEM, *TURNS), tokenizer("chatml"), TokenLimits(last - 40, last - 1), shorten=False) is None


def with_tools() -> Any:
    """Return a tokenizer whose template supports tools, tool calls and tool replies."""
    made = copy.deepcopy(tokenizer("chatml"))
    made.chat_template = (
        "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for turn in messages %}"
        "<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}"
        "{% for call in turn['tool_calls'] or [] %}{{ call['function'] | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return made


TOOLS = ("tools", json.dumps([{"type": "function", "function": {"name": "weather"}}]))
CALL = Message("assistant", "", fields=(("tool_calls", json.dumps([{"function": {"name": "look", "arguments": {}}}])),))


@pytest.mark.parametrize("first", [(), (SYSTEM,)], ids=["on the user's message", "on the system prompt"])
def test_the_list_of_tools_survives_what_is_left_out(first: tuple[Message, ...]) -> None:
    made, (head, *rest) = with_tools(), (*first, *TURNS)
    messages = (head._replace(fields=(TOOLS,)), *rest)
    whole = len(prompt_ids(messages, made))
    for room in (whole - 1, len(prompt_ids((messages[0], TURNS[-1]), made)) - 20):
        found = fitted_prompt(messages, made, TokenLimits(room, room))
        assert found is not None
        assert found.cut
        text = made.decode(found.ids)
        assert (text.count('"weather"'), "user 0" in text) == (1, False)


def test_a_message_loses_its_beginning_and_the_calls_of_tools_after_it_stay() -> None:
    messages = (Message("user", "abc " * 60 + "the end"), CALL, Message("tool", "12 degrees"))
    made = with_tools()
    room = len(prompt_ids(messages, made)) - 40
    found = fitted_prompt(messages, made, TokenLimits(room, room))
    assert found is not None
    text = made.decode(found.ids)
    assert [text.count(words) for words in ("the end", '"look"', "12 degrees")] == [1, 1, 1]
    assert len(found.ids) <= room
    assert fitted_prompt((*messages[:2], Message("tool", "12 " * 200)), made, TokenLimits(room, room)) is None


def test_a_prompt_leaves_room_for_the_answer_that_may_be_written() -> None:
    assert token_limits(1024, 96, encoder_decoder=False) == TokenLimits(928, 1023)
    assert token_limits(100, 96, encoder_decoder=False) == TokenLimits(50, 99)
    assert token_limits(100, 96, encoder_decoder=True) == TokenLimits(100, 100)


@functools.cache
def _small_model() -> str:
    """Save a model of one narrow layer with the stand-in's tokenizer and context; return its folder."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=standin.CONTEXT,
    )
    folder = home() / "small"
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(standin.standin()).save_pretrained(folder)
    return str(folder)


def study(**changes: Any) -> StudySettings:
    """Return a study of two steps on conversations longer than the model's context."""
    data = EXAMPLE.data.model_copy(
        update={"source": f"file:{CASES / 'long_turns.jsonl'}", "held_out_share": 0.3, "maximum_length": 1024}
    )
    training = EXAMPLE.training.model_copy(update={"steps": 1, "batch_size": 1, "evaluations": 1})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 2, "new_tokens": 8, "robustness": False})
    answers = AnswerSettings(new_tokens=8, **changes)
    model = ModelSettings(source=_small_model(), precision="float32")
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
    notes = [note for note in started["data"]["report"]["notes"] if "do not fit in the model's context" in note]
    assert len(notes) == 1
    assert ": 12 were cut from the left, and 0 were left out." in notes[0], (
        "of 8 training and 4 held-out rows, each counted once"
    )
    assert any(line.get("cut") for line in record.answers())


def test_files_and_reports_say_which_prompts_were_cut(record: Record) -> None:
    count = sum("cut" in line for line in record.answers())
    assert report(record).count(html.escape(CUT)) == count > 0
    table = list(csv.DictReader(io.StringIO(as_csv(record.answers()))))
    assert {row["cut"] for row in table} == {"True"}


def test_the_memory_of_long_prompts_is_counted(record: Record) -> None:
    loaded = load(record.study.model)
    prepared = prepare(record.study.data.within(loaded.context), loaded.tokenizer, Limits())
    long = Message("user", "word " * 300)
    tokens = len(prompt_ids([long], loaded.tokenizer)) + 8
    usual, asked = (workload_of(one, prepared, loaded) for one in (study(), study(prompts=(long.content, "Hi"))))
    assert asked.answered == 3 * 2 * tokens > usual.answered > 0, "two prompts, padded, of the base and two arms"
    few, many = (estimate(loaded, replace(usual, answered=count), record.study.model) for count in (0, 1_000_000))
    assert many.memory_bytes > few.memory_bytes


def test_an_own_prompt_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    record = create(study(prompts=("Why? " * 3000,)), "", folder=tmp_path / "runs")
    events = list(run_study(record, Limits(), lambda: False))
    assert [event["event"] for event in events] == ["failed"]
    assert "longer than the maximum of 1,023 tokens for this model: shorten it." in events[0]["message"]


def test_the_command_leaves_no_record_of_a_study_whose_own_prompt_does_not_fit(tmp_path: Path) -> None:
    record = create(study(prompts=("Why? " * 3000,)), "", folder=tmp_path / "runs")
    with pytest.raises(LabError, match=r"shorten it\."):
        run_record(record, Limits())
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_conversation_that_grew_too_long_loses_its_earliest_turns(record: Record) -> None:
    chosen, settings = selected_arms([record]), AnswerSettings(new_tokens=4)
    told = dict.fromkeys(("base", *(one.arm for one in chosen)), "word " * 990)
    grown = continued_with(Prompt((Message("user", "Hello"),)), told, "And then?")
    *_, lines = compare_arms(chosen, [grown, Prompt((Message("user", "Hi"),))], settings, Limits())
    assert [line.get("cut", False) for line in lines] == [True, False]
    typed = Prompt((Message("user", "word " * 1100),))
    with pytest.raises(DoesNotFit, match="shorten it"):
        list(compare_arms(chosen, [typed], settings, Limits()))


def test_the_whole_prompt_of_a_row_with_one_reply_is_not_made_again(tmp_path: Path) -> None:
    from neftune_core.studies.prompts import fit_rows

    loaded = load(ModelSettings())
    prepared = prepare(EXAMPLE.data.within(loaded.context), loaded.tokenizer, Limits())
    found = fit_rows(prepared.train[:20], loaded, 16)
    expected = [prompt_ids(row.example.prompt, loaded.tokenizer) for row in prepared.train[:20]]
    assert [one.ids for one in found if one] == expected
