"""Chat templates with thinking or the date, and tokenizers of other models."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from chat_templates import TEMPLATES, with_template

from neftune_core.data.chat import encode, prompt_ids
from neftune_core.data.examples import Example, Message, fingerprint
from neftune_core.data.rendering import has_reasoning
from neftune_core.errors import ModelError
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.tokenizing import day_of, with_fixed_date
from neftune_core.settings import Limits
from neftune_core.studies.comparison import compare_arms, selected_arms
from neftune_core.studies.prompts import Prompt
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import base_of, run_study
from tests import standin

# As Qwen3 does: reasoning is taken out of the content, earlier turns lose theirs, the last one has a block in any case.
QWEN = (
    "{% for turn in messages %}{% if turn.role == 'assistant' %}"
    "{% set thought = turn.reasoning_content if turn.reasoning_content is defined else '' %}"
    "{% set said = turn.content %}"
    "{% if '</think>' in said %}{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>assistant\n{% if loop.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ said }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# As DeepSeek-R1 does: a prompt opens a thinking block, and finished turns have none.
OPENED = (
    TEMPLATES["chatml"]
    .replace("{{ turn['content'] }}", "{{ turn['content'].split('</think>')[-1].lstrip('\n') }}")
    .replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
)
# An empty block whatever is asked for.
ALWAYS = TEMPLATES["chatml"].replace("assistant\n{% endif %}", "assistant\n<think>\n\n</think>\n\n{% endif %}")
THINKING = {
    "qwen": QWEN,
    "opened": OPENED,
    "always": ALWAYS,
    "thinking": TEMPLATES["thinking"],
    "none": TEMPLATES["chatml"],
}
DATED = "Today Date: {{ strftime_now('%d %b %Y') }}\n" + standin.CHAT_TEMPLATE
ASKED, THOUGHT = Message("user", "What is 0 plus one?"), "<think>\nadd one\n</think>\n\n"


def texts(reply: Message, template: str) -> tuple[str, str]:
    """Return the prompt and the trained part of a row with this reply as text; the prompt is that of generation."""
    made = with_template(template)
    row = encode(Example((ASKED, reply), 1), made, 512)
    assert row.ids[: row.prompt_length].tolist() == prompt_ids([ASKED], made, thinking=has_reasoning(reply))
    return made.decode(row.ids[: row.prompt_length].tolist()), made.decode(row.ids[row.trained].tolist())


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize("thought", [THOUGHT, "<think>add one</think>"])
def test_reasoning_in_a_row_is_kept_once_and_no_empty_block_stands_before_it(name: str, thought: str) -> None:
    prompt, trained = texts(Message("assistant", f"{thought}1"), THINKING[name])
    assert (prompt + trained).count("<think>") == (prompt + trained).count("</think>") == 1
    assert "add one" in trained
    assert trained.removesuffix("\n").endswith("1<|im_end|>")
    assert not (prompt + trained).replace("\n", "").count("<think></think>")


@pytest.mark.parametrize("name", ["qwen", "always", "thinking"])
@pytest.mark.parametrize("empty", ["", "<think>\n\n</think>\n\n"])
def test_a_row_without_reasoning_has_one_empty_block_in_its_prompt(name: str, empty: str) -> None:
    prompt, trained = texts(Message("assistant", f"{empty}1"), THINKING[name])
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert trained == "1<|im_end|>"


def test_reasoning_is_that_of_a_block_that_is_not_empty() -> None:
    found = [
        has_reasoning(Message("assistant", text)) for text in (THOUGHT, "<think>a</think>b", "<think>\n</think>b", "b")
    ]
    assert found == [True, True, False, False]
    assert has_reasoning(Message("assistant", "b", fields=(("reasoning_content", '"a"'),)))


def test_a_dated_template_prints_the_day_that_it_is_given() -> None:
    made = with_template(DATED)
    first, second = (with_fixed_date(made, date(2024, 7, day)) for day in (26, 27))
    text = first.decode(prompt_ids([ASKED], first))
    assert text.startswith("Today Date: 26 Jul 2024\n")
    assert prompt_ids([ASKED], first) != prompt_ids([ASKED], second)
    assert prompt_ids([ASKED], made) == prompt_ids([ASKED], with_fixed_date(made, date.today()))
    assert made.chat_template == DATED, "the shared tokenizer stays as it is"
    assert prompt_ids([ASKED], with_fixed_date(first, date(2024, 7, 27))) == prompt_ids([ASKED], second)
    assert fingerprint([], day_of(first)) != fingerprint([], day_of(second))
    assert (
        fingerprint([], day_of(made))
        == fingerprint([])
        == fingerprint([], day_of(with_fixed_date(made, date.today(), hashed=False)))
    )
    plain = with_template(QWEN)
    assert with_fixed_date(plain, date.today()) is plain


@pytest.mark.parametrize(
    "template",
    ["\n  {% if true %}\n a {{ X }}{% endif %}", "  {% set f = '%-d %B %Y, %A%%' %}{{ strftime_now(f) }}", "{{ X }}"],
)
def test_the_day_changes_nothing_else_of_a_template(template: str) -> None:
    template = template.replace("X", "strftime_now('%Y-%m-%d %H')[:10]")
    made, today = with_template(template), date.today()
    turns = [{"role": "user", "content": "a"}]
    expected = made.apply_chat_template(turns, tokenize=False)
    assert with_fixed_date(made, today).apply_chat_template(turns, tokenize=False) == expected
    assert with_fixed_date(made, date(2001, 2, 3)).apply_chat_template(turns, tokenize=False) != expected


@pytest.fixture
def record(tmp_path: Path, folder: Path) -> Record:
    """Return a record whose template prints the date, started on an earlier day."""
    (folder / "chat_template.jinja").write_text(DATED)
    training = EXAMPLE.training.model_copy(update={"steps": 2, "batch_size": 2})
    data = EXAMPLE.data.model_copy(update={"rows": 8})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 1, "new_tokens": 4, "robustness": False})
    model = ModelSettings(source=str(folder), precision="float32")
    changes = {"model": model, "training": training, "data": data, "measuring": measuring}
    record = create(EXAMPLE.model_copy(update=changes), "", folder=tmp_path / "runs")
    record.update_about(date="2024-07-26")
    return record


def test_a_record_keeps_the_day_of_its_start_on_every_later_day(record: Record) -> None:
    def prompt(one: Record) -> str:
        own = base_of(one).tokenizer
        return str(own.decode(prompt_ids([ASKED], own)))

    assert prompt(record).startswith("Today Date: 26 Jul 2024")
    *_, ending = run_study(record, Limits(), lambda: False)
    assert ending["event"] == "finished", ending
    kept = record.about_table("data")["sha256"]
    *_, lines = compare_arms(selected_arms([record]), [Prompt((ASKED,))], record.study.answers, Limits())
    record.update_about(date="2024-07-27")
    *_, others = compare_arms(selected_arms([record]), [Prompt((ASKED,))], record.study.answers, Limits())
    assert lines != others, "the date that a comparison prints is the record's"
    (record.folder / "events.jsonl").unlink()
    *_, ending = run_study(record, Limits(), lambda: False)
    assert "changed" in ending["message"], "the day is part of the hash of the data"
    assert record.about_table("data")["sha256"] == kept


def test_a_record_from_before_days_were_kept_has_the_day_that_it_was_made(record: Record) -> None:
    about = {name: value for name, value in record.about.items() if name != "date"}
    (record.folder / "record.json").write_text(json.dumps({**about, "created": 1_700_000_000.0}))
    found = base_of(record).tokenizer
    assert "Nov 2023" in found.decode(prompt_ids([ASKED], found))
    assert day_of(found) == "", "its data were hashed without it"


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(folder: Path) -> None:
    file = folder / "tokenizer.json"
    described = json.loads(file.read_text())
    described["added_tokens"].append(
        {**described["added_tokens"][0], "id": 2048, "content": "<tool>", "special": False}
    )
    file.write_text(json.dumps(described))
    with pytest.raises(ModelError, match="ids up to 2,048, but the embedding of the model has 2,048 rows"):
        load(ModelSettings(source=str(folder)))
