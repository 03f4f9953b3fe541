"""Damage to a record's folder: truncated, duplicated, mixed, newer or half deleted."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record
    from tests.stress.faults.setup import Environment


def read_damaged(environment: Environment, chance: random.Random) -> str:
    """A damaged record is read as far as possible, and its damage is reported."""
    from neftune_core.figures.curves import loss_curves
    from neftune_core.studies.records.integrity import damages
    from neftune_core.studies.records.record import Record

    whole = environment.whole
    name = f"20200101-000000-{chance.randrange(16**6):06x}"
    record = Record(Path(shutil.copytree(whole.folder, environment.folder / "runs" / name)))
    damage = chance.choice(list(DAMAGES))
    told = DAMAGES[damage](record, chance)
    log = record.log()
    events = log.read()
    found = damages(record, log)
    loss_curves(events, record.arms)
    environment.jobs.status(record)
    kept = [event for event in whole.events() if event in events]
    if kept != events:
        return f"{damage}: events were read that were never written"
    return "" if not told or found else f"{damage}: nothing is said of it"


def _cut(record: Record, chance: random.Random) -> bool:
    """Truncate the log anywhere, as after an interrupted run."""
    path = record.folder / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: chance.randrange(len(whole))])
    return False


def _twice(record: Record, chance: random.Random) -> bool:
    path = record.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line * chance.choice((1, 2)) for line in [*lines, lines[-1]]))
    return True


def _foreign(record: Record, chance: random.Random) -> bool:
    path = record.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    strangers = [b"\xff\xfe\x00\n", b"[1, 2]\n", b'{"event": 3}\n', b'{"event": "step", "step": "x"}\n', b"NaN\n"]
    strangers += [b'{"event": "step", "step": 3, "arms": {"control": {"loss": "much"}}}\n', b"[" * 9000 + b"\n"]
    for _ in range(chance.randrange(1, 9)):
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(strangers))
    path.write_bytes(b"".join(lines))
    return True


def _newer(record: Record, chance: random.Random) -> bool:
    about = {**record.about, "format": 99}
    (record.folder / "record.json").write_text(json.dumps(about), encoding="utf-8")
    study = record.folder / "study.toml"
    study.write_text("colour_of_the_noise = 'pink'\n" + study.read_text(encoding="utf-8"), encoding="utf-8")
    return True


def _half_deleted(record: Record, chance: random.Random) -> bool:
    for name in chance.sample(["study.toml", "events.jsonl", "answers.jsonl", "arms", "data"], chance.randrange(1, 5)):
        path = record.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return not (record.folder / "study.toml").exists()


DAMAGES: dict[str, Callable[[Record, random.Random], bool]] = {
    "cut": _cut,
    "doubled lines": _twice,
    "foreign lines": _foreign,
    "a newer version": _newer,
    "half deleted": _half_deleted,
}
"""What happens to a folder, and whether it must be told."""
