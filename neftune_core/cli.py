"""The `neftune` command-line interface.

The exit status is 0 only on success. Errors are printed to standard error as one sentence.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import tyro

from neftune_core.commands import compare, data, machine, records, sweep, train
from neftune_core.commands.common import refuse
from neftune_core.errors import Cancelled, InvalidSetting, LabError
from neftune_core.models.threads import prepare_waiting
from neftune_core.sentences import sentence


def main() -> None:
    """Run the command line and exit with its status."""
    prepare_waiting()
    try:
        status = _main(sys.argv[1:])
    except (LabError, Cancelled) as error:
        status = refuse(str(error))
    except KeyboardInterrupt:
        status = refuse("Stopped on request.")
    except BrokenPipeError:
        status = 1
    except Exception as error:
        status = refuse(sentence(error))
    sys.exit(status)


def _main(arguments: list[str]) -> int:
    commands: dict[str, tuple[type, Callable[[Any], int]]] = {
        "serve": (machine.ServeCommand, machine.serve),
        "data": (data.DataCommand, data.data),
        "train": (train.TrainCommand, train.train),
        "sweep": (sweep.SweepCommand, sweep.sweep),
        "compare": (compare.CompareCommand, compare.compare),
        "judge": (compare.JudgeCommand, compare.judge),
        "report": (records.ReportCommand, records.report),
        "script": (records.ScriptCommand, records.script),
        "verdict": (records.VerdictCommand, records.verdict),
        "runs": (records.RunsCommand, records.runs),
        "models": (machine.ModelsCommand, machine.models),
        "world": (machine.WorldCommand, machine.world),
        "doctor": (machine.DoctorCommand, machine.doctor),
        "space": (machine.SpaceCommand, machine.space),
        "bench": (machine.BenchCommand, machine.bench),
    }
    if not arguments or arguments[0] not in commands:
        return _overview(arguments, {name: cls for name, (cls, _) in commands.items()})
    cls, run = commands[arguments[0]]
    default = train.defaults(arguments[1:]) if cls is train.TrainCommand else None
    parsed = parse_arguments(cls, arguments, default)
    if parsed.home is not None:
        os.environ["NEFTUNE_HOME"] = str(parsed.home)
    _log_to_file()
    return run(parsed)


def _log_to_file() -> None:
    """Log internal errors to `lab.log` in the home folder instead of the terminal."""
    from neftune_core.home import home

    log = logging.getLogger("neftune_core")
    log.addHandler(logging.FileHandler(home() / "lab.log", delay=True, encoding="utf-8"))
    log.propagate = False


def parse_arguments(cls: type, arguments: list[str], default: Any) -> Any:
    """Parse the options of one command with tyro, and raise its error message as one plain sentence.

    Args:
        cls: The class of the command.
        arguments: The command and its options.
        default: Values of omitted options; None for the defaults of the class.

    Returns:
        An instance of `cls`.

    Raises:
        InvalidSetting: If an option is unknown or cannot be parsed.
        SystemExit: With status 0, after `--help` was printed.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(cls, prog=f"neftune {arguments[0]}", args=arguments[1:], default=default)
    except SystemExit as end:
        if not end.code:
            raise
    lines = [line.strip("│╰╯─ ") for line in output.getvalue().splitlines() if line.strip() and line[0] != "╭"]
    is_rule = [set(line) == {"-"} for line in lines]  # without Unicode, a line of dashes follows the title
    shown = [line for line, rule in zip(lines, is_rule, strict=True) if line and not rule][any(is_rule[1:2]) :]
    details = " ".join(line for line in shown if not line.startswith("For full helptext"))
    command = f"neftune {arguments[0]}"
    raise InvalidSetting(f"{_plain(details, command)[:300]} (`{command} --help` lists the options.)")


TAKES = {"INT": "an integer", "FLOAT": "a number", "PATH": "a path", "STR": "text"}


def _plain(details: str, command: str) -> str:
    """Rewrite tyro's error message as one sentence, without types and class names."""
    if found := re.match(r"Unrecognized options: (.+?)(?: Perhaps you meant: (--\S+).*)?$", details):
        return f"`{command}` does not accept {found[1]}." + (f" Perhaps you meant {found[2]}." if found[2] else "")
    if found := re.match(r"Missing value for argument '(\S+)'", details):
        return f"{found[1]} needs a value: write it after the option."
    if found := re.match(r"Missing from .*?: \S+ (.+?) \(required\)", details):
        return f"`{command}` needs one more argument. {found[1]}"
    if found := re.match(r"Error parsing (\S+): .*?'([^']*)'\]? .*?helptext: (?:-\S+ )?\[?(\S+?)\]? ", f"{details} "):
        kind = found[3].rpartition("|")[2]
        return f"{found[1]} cannot be {found[2]!r}: it must be {TAKES.get(kind, f'one of {kind}')}."
    return details


def _overview(arguments: list[str], commands: dict[str, type]) -> int:
    asked = not arguments or arguments[0] in ("-h", "--help")
    lines = ["usage: neftune COMMAND [OPTIONS]; `neftune COMMAND --help` shows the options.", ""]
    lines += [f"  {name:9} {(cls.__doc__ or '').splitlines()[0]}" for name, cls in commands.items()]
    if asked:
        print("\n".join(lines))
        return 0
    return refuse(f"There is no command {arguments[0]!r}: choose one of {', '.join(commands)}.")
