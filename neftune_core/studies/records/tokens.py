"""Write and read `tokens.jsonl`: the loss of every arm at every answer token, one line per seed, part and row.

The file is not exported with the record, since the losses can be measured again with the stored adapters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neftune_core.bounded_io import read_lines
from neftune_core.durable import write_whole
from neftune_core.studies.records.log import as_jsonl, parsed
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.schema import LINE_BYTES

TOKENS, BASE, WRITTEN = "tokens.jsonl", "base", "written"
TokenList = Annotated[list[str], Field(max_length=100_000)]


class TokenLine(BaseModel):
    """One line of `tokens.jsonl`.

    Attributes:
        part: "held_out" or "train" for a row of the data; "written" for an answer that an arm generated.
        row: Number of the row or answer, from 1.
        kinds: Kind of each answer token, a key of `TOKEN_KINDS`.
        losses: Loss of each answer token in nats, by arm.
        arm: Arm that generated the answer; "" for rows of the data.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    seed: int
    part: Literal["held_out", "train", "written"]
    row: int
    prompt: str
    tokens: TokenList
    kinds: TokenList
    losses: dict[str, list[float]]
    arm: str = ""

    @model_validator(mode="after")
    def _fits(self) -> TokenLine:
        if {len(self.kinds), *map(len, self.losses.values())} != {len(self.tokens)}:
            raise ValueError("one kind and one loss per token")
        return self


def write_tokens(record: Record, seed: int, lines: Sequence[Mapping[str, Any]]) -> None:
    """Store lines of one seed, keeping those of other seeds and parts.

    Args:
        record: Record of the study.
        seed: Seed of the measured arms.
        lines: Lines from `TokenLosses`; they replace the stored lines of the same seed and part.
    """
    parts = {line["part"] for line in lines}
    others = [line for line in _lines(record) if line["seed"] != seed or line["part"] not in parts]
    write_whole(record.folder / TOKENS, as_jsonl([*others, *({"seed": seed, **line} for line in lines)]))


def read_tokens(record: Record, seed: int) -> list[dict[str, Any]]:
    """Read the stored lines of a seed.

    The losses of the base are stored only with the first seed. For other seeds, they are added to the same rows.

    Args:
        record: Record of the study.
        seed: Seed of the measured arms.

    Returns:
        One line per row or answer, with its tokens and their losses by arm; empty if none are stored.
    """
    lines = _lines(record)
    base = {(line["part"], line["row"]): line["losses"][BASE] for line in lines if BASE in line["losses"]}
    mine = [line for line in lines if line["seed"] == seed]
    for line in mine:
        shared = base.get((line["part"], line["row"]), []) if line["part"] != WRITTEN else []
        if len(shared) == len(line["tokens"]):
            line["losses"] = {BASE: shared, **line["losses"]}
    return mine


def _lines(record: Record) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(OSError), (record.folder / TOKENS).open("rb") as file:
        for line in read_lines(file, LINE_BYTES):
            with contextlib.suppress(ValidationError):
                found.append(TokenLine.model_validate(parsed(line)).model_dump())
    return found
