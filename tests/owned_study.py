"""Studies owned by a visitor, copied from records that ship with the lab: finished ones and a running one."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neftune_core.home import assets
from neftune_core.models.settings import BUNDLED
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.record import Record

SIX = 6


def owned_study(runs: Path, key: str) -> Record:
    """Copy the recorded study into a folder of records, as if it had just been started, with the bundled model.

    The page loads the model of a study that it shows; the model of the recorded one takes half a minute.

    Args:
        runs: Folder of all records.
        key: Key of the visitor who owns the copy.

    Returns:
        The record.
    """
    (recorded,) = (assets() / "studies").glob("*/study.toml")
    record = Record(runs / (time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)))
    shutil.copytree(recorded.parent, record.folder)
    settings = (record.folder / "study.toml").read_text(encoding="utf-8")
    own = record.study.model.source
    (record.folder / "study.toml").write_text(
        settings.replace(f'source = "{own}"', f'source = "{BUNDLED}"'), encoding="utf-8"
    )
    about = json.loads((record.folder / "record.json").read_text(encoding="utf-8"))
    about |= {"owner": owner_hash(key), "created": time.time()}
    (record.folder / "record.json").write_text(json.dumps(about), encoding="utf-8")
    return record


def six_seed_study(runs: Path, key: str) -> Record:
    """Join six recorded studies of one seed each into one finished study of six seeds and five arms.

    Args:
        runs: Folder of all records.
        key: Key of the visitor who owns the study.

    Returns:
        The record.
    """
    cells = sorted((assets() / "recorded" / "7-kinds-of-noise" / "cells").iterdir())[:SIX]
    record = Record(runs / (time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)))
    shutil.copytree(cells[0], record.folder)
    settings = (record.folder / "study.toml").read_text(encoding="utf-8")
    (record.folder / "study.toml").write_text(settings.replace("\nseeds = 1\n", f"\nseeds = {SIX}\n"), encoding="utf-8")
    for name in ("answers.jsonl", "examples.jsonl"):
        (record.folder / name).write_bytes(b"".join((cell / name).read_bytes() for cell in cells))
    events = [event for cell in cells for event in Record(cell).events()]
    events = [event for event in events if event["event"] != "finished"] + [{**events[-1], "event": "finished"}]
    lines = [json.dumps({**event, "seeds": SIX} if event["event"] == "started" else event) + "\n" for event in events]
    (record.folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    seeds = [json.loads((cell / "metrics.json").read_text(encoding="utf-8"))["seeds"] for cell in cells]
    measured = {"seeds": {seed: numbers for own in seeds for seed, numbers in own.items()}}
    (record.folder / "metrics.json").write_text(json.dumps(measured), encoding="utf-8")
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
