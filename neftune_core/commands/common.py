"""Helpers that the commands share: common option, error exit, record lookup, interruptible runs, progress bar."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_core.data.report import summary
from neftune_core.errors import InvalidSetting, LabError
from neftune_core.noise.names import arm_words
from neftune_core.studies.records.progress import WORDS, Status, as_clock, before_run
from neftune_core.studies.records.record import STUDY_FILE, SWEEP_FILE, Record
from neftune_core.studies.records.removal import remove_unstarted
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.more_seeds import extend, find_smaller, seeds_offered
from neftune_core.sweeps.record import find_study, require_single
from neftune_core.sweeps.settings import SweepSettings


@dataclass(kw_only=True)
class Command:
    """The option that every command has."""

    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


def refuse(words: str) -> int:
    """Print an error on standard error and return the exit status 1."""
    print(words, file=sys.stderr)
    return 1


def progress_line() -> Callable[[str, str], None]:
    """Return a function that shows a stage and an amount in one line of standard error.

    In a terminal, the line is rewritten. Otherwise, each new stage is printed once, without amounts.
    """
    shown = ""

    def show(stage: str, amount: str = "") -> None:
        """Show the progress unless it is already shown.

        Args:
            stage: What is being done.
            amount: How much of it is done; shown in a terminal only.
        """
        nonlocal shown
        is_terminal = sys.stderr.isatty()
        text = f"{stage} {amount}".rstrip() if is_terminal else stage
        if text != shown:
            line, end = (f"\r{text:{len(shown)}}", "") if is_terminal else (text, "\n")
            print(line, end=end, file=sys.stderr, flush=True)
            shown = text

    return show


def record_by_name(name: str) -> Record:
    """Return the record with this id or folder; a study of a sweep has the id SWEEP/CELL.

    Raises:
        RecordError: If there is no such record.
    """
    folder = Path(name)
    is_one = any((folder / file).is_file() for file in (STUDY_FILE, SWEEP_FILE))
    return Record(folder.resolve()) if is_one else find_study(name, owner=None)


def study_by_name(name: str) -> Record:
    """Return the record of one study.

    Raises:
        RecordError: If there is no such record, or it is a sweep; the message lists its studies.
    """
    return require_single(record_by_name(name))


def writable(path: Path) -> Path:
    """Return the expanded path of a file to write.

    Raises:
        InvalidSetting: If the path exists, or its folder does not.
    """
    from neftune_core.export.models import require_free

    folder = path.expanduser().absolute().parent
    if not folder.is_dir():
        raise InvalidSetting(f"There is no folder {folder} to write {path.name} to: create it first.")
    if path.is_dir():
        raise InvalidSetting(f"{path.absolute()} is a folder: give the path of a file in it.")
    require_free(path.expanduser())
    return path.expanduser()


def table_file(path: Path | None, kinds: Iterable[str]) -> tuple[Path, str] | None:
    """Check the file that a table will be written to, before the table is computed.

    Args:
        path: The file; None if no table is to be written.
        kinds: Supported file name extensions, without the dot.

    Returns:
        The expanded path and its extension; None without a path.

    Raises:
        InvalidSetting: If the file cannot be written, or has another extension.
    """
    if path is None:
        return None
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InvalidSetting(f"The file name {path.name} must end in .{' or .'.join(kinds)}: choose another one.")
    return writable(path), kind


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of a table as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def more_seeds(record: Record) -> list[str]:
    """Return a line with the command that adds seeds to a finished record; no line if more seeds would not help."""
    if not (offered := seeds_offered(record)):
        return []
    return [f"To add seeds (the record has {record.study.seeds}): neftune runs resume {record.id} --seeds {offered}"]


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT (Ctrl+C) or SIGTERM arrived; a second raises `KeyboardInterrupt`."""
    is_asked = False

    def ask(number: int, frame: Any) -> None:
        """Record the first signal.

        Args:
            number: Number of the signal.
            frame: The interrupted stack frame; unused.

        Raises:
            KeyboardInterrupt: At the second signal.
        """
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: is_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_to_end(record: Record, run: Callable[[Callable[[], bool]], Iterator[dict[str, Any]]]) -> dict[str, Any]:
    """Run a record with a progress bar until it ends or is interrupted.

    Args:
        record: Record of the study or sweep.
        run: Takes a function that returns whether to stop, and yields the events of the run.

    Returns:
        The last event.

    Raises:
        LabError: If a new record failed before its first step. The record is removed.
    """
    print(f"in {record.folder}", file=sys.stderr)
    is_new = not record.events()
    with interruptible() as should_stop:
        ending = deque(with_progress(record, run(should_stop)), maxlen=1).pop()
    if is_new and remove_unstarted(record):
        raise LabError(str(ending["message"]))
    return ending


def with_missing_seeds(requested: StudySettings | SweepSettings, seeds: int) -> Record | None:
    """Find a record that differs from a study or sweep only in having fewer seeds, and request the missing ones.

    Args:
        requested: The study or sweep.
        seeds: Its number of seeds.

    Returns:
        The record; None if there is none.

    Raises:
        RecordError: If the record is running or cannot be used.
    """
    smaller = find_smaller(requested, owner="")
    if smaller is not None:
        found = smaller.study.seeds
        print(f"The record has {found} of {seeds} seeds; training the missing ones.", file=sys.stderr)
        extend(smaller, seeds)
    return smaller


def with_progress(record: Record, events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield events unchanged, and show their progress on standard error.

    A summary of the rows is printed once. The bar shows the steps of all seeds, the time left and the loss of each arm.

    Args:
        record: The record that is being run.
        events: The events of the run.

    Yields:
        Each event of `events`.
    """
    from tqdm import tqdm

    progress = before_run(record)
    bar = tqdm(file=sys.stderr, desc="preparing", bar_format=BAR)
    rows: list[str] = []
    try:
        for event in events:
            if not rows and (about := record.about_table("data")):
                rows = summary(about)
                bar.write("\n".join(rows), file=sys.stderr)
            progress.follow(event)
            status = progress.status()
            bar.total, bar.n = status.steps or None, status.step
            bar.set_description_str(_state_label(status), refresh=False)
            bar.set_postfix_str(_progress_details(status))
            yield event
    finally:
        bar.close()


BAR = "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} steps, {elapsed}{postfix}"


def _state_label(status: Status) -> str:
    """Return the state of a study as text; with several seeds, the number of the current seed follows."""
    seed = f", seed {status.seed_number} of {status.seeds}" if status.seeds > 1 else ""
    return f"{WORDS[status.state].lower()}{seed}"


def _progress_details(status: Status) -> str:
    """Return the estimated time left, if known, and the loss of each arm in the most recent step."""
    is_known = status.state == "running" and status.seconds_left is not None
    left = [f"{as_clock(status.seconds_left or 0.0)} left"] if is_known else []
    losses = [f"{arm_words(arm)} {loss:.3f}" for arm, loss in status.losses.items()]
    return ", ".join([*left, *(["batch loss: " + ", ".join(losses)] if losses else [])])
