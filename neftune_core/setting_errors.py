"""Convert pydantic's validation errors to one translated sentence with a suggestion."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neftune_core.language import later, say


def setting_error(cls: type[BaseModel], error: ValidationError) -> str:
    """Return the first validation error as one sentence.

    Args:
        cls: The settings class.
        error: The pydantic error.

    Returns:
        A sentence with the setting, the given value and the reason.
    """
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:100]
    reason = _reason(first)
    if first["type"] == "extra_forbidden":
        near = _nearest(cls, where)
        if near:
            return say("There is no setting called {where!r}: did you mean {near!r}?", where=where, near=near)
        return say("There is no setting called {where!r}: change or remove it.", where=where)
    if first["type"] == "tuple_type" and isinstance(first.get("input"), Mapping):
        return say("{where} is a list of tables: write [[{where}]] instead of [{where}].", where=where)
    if first["type"] in TABLE_TYPES and isinstance(first.get("input"), list):
        return say("{where} is a single table: write [{where}] instead of [[{where}]].", where=where)
    if not where:
        return say("{reason}.", reason=reason[:1].upper() + reason[1:])
    given, reason = repr(first.get("input"))[:60], reason[:1].lower() + reason[1:]
    return say("The setting {where} cannot be {given}: {reason}.", where=where, given=given, reason=reason)


TABLE_TYPES = ("model_type", "model_attributes_type", "dict_type")


def _nearest(cls: type[BaseModel], where: str) -> str:
    """Return the setting of `cls` with the most similar name, or with the same name in another table; "" if none."""
    known = [name.rpartition(".") for name in _names(cls)]
    table, _, last = where.rpartition(".")
    near = difflib.get_close_matches(last, [name for prefix, _, name in known if prefix == table], 1)
    elsewhere = ("".join(parts) for parts in known if parts[2] == last)
    return f"{table}.{near[0]}".lstrip(".") if near else next(elsewhere, "")


def _names(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all settings and tables."""
    found = []
    for name, field in cls.model_fields.items():
        found.append(prefix + name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += _names(inner, f"{prefix}{name}.")
    return found


# Reasons by pydantic error type.
_REASONS = {
    "greater_than_equal": later("it must be {ge} or more"),
    "less_than_equal": later("it must be {le} or less"),
    "string_too_long": later("it may have at most {max_length} characters"),
    "finite_number": later("it must be a finite number"),
    "string_type": later("it must be text"),
    "string_unicode": later("it must be valid Unicode text"),
    "float_type": later("it must be a number"),
    "float_parsing": later("it must be a number, but this text is not one"),
    "int_type": later("it must be a whole number"),
    "int_parsing": later("it must be a whole number, but this text is not one"),
    "int_from_float": later("it must be a whole number, without a fraction"),
    "tuple_type": later("it must be a list"),
    "list_type": later("it must be a list"),
    "dict_type": later("it must be a table"),
    "model_type": later("it must be a table"),
    "model_attributes_type": later("it must be a table"),
    "bool_type": later("it must be true or false"),
    "bool_parsing": later("it must be true or false"),
}


def _reason(fault: ErrorDetails) -> str:
    """Return why a value is invalid: the reason in `_REASONS`, otherwise the message of the validator or pydantic."""
    if fault["type"] in _REASONS:
        bounds = fault.get("ctx", {}).items()
        written = {name: f"{bound:.15g}" for name, bound in bounds if isinstance(bound, int | float)}
        return say(_REASONS[fault["type"]], **written)
    return fault["msg"].removeprefix("Value error, ")
