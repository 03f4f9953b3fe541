"""How the answers of a model begin, and what they never hold, as its own files say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neftune_core.errors import ModelError
from neftune_core.language import say


@dataclass(frozen=True)
class Decoding:
    """Token ids: `start` is what the decoder of an encoder-decoder is given first (None for a causal model), `first`
    the one that every answer begins with (None where it is free), `never` those that no answer holds.
    """

    start: int | None = None
    first: int | None = None
    never: tuple[int, ...] = ()


def decoding(model: Any) -> Decoding:
    """What the configuration of `model` says; raises `ModelError` where it does not say how a decoder starts."""
    never = {int(token) for token in _said(model, "suppress_tokens") or ()}
    never |= {int(words[0]) for words in _said(model, "bad_words_ids") or () if len(words) == 1}
    if not model.config.is_encoder_decoder:
        return Decoding(never=tuple(sorted(never)))
    start, first = _said(model, "decoder_start_token_id"), _said(model, "forced_bos_token_id")
    if start is None:
        raise ModelError(
            say(
                "The config.json of this encoder-decoder names no decoder_start_token_id, so that no "
                "answer can begin: add it, or choose another model."
            )
        )
    return Decoding(int(start), None if first is None else int(first), tuple(sorted(never)))


def _said(model: Any, name: str) -> Any:
    """A setting of the model's configuration or, where it has none, of its generation configuration."""
    said = getattr(model.config, name, None)
    return getattr(getattr(model, "generation_config", None), name, None) if said is None else said
