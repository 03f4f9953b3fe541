"""The commands for answers: `neftune compare` generates and measures them, `neftune judge` has a model judge them."""

from __future__ import annotations

import os
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from neftune_core.commands.common import Command, progress_line, study_by_name, table_file
from neftune_core.data.chat import with_system
from neftune_core.durable import write_whole
from neftune_core.errors import DataError, InvalidSetting
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.evaluation.text_measures import with_measures
from neftune_core.language import plural
from neftune_core.settings import Limits
from neftune_core.studies.language_judge.endpoint import KEY_VARIABLE, Judge
from neftune_core.studies.language_judge.verdicts import WRITERS, judge_arms, judged_text
from neftune_core.studies.records.log import as_jsonl


@dataclass
class CompareCommand(Command):
    """Answer prompts with a base model, and with arms that were trained on it, from one or more records."""

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
    """Arms that answer in addition to the base model; all arms of each record by default. `NAME@best` is an arm with
    the weights of its best evaluation."""
    seeds: tuple[int, ...] = ()
    """Seeds whose arms answer; the first seed of each record by default."""
    seed: int | None = None
    """The same as --seeds with one value."""
    decoding: Annotated[DecodingSettings, tyro.conf.arg(name="")] = field(default_factory=DecodingSettings)
    """The settings for decoding."""


def compare(arguments: CompareCommand) -> int:
    """Print the answers, write them to `--out` if given, and return the exit status.

    Raises:
        InvalidSetting: If no record is given, or `--out` cannot be written.
        DataError: If there is no prompt.
        LabError: If the records or the prompts cannot be used.
    """
    from neftune_core.studies.comparison import compare_arms, selected_arms
    from neftune_core.studies.prompts import WRITERS, read_prompts

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


@dataclass
class JudgeCommand(Command):
    """Have a language model at an OpenAI-compatible endpoint compare the stored answers of two arms."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder) or its folder; a study of a sweep is SWEEP/CELL. Its prompts and the
    answers of both arms are sent to the endpoint. The API key is read from NEFTUNE_JUDGE_KEY."""
    base_url: str = ""
    """URL of the API, such as http://127.0.0.1:8000/v1."""
    model: str = ""
    """Name of the model at this endpoint."""
    arms: tuple[str, ...] = ()
    """The two arms; by default the first arm with noise and the control. `base` is the untrained model."""
    seed: int | None = None
    """Judge the answers of this seed only; all seeds by default."""
    most: int | None = None
    """Maximum number of prompts to judge."""
    out: Path | None = None
    """Also write the prompts, answers and verdicts to this new file: .json with the win rates, or .csv."""


def judge(arguments: JudgeCommand) -> int:
    """Print the win rates, write the verdicts to `--out` if given, and return the exit status.

    Raises:
        InvalidSetting: If there are not exactly two arms, or an option is not valid.
        LabError: If the record or the judge cannot be used.
    """
    table = table_file(arguments.out, WRITERS)
    record = study_by_name(arguments.record)
    arms = arguments.arms or tuple(reversed(list(record.arms)[:2]))
    if len(arms) != 2:
        raise InvalidSetting("A comparison needs two arms: give both after --arms.")
    asked = Judge(arguments.base_url, arguments.model, os.environ.get(KEY_VARIABLE, "").strip())
    found, show = None, progress_line()
    for found in judge_arms(record, (arms[0], arms[1]), asked, seed=arguments.seed, most=arguments.most):
        show("Judging", f"{found.done} of {found.prompts} prompts")
    print(file=sys.stderr)
    if found is not None:
        print(judged_text(found))
        if table:
            write_whole(table[0], WRITERS[table[1]](found, asked))
    return 0
