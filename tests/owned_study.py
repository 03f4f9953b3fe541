"""Studies owned by a visitor, copied from the recorded study that ships with the lab: a finished and a running one."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neftune_core.home import assets
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.record import Record


def owned_study(runs: Path, key: str) -> Record:
    """Copy the recorded study into a folder of records, as if it had just been started.

    Args:
        runs: Folder of all records.
        key: Key of the visitor who owns the copy.

    Returns:
        The record.
    """
    (recorded,) = (assets() / "studies").glob("*/study.toml")
    record = Record(runs / (time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)))
    shutil.copytree(recorded.parent, record.folder)
    about = json.loads((record.folder / "record.json").read_text(encoding="utf-8"))
    about |= {"owner": owner_hash(key), "created": time.time()}
    (record.folder / "record.json").write_text(json.dumps(about), encoding="utf-8")
    return record


@contextmanager
def running_study(runs: Path, key: str) -> Iterator[tuple[Record, Callable[[int], None]]]:
    """Yield the record of a study that looks as if it were being trained, at its first step, and a function.

    The function appends the next recorded steps, a tenth of a second apart. Nothing is computed, so that the page has
    the processor to itself.

    Args:
        runs: Folder of all records.
        key: Key of the visitor who owns the study.
    """
    record = owned_study(runs, key)
    events = record.events()
    for name in ("events.jsonl", "answers.jsonl"):
        (record.folder / name).write_text("", encoding="utf-8")
    steps = iter([event for event in events if event["event"] == "step"])

    def train(count: int) -> None:
        for _ in range(count):
            record.append(next(steps))
            time.sleep(0.1)

    with record.claimed():
        record.append(events[0])
        train(1)
        yield record, train
