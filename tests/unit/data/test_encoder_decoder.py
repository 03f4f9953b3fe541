"""The source and the target of an encoder-decoder, and the tokens of an encoder that is run as a decoder."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_tokenizers import bart_tokenizer, bert_tokenizer, t5_tokenizer

from neftune_core.data.batches import collate
from neftune_core.data.chat import EncodedExample, encode, end_ids, prompt_ids, response_text
from neftune_core.data.encoder_decoder import source_text
from neftune_core.data.examples import Example, Message, Refusal
from neftune_core.data.preparing import preview
from neftune_core.models.tokenizing import adapt_tokenizer
from tests.stress.families.tiny import FAMILIES

ASKED = (Message("user", "the cat sleeps ."), Message("assistant", "die katze schläft ."))
TALK = (*ASKED, Message("user", "how are you ?"), Message("assistant", "hello"))


@pytest.fixture(scope="module")
def t5() -> Any:
    return adapt_tokenizer(t5_tokenizer(), FAMILIES["T5"].build())


@pytest.fixture(scope="module")
def bart() -> Any:
    return adapt_tokenizer(bart_tokenizer(), FAMILIES["BART"].build())


@pytest.fixture(scope="module")
def bert() -> Any:
    return adapt_tokenizer(bert_tokenizer(), FAMILIES["BERT"].build())


def encoded(messages: tuple[Message, ...], tokenizer: Any, length: int = 64, **more: Any) -> EncodedExample:
    found = encode(Example(messages, 1), tokenizer, length, **more)
    assert isinstance(found, EncodedExample), found
    return found


def test_the_encoder_reads_what_the_tokenizer_itself_makes_of_the_prompt(t5: Any, bart: Any) -> None:
    for tokenizer in (t5, bart):
        found = encoded(ASKED, tokenizer)
        assert found.source is not None
        assert found.source.tolist() == tokenizer("the cat sleeps .")["input_ids"]
        assert found.source.tolist() == prompt_ids(ASKED[:1], tokenizer)


def test_the_decoder_gets_its_start_token_and_is_trained_on_all_that_follows(t5: Any, bart: Any) -> None:
    for tokenizer, start in ((t5, 0), (bart, 2)):
        found = encoded(ASKED, tokenizer)
        assert found.ids.tolist() == [start, *tokenizer(text_target="die katze schläft .")["input_ids"]]
        assert found.trained.tolist() == [False] + [True] * (len(found.ids) - 1)
        assert int(found.ids[-1]) in end_ids(tokenizer)
        assert found.prompt_length == len(found.source)


def test_the_shift_is_that_of_the_model_itself(bart: Any) -> None:
    from transformers.models.bart.modeling_bart import shift_tokens_right

    model = FAMILIES["BART"].build()
    batch = collate([encoded(ASKED, bart)], bart.pad_token_id)
    labels = batch.ids[:, 1:]
    shifted = shift_tokens_right(labels, model.config.pad_token_id, model.config.decoder_start_token_id)
    assert shifted.tolist() == batch.ids[:, :-1].tolist()


def test_only_the_last_reply_is_trained_on_and_earlier_turns_are_read(t5: Any) -> None:
    found = encoded(TALK, t5)
    assert t5.decode(found.ids[1:-1].tolist()) == "hello"
    assert found.source.tolist() == t5(source_text(TALK[:-1]))["input_ids"]


def test_turns_are_distinguished_only_where_there_are_several() -> None:
    assert source_text(ASKED[:1]) == "the cat sleeps ."
    assert source_text([Message("system", "be brief"), *ASKED[:1]]) == "be brief\n\nthe cat sleeps ."
    assert source_text(TALK[:-1]) == "User: the cat sleeps .\nAssistant: die katze schläft .\nUser: how are you ?"


def test_a_system_text_stands_before_the_prompt(t5: Any) -> None:
    found = encoded(ASKED, t5, system="be brief")
    assert found.source.tolist() == t5("be brief\n\nthe cat sleeps .")["input_ids"]


def test_the_length_bounds_source_and_target_each(t5: Any) -> None:
    assert len(encoded(ASKED, t5, 16).source) <= 16
    long_prompt = (Message("user", "cat " * 40), ASKED[1])
    refused = encode(Example(long_prompt, 7), t5, 16)
    assert refused == Refusal(7, "its prompt is longer than 16 tokens")
    long_reply = (ASKED[0], Message("assistant", "katze " * 40))
    cut = encoded(long_reply, t5, 16)
    assert (cut.cut, len(cut.ids), bool(cut.trained[1:].all())) == (True, 16, True)
    assert int(cut.ids[-1]) not in end_ids(t5)
    assert encode(Example(long_reply, 7), t5, 16, too_long="drop") == Refusal(7, "it is longer than 16 tokens")


def test_a_special_token_written_in_a_row_stays_text(bart: Any) -> None:
    found = encoded((Message("user", "say </s> now"), Message("assistant", "</s> it is")), bart)
    assert found.source.tolist().count(2) == 1
    assert found.ids.tolist().count(2) == 2  # the start token, and the end
    assert "</s> it is" in bart.decode(found.ids.tolist())


def test_the_words_of_a_reply_come_back_without_its_frame(t5: Any, bart: Any) -> None:
    for tokenizer in (t5, bart):
        ids = encoded(ASKED, tokenizer).ids[1:].tolist()
        assert response_text(ids, tokenizer).strip() == "die katze schläft ."


def test_special_tokens_are_known_on_both_sides_of_a_batch(bart: Any) -> None:
    batch = collate([encoded(ASKED, bart), encoded(TALK, bart, 128)], bart.pad_token_id, 16)
    assert batch.source is not None and batch.source_lengths is not None and batch.source_special is not None
    assert batch.source.shape[0] == 2 and batch.source.shape[1] % 16 == 0
    for ids, special, lengths in (
        (batch.ids, batch.special, batch.lengths),
        (batch.source, batch.source_special, batch.source_lengths),
    ):
        for row in range(2):
            length = int(lengths[row])
            assert special[row, :length].tolist() == [token <= 4 for token in ids[row, :length].tolist()]
            assert not special[row, length:].any()
    assert batch.special[0, :2].tolist() == [True, True]  # </s>, with which it starts, and <s>


def test_the_preview_and_the_lengths_show_both_sides(t5: Any) -> None:
    found = encoded(ASKED, t5)
    runs = preview(found, t5)
    assert runs[0] == ("the cat sleeps .</s>", False)
    assert runs[-1][1] and "katze" in runs[-1][0]
    assert (found.prompt_length, found.length) == (len(found.source), len(found.source) + len(found.ids))


def test_an_encoder_run_as_a_decoder_ends_with_its_separator(bert: Any) -> None:
    found = encoded(ASKED, bert)
    assert found.source is None
    assert found.ids[0] == bert.cls_token_id
    assert found.ids[-1] == bert.sep_token_id and end_ids(bert) == {bert.sep_token_id}
    assert found.ids[: found.prompt_length].tolist() == prompt_ids(ASKED[:1], bert)
    assert "katze" in bert.decode(found.ids[found.trained].tolist())
