"""Read a model's tokenizer and adapt it to the model, without adding embedding rows."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from neftune_core.errors import ModelError, NotAvailable
from neftune_core.language import later, say
from neftune_core.sentences import cause


@dataclass(frozen=True)
class Decoding:
    """Token ids that constrain decoding.

    Attributes:
        start: First input of the decoder in an encoder-decoder; None for a causal model.
        first: Forced first token of every answer; None if not forced.
        never: Ids that are never generated.
    """

    start: int | None = None
    first: int | None = None
    never: tuple[int, ...] = ()


def decoding(model: Any) -> Decoding:
    """Read the decoding constraints from the configuration of `model`.

    Raises:
        ModelError: If an encoder-decoder has no decoder start token.
    """
    never = {int(token) for token in _configured_value(model, "suppress_tokens") or ()}
    never |= {int(words[0]) for words in _configured_value(model, "bad_words_ids") or () if len(words) == 1}
    if not model.config.is_encoder_decoder:
        return Decoding(never=tuple(sorted(never)))
    start, first = _configured_value(model, "decoder_start_token_id"), _configured_value(model, "forced_bos_token_id")
    if start is None:
        words = later(
            "The config.json of this encoder-decoder has no decoder_start_token_id, so answers cannot start: add it, "
            "or choose another model."
        )
        raise ModelError(say(words))
    return Decoding(int(start), None if first is None else int(first), tuple(sorted(never)))


def _configured_value(model: Any, name: str) -> Any:
    """Return a value from the model's configuration, or else from its generation configuration."""
    value = getattr(model.config, name, None)
    return getattr(getattr(model, "generation_config", None), name, None) if value is None else value


def read_tokenizer(folder: Path, model: Any) -> Any:
    """Read the tokenizer of a model and adapt it with `adapt_tokenizer`.

    Args:
        folder: Folder of the model.
        model: Model in that folder, already read.

    Returns:
        The tokenizer.

    Raises:
        NotAvailable: If the tokenizer needs a package that is not installed.
        ModelError: If the tokenizer cannot be read, or has ids without a row in the model's embedding.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        pieces = any(folder.glob("*.spm")) or any(folder.glob("*.model"))
        if pieces and "sentencepiece" in str(error).lower():
            words = later(
                "The tokenizer in {folder} needs the package sentencepiece, which is not installed here: install it "
                "(pip install sentencepiece) and start the lab again."
            )
            raise NotAvailable(say(words, folder=folder)) from error
        words = later(
            "The folder {folder} has no tokenizer that can be read ({fault}): it needs a tokenizer.json next to the "
            "weights."
        )
        raise ModelError(say(words, folder=folder, fault=cause(error))) from error
    if not tokenizer("a")["input_ids"]:
        words = later("The tokenizer in {folder} produces no tokens: its files are damaged, so download them again.")
        raise ModelError(say(words, folder=folder))
    _require_rows(tokenizer, model, folder.name)
    return adapt_tokenizer(tokenizer, model)


def _require_rows(tokenizer: Any, model: Any, name: str) -> None:
    """Raise `ModelError` if a token id other than the padding id has no row in the embedding."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = {*tokenizer.get_vocab().values()} - {tokenizer.pad_token_id}
    if max(ids) >= rows:
        words = later(
            "The tokenizer in {folder} has ids up to {last:,}, but the embedding of the model has {rows:,} rows: they "
            "do not match, so download the model and the tokenizer again, or choose another model."
        )
        raise ModelError(say(words, folder=name, last=max(ids), rows=rows))


def with_fixed_date(tokenizer: Any, day: date | None, *, hashed: bool = True) -> Any:
    """Return a tokenizer with a chat template that renders a fixed date as the current date.

    Args:
        tokenizer: The tokenizer; returned unchanged if its template uses no date.
        day: The date; None for no change.
        hashed: Whether `day_of` returns the date, so that it is part of the hash of rendered data.

    Returns:
        A shallow copy with the changed template, or `tokenizer` itself.
    """
    template = getattr(tokenizer, "undated", None) or getattr(tokenizer, "chat_template", None)
    if day is None or "strftime_now" not in str(template):
        return tokenizer
    found = copy(tokenizer)
    found.undated = template
    found.day = day.isoformat() if hashed else ""
    clock = _clock(day)
    if isinstance(template, dict):
        found.chat_template = {name: clock + one for name, one in template.items()}
    else:
        found.chat_template = f"{clock}{template}"
    return found


def day_of(tokenizer: Any) -> str:
    """Return the ISO date set by `with_fixed_date`; "" if there is none or it is not hashed."""
    return str(getattr(tokenizer, "day", ""))


def _clock(day: date) -> str:
    """Return a template prefix that defines `strftime_now` as midnight of `day` and renders nothing itself.

    The definition must be a macro, because transformers converts functions passed to a template to text.
    """
    values = {f"%{letter}": day.strftime(f"%{letter}") for letter in "aAbBcdeFHIjmMpSuUwWxXyY"}
    values |= {f"%-{letter}": values[f"%{letter}"].lstrip("0 ") or "0" for letter in "deHIjmMSUWy"} | {"%%": "%"}
    replaced = " ".join(f"| replace({json.dumps(name)}, {json.dumps(value)})" for name, value in values.items())
    return f"{{%- macro strftime_now(format) -%}}{{{{- format {replaced} -}}}}{{%- endmacro %}}\n"


def adapt_tokenizer(tokenizer: Any, model: Any) -> Any:
    """Adapt a tokenizer in place to a model.

    The adapted tokenizer pads on the right with a token that has an embedding row, and stores the decoder start token.
    If there is no end-of-sequence token (BERT), answers end with the separator.

    Args:
        tokenizer: Tokenizer to change.
        model: Model that the tokenizer belongs to.

    Returns:
        `tokenizer`.

    Raises:
        ModelError: If no token can serve as padding, or an encoder-decoder has no decoder start token.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = _padding_token(tokenizer, rows)
    tokenizer.padding_side = "right"
    tokenizer.decoder_start = decoding(model).start
    return tokenizer


def decoder_start(tokenizer: Any) -> int | None:
    """Return the decoder start token stored by `adapt_tokenizer`; None for a causal model."""
    return getattr(tokenizer, "decoder_start", None)


def _padding_token(tokenizer: Any, rows: int) -> str:
    """Return an existing token to pad with; padding is masked everywhere.

    Raises:
        ModelError: If no such token has a row in the embedding.
    """
    for token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, 0):
        if token_id is not None and token_id < rows:
            return str(tokenizer.convert_ids_to_tokens(token_id))
    raise ModelError(say("The tokenizer and the embedding of this model do not match: choose another model."))
