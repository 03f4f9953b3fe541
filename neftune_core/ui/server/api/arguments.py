"""Checks of the endpoints' parameters; each function raises a `LabError` for an invalid value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from neftune_core.errors import InvalidSetting
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import parse
from neftune_core.studies.records.record import Record, find
from neftune_core.sweeps.record import find_study
from neftune_core.ui.server.lab import require_key

SHORTEST_KEY = 20


def own_record(record: Any, key: Any) -> Record:
    """Return a record of the caller.

    Args:
        record: Id of the record.
        key: The caller's key.

    Returns:
        The record.

    Raises:
        LabError: If the record does not exist, or the key is not its owner's.
    """
    return find(checked_text(record, "record", 100), checked_key(key))


def own_study(record: Any, key: Any) -> Record:
    """Return a record of the caller, or one study of a sweep.

    Args:
        record: Id of the record, or `SWEEP/CELL` for a study of a sweep.
        key: The caller's key.

    Returns:
        The record.

    Raises:
        LabError: If the record does not exist, or the key is not its owner's.
    """
    return find_study(checked_text(record, "record", 100), checked_key(key))


def checked_key(key: Any) -> str:
    """Return the caller's key; raise `InvalidSetting` if it is too short."""
    given = require_key(checked_text(key, "key", 1_000))
    if len(given) < SHORTEST_KEY:
        raise InvalidSetting(f"The key of this call is too easy to guess: use {SHORTEST_KEY} characters or more.")
    return given


def model_of(model: Any) -> ModelSettings:
    """Return the settings of the model with this name."""
    return parse(ModelSettings, {"source": model})


def checked_text(value: Any, name: str, longest: int) -> str:
    """Check that a parameter is text of limited length.

    Args:
        value: The parameter.
        name: Its name.
        longest: Maximum number of characters.

    Returns:
        The text.

    Raises:
        InvalidSetting: If it is not text, or too long.
    """
    if not isinstance(value, str):
        raise InvalidSetting(f"The value of {name} must be text.")
    if len(value) > longest:
        raise InvalidSetting(f"The value of {name} may have at most {longest:,} characters.")
    return value


def whole_number(value: Any, name: str) -> int:
    """Check that a parameter is a whole number of at least 0.

    Args:
        value: The parameter.
        name: Its name.

    Returns:
        The number.

    Raises:
        InvalidSetting: If it is not a whole number of at least 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not 0 <= value < 2**31:
        raise InvalidSetting(f"The value of {name} must be a whole number of at least 0.")
    return int(value)


def number(value: Any, name: str) -> float:
    """Check that a parameter is a number.

    Args:
        value: The parameter.
        name: Its name.

    Returns:
        The number.

    Raises:
        InvalidSetting: If it is not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidSetting(f"The value of {name} must be a number.")
    return float(value)


def checked_table(value: Any, name: str) -> Mapping[str, Any]:
    """Check that a parameter is a table of settings.

    Args:
        value: The parameter.
        name: Its name.

    Returns:
        The table.

    Raises:
        InvalidSetting: If it is not a table.
    """
    if not isinstance(value, Mapping):
        raise InvalidSetting(f"The value of {name} must be a table of settings.")
    return value


def plain(value: Any) -> Any:
    """Convert a nested value to JSON types, with NaN and infinity replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
