"""What the commands share: how a refusal is told, which record is meant, and a run with a bar and a way to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import InvalidSetting

if TYPE_CHECKING:
    from neftune_core.studies.records.progress import Status
    from neftune_core.studies.records.record import Record


def refuse(words: str) -> int:
    """Say why it was not done, on standard error; the exit status."""
    print(words, file=sys.stderr)
    return 1


def named(name: str) -> Record:
    """The record of that id or in that folder; a study of a sweep is SWEEP/CELL."""
    from neftune_core.studies.records.record import STUDY_FILE, SWEEP_FILE, Record
    from neftune_core.sweeps.record import find_study

    folder = Path(name)
    is_one = any((folder / file).is_file() for file in (STUDY_FILE, SWEEP_FILE))
    return Record(folder.resolve()) if is_one else find_study(name, owner=None)


def named_study(name: str) -> Record:
    """The record of one study; raises `RecordError`, which lists the studies to choose from, if it is a sweep."""
    from neftune_core.sweeps.record import require_single

    return require_single(named(name))


def writable(path: Path) -> Path:
    """The file to write; raises `InvalidSetting` if its folder is not there, or it is one itself."""
    folder = path.expanduser().absolute().parent
    if not folder.is_dir():
        raise InvalidSetting(f"There is no folder {folder} to write {path.name} into: make it first.")
    if path.is_dir():
        raise InvalidSetting(f"{path.absolute()} is a folder: name a file in it.")
    return path.expanduser()


class interruptible:  # noqa: N801 - used as a word after `with`
    """Turns the first Ctrl+C, or the system's wish that the process ends (SIGTERM), into a question that the work asks.

    A second one ends at once.
    """

    def __enter__(self) -> Callable[[], bool]:
        import signal

        self.asked = False
        self.before = {asked: signal.signal(asked, self._ask) for asked in (signal.SIGINT, signal.SIGTERM)}
        return lambda: self.asked

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        import signal

        for asked, before in self.before.items():
            signal.signal(asked, before)


def with_progress(record: Record, events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the same events, with words and a bar on standard error.

    The words say what became of the rows; the bar shows the steps of all seeds, the time left, and each arm's loss.
    """
    from tqdm import tqdm

    from neftune_core.data.report import summary
    from neftune_core.studies.records.progress import before_run

    progress = before_run(record)
    bar = tqdm(file=sys.stderr, desc="preparing", bar_format=BAR)
    rows: list[str] = []
    try:
        for event in events:
            if not rows and (about := record.said_of("data")):
                rows = summary(about)
                bar.write("\n".join(rows), file=sys.stderr)
            progress.follow(event)
            status = progress.status()
            bar.total, bar.n = status.steps or None, status.step
            bar.set_description_str(doing(status), refresh=False)
            bar.set_postfix_str(beside_the_bar(status))
            yield event
    finally:
        bar.close()


BAR = "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} steps, {elapsed}{postfix}"


def doing(status: Status) -> str:
    """What is being done, in a word, and with which seed."""
    from neftune_core.studies.records.progress import WORDS

    seed = f", seed {status.seed_number} of {status.seeds}" if status.seeds > 1 else ""
    return f"{WORDS[status.state].lower()}{seed}"


def beside_the_bar(status: Status) -> str:
    """The time left as far as it is known, and the loss of each arm in the last step."""
    from neftune_core.studies.records.progress import as_clock

    is_known = status.state == "running" and status.seconds_left is not None
    left = [f"{as_clock(status.seconds_left or 0.0)} left"] if is_known else []
    losses = [f"{arm} {loss:.3f}" for arm, loss in status.losses.items()]
    return ", ".join([*left, *(["loss: " + ", ".join(losses)] if losses else [])])
