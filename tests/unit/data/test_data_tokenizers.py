"""The tokenizers that the tests of the data layer use."""

from chat_templates import tokenizer


def test_the_tokenizer_gives_back_any_text():
    text = "Naïve 你好 🙂\n\n### Response:\n"
    plain = tokenizer("plain")
    assert plain.decode(plain(text, add_special_tokens=False)["input_ids"]) == text


def test_the_tokenizer_merges_line_breaks():
    assert len(tokenizer("plain")("\n\n", add_special_tokens=False)["input_ids"]) == 1
