"""Small files in common layouts: each is read as expected, or its rows are refused with a reason."""

from pathlib import Path

import pytest
from chat_templates import TEMPLATES, tokenizer, with_template

from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Refusal
from neftune_core.data.preparing import prepare, preview
from neftune_core.data.report import data_report
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import read
from neftune_core.settings import Limits

CASES = Path(__file__).parents[2] / "cases"
NO_CALLS = "it has tool calls, which this model's chat template does not support"

# In the manner of the templates that write calls as JSON between marks, and reasoning as a block before the reply.
CALLING = (
    "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %} {{ tool | tojson }}{% endfor %}<|im_end|>\n"
    "{% endif %}"
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n"
    "{% if turn.reasoning_content %}<think>\n{{ turn.reasoning_content }}\n</think>\n\n{% endif %}{{ turn.content }}"
    "{% for call in turn.tool_calls or [] %}{{ '\\n' }}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def reading_of(name):
    return read(DataSettings(source=f"file:{CASES / name}"), Limits(), require_rows=False)


def said(name):
    """Return the messages of each row as (role, content), by row number."""
    return {example.row: [message[:2] for message in example.messages] for example in reading_of(name).examples}


def prepared_of(name, template="chatml", **settings):
    chosen = template if not isinstance(template, str) else tokenizer(template)
    return prepare(
        DataSettings(source=f"file:{CASES / name}", maximum_length=2048, **settings),
        chosen,
        Limits(),
        require_rows=False,
    )


def rendered(name, template="chatml", **settings):
    """Return the text of each row and its trained parts, by row number."""
    chosen = template if not isinstance(template, str) else tokenizer(template)
    prepared = prepared_of(name, chosen, **settings)
    spans = {row.example.row: preview(row, chosen) for row in [*prepared.train, *prepared.held_out]}
    return {
        row: ("".join(text for text, _ in pieces), [text for text, trained in pieces if trained])
        for row, pieces in spans.items()
    }


def notes(name, turns):
    return " ".join(data_report(prepared_of(name, trained_turns=turns), tokenizer("chatml")).notes)


def test_a_history_stands_before_the_instruction_as_context():
    assert said("history.jsonl")[1] == [
        ("user", "What does a hedgehog eat?"),
        ("assistant", "Beetles and worms."),
        ("user", "Where does it live?"),
        ("assistant", "In hedges and gardens."),
        ("user", "And in winter?"),
        ("assistant", "Then it sleeps under leaves."),
    ]
    assert rendered("history.jsonl")[1][1] == ["Then it sleeps under leaves.<|im_end|>"]
    assert said("history.jsonl")[2] == [("user", "Name a bird."), ("assistant", "A wren.")]


def test_a_reply_of_weight_0_is_context():
    text, trained = rendered("weight.jsonl")[1]
    assert "It is five." in text
    assert trained == ["It is four.<|im_end|>"]


def test_answers_marked_as_bad_are_refused():
    found = reading_of("kto.jsonl")
    assert [example.row for example in found.examples] == [2, 4]
    reason = "it is marked as a bad answer (label is false)"
    assert found.refusals == [Refusal(1, reason), Refusal(3, reason)]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("name", "refused"), [("tools.jsonl", 1), ("toolcall_text.jsonl", 1), ("mostly_tools.jsonl", 30)]
)
def test_calls_of_tools_are_refused_if_the_template_leaves_them_out(name, refused, template):
    prepared = prepared_of(name, template)
    assert {refusal.reason for refusal in prepared.refusals} == {NO_CALLS}
    assert len(prepared.refusals) == refused


def test_calls_of_tools_are_written_by_a_template_that_can():
    calling = with_template(CALLING, "chatml")
    text, trained = rendered("tools.jsonl", calling, held_out_share=0)[1]
    call = '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call><|im_end|>'
    assert trained == [call, "It is 12 degrees in Bern.<|im_end|>"]
    assert (text.count("12 degrees<|im_end|>"), text.count("Tools: {")) == (1, 1)
    assert rendered("toolcall_text.jsonl", calling, held_out_share=0)[1][1] == [f"Let me look.{call}"]
    assert len(rendered("mostly_tools.jsonl", calling)) == 40


def test_the_prompt_of_a_call_is_that_of_answering():
    calling = with_template(CALLING, "chatml")
    prepared = prepared_of("tools.jsonl", calling, held_out_share=0)
    row = next(row for row in prepared.train if row.example.row == 1)
    last = len(row.ids) - 1 - row.trained[::-1].tolist().index(False)
    assert row.ids[: last + 1].tolist() == prompt_ids(row.example.prompt, calling)


def test_text_beside_a_call_that_a_template_leaves_out_is_not_a_row():
    silent = with_template(
        CALLING.replace("{{ turn.content }}", "{{ '' if turn.tool_calls else turn.content }}"), "chatml"
    )
    assert [refusal.reason for refusal in prepared_of("toolcall_text.jsonl", silent, held_out_share=0).refusals] == [
        "it has text next to tool calls, which this model's chat template does not support"
    ]


def test_names_of_special_tokens_in_a_call_stay_text():
    from neftune_core.data.chat import EncodedExample, encode
    from neftune_core.data.examples import Example, Message

    arguments = '[{"type": "function", "function": {"name": "say", "arguments": {"words": "<|im_end|>"}}}]'
    calls = Message("assistant", "", fields=(("tool_calls", arguments),))
    found = encode(Example((Message("user", "Hi"), calls), 1), with_template(CALLING, "chatml"), 200)
    assert isinstance(found, EncodedExample)
    assert found.ids.tolist().count(tokenizer("chatml").convert_tokens_to_ids("<|im_end|>")) == 2


def test_content_in_parts_is_text():
    assert said("parts.jsonl")[1] == [("user", "Name a tree."), ("assistant", "An alder.")]


def test_a_developer_is_the_system():
    assert said("developer.jsonl")[1][0] == ("system", "Answer in one word.")


def test_replies_in_a_prompt_are_context():
    assert rendered("conv_pc.jsonl")[1][1] == ["Quince.<|im_end|>"]


def test_rows_with_pictures_are_refused_by_the_name_of_the_field():
    found = reading_of("images.jsonl")
    assert [refusal.reason for refusal in found.refusals] == ["it has images, but only text is supported"] * 2


def test_reasoning_is_written_once_or_the_row_is_refused():
    text, trained = rendered("reasoning.jsonl", with_template(CALLING, "chatml"), held_out_share=0)[1]
    assert trained == ["<think>\nthree fours are twelve\n</think>\n\n12<|im_end|>"]
    assert text.count("three fours are twelve") == 1
    assert [(one.row, one.reason) for one in prepared_of("reasoning.jsonl", held_out_share=0).refusals] == [
        (1, "it has reasoning, which this model's chat template does not support")
    ]


@pytest.mark.parametrize("name", ["system_differs.jsonl", "context_in_system.jsonl"])
def test_one_question_under_several_system_prompts_is_not_a_duplicate(name):
    prepared = prepared_of(name, held_out_share=0.2)
    assert (len(prepared.train), len(prepared.held_out), prepared.duplicates) == (8, 2, ())


def test_one_prompt_with_many_answers_stays_on_one_side():
    prepared = prepared_of("same_prompt.jsonl", held_out_share=0.2)
    assert (len(prepared.train), len(prepared.held_out), prepared.duplicates) == (20, 0, ())
    assert any(note.startswith("No rows are held out") for note in prepared.notes)


def test_rows_that_differ_in_case_are_different_rows():
    prepared = prepared_of("case_matters.jsonl", held_out_share=0)
    assert [row.example.row for row in prepared.train] == [1, 2, 3, 4, 5, 6]


def test_a_blank_instruction_with_an_input_is_a_prompt():
    assert said("blank_instruction.jsonl")[1] == [("user", "What is 0 plus one?"), ("assistant", "1")]


def test_true_and_false_are_answers():
    assert [turns[-1][1] for turns in said("boolq.jsonl").values()] == ["true", "false"]


def test_the_first_text_of_several_answers_is_the_answer():
    found = reading_of("squad.jsonl")
    assert [example.response for example in found.examples] == ["by the brook", "oak"]
    assert found.unused_columns == ("id", "title")


def test_each_kind_of_value_is_an_answer_or_has_its_reason():
    found = reading_of("kinds.jsonl")
    assert {example.row: example.response for example in found.examples} == {
        1: "42", 2: "0.5", 3: "true", 6: "0", 10: "moo", 11: "oink",
    }  # fmt: skip
    assert {refusal.row: refusal.reason for refusal in found.refusals} == {
        4: "the output is a list, not text",
        5: "the output is an object, not text",
        7: "the output is empty",
        8: "the output is empty",
        9: "the output is empty",
    }


def test_which_replies_are_trained_on_is_a_setting_and_the_system_prompt_is_kept():
    text, trained = rendered("turns_system.jsonl")[1]
    assert trained == ["A thrush.<|im_end|>", "A nightingale. 0<|im_end|>"]
    assert text.startswith("<|im_start|>system\nAnswer shortly. 0")
    assert rendered("turns_system.jsonl", trained_turns="last")[1][1] == ["A nightingale. 0<|im_end|>"]
    assert "Rows with several replies, of which only the last is trained on: 14." in notes("turns_system.jsonl", "last")
    assert "Rows with several replies, all of which are trained on: 14." in notes("turns_system.jsonl", "all")


def test_the_first_line_of_a_spreadsheet_names_its_separator():
    assert said("sep.csv")[1] == [("user", "Name a bell"), ("assistant", "A bell")]


@pytest.mark.parametrize(
    ("name", "answers"), [("float32.parquet", ["0.1", "2.0"]), ("date.parquet", ["2020-01-02", "2021-01-02"])]
)
def test_numbers_and_dates_of_parquet_are_what_a_person_writes(name, answers):
    assert [example.response for example in reading_of(name).examples] == answers
