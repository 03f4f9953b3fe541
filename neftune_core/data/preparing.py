"""From a source to tokens ready for training: duplicates out, a split, and the tokens of both parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from neftune_core.data.chat import Encoded, encode, with_system
from neftune_core.data.examples import CutRow, Duplicate, Example, Message, Refusal, fingerprint
from neftune_core.data.formats.starters import held_out_file
from neftune_core.data.settings import DataSettings
from neftune_core.data.sources import PROGRESS_ROWS, Progress, Reading, read, read_all
from neftune_core.errors import DataError
from neftune_core.language import later, say
from neftune_core.models.token_text import whole_text
from neftune_core.models.tokenizing import day_of
from neftune_core.randomness import Purpose, stream
from neftune_core.settings import Limits


@dataclass(frozen=True)
class Prepared:
    """Rows ready for training, and what became of the others.

    Attributes:
        train: Training rows; `example.row` is the place of each in its source, counted from 1.
        held_out: Held-out rows.
        refusals: Rows that cannot be used, with the reason.
        duplicates: Rows left out since another row has the same prompt and answer, or since their prompt is held out.
        sha256: Hash of all examples read, and of the day that a chat template prints as that of today.
        title: Name of the file or set.
        licence: Licence of the data.
        reading: How the source was read: layout, columns, unused columns.
        notes: Sentences on how the rows were read and split.
        own_held_out: Whether the held-out rows are of a file of their own, with its own row numbers.
        shortage: Why a study cannot be trained on them, as a sentence; "" if it can.
    """

    train: list[Encoded]
    held_out: list[Encoded]
    refusals: list[Refusal]
    duplicates: tuple[Duplicate, ...]
    sha256: str
    title: str
    licence: str
    reading: Reading
    notes: tuple[str, ...] = ()
    own_held_out: bool = False
    shortage: str = ""

    @property
    def kept(self) -> int:
        """How many rows are in both parts."""
        return len(self.train) + len(self.held_out)

    @property
    def cut_rows(self) -> tuple[CutRow, ...]:
        """The rows whose end did not fit, in the order of the parts."""
        return tuple(
            CutRow(row.example.row, row.tokens_removed, held_out=own)
            for part, own in ((self.train, False), (self.held_out, self.own_held_out))
            for row in part
            if row.cut
        )

    @property
    def cut(self) -> int:
        """How many rows were cut."""
        return len(self.cut_rows)

    @property
    def duplicates_removed(self) -> int:
        """How many rows were left out as duplicates."""
        return len(self.duplicates)

    @property
    def refused(self) -> int:
        """How many rows could not be used."""
        return len(self.refusals)


Said = tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
"""Messages as they are compared: role, content and fields of each."""


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
    train, held_out, duplicates = split(reading.examples, settings, own.examples if own else None)
    train_rows, train_refusals = _encoded(train, tokenizer, settings, progress)
    held_out_rows, held_out_refusals = _encoded(held_out, tokenizer, settings, progress)
    foreign = [*(own.refusals if own else []), *(held_out_refusals if own else [])]
    refusals = [*reading.refusals, *train_refusals, *([] if own else held_out_refusals)]
    why = _why([*refusals, *foreign], len(duplicates))
    asked = bool(held_out) or own is not None
    return Prepared(
        train=train_rows,
        held_out=held_out_rows,
        refusals=sorted(refusals, key=lambda refusal: refusal.row)
        + [
            Refusal(refusal.row, say("in the held-out file: {reason}", reason=refusal.reason), held_out=True)
            for refusal in foreign
        ],
        duplicates=tuple(duplicates),
        sha256=fingerprint([*reading.examples, *(own.examples if own else [])], day_of(tokenizer)),
        title=reading.title,
        licence=reading.licence,
        reading=reading,
        notes=(
            *reading.notes,
            *_brought_note(settings),
            *_one_prompt_note(train, held_out, settings),
        ),
        own_held_out=own is not None,
        shortage=reading.shortage or _shortage(train_rows, held_out_rows, why, asked=asked),
    )


def split(
    examples: Sequence[Example], settings: DataSettings, own_held_out: Sequence[Example] | None = None
) -> tuple[list[Example], list[Example], list[Duplicate]]:
    """Divide rows into a training and a held-out part.

    Rows with one prompt stay on one side. Both parts keep the order of their source.

    Args:
        examples: The rows of the source.
        settings: `held_out_share` of the rows is drawn by `split_seed` and the rows' places alone.
        own_held_out: The held-out rows, if they have a file of their own; nothing is drawn then, and training rows
            whose prompt is among them are left out.

    Returns:
        Training rows, held-out rows, and the rows that were left out.
    """
    rows, duplicates = _without_repeats(examples, settings.system)
    if own_held_out is None:
        drawn = _drawn([_said(row.prompt, settings.system) for row in rows], settings)
        train = [row for place, row in enumerate(rows) if place not in drawn]
        return train, [row for place, row in enumerate(rows) if place in drawn], duplicates
    held_out, repeats = _without_repeats(own_held_out, settings.system)
    asked = {_said(row.prompt, settings.system): row.row for row in reversed(held_out)}
    train = []
    for row in rows:
        same = asked.get(_said(row.prompt, settings.system))
        if same is None:
            train.append(row)
        else:
            duplicates.append(Duplicate(row.row, same, same_as_held_out=True))
    repeats = [Duplicate(one.row, one.same_as, held_out=True, same_as_held_out=True) for one in repeats]
    return train, held_out, [*sorted(duplicates, key=lambda one: one.row), *repeats]


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
    return runs if encoded.source is None else [(whole_text(encoded.source.tolist(), tokenizer), False), *runs]


def _runs(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    ends = (np.flatnonzero(np.diff(encoded.trained)) + 1).tolist()
    whole = whole_text(encoded.ids.tolist(), tokenizer)
    # Decoded from the start each time: a piece decoded alone may lose its space, or be part of a character.
    places = [0, *(_common(whole, whole_text(encoded.ids[:end].tolist(), tokenizer)) for end in ends), len(whole)]
    runs = zip(pairwise(places), [0, *ends], strict=True)
    return [(whole[start:end], bool(encoded.trained[first])) for (start, end), first in runs]


def _common(whole: str, beginning: str) -> int:
    """Return how many characters two texts begin with in common."""
    if whole.startswith(beginning):
        return len(beginning)
    pairs = enumerate(zip(whole, beginning, strict=False))
    return next((place for place, (one, other) in pairs if one != other), len(whole))


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
            example.with_last_reply_only() if settings.trained_turns == "last" else example,
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


def _drawn(prompts: Sequence[Said], settings: DataSettings) -> set[int]:
    """The places held out: the share rounded, at least one if any share is asked for; one prompt's rows together.

    Prompts are drawn until the next would be too much; if each is, the one with the fewest rows. A single prompt
    stays in training.
    """
    groups: dict[Said, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(place)
    if not settings.held_out_share or (len(groups) == 1 and len(prompts) > 1):
        return set()
    wanted = max(1, round(settings.held_out_share * len(prompts)))
    order = stream(Purpose.SPLIT, settings.split_seed).permutation(len(groups))
    places = list(groups.values())
    drawn: set[int] = set()
    for group in (places[number] for number in order):
        if len(drawn) + len(group) <= wanted:
            drawn.update(group)
    smallest = min((places[number] for number in order), key=lambda group: len(group), default=[])
    return drawn or set(smallest)


def _said(messages: Sequence[Message], system: str) -> Said:
    """Messages as they count for comparison: with the system prompt put before them, to the letter."""
    return tuple((turn.role, turn.content, turn.fields) for turn in with_system(messages, system))


def _without_repeats(examples: Sequence[Example], system: str) -> tuple[list[Example], list[Duplicate]]:
    first: dict[Said, int] = {}
    kept, repeats = [], []
    for example in examples:
        same = first.setdefault(_said(example.messages, system), example.row)
        if same == example.row:
            kept.append(example)
        else:
            repeats.append(Duplicate(example.row, same))
    return kept, repeats


def _one_prompt_note(train: Sequence[Example], held_out: Sequence[Example], settings: DataSettings) -> tuple[str, ...]:
    if held_out or len(train) < 2 or not settings.held_out_share or settings.held_out_source:
        return ()
    return (later("No row is held out: all rows have one prompt, and rows with one prompt stay together."),)


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


def _shortage(train: Sequence[Encoded], held_out: Sequence[Encoded], why: str, *, asked: bool) -> str:
    if len(train) < 2:
        return say(
            "Only {count} rows are left for training, and a study needs 2: give it more rows, a "
            "smaller held-out share or a longer maximum length{why}.",
            count=len(train),
            why=why,
        )
    if not held_out and asked:
        return say(
            "No held-out row is left: give it more rows, a longer maximum length, or set the share to 0{why}.",
            why=why,
        )
    return ""
