"""Token norms of one row as each arm of a record read it: without noise, and in every epoch.

`python -m tests.tools.recorded_norms RECORD ROW` writes them.
"""

from __future__ import annotations

import json
from typing import Any

from neftune_core.studies.records.record import Record

FILE = "seen.json"
"""Where a record keeps it, beside its events."""


def stored_norms(record: Record) -> dict[str, Any] | None:
    """Return the norms stored with a record; None if absent or unreadable."""
    try:
        found = json.loads((record.folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"tokens", "response", "clean", "epochs"} <= set(found) else None
