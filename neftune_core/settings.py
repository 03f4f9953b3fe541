"""Declaration and validation of settings.

A settings class is a frozen pydantic model with fields created by `setting(...)`. Each setting is declared once; its
validation, control on the page (`controls`), command-line option, TOML entry (`to_toml`, `from_toml`) and link
parameter (`from_query`) follow from the declaration.

    class NoiseSettings(Settings):
        strength: float = setting(5.0, minimum=0, maximum=1000, step=0.5)
        "Strength of the noise."
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict, TypeVar, Unpack, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neftune_core.bounded_io import read_toml
from neftune_core.errors import InvalidSetting
from neftune_core.language import say
from neftune_core.setting_errors import setting_error

Choices = Mapping[str, str] | Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Control:
    """One setting as shown on the page.

    Attributes:
        name: Dotted name, such as `training.epochs`.
        type: Scalar type; for an optional setting, without None.
        label: Short label; by default derived from the field name.
        minimum: Smallest allowed value (inclusive); None for no limit.
        maximum: Largest allowed value (inclusive); None for no limit.
        slider_maximum: Upper end of the slider; by default `maximum`.
        step: Step of the slider or number field; None for no fixed step.
        choices: Labels by allowed value; None if any value is allowed.
    """

    name: str
    type: type
    default: Any
    help: str
    label: str
    minimum: float | None = None
    maximum: float | None = None
    slider_maximum: float | None = None
    step: float | None = None
    unit: str = ""
    choices: Mapping[str, str] | None = None


class ControlOptions(TypedDict, total=False):
    """Bounds and display options of a setting, as in `Control`."""

    label: str
    minimum: float
    maximum: float
    slider_maximum: float
    step: float
    unit: str
    choices: Choices


def setting(
    default: Any, help: str | None = None, *, max_length: int | None = None, **options: Unpack[ControlOptions]
) -> Any:
    """Declare a field of a `Settings` class.

    Args:
        default: Default value.
        help: One-sentence description; None if it follows the field as a docstring.
        max_length: Maximum number of characters.
        **options: See `ControlOptions`.

    Returns:
        A pydantic field.
    """
    return Field(
        default,
        description=help,
        ge=options.get("minimum"),
        le=options.get("maximum"),
        max_length=max_length,
        json_schema_extra=cast(Any, {"control": {"label": "", **options}}),
    )


def _control_of(field: Any) -> dict[str, Any]:
    extra = field.json_schema_extra
    found = extra.get("control", {}) if isinstance(extra, dict) else {}
    choices = found.get("choices")
    return {**found, "choices": choices()} if callable(choices) else found


class Settings(BaseModel):
    """Base class of immutable settings; unknown names, wrong types and values out of range are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():  # a description may be a docstring of several lines
            field.description = field.description and " ".join(field.description.split())

    def __init__(self, **values: Any) -> None:
        """Validate the values.

        Raises:
            InvalidSetting: If a value is not valid; the message is one sentence.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidSetting(setting_error(type(self), error)) from None

    # Make pydantic validate nested settings without calling this `__init__`, so that errors include their location.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        """Return a hash of all values, including nested tables; the page uses it to detect changes."""
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _choices_are_known(self) -> Self:
        for name, field in type(self).model_fields.items():
            choices = _control_of(field).get("choices")
            value = getattr(self, name)
            if choices is not None and value not in choices:
                raise ValueError(
                    say(
                        "{name} must be one of {choices} (given {value!r})",
                        name=name,
                        choices=", ".join(choices),
                        value=value,
                    )
                )
        return self


S = TypeVar("S", bound=Settings)


def parse(cls: type[S], values: Mapping[str, Any]) -> S:
    """Create settings from nested values.

    Args:
        cls: The settings class.
        values: Nested values, as read from TOML or JSON.

    Returns:
        The validated settings.

    Raises:
        InvalidSetting: If a value is invalid; the message is one sentence.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidSetting(setting_error(cls, error)) from None


def _plain_type(annotation: Any) -> type:
    """Return the scalar type of an annotation such as `int | None`; `str` if it has none."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation if isinstance(annotation, type) else str


def controls(cls: type[Settings], prefix: str = "") -> list[Control]:
    """Return the controls of all scalar settings, including nested ones, in order of declaration.

    Args:
        cls: The settings class.
        prefix: Prefix of the dotted names.

    Returns:
        One control per setting.
    """
    found: list[Control] = []
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            found += controls(field.annotation, f"{prefix}{name}.")
        elif given := _control_of(field):
            default = field.get_default(call_default_factory=True)
            options: dict[str, Any] = {"slider_maximum": given.get("maximum")} | given
            options["label"] = given["label"] or name.replace("_", " ").capitalize()
            found.append(
                Control(prefix + name, _plain_type(field.annotation), default, field.description or "", **options)
            )
    return found


def control(cls: type[Settings], name: str) -> Control:
    """Return the control of one setting.

    Args:
        cls: The settings class.
        name: Dotted name.

    Returns:
        The control.
    """
    return next(found for found in controls(cls) if found.name == name)


def from_query(cls: type[S], query: Mapping[str, str]) -> S:
    """Create settings from link parameters; numbers are clamped to their range, and unknown names are ignored.

    Args:
        cls: The settings class.
        query: Link parameters by dotted name.

    Returns:
        The validated settings; values that are absent, not numbers or not among the choices have their default.

    Raises:
        InvalidSetting: If a text is too long, or settings contradict each other.
    """
    nested: dict[str, Any] = {}
    for found in controls(cls):
        if found.name in query:
            _set_nested(nested, found.name.split("."), _clamp(found, query[found.name]))
    return parse(cls, nested)


def _clamp(found: Control, text: str) -> Any:
    if found.type is bool:
        return text.lower() in ("1", "true", "yes", "on")
    if found.type not in (int, float):
        return text if found.choices is None or text in found.choices else found.default
    try:
        number = float(text)
    except ValueError:
        return found.default
    if number != number:
        return found.default
    low, high = (number if bound is None else bound for bound in (found.minimum, found.maximum))
    return found.type(min(max(number, low), high))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to one mapping by dotted name.

    Args:
        values: The nested values.
        prefix: Prefix of the dotted names.

    Returns:
        The values, for example `{"noise.strength": 5.0}`.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _set_nested(nested: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        nested = nested.setdefault(part, {})
    nested[path[-1]] = value


def to_toml(settings: Settings, *, comments: bool = False) -> str:
    """Format settings as TOML.

    Args:
        settings: Settings of any class, with nested tables.
        comments: Whether to add the help, range and unit of each setting as a comment above it.

    Returns:
        The TOML text.
    """
    import tomlkit  # imported here, because noise alone must not need more than torch, numpy and pydantic

    document = tomlkit.document()
    _fill(document, settings, comments=comments)
    return tomlkit.dumps(document)


def _fill(table: Any, settings: Settings, *, comments: bool) -> None:
    import tomlkit

    nested: list[tuple[str, Any]] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if _is_table(value):
            nested.append((name, value))  # TOML requires plain values before tables
        elif value is not None:
            if comments:
                table.add(tomlkit.comment(_comment(field)))
            table.add(name, list(value) if isinstance(value, tuple) else value)
    for name, value in nested:
        table.add(name, _inner(value, _comment(type(settings).model_fields[name]), comments=comments))


def _inner(value: Any, words: str, *, comments: bool) -> Any:
    """Return a TOML table of settings or named values, or an array of such tables."""
    import tomlkit

    if isinstance(value, tuple):
        array = tomlkit.aot()
        for index, entry in enumerate(value):
            array.append(_inner(entry, words, comments=comments and index == 0))
        return array
    inner = tomlkit.table()
    if isinstance(value, Settings):
        _fill(inner, value, comments=comments)
        return inner
    if comments:
        inner.add(tomlkit.comment(words))
    for key, entry in value.items():
        inner.add(key, list(entry) if isinstance(entry, tuple) else entry)
    return inner


def _is_table(value: Any) -> bool:
    array_of_tables = isinstance(value, tuple) and bool(value) and isinstance(value[0], Settings | dict)
    return isinstance(value, Settings | dict) or array_of_tables


def _comment(field: Any) -> str:
    extra = _control_of(field)
    choices = extra.get("choices")
    notes = ["one of: " + ", ".join(choices)] if choices else []
    if extra.get("minimum") is not None and extra.get("maximum") is not None:
        notes.append(f"{extra['minimum']:,} to {extra['maximum']:,}")
    if extra.get("unit"):
        notes.append(extra["unit"])
    return (field.description or "") + (f" ({'; '.join(notes)})" if notes else "")


def from_toml(cls: type[S], text: str) -> S:
    """Create settings from TOML text.

    Args:
        cls: The settings class.
        text: The TOML text.

    Returns:
        The validated settings.

    Raises:
        InvalidSetting: If the text or a value is invalid; the message is one sentence.
    """
    return parse(cls, read_toml(text))


class Limits(Settings):
    """Limits of a server, shared by the page, the API and the command line."""

    upload_megabytes: int = setting(50, minimum=1, maximum=100_000, unit="MB")
    """Maximum size of an uploaded file."""
    rows: int = setting(20_000, minimum=1, maximum=10_000_000)
    """Maximum number of rows read from one file or data set."""
    row_characters: int = setting(100_000, minimum=100, maximum=10_000_000)
    """Maximum characters per row."""
    steps: int = setting(2_560_000, minimum=1, maximum=10_000_000)
    """Maximum number of optimizer steps per study, over all seeds."""
    arms: int = setting(16, minimum=2, maximum=64)
    """Maximum number of arms per study, including the control."""
    sweep_studies: int = setting(1000, minimum=1, maximum=1_000_000)
    """Maximum number of studies per sweep (training settings times seeds)."""
    study_minutes: int = setting(24 * 60, minimum=1, maximum=60 * 24 * 30, unit="minutes")
    """Maximum run time of a study or of a whole sweep."""
    waiting_jobs: int = setting(8, minimum=1, maximum=1000)
    """Maximum number of waiting jobs per visitor."""
    address_jobs: int = setting(100, minimum=1, maximum=100_000)
    """Maximum number of waiting jobs per IP address."""
    queue_places: int = setting(100, minimum=1, maximum=100_000)
    """Maximum number of waiting jobs of all visitors."""
    disk_gigabytes: float = setting(50.0, minimum=0.001, maximum=1e6, unit="GB")
    """Maximum disk space for all records."""
    visitor_gigabytes: float = setting(0.0, minimum=0, maximum=1e6, unit="GB")
    """Maximum disk space for the records of one visitor, beyond which the oldest are removed (0 for no limit)."""
    record_days: float = setting(0.0, minimum=0, maximum=36_500, unit="days")
    """Days since a visitor's record was last written, after which it is removed (0 for never)."""
    prompts: int = setting(64, minimum=1, maximum=10_000)
    """Maximum number of prompts answered at once."""
    prompt_characters: int = setting(20_000, minimum=100, maximum=10_000_000)
    """Maximum characters per prompt."""
    new_tokens: int = setting(1024, minimum=1, maximum=100_000, unit="tokens")
    """Maximum length of an answer."""
    calls_a_minute: int = setting(0, minimum=0, maximum=1_000_000)
    """Maximum number of calls per minute from one IP address (0 for no limit)."""
    studies_an_hour: int = setting(0, minimum=0, maximum=1_000_000)
    """Maximum number of studies per hour from one IP address (0 for no limit)."""
    sharing: bool = setting(True)
    """Whether visitors may share finished studies by link and create classes."""
    local_paths: bool = setting(True)
    """Whether visitors may use local files and folders, such as models."""
