"""The `neftune compare` command: compare the answers of arms with the same base model, from one or more records."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from neftune_core.commands.common import study_by_name, table_file
from neftune_core.durable import write_whole
from neftune_core.errors import DataError, InvalidSetting
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.language import plural
from neftune_core.settings import Limits


@dataclass
class CompareCommand:
    """Answer prompts with a base model, and with arms from one or more records that were trained on it."""

    records: Annotated[tuple[str, ...], tyro.conf.Positional]
    """The records' ids (the names of their folders) or their folders; a study of a sweep is SWEEP/CELL."""
    prompts: Path
    """A text file with one prompt per line, or JSONL in which each line is a string, a list of messages (`role`,
    `content`; the last from the user), or an object with `prompt` or `messages` and an optional `reference`."""
    json: bool = False
    """Print one JSON object per prompt instead of text."""
    out: Path | None = None
    """Also write the answers and their measures to this new .jsonl or .csv file."""
    arms: tuple[str, ...] = ()
    """Arms that answer, in addition to the base model; all arms of each record by default. `NAME@best` is an arm with
    the weights of its best evaluation."""
    seeds: tuple[int, ...] = ()
    """Seeds whose arms answer; the first seed of each record by default."""
    seed: int | None = None
    """A single seed; the same as --seeds with one value."""
    decoding: Annotated[DecodingSettings, tyro.conf.arg(name="")] = field(default_factory=DecodingSettings)
    """The settings for decoding."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


def compare(arguments: CompareCommand) -> int:
    """Print the answers, write them to `--out` if given, and return the exit status."""
    from neftune_core.data.chat import with_system
    from neftune_core.evaluation.text_measures import with_measures
    from neftune_core.studies.comparison import compare_arms, selected_arms
    from neftune_core.studies.prompts import WRITERS, read_prompts
    from neftune_core.studies.records.log import as_jsonl

    if not arguments.records:
        raise InvalidSetting("No record was given: choose one from the list that `neftune runs` prints.")
    table = table_file(arguments.out, WRITERS)
    seeds = [*arguments.seeds, *([] if arguments.seed is None else [arguments.seed])]
    records = list({record.folder: record for record in map(study_by_name, arguments.records)}.values())
    chosen = selected_arms(records, arms=arguments.arms or None, seeds=seeds or None)
    system = arguments.decoding.system
    read = read_prompts(arguments.prompts, Limits())
    prompts = [replace(one, messages=with_system(one.messages, system)) for one in read]
    if not prompts:
        raise DataError(f"There is no prompt in {arguments.prompts.name}: write one per line.")
    answers = deque(compare_arms(chosen, prompts, arguments.decoding, Limits()), maxlen=1).pop()
    lines = [with_measures(line) for line in answers]
    if table:
        write_whole(table[0], WRITERS[table[1]](lines))
    sys.stdout.write(as_jsonl(lines) if arguments.json else "".join(map(_text, lines)))
    return 0


def _text(line: dict[str, Any]) -> str:
    reference = f"  (reference) {line['reference']}\n" if line["reference"] else ""
    number = f" (answer {line['sample']})" if "sample" in line else ""
    answers = "".join(f"  [{name}] {answer['text']}\n    {numbers(answer)}\n" for name, answer in line["arms"].items())
    cut = "  (the beginning was cut off: the prompt is too long for the model)\n" if line.get("cut") else ""
    return f"> {line['prompt']}{number}\n{cut}{reference}{answers}\n"


ENDINGS = {"stop": "ended by itself", "limit": "cut off at the length limit"}


def numbers(answer: dict[str, Any]) -> str:
    """Return the measures of an answer as one line of text."""
    tokens = answer["tokens"]
    parts = [f"{tokens:,} {plural(tokens, 'token', 'tokens')}", ENDINGS.get(answer.get("ended", ""), "unfinished")]
    if answer["repetition"] is not None:
        parts.append(f"{answer['repetition']:.0%} of word pairs repeated")
    if answer["rouge_l"] is not None:
        parts.append(f"ROUGE-L {answer['rouge_l']:.2f} against the reference")
    return ", ".join(parts)
