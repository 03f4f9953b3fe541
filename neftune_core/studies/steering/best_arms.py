"""The best evaluation of every arm, and the folder of its weights at that step.

The best evaluation of an arm is the first one with the lowest held-out loss, not counting the one before training. The
final weights of an arm are in `arms/<name>/seed-<n>`. The weights of its best evaluation are stored next to them in
`seed-<n>-step-<m>`, unless the last evaluation is the best. `NAME@best` refers to the arm with these weights.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from neftune_core.noise.names import BEST

_FOLDER = re.compile(r"seed-\d+-step-(\d+)")


def plain_name(arm: str) -> str:
    """Return the name of an arm without the suffix `@best`."""
    return arm.removesuffix(BEST)


def improvements(events: Iterable[Mapping[str, Any]], seed: int) -> dict[str, dict[int, float]]:
    """Find the evaluations of each arm that improved on all earlier ones; the last of these is the best.

    Args:
        events: Events of one record.
        seed: Seed whose evaluations are read.

    Returns:
        Held-out loss by arm and step, in the order of the steps.
    """
    found: dict[str, dict[int, float]] = {}
    for event in events:
        if event["event"] == "evaluated" and event.get("seed") == seed and event["step"] > 0:
            follow(found, event)
    return found


def follow(found: dict[str, dict[int, float]], event: Mapping[str, Any]) -> list[str]:
    """Add one evaluation to the result of `improvements`.

    Args:
        found: The improvements so far, changed in place.
        event: The `evaluated` event.

    Returns:
        The arms that improved.
    """
    better = []
    for arm, numbers in event["arms"].items():
        loss = numbers.get("held_out_loss")
        before = min(found.get(arm, {}).values(), default=math.inf)
        if loss is not None and math.isfinite(loss) and loss < before:
            found.setdefault(arm, {})[event["step"]] = loss
            better.append(arm)
    return better


def best_step(events: Iterable[Mapping[str, Any]], arm: str, seed: int) -> int:
    """Return the step of an arm's best evaluation; 0 if there is none.

    Args:
        events: Events of one record.
        arm: Name of the arm.
        seed: Seed with which the arm was trained.

    Returns:
        The step.
    """
    return max(improvements(events, seed).get(plain_name(arm), {}), default=0)


def ended_early(events: Iterable[Mapping[str, Any]]) -> dict[Any, tuple[int, int]]:
    """Return the last step taken and the planned number of steps, for each seed that early stopping ended."""
    return {
        event.get("seed"): (event["step"], event["steps"])
        for event in events
        if event["event"] == "ended_early" and event.get("step") and event.get("steps")
    }


def step_folder(last: Path, step: int) -> Path:
    """Return the path of the folder for an arm's weights at a step.

    Args:
        last: Folder of the arm's final weights.
        step: Number of the step after which the weights were stored.

    Returns:
        The path, which need not exist.
    """
    return last.with_name(f"{last.name}-step-{step}")


def stored_steps(last: Path) -> list[int]:
    """Return the steps whose weights are stored in addition to the final ones, in increasing order."""
    matches = (_FOLDER.fullmatch(path.name) for path in last.parent.glob(f"{last.name}-step-*"))
    return sorted(int(match[1]) for match in matches if match)


def best_folder(last: Path) -> Path:
    """Return the folder of an arm's weights at its best evaluation, or of its final weights if no others are stored."""
    steps = stored_steps(last)
    return step_folder(last, steps[-1]) if steps else last


def keep_only(last: Path, steps: Collection[int]) -> None:
    """Remove the stored weights of an arm at all other steps.

    Args:
        last: Folder of the arm's final weights.
        steps: Steps to keep.
    """
    for step in stored_steps(last):
        if step not in steps:
            shutil.rmtree(step_folder(last, step), ignore_errors=True)
