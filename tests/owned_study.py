"""A finished study owned by a visitor, copied from the recorded study that ships with the lab."""

from __future__ import annotations

import json
import secrets
import shutil
import time
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
