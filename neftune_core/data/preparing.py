"""From a source to tokens ready for training: duplicates out, a split, and the tokens of both parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from neftune_core.data.chat import Encoded, encode
from neftune_core.data.examples import Example, Message, Refusal, fingerprint
from neftune_core.data.reading import PROGRESS_ROWS, Progress, Reading, read, read_all
from neftune_core.data.settings import DataSettings
from neftune_core.data.starters import held_out_file
from neftune_core.errors import DataError
from neftune_core.language import later, say
from neftune_core.models.token_text import whole_text
from neftune_core.randomness import Purpose, stream
from neftune_core.settings import Limits


@dataclass(frozen=True)
class Prepared:
    """Rows ready for training, and what became of the others.

    cut: rows whose end did not fit; kept: rows in both parts; duplicates_removed: rows left out since another
    row says the same, or since their prompt is among the held-out ones; sha256: of all examples read; shortage: why
    a study cannot be trained on them, as a sentence ("" if it can).
    """

    train: list[Encoded]
    held_out: list[Encoded]
    refusals: list[Refusal]
    cut: int
    kept: int
    duplicates_removed: int
    sha256: str
    title: str
    licence: str
    reading: Reading
    shortage: str = ""

    @property
    def refused(self) -> int:
        """How many rows could not be used."""
        return len(self.refusals)


def prepare(settings: DataSettings, tokenizer: Any, limits: Limits, *, progress: Progress | None = None) -> Prepared:
    """Return what `examine` returns; raise `DataError` if a study cannot be trained on it.

    That is if fewer than 2 training rows remain, or no held-out row though some were asked for.
    """
    prepared = examine(settings, tokenizer, limits, progress=progress)
    if prepared.shortage:
        raise DataError(prepared.shortage)
    return prepared


def examine(settings: DataSettings, tokenizer: Any, limits: Limits, *, progress: Progress | None = None) -> Prepared:
    """Return the training and held-out rows of `settings.source` as tokens, however few they are.

    `progress(rows done, rows at most)` is called now and then, first while reading and again while tokenising.
    Raises what `read_all` raises.
    """
    reading = read_all(settings, limits, progress=progress)
    own = _held_out_reading(settings, limits)
    train, held_out, removed = split(reading.examples, settings, own.examples if own else None)
    train_rows, train_refusals = _encoded(train, tokenizer, settings, progress)
    held_out_rows, held_out_refusals = _encoded(held_out, tokenizer, settings, progress)
    foreign = [*(own.refusals if own else []), *(held_out_refusals if own else [])]
    refusals = [*reading.refusals, *train_refusals, *([] if own else held_out_refusals)]
    why = _why([*refusals, *foreign], removed)
    return Prepared(
        train=train_rows,
        held_out=held_out_rows,
        refusals=sorted(refusals, key=lambda refusal: refusal.row)
        + [replace(refusal, reason=f"in the held-out file: {refusal.reason}") for refusal in foreign],
        cut=sum(row.cut for row in [*train_rows, *held_out_rows]),
        kept=len(train_rows) + len(held_out_rows),
        duplicates_removed=removed,
        sha256=fingerprint([*reading.examples, *(own.examples if own else [])]),
        title=reading.title,
        licence=reading.licence,
        reading=replace(reading, notes=(*reading.notes, *_brought_note(settings))),
        shortage=reading.shortage or _shortage(train_rows, held_out_rows, settings, why),
    )


def split(
    examples: Sequence[Example], settings: DataSettings, own_held_out: Sequence[Example] | None = None
) -> tuple[list[Example], list[Example], int]:
    """Training rows, held-out rows, and how many duplicates were removed.

    Of rows that say the same (case and spacing aside) the first stays. The held-out rows are `own_held_out`, or
    `held_out_share` of the rows drawn by `split_seed` and their number alone. A training row whose prompt is
    among the held-out prompts is left out of training. Both parts keep the order of their source.
    """
    rows = _without_repeats(examples)
    if own_held_out is not None:
        train, held_out = rows, _without_repeats(own_held_out)
        repeats = len(own_held_out) - len(held_out)
    else:
        drawn = _drawn(len(rows), settings.held_out_share, settings.split_seed)
        train = [row for place, row in enumerate(rows) if place not in drawn]
        held_out = [row for place, row in enumerate(rows) if place in drawn]
        repeats = 0
    asked = {_said(row.prompt) for row in held_out}
    kept = [row for row in train if _said(row.prompt) not in asked]
    return kept, held_out, len(examples) - len(rows) + repeats + len(train) - len(kept)


def length_histogram(encoded: Sequence[Encoded]) -> dict[str, list[int]]:
    """The lengths of the rows in tokens, in order: `prompt` (before the first reply) and `total`."""
    return {
        "prompt": [row.prompt_length for row in encoded],
        "total": [row.length for row in encoded],
    }


def preview(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """The text of a row in runs, each with whether its tokens are trained on; special tokens are shown.

    Of an encoder-decoder what the encoder reads comes first.
    """
    runs = _runs(encoded, tokenizer)
    return runs if encoded.source is None else [(whole_text(encoded.source, tokenizer), False), *runs]


def _runs(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    changes = [0, *(np.flatnonzero(np.diff(encoded.trained)) + 1).tolist(), len(encoded.ids)]
    pieces: list[tuple[str, bool]] = []
    before = ""
    for start, end in pairwise(changes):
        # Decoded from the start each time: some tokenizers drop the space before a piece decoded alone.
        so_far = whole_text(encoded.ids[:end], tokenizer)
        alone = not so_far.startswith(before)
        piece = whole_text(encoded.ids[start:end], tokenizer) if alone else so_far[len(before) :]
        pieces.append((piece, bool(encoded.trained[start])))
        before = so_far
    return pieces


def _held_out_reading(settings: DataSettings, limits: Limits) -> Reading | None:
    """The own held-out file, read with the same layout and columns where those were given by hand."""
    source = settings.held_out_source or _brought(settings)
    return read(settings.model_copy(update={"source": source}), limits) if source else None


def _brought_note(settings: DataSettings) -> tuple[str, ...]:
    if settings.held_out_source or not _brought(settings):
        return ()
    return (later("This set brings its own held-out rows: no share is drawn from the others."),)


def _brought(settings: DataSettings) -> str:
    """The held-out file that a starter set brings, as a source; empty where no held-out rows are wanted."""
    scheme, _, name = settings.source.partition(":")
    file = held_out_file(name) if scheme == "starter" and settings.held_out_share > 0 else None
    return f"file:{file}" if file else ""


def _encoded(
    examples: Sequence[Example], tokenizer: Any, settings: DataSettings, progress: Progress | None
) -> tuple[list[Encoded], list[Refusal]]:
    rows: list[Encoded] = []
    refusals: list[Refusal] = []
    for count, example in enumerate(examples, start=1):
        if progress and count % PROGRESS_ROWS == 0:
            progress(count, len(examples))
        found = encode(
            example,
            tokenizer,
            settings.maximum_length,
            too_long=settings.too_long,
            system=settings.system,
        )
        if isinstance(found, Encoded):
            rows.append(found)
        else:
            refusals.append(found)
    return rows, refusals


def _drawn(count: int, share: float, seed: int) -> set[int]:
    """The places held out: the share rounded, at least one where any share is asked for."""
    if not share or not count:
        return set()
    return set(stream(Purpose.SPLIT, seed).permutation(count)[: max(1, round(share * count))].tolist())


def _said(messages: Sequence[Message]) -> tuple[tuple[str, str], ...]:
    """Messages as they count for comparison: without case, differences of spacing, and system messages."""
    return tuple((role, " ".join(content.casefold().split())) for role, content in messages if role != "system")


def _without_repeats(examples: Sequence[Example]) -> list[Example]:
    seen: set[Any] = set()
    kept = []
    for example in examples:
        said = _said(example.messages)
        if said not in seen:
            seen.add(said)
            kept.append(example)
    return kept


def _why(refusals: Sequence[Refusal], duplicates: int) -> str:
    reasons = [say("{count:,} duplicates were left out", count=duplicates)] if duplicates else []
    if refusals:
        first = refusals[0]
        reasons.append(
            say(
                "{count:,} rows were refused; row {row:,}: {reason}",
                count=len(refusals),
                row=first.row,
                reason=first.reason,
            )
        )
    return say(" ({reasons})", reasons=say("; ").join(reasons)) if reasons else ""


def _shortage(train: Sequence[Encoded], held_out: Sequence[Encoded], settings: DataSettings, why: str) -> str:
    if len(train) < 2:
        return say(
            "Only {count} rows are left for training, and a study needs 2: give it more rows, a "
            "smaller held-out share or a longer maximum length{why}.",
            count=len(train),
            why=why,
        )
    if not held_out and (settings.held_out_share > 0 or settings.held_out_source):
        return say(
            "No held-out row is left: give it more rows, a longer maximum length, or set the share to 0{why}.",
            why=why,
        )
    return ""
