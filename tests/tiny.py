"""Tiny models and rows that several tests share."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from neftune_core.data.chat import EncodedExample
from neftune_core.data.examples import Example, Message
from neftune_core.models.loading import LoadedModel
from neftune_core.models.tokenizing import decoder_start
from tests.stress.families.engine import LOWEST_TOKEN, TOKENS


def loaded_tiny(model: Any, width: int) -> LoadedModel:
    """Wrap a tiny random model like one that the lab has loaded."""
    return LoadedModel(
        model=model.eval().requires_grad_(False),
        tokenizer=SimpleNamespace(pad_token_id=0),
        source="tiny",
        name="tiny",
        licence="none",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        width=width,
        layers=2,
        vocabulary=50,
        context=64,
        device=torch.device("cpu"),
        precision="float32",
    )


def random_rows(count: int, seed: int = 0) -> list[EncodedExample]:
    """Return rows of 6 to 39 random tokens; the second half of each row is trained on."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        length = int(generator.integers(6, 40))
        trained = np.arange(length) >= length // 2
        example = Example((Message("user", "a"), Message("assistant", "b")), row=number + 1)
        ids = generator.integers(1, 50, length).astype(np.int32)
        rows.append(EncodedExample(ids=ids, trained=trained, example=example))
    return rows


def family_rows(loaded: LoadedModel, count: int = 8) -> list[EncodedExample]:
    """Return random rows encoded for the model; an encoder-decoder gets the prompt as its source."""
    generator = np.random.default_rng(0)
    start, rows = decoder_start(loaded.tokenizer), []
    for number in range(count):
        prompt, reply = (generator.integers(LOWEST_TOKEN, TOKENS, 3 + number).astype(np.int32) for _ in range(2))
        before = prompt if start is None else np.array([start], dtype=np.int32)
        ids = np.concatenate([before, reply])
        example = Example((Message("user", "w5 w6"), Message("assistant", "w7")), row=number + 1)
        source = None if start is None else prompt
        rows.append(EncodedExample(ids, np.arange(len(ids)) >= len(before), example, source=source))
    return rows


def losses_of(events: Iterable[dict[str, Any]], arm: str) -> list[float]:
    """Return the loss of an arm at every step of a run."""
    return [event["arms"][arm]["loss"] for event in events if event["event"] == "step"]
