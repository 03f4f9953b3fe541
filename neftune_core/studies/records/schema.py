"""Typed models of the files of a record, with size limits.

A record may come from another machine, so everything is validated here before use. Unknown fields are kept, because
older and newer versions write different ones.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from neftune_core.bounded_io import (
    LARGEST_NUMBER,
    LARGEST_WHOLE,
    SETTINGS_BYTES,
    SETTINGS_VALUES,
    count_values,
    read_file,
    read_json,
    read_lines,
)
from neftune_core.errors import InvalidSetting
from neftune_core.language import later, say
from neftune_core.models.settings import PRECISIONS

LINE_BYTES = 1_000_000
"""Maximum length of a log line in bytes; longer lines are ignored."""
LOG_BYTES, LOG_VALUES = 32_000_000, 1_000_000
"""Maximum size of the log of an imported record, in bytes and in values: about 20,000 steps of five arms."""
OWN_LOG_BYTES = 2_000_000_000
"""Maximum size of the log of a record made on this machine, in bytes; the server also limits the steps."""
ANSWERS_BYTES, ANSWERS_VALUES = 16_000_000, 1_000_000
VALUES_AN_ANSWER = 50
"""Number of values added to the count of each answer line, so that many empty lines soon reach the limit."""
EXAMPLES_BYTES = 32_000_000
"""Maximum size of `examples.jsonl` of an imported record, in bytes; its values are limited like those of answers."""
JUDGE_BYTES = 64_000_000
"""Maximum size of `judge.jsonl`, in bytes."""
METRICS_BYTES, METRICS_VALUES = 4_000_000, 200_000
ADAPTER_CONFIG_BYTES = 256_000

Whole = Annotated[int, Field(ge=-LARGEST_WHOLE, le=LARGEST_WHOLE)]
Count = Annotated[int, Field(ge=0, le=LARGEST_WHOLE)]
Moment = Annotated[float, Field(ge=0, le=4e9)]  # seconds since 1970, until 2096
Name = Annotated[str, StringConstraints(max_length=200)]
Arms = Annotated[dict[Name, dict[Name, Any]], Field(max_length=200)]
Text = Annotated[str, StringConstraints(max_length=4000)]
Number = float | bool | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Model(_Part):
    source: str | None = None
    name: str | None = None
    licence: str | None = None
    precision: Literal[tuple(PRECISIONS)] | None = None  # type: ignore[valid-type]
    fingerprint: str | None = None
    parameters: Count | None = None
    trained_parameters: Count | None = None
    width: Count | None = None
    layers: Count | None = None
    reach: Annotated[list[Text], Field(max_length=20)] = []


class _Data(_Part):
    title: str | None = None
    licence: str | None = None
    sha256: str | None = None
    train: Count = 1
    held_out: Count = 0
    cut: Count = 0
    refused: Count = 0
    frequency_loss: float | None = None


class _Question(_Part):
    measure: str
    epoch: str


class _Machine(_Part):
    processor: str | None = None
    cores: Count | None = None
    memory_bytes: Count | None = None
    gpus: list[Any] = []
    device: str | None = None
    system: str | None = None
    python: str | None = None
    torch: str | None = None
    transformers: str | None = None


class _Continued(_Part):
    record: Name
    step: Count


class About(_Part):
    """Content of `record.json`.

    The owner is the hash of the owner's key, "" for the command line. `samples` describes the rows of each
    measured sample, and `sample_sizes` gives their number, which earlier versions did not store. `continues` lists the
    records that this one continues, oldest first.
    """

    format: Count = 1
    owner: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] | None = None
    created: Moment | None = None
    imported: bool = False
    arms: Arms = {}
    model: _Model = _Model()
    data: _Data = _Data()
    samples: dict[Name, Text] = {}
    sample_sizes: dict[Name, Count] = {}
    machine: _Machine = _Machine()
    question: _Question | None = None
    continues: Annotated[list[_Continued], Field(max_length=1000)] = []


class _Event(_Part):
    """An event with checked field types; only the seed and numbers that can be NaN may be null."""

    event: Name
    time: Moment = 0
    seed: Whole | None = None
    seeds: Count = 1
    step: Count = 0
    steps: Count = 0
    studies: Count = 0
    tokens: Count = 0
    prompts: Count = 0
    epoch: float | None = None
    learning_rate: float | None = None
    message: Text = ""
    cell: str = ""
    state: str = ""
    arms: Arms = {}


class _Counted(_Event):
    step: Count
    arms: Annotated[dict[Name, dict[Name, Number]], Field(max_length=200)]


class _Answer(_Part):
    text: str
    tokens: Count
    ended: str = ""
    characters: Count | None = None
    repetition: float | None = None
    rouge_l: float | None = None


class AnswerLine(_Part):
    """One line of `answers.jsonl`: a prompt with one answer per arm; `sample` numbers several answers to a prompt."""

    prompt: str
    reference: str | None = None
    seed: Whole | None = None
    sample: Count | None = None
    arms: Annotated[dict[Name, _Answer], Field(max_length=200)]


Loss = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)] | None
Amount = Annotated[float, Field(ge=0, le=1e9)]
PerRow = Field(max_length=10_000)


class _Example(_Part):
    model_config = ConfigDict(extra="ignore")  # such as the texts, which are large and not read


class _ArmRows(_Example):
    loss: Annotated[list[Loss], PerRow]
    hits: Annotated[list[Amount], PerRow]


class SampleRows(_Example):
    """Response tokens of every row of a sample, and their losses and hits by arm."""

    tokens: Annotated[list[Amount], PerRow]
    arms: Annotated[dict[Name, _ArmRows], Field(max_length=200)]


Counts = Annotated[list[Amount], Field(max_length=50)]
Scores = Annotated[list[Amount | None] | list[Counts], PerRow]


class _SampleScores(_Example):
    scores: Annotated[dict[Name, Annotated[dict[Name, Scores], Field(max_length=100)]], Field(max_length=200)]


class RowsLine(_Example):
    """A line of `examples.jsonl` with the measures of every row of each sample at one evaluation."""

    kind: Literal["rows"]
    seed: Whole
    step: Count
    samples: dict[Name, SampleRows]


class ScoresLine(_Example):
    """A line of `examples.jsonl` with the scores of every answer of each sample when a seed ended."""

    kind: Literal["answers"]
    seed: Whole
    samples: dict[Name, _SampleScores]


_EXAMPLES_LINE: TypeAdapter[RowsLine | ScoresLine] = TypeAdapter(
    Annotated[RowsLine | ScoresLine, Field(discriminator="kind")]
)


class _Robustness(_Part):
    amounts: list[float]
    arms: dict[Name, dict[Name, list[float | None]]]


class SeedMetrics(_Part):
    """The entry of one seed in `metrics.json`; `samples` describes the measured samples.

    `sample_sizes` gives their numbers of rows; earlier versions stored only the descriptions.
    """

    arms: Annotated[dict[Name, dict[Name, Number]], Field(max_length=200)] = {}
    robustness: dict[Name, _Robustness] = {}
    signatures: dict[Name, Text] = {}
    samples: dict[Name, Text] = {}
    sample_sizes: dict[Name, Count] = {}


COUNTED = ("step", "evaluated")
"""Events that occur once per seed and step; their losses are plotted."""


def event_of(line: bytes) -> dict[str, Any] | None:
    """Parse a line of a log; return None if it is not a valid event."""
    return _parse(line, lambda entry: _Counted if entry.get("event") in COUNTED else _Event)


def answer_of(line: bytes) -> dict[str, Any] | None:
    """Parse a line of `answers.jsonl`; return None if it is not a valid answer."""
    return _parse(line, lambda entry: AnswerLine)


def _parse(line: bytes, model: Callable[[dict[str, Any]], type[BaseModel]]) -> dict[str, Any] | None:
    try:
        entry = read_json(line, LOG_VALUES)
        (model(entry) if isinstance(entry, dict) else _Part).model_validate(entry)
    except (ValueError, TypeError):  # pydantic errors are ValueErrors
        return None
    return dict(entry)


def about_of(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the valid parts of `record.json`, and the names of the invalid ones.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is too large or not a JSON object.
    """
    found = read_json(read_file(path, SETTINGS_BYTES), SETTINGS_VALUES, odd_numbers=True)
    if not isinstance(found, dict):
        raise ValueError("no object")
    try:
        About.model_validate(found)
    except ValidationError as error:
        wrong = list(dict.fromkeys(str(fault["loc"][0]) for fault in error.errors(include_url=False)))
        return {name: value for name, value in found.items() if name not in wrong}, wrong
    return found, []


def metrics_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return the valid measures in `metrics.json` of each seed, by its number as text.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is too large or has no seeds.
    """
    found = read_json(read_file(path, METRICS_BYTES), METRICS_VALUES)
    seeds = found.get("seeds") if isinstance(found, dict) else None
    if not isinstance(seeds, dict):
        raise ValueError("no seeds")
    return {name: value for name, value in seeds.items() if _fits(SeedMetrics, value)}


def _fits(cls: type[BaseModel], value: Any) -> bool:
    try:
        cls.model_validate(value)
    except ValidationError:
        return False
    return True


def read_answers(path: Path) -> list[dict[str, Any]]:
    """Return the valid answers in an `answers.jsonl`, up to the size limit."""
    lines = _lines_within(path, ANSWERS_BYTES, ANSWERS_VALUES)
    return [answer for line in lines if (answer := answer_of(line)) is not None]


def read_examples(path: Path, *, imported: bool) -> Iterator[RowsLine | ScoresLine]:
    """Read an `examples.jsonl`.

    Args:
        path: The file; if it is missing, nothing is yielded.
        imported: Whether it belongs to an imported record, so that it is read only up to the limits.

    Yields:
        The valid lines.
    """
    limits = (EXAMPLES_BYTES, ANSWERS_VALUES) if imported else (OWN_LOG_BYTES, math.inf)
    for line in _lines_within(path, *limits):
        with contextlib.suppress(ValidationError):
            yield _EXAMPLES_LINE.validate_json(line)


def _lines_within(path: Path, most_bytes: int, most_values: float) -> Iterator[bytes]:
    left, values = most_bytes, most_values
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in read_lines(file, most_bytes):
            left, values = left - len(line), values - _values_of(line, 1)
            if min(left, values) < 0:
                return
            yield line


def fits_import(path: Path, most_bytes: int) -> bool:
    """Check the size of an `answers.jsonl`, `examples.jsonl` or `judge.jsonl` of a record.

    Args:
        path: The file.
        most_bytes: Maximum size in bytes.

    Returns:
        Whether it is within the limits of imported records; true if it is missing.
    """
    try:
        block = read_file(path, most_bytes)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return _values_of(block, block.count(b"\n")) <= ANSWERS_VALUES


def _values_of(block: bytes, lines: int) -> int:
    return count_values(block) + VALUES_AN_ANSWER * lines


def settings_text(path: Path) -> str:
    """Return the text of a settings file.

    Raises:
        InvalidSetting: If the file is too large.
        OSError: If the file cannot be read.
        UnicodeDecodeError: If the file is not UTF-8.
    """
    try:
        content = read_file(path, SETTINGS_BYTES)
    except ValueError:
        words = later("The settings file is larger than {most:,} kB: shorten it.")
        raise InvalidSetting(say(words, most=SETTINGS_BYTES // 1000)) from None
    return content.decode()
