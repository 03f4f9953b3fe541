"""What the commands share: how a refusal is told, which record is meant, and a run with a bar and a way to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neftune_core.training.record import Record


def refuse(words: str) -> int:
    """Say why it was not done, on standard error; the exit status."""
    print(words, file=sys.stderr)
    return 1


def named(name: str) -> Record:
    """The record of that id, or in that folder."""
    from neftune_core.training.record import SWEEP_FILE, Record, find

    folder = Path(name)
    is_one = any((folder / file).is_file() for file in ("study.toml", SWEEP_FILE))
    return Record(folder.resolve()) if is_one else find(name, owner=None)


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
    """Yield the same events, with what became of the rows and a bar over the steps of all seeds on standard error."""
    from tqdm import tqdm

    from neftune_core.data.report import summary
    from neftune_core.training.progress import WORDS, before_run

    progress = before_run(record)
    bar = tqdm(unit="step", file=sys.stderr, desc="preparing", initial=progress.step)
    rows: list[str] = []
    for event in events:
        if not rows and (about := record.said_of("data")):
            rows = summary(about)
            bar.write("\n".join(rows), file=sys.stderr)
        progress.follow(event)
        seed = f", seed {progress.seed_number} of {progress.seeds}" if progress.seeds > 1 else ""
        bar.total, bar.n = progress.steps or None, progress.step
        bar.set_description(f"{WORDS[progress.state].lower()}{seed}")
        yield event
    bar.close()
