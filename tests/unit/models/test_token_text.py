"""Text of tokens: complete characters only, however a tokenizer splits their bytes."""

from types import SimpleNamespace

import pytest
from chat_templates import tokenizer

from neftune_core.data.chat import encode, response_text
from neftune_core.data.examples import Example, Message
from neftune_core.data.preparing import preview
from neftune_core.evaluation.answers import Answer
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.token_text import token_texts, whole_text

TEXTS = ("你好, 世界", "a 🙂 b 👩‍🚀", "naïve é", "Привет", "plain words")
SPELLINGS = ("byte-level", "byte fallback")


def of_kind(kind):
    return tokenizer("plain") if kind == "byte-level" else load(ModelSettings()).tokenizer


def ids_of(text, kind):
    return of_kind(kind)(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize("text", TEXTS)
def test_an_answer_grows_by_whole_characters(text: str, kind: str) -> None:
    ids, shown = ids_of(text, kind), ""
    whole = of_kind(kind).decode(ids, clean_up_tokenization_spaces=False)
    for count in range(1, len(ids) + 1):
        grown = Answer(ids[:count]).text(of_kind(kind))
        assert "\ufffd" not in grown
        assert grown.startswith(shown), "what was shown stays"
        shown = grown
    assert shown == whole


@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_replacement_character_that_a_text_has_stays(kind: str) -> None:
    for text in ("lost \ufffd", "\ufffd\ufffd", "lost \ufffd here"):
        assert response_text(ids_of(text, kind), of_kind(kind)) == text


def test_bytes_that_are_no_character_are_shown_as_what_they_are() -> None:
    bundled = of_kind("byte fallback")
    lone = bundled.convert_tokens_to_ids("<0xFF>")
    assert whole_text([*ids_of("a", "byte fallback"), lone], bundled) == "a\ufffd"
    assert token_texts([lone], bundled) == ["<0xFF>"]


@pytest.mark.parametrize("kind", SPELLINGS)
def test_labels_of_tokens_name_the_character_that_they_are_part_of(kind: str) -> None:
    ids = ids_of("你🙂", kind)
    assert len(ids) == 7
    expected = ["你 1/3", "你 2/3", "你 3/3", "🙂 1/4", "🙂 2/4", "🙂 3/4", "🙂 4/4"]
    assert token_texts(ids, of_kind(kind)) == expected
    assert token_texts(ids[:1], of_kind(kind)) == ["<0xE4>"]
    assert token_texts(ids_of("\ufffd", kind), of_kind(kind))[0].startswith("\ufffd")


@pytest.mark.parametrize("kind", SPELLINGS)
def test_the_preview_of_a_cut_row_ends_with_a_whole_character(kind: str) -> None:
    example = Example((Message("user", "说"), Message("assistant", "你好世界" * 3)), 1)
    whole = encode(example, of_kind(kind), 512)
    for length in range(whole.prompt_length + 1, whole.length):
        text = "".join(span for span, _ in preview(encode(example, of_kind(kind), length), of_kind(kind)))
        assert "\ufffd" not in text


def test_the_labels_of_a_sentence_on_the_noise_tab_have_no_replacement_characters() -> None:
    from neftune_core.ui.server.previews import LONGEST_TOKENS, read_sentence

    found = read_sentence("你好🙂" * 30, ModelSettings(), "embedding")
    assert len(found.tokens) == LONGEST_TOKENS
    assert found.tokens[2].startswith("你"), found.tokens[:4]
    assert not any("\ufffd" in label or "<0x" in label for label in found.tokens)


def test_a_tokenizer_whose_tokens_are_whole_words_is_read_as_before() -> None:
    words = SimpleNamespace(decode=lambda ids, **_: " ".join("abc"[i] for i in ids), convert_ids_to_tokens=str)
    assert whole_text([0, 2], words) == "a c"
