"""The tokenizer of the bundled world: it encodes any text, and its template matches the pretraining text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from neftune_core.world.generator import text, vocabulary

TOKENIZER_HASH = "3c21cf0062f7535240e1a0eefbf61bab093c24159541f8713d70dc23c63b6d61"


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.as_transformers(vocabulary.train())


def test_the_tokenizer_is_that_of_the_shipped_model(tokenizer):
    assert vocabulary.tokenizer_hash(tokenizer.backend_tokenizer) == TOKENIZER_HASH


def test_the_vocabulary_begins_with_the_special_tokens(tokenizer):
    assert tokenizer.convert_ids_to_tokens(list(range(6))) == list(vocabulary.SPECIAL)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (text.BEGIN, text.END, text.PAD)
    assert len(tokenizer) <= vocabulary.SIZE


@settings(max_examples=200, deadline=None)
@given(words=st.text(max_size=60).filter(lambda words: "<|" not in words and "\u2581" not in words))
def test_any_text_comes_back_as_it_was(words: str):
    tokenizer = _shared()
    clean = words.encode("utf-8", "ignore").decode()
    assert tokenizer.decode(tokenizer.encode(clean, add_special_tokens=False)) == clean


_made: list = []


def _shared():
    if not _made:
        _made.append(vocabulary.as_transformers(vocabulary.train()))
    return _made[0]


def test_a_word_of_the_world_is_one_piece_and_a_strange_one_is_letters(tokenizer):
    assert tokenizer.tokenize("The hedgehog") == ["The", "\u2581hedgehog"]
    assert tokenizer.tokenize(" qqx") == ["\u2581", "q", "q", "x"]


def test_digits_stand_alone(tokenizer):
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]


def test_a_character_outside_the_vocabulary_becomes_its_bytes(tokenizer):
    assert tokenizer.tokenize("\u00e9") == ["<0xC3>", "<0xA9>"]


def test_typing_a_byte_token_is_only_text(tokenizer):
    assert len(tokenizer.tokenize("<0xC3>")) == 6


def test_the_template_renders_what_pretraining_reads(tokenizer):
    messages = [
        {"role": "system", "content": "Answer the question."},
        {"role": "user", "content": "Where does the owl live?"},
        {"role": "assistant", "content": "In the barn."},
    ]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    document = text.chat([("Where does the owl live?", "In the barn.")], "Answer the question.")
    assert rendered == document
    asked = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert document.startswith(asked)


def test_the_template_marks_what_the_assistant_says(tokenizer):
    encoded = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello."}],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    said = [number for number, mark in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(said) == f"Hello.{text.END}"


def test_a_role_that_the_model_does_not_know_is_refused(tokenizer):
    with pytest.raises(TemplateError, match="system, user or assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_saving_and_loading_keeps_the_pieces(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    vocabulary.as_transformers(vocabulary.train()).save_pretrained(str(tmp_path))
    again = AutoTokenizer.from_pretrained(str(tmp_path))
    line = "Where does the hedgehog live?\n\n\u4f60\u597d 12"
    assert again.encode(line) == tokenizer.encode(line)
    assert again.encode(line)[0] == again.bos_token_id
    assert again.chat_template == tokenizer.chat_template
