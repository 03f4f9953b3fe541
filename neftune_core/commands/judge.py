"""The `neftune judge` command: have a language model compare the stored answers of two arms."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from neftune_core.commands.common import Command, progress_line, study_by_name, table_file
from neftune_core.durable import write_whole
from neftune_core.errors import InvalidSetting


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
    """Print the win rates, write the verdicts to `--out` if given, and return the exit status."""
    from neftune_core.studies.language_judge.endpoint import KEY_VARIABLE, Judge
    from neftune_core.studies.language_judge.verdicts import WRITERS, judge_arms, judged_text

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
