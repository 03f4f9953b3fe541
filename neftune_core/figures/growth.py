"""What is new in a figure since an earlier one, so that a live figure is sent once and then grows.

`assets/page/growth.js` applies the changes in the browser.
"""

from __future__ import annotations

from typing import Any

from neftune_core.figures.base import Figure, Trace

Changes = dict[str, Any]


def changes(old: Figure, new: Figure) -> Changes | None:
    """Return what turns `old` into `new`.

    Args:
        old: The figure that the browser has.
        new: The figure that it should have.

    Returns:
        `rest` (changed entries other than the traces), `order` (ids of all traces, if they are others than before) and
        `traces` (the changed ones by id); None if traces or entries cannot be told apart by their names.
    """
    known, ids = _by_id(old), [trace.get("uid") for trace in new["data"]]
    if known is None or _by_id(new) is None or old.keys() - new.keys():
        return None
    grown = {uid: _of_trace(known.get(uid), trace) for uid, trace in zip(ids, new["data"], strict=True)}
    return {
        "rest": {name: part for name, part in new.items() if name != "data" and old.get(name) != part},
        "traces": {uid: change for uid, change in grown.items() if change},
        **({} if ids == [*known] else {"order": ids}),
    }


def _by_id(figure: Figure) -> dict[str, Trace] | None:
    """Return the traces by id; None unless each has its own."""
    found = {trace["uid"]: trace for trace in figure["data"] if "uid" in trace}
    return found if len(found) == len(figure["data"]) else None


def _of_trace(old: Trace | None, new: Trace) -> Changes | None:
    """Return what changed in a trace, and of each list how much stays and what follows; None if nothing did."""
    if old is None or old.keys() - new.keys():
        return {"whole": new}
    changed = [name for name, value in new.items() if name not in old or old[name] != value]
    lists = [name for name in changed if isinstance(new[name], list) and isinstance(old.get(name), list)]
    if not changed:
        return None
    return {
        "set": {name: new[name] for name in changed if name not in lists},
        "lists": {name: _of_list(old[name], new[name]) for name in lists},
    }


def _of_list(old: list[Any], new: list[Any]) -> tuple[int, list[Any]]:
    """Return how many values stay, and those that follow."""
    pairs = enumerate(zip(old, new, strict=False))
    kept = next((place for place, (before, after) in pairs if before != after), min(len(old), len(new)))
    return kept, new[kept:]
