"""Prepare training data: reading, removal of duplicates, split into training and held-out rows, tokenisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os.path import commonprefix
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from neftune_core.data.chat import EncodedExample, encode, with_system
from neftune_core.data.examples import CutRow, Duplicate, Example, Message, Refusal, fingerprint
from neftune_core.data.formats.starters import own_held_out
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import PROGRESS_ROWS, ReadCallback, SourceRows, read
from neftune_core.errors import DataError
from neftune_core.language import later, plural, say
from neftune_core.models.token_text import whole_text
from neftune_core.models.tokenizing import day_of
from neftune_core.randomness import Purpose, stream
from neftune_core.settings import Limits


@dataclass(frozen=True)
class PreparedData:
    """Rows ready for training, and the rows that were left out.

    Attributes:
        train: Training rows; `example.row` is the 1-based number of the row in its source.
        duplicates: Rows left out because another row has the same prompt and answer, or a held-out row has the same
            prompt.
        sha256: Hash of all examples read, and of the date if the chat template renders it.
        title: Name of the file or data set.
        reading: How the source was read: layout, columns, unused columns.
        notes: Remarks on reading and split.
        own_held_out: Whether the held-out rows come from a separate file with its own row numbers.
        shortage: Why there are too few rows for a study; "" if there are enough.
    """

    train: list[EncodedExample]
    held_out: list[EncodedExample]
    refusals: list[Refusal]
    duplicates: tuple[Duplicate, ...]
    sha256: str
    title: str
    licence: str
    reading: SourceRows
    notes: tuple[str, ...] = ()
    own_held_out: bool = False
    shortage: str = ""

    @property
    def kept(self) -> int:
        """Number of training and held-out rows."""
        return len(self.train) + len(self.held_out)

    @property
    def cut_rows(self) -> tuple[CutRow, ...]:
        """Rows that were cut, training rows first."""
        return tuple(
            CutRow(row.example.row, row.tokens_removed, held_out=own)
            for part, own in ((self.train, False), (self.held_out, self.own_held_out))
            for row in part
            if row.cut
        )

    @property
    def cut(self) -> int:
        """Number of rows that were cut."""
        return len(self.cut_rows)

    @property
    def duplicates_removed(self) -> int:
        """Number of duplicates left out."""
        return len(self.duplicates)

    @property
    def refused(self) -> int:
        """Number of rows that cannot be used."""
        return len(self.refusals)


_in_use: WeakKeyDictionary[Any, WeakValueDictionary[Any, EncodedExample]] = WeakKeyDictionary()
"""Cache of encoded rows that are still referenced, by tokenizer. A study reuses the rows encoded for the page's
estimate."""

ComparisonKey = tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
"""Role, content and fields of each message, used to compare rows and prompts."""


def prepare(
    settings: DataSettings,
    tokenizer: Any,
    limits: Limits,
    *,
    progress: ReadCallback | None = None,
    require_rows: bool = True,
) -> PreparedData:
    """Read, split and tokenise the rows of `settings.source`.

    Args:
        settings: Data settings.
        tokenizer: The model's tokenizer.
        limits: Limits of this server.
        progress: Called occasionally with (rows done, maximum), first for reading, then for tokenising.
        require_rows: Whether there must be enough rows for a study.

    Returns:
        The prepared rows.

    Raises:
        DataError: If the source or the held-out file cannot be read. With `require_rows`, also if fewer than 2 training
            rows remain, or none of the rows chosen as held-out rows.
        DoesNotFit: If the source exceeds a limit.
        NotAvailable: If the source cannot be reached.
    """
    reading = read(settings, limits, progress=progress, require_rows=False)
    own = _read_held_out(settings, limits)
    train, held_out, duplicates = split(reading.examples, settings, own.examples if own else None)
    train_rows, train_refusals = _encode(train, tokenizer, settings, progress)
    held_out_rows, held_out_refusals = _encode(held_out, tokenizer, settings, progress)
    own_refusals = [*own.refusals, *held_out_refusals] if own else []
    refusals = [*reading.refusals, *train_refusals, *([] if own else held_out_refusals)]
    reasons = _reasons([*refusals, *own_refusals], len(duplicates))
    wants_held_out = bool(held_out) or own is not None
    shortage = reading.shortage or _shortage(train_rows, held_out_rows, reasons, wants_held_out=wants_held_out)
    if require_rows and shortage:
        raise DataError(shortage)
    refused_later = (0, 0) if own else (len(train_refusals), len(held_out_refusals))
    return PreparedData(
        train=train_rows,
        held_out=held_out_rows,
        refusals=sorted(refusals, key=lambda refusal: refusal.row)
        + [
            Refusal(refusal.row, say("in the held-out file: {reason}", reason=refusal.reason), held_out=True)
            for refusal in own_refusals
        ],
        duplicates=tuple(duplicates),
        sha256=fingerprint([*reading.examples, *(own.examples if own else [])], day_of(tokenizer)),
        title=reading.title,
        licence=reading.licence,
        reading=reading,
        notes=(*reading.notes, *_split_notes(settings, len(train), len(held_out), refused_later)),
        own_held_out=own is not None,
        shortage=shortage,
    )


def split(
    examples: Sequence[Example], settings: DataSettings, own_held_out: Sequence[Example] | None = None
) -> tuple[list[Example], list[Example], list[Duplicate]]:
    """Split rows into a training and a held-out part, without duplicates.

    Rows with the same prompt stay in the same part. Both parts keep the order of the source.

    Args:
        examples: Rows of the source.
        settings: Data settings, with the share of held-out rows and the seed of the draw.
        own_held_out: Rows of a separate held-out file; None to draw a share of `examples`. Training rows whose
            prompt also occurs in this file are left out.

    Returns:
        Training rows, held-out rows, and the duplicates that were left out.
    """
    rows, duplicates = _without_repeats(examples, settings.system)
    if own_held_out is None:
        drawn = _draw_held_out([_comparison_key(row.prompt, settings.system) for row in rows], settings)
        train = [row for index, row in enumerate(rows) if index not in drawn]
        return train, [row for index, row in enumerate(rows) if index in drawn], duplicates
    held_out, repeats = _without_repeats(own_held_out, settings.system)
    held_out_prompts = {_comparison_key(row.prompt, settings.system): row.row for row in reversed(held_out)}
    train = []
    for row in rows:
        same = held_out_prompts.get(_comparison_key(row.prompt, settings.system))
        if same is None:
            train.append(row)
        else:
            duplicates.append(Duplicate(row.row, same, same_as_held_out=True))
    repeats = [Duplicate(one.row, one.same_as, held_out=True, same_as_held_out=True) for one in repeats]
    return train, held_out, [*sorted(duplicates, key=lambda one: one.row), *repeats]


def preview(encoded: EncodedExample, tokenizer: Any) -> list[tuple[str, bool]]:
    """Decode a row, including special tokens, into runs of tokens that are all trained on or all not.

    Args:
        encoded: The row.
        tokenizer: The model's tokenizer.

    Returns:
        (text, whether it is trained on) per run; for an encoder-decoder, the encoder's text comes first.
    """
    runs = _runs(encoded, tokenizer)
    return runs if encoded.source is None else [(whole_text(encoded.source.tolist(), tokenizer), False), *runs]


def _runs(encoded: EncodedExample, tokenizer: Any) -> list[tuple[str, bool]]:
    ends = (np.flatnonzero(np.diff(encoded.trained)) + 1).tolist()
    whole = whole_text(encoded.ids.tolist(), tokenizer)
    # Decode from the start each time, because a run alone may lose its first space or split a character.
    beginnings = [whole_text(encoded.ids[:end].tolist(), tokenizer) for end in ends]
    shared = [len(commonprefix([whole, beginning])) for beginning in beginnings]  # noqa: RUF071 - texts, not paths
    bounds = [0, *shared, len(whole)]
    runs = zip(pairwise(bounds), [0, *ends], strict=True)
    return [(whole[start:end], bool(encoded.trained[first])) for (start, end), first in runs]


def _read_held_out(settings: DataSettings, limits: Limits) -> SourceRows | None:
    """Read the separate held-out file with the same layout settings; return None if there is no such file."""
    source = settings.held_out_source or own_held_out(settings.source, settings.held_out_share)
    return read(settings.model_copy(update={"source": source}), limits) if source else None


def _split_notes(settings: DataSettings, train: int, held_out: int, refused: tuple[int, int]) -> Iterator[str]:
    """Yield remarks on the split; `refused` counts the training and the held-out rows refused after the draw."""
    if not settings.held_out_source and own_held_out(settings.source, settings.held_out_share):
        yield later("This set has its own held-out rows, so no share is drawn from the others.")
    if settings.held_out_share and not settings.held_out_source and not held_out and train > 1:
        yield later("No rows are held out: all rows have the same prompt, and rows with the same prompt stay together.")
    if settings.held_out_share and any(refused):
        yield say(
            "The held-out rows were drawn before the chat template was applied. Rows refused after that: {train:,} for "
            "training, {held_out:,} held out.",
            train=refused[0],
            held_out=refused[1],
        )


def _encode(
    examples: Sequence[Example], tokenizer: Any, settings: DataSettings, progress: ReadCallback | None
) -> tuple[list[EncodedExample], list[Refusal]]:
    rows: list[EncodedExample] = []
    refusals: list[Refusal] = []
    in_use = _in_use.setdefault(tokenizer, WeakValueDictionary())
    length, too_long, system = settings.maximum_length, settings.too_long, settings.system
    for count, example in enumerate(examples, start=1):
        if progress and count % PROGRESS_ROWS == 0:
            progress(count, len(examples))
        row = example.with_last_reply_only() if settings.trained_turns == "last" else example
        key = row, length, too_long, system
        found = in_use.get(key) or encode(row, tokenizer, length, too_long=too_long, system=system)
        if isinstance(found, EncodedExample):
            in_use[key] = found
            rows.append(found)
        else:
            refusals.append(found)
    return rows, refusals


def _draw_held_out(prompts: Sequence[ComparisonKey], settings: DataSettings) -> set[int]:
    """Draw the held-out rows and return their indices.

    Rows with the same prompt stay together. Prompts are drawn in random order up to the rounded share (at least one
    row), skipping those that would exceed it. If every prompt would exceed the share, the prompt with the fewest rows
    is drawn. If the share is 0, or there are several rows and all have the same prompt, none is drawn.
    """
    groups: dict[ComparisonKey, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(index)
    if not settings.held_out_share or (len(groups) == 1 and len(prompts) > 1):
        return set()
    rows = max(1, round(settings.held_out_share * len(prompts)))
    in_order = list(groups.values())
    shuffled = [in_order[index] for index in stream(Purpose.SPLIT, settings.split_seed).permutation(len(groups))]
    drawn: set[int] = set()
    for group in shuffled:
        if len(drawn) + len(group) <= rows:
            drawn.update(group)
    smallest = min(shuffled, key=lambda group: len(group), default=[])
    return drawn or set(smallest)


def _comparison_key(messages: Sequence[Message], system: str) -> ComparisonKey:
    """Return the messages, with `system` prepended if they have no system prompt, as a hashable value."""
    return tuple((turn.role, turn.content, turn.fields) for turn in with_system(messages, system))


def _without_repeats(examples: Sequence[Example], system: str) -> tuple[list[Example], list[Duplicate]]:
    first: dict[ComparisonKey, int] = {}
    kept, repeats = [], []
    for example in examples:
        same = first.setdefault(_comparison_key(example.messages, system), example.row)
        if same == example.row:
            kept.append(example)
        else:
            repeats.append(Duplicate(example.row, same))
    return kept, repeats


def _reasons(refusals: Sequence[Refusal], duplicates: int) -> str:
    """Return in parentheses how many rows were left out, with the first reason; "" if none were."""
    words = plural(duplicates, "{count:,} duplicate was left out", "{count:,} duplicates were left out")
    reasons = [say(words, count=duplicates)] if duplicates else []
    if refusals:
        words = plural(
            len(refusals),
            "{count:,} row was refused; row {row:,}: {reason}",
            "{count:,} rows were refused; row {row:,}: {reason}",
        )
        reasons.append(say(words, count=len(refusals), row=refusals[0].row, reason=refusals[0].reason))
    return say(" ({reasons})", reasons=say("; ").join(reasons)) if reasons else ""


def _shortage(
    train: Sequence[EncodedExample], held_out: Sequence[EncodedExample], reasons: str, *, wants_held_out: bool
) -> str:
    """Return why there are too few rows for a study; "" if there are enough."""
    if len(train) < 2:
        words = plural(
            len(train),
            "Only 1 row is left for training{why}, but a study needs at least 2: use more rows, a smaller held-out "
            "share or a longer maximum length.",
            "No rows are left for training{why}, but a study needs at least 2: use more rows, a smaller held-out "
            "share or a longer maximum length.",
        )
        return say(words, why=reasons)
    if wants_held_out and not held_out:
        words = later(
            "No held-out rows are left{why}: use more rows or a longer maximum length, or train without held-out rows."
        )
        return say(words, why=reasons)
    return ""
