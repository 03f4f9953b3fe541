"""Settings, each declared in a single place.

A settings class is a frozen pydantic model whose fields are created by `setting(...)`. The declaration provides
validation, the controls of the page (`controls`), the command line, the TOML file (`to_toml`, `parse`) and the
parameters of a link (`from_query`).

    class NoiseSettings(Settings):
        strength: float = setting(5.0, "How strong the noise is.", minimum=0, maximum=1000, step=0.5)
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
    """One setting as the page shows it.

    Attributes:
        name: Dotted name, such as `training.epochs`.
        type: Scalar type; for an optional setting, the type of its value.
        default: Default value.
        help: Description in one sentence.
        label: Short label; derived from the field's name if `setting` has none.
        minimum: Smallest allowed value (inclusive); None for no limit.
        maximum: Largest allowed value (inclusive); None for no limit.
        slider_maximum: Upper end of the slider; `maximum` if `setting` has none.
        step: Step of the slider or number field; None if it is free.
        unit: Unit, such as "seconds"; "" for none.
        choices: Labels by value, also if `setting` has a function that returns them; None if the value is free.
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
    """How a setting is bounded and shown; see `Control`. `max_length` is the largest number of characters of a text."""

    label: str
    minimum: float
    maximum: float
    slider_maximum: float
    step: float
    unit: str
    choices: Choices
    max_length: int


def setting(default: Any, help: str, **options: Unpack[ControlOptions]) -> Any:
    """Declare a field of a `Settings` class.

    Args:
        default: Default value.
        help: Description in one sentence.
        **options: See `ControlOptions`.

    Returns:
        The field.
    """
    return Field(
        default,
        description=help,
        ge=options.get("minimum"),
        le=options.get("maximum"),
        max_length=options.get("max_length"),
        json_schema_extra=cast(Any, {"control": {"label": "", **options}}),
    )


def _control_of(field: Any) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra.get("control", {}) if isinstance(extra, dict) else {}


def _resolve(choices: Choices | None) -> Mapping[str, str] | None:
    return choices() if callable(choices) else choices


class Settings(BaseModel):
    """A frozen set of settings; unknown names, wrong types and values out of range are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        """Create settings, or raise `InvalidSetting` with one sentence."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidSetting(setting_error(type(self), error)) from None

    # Nested settings are then validated without the method above, so that the error includes their location.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        """Return a hash of the values, including those of tables; the page uses it to detect changes."""
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _choices_are_known(self) -> Self:
        for name, field in type(self).model_fields.items():
            choices = _resolve(_control_of(field).get("choices"))
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
        InvalidSetting: If a value is invalid, with one sentence.
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
    """Return the controls of all scalar settings, nested ones included, in order of declaration.

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
        elif extra := _control_of(field):
            found.append(
                Control(
                    name=prefix + name,
                    type=_plain_type(field.annotation),
                    default=field.get_default(call_default_factory=True),
                    help=field.description or "",
                    label=extra["label"] or name.replace("_", " ").capitalize(),
                    minimum=extra.get("minimum"),
                    maximum=extra.get("maximum"),
                    slider_maximum=extra.get("slider_maximum") or extra.get("maximum"),
                    step=extra.get("step"),
                    unit=extra.get("unit", ""),
                    choices=_resolve(extra.get("choices")),
                )
            )
    return found


def control(cls: type[Settings], name: str) -> Control:
    """Return the control of one setting.

    Args:
        cls: The settings class.
        name: Dotted name.

    Returns:
        Its control.
    """
    return next(found for found in controls(cls) if found.name == name)


def from_query(cls: type[S], query: Mapping[str, str]) -> S:
    """Create settings from link parameters; numbers are clamped to their range and unknown names ignored.

    Args:
        cls: The settings class.
        query: Values by dotted name.

    Returns:
        The validated settings, with defaults for names that are absent from the link.
    """
    nested: dict[str, Any] = {}
    for found in controls(cls):
        if found.name in query:
            _put(nested, found.name.split("."), _clamp(found, query[found.name]))
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
    """Return nested values by dotted name.

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
            found[prefix + name] = value
    return found


def _put(nested: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        nested = nested.setdefault(part, {})
    nested[path[-1]] = value


def to_toml(settings: Settings, *, comments: bool = False) -> str:
    """Format settings as TOML.

    Args:
        settings: The settings.
        comments: Whether to add help, unit and range as a comment above each setting.

    Returns:
        The text.
    """
    import tomlkit  # here, so that the noise alone needs only torch, numpy and pydantic

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
            continue
        if value is None:
            continue
        if comments:
            table.add(tomlkit.comment(_comment(field)))
        table.add(name, list(value) if isinstance(value, tuple) else value)
    for name, value in nested:
        words = _comment(type(settings).model_fields[name])
        table.add(name, _inner(value, words, comments=comments))


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
    choices = _resolve(extra.get("choices"))
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
        InvalidSetting: If the text or a value is invalid, with one sentence.
    """
    return parse(cls, read_toml(text))


class Limits(Settings):
    """Limits of a server, shared by the page, the API and the command line."""

    upload_megabytes: int = setting(50, "Largest file that may be uploaded.", minimum=1, maximum=100_000, unit="MB")
    rows: int = setting(20_000, "Most rows read from one file or data set.", minimum=1, maximum=10_000_000)
    row_characters: int = setting(100_000, "Most characters in one row.", minimum=100, maximum=10_000_000)
    steps: int = setting(
        2_560_000, "Most optimizer steps of one study, all seeds together.", minimum=1, maximum=10_000_000
    )
    arms: int = setting(16, "Most arms of one study, control included.", minimum=2, maximum=64)
    sweep_studies: int = setting(
        1000, "Most studies of one sweep: its training settings times its seeds.", minimum=1, maximum=1_000_000
    )
    study_minutes: int = setting(
        24 * 60, "Longest time that a study or a whole sweep may run.", minimum=1, maximum=60 * 24 * 30, unit="minutes"
    )
    waiting_jobs: int = setting(8, "Most waiting jobs per visitor.", minimum=1, maximum=1000)
    address_jobs: int = setting(100, "Most waiting jobs per network address.", minimum=1, maximum=100_000)
    queue_places: int = setting(100, "Most waiting jobs of all visitors.", minimum=1, maximum=100_000)
    disk_gigabytes: float = setting(50.0, "Most disk space for records.", minimum=0.001, maximum=1e6, unit="GB")
    visitor_gigabytes: float = setting(
        0.0,
        "Most disk space for the records of one visitor; the oldest are removed to make room. 0 is no limit.",
        minimum=0,
        maximum=1e6,
        unit="GB",
    )
    record_days: float = setting(
        0.0, "Days after which a visitor's record is removed. 0 keeps all.", minimum=0, maximum=36_500, unit="days"
    )
    prompts: int = setting(64, "Most prompts answered at once.", minimum=1, maximum=10_000)
    prompt_characters: int = setting(20_000, "Longest prompt.", minimum=100, maximum=10_000_000)
    new_tokens: int = setting(1024, "Maximum length of an answer.", minimum=1, maximum=100_000, unit="tokens")
    calls_a_minute: int = setting(
        0, "Most calls per minute from one address. 0 is no limit.", minimum=0, maximum=1_000_000
    )
    studies_an_hour: int = setting(
        0, "Most studies that one address may start per hour. 0 is no limit.", minimum=0, maximum=1_000_000
    )
    sharing: bool = setting(True, "Whether visitors may share finished studies by a link, and make classes.")
    local_paths: bool = setting(True, "Whether visitors may name files and folders of this machine, such as models.")
