"""Parameters of the endpoints: JSON schemas with the page's descriptions, and conversion of calls that name them.

A call with named parameters (`/gradio_api/call/v2/ENDPOINT`) is the form that a Space's `agents.md` describes.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from neftune_core.errors import InvalidSetting
from neftune_core.settings import Control, Settings, controls

_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_REST = inspect.Parameter.VAR_KEYWORD
V2 = re.compile(r"/gradio_api/call/v2/(?P<name>[^/]+)/?$", re.IGNORECASE)


def _of_control(control: Control) -> dict[str, Any]:
    """Return the schema of one setting: its type, help, range or choices, and default."""
    schema: dict[str, Any] = {"type": _NAMES.get(control.type, "string")}
    if control.choices is not None:
        schema |= {"enum": list(control.choices)}
    limits = {"minimum": control.minimum, "maximum": control.maximum}
    schema |= {name: value for name, value in limits.items() if value is not None}
    if control.default is None:  # None is a valid value
        schema = {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "description": _words(control), "default": control.default}


def of_settings(settings: type[Settings]) -> dict[str, Any]:
    """Return the schema of nested settings, as in `study.toml`."""
    known = {found.name: found for found in controls(settings)}
    properties: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        own = _of_control(known[name]) if name in known else _of_annotation(field.annotation)
        properties[name] = {"description": field.description, **own} if field.description else own
    return {"type": "object", "properties": properties}


def _of_annotation(annotation: Any) -> dict[str, Any]:
    """Return the schema of nested settings, a list, a table or a scalar."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return of_settings(annotation)
    if typing.get_origin(annotation) is tuple:
        return {"type": "array", "items": _of_annotation(typing.get_args(annotation)[0])}
    if typing.get_origin(annotation) in (dict, types.MappingProxyType):
        return {"type": "object"}
    return {"type": _NAMES[annotation]} if annotation in _NAMES else {}


def _words(control: Control) -> str:
    return f"{control.help} Unit: {control.unit}." if control.unit else control.help


def with_settings(handler: Callable[..., Any], settings: type[Settings]) -> Callable[..., Any]:
    """Replace `**values` of an endpoint with one parameter per scalar setting.

    Args:
        handler: The endpoint; its docstring describes its other parameters.
        settings: The settings class.

    Returns:
        The endpoint with all parameters in its signature and its docstring.
    """
    own = [parameter for parameter in inspect.signature(handler).parameters.values() if parameter.kind != _REST]
    found = controls(settings)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    more = [inspect.Parameter(one.name, kind, default=one.default, annotation=Any) for one in found]
    names = [parameter.name for parameter in (*own, *more)]

    def called(*values: Any) -> dict[str, Any]:
        return handler(**dict(zip(names, values, strict=False)))

    lines = [f"    {one.name}: {_words(one)}" for one in found]
    before, mark, after = (inspect.getdoc(handler) or "").partition("\n\nReturns:")  # the settings belong to `Args`
    called.__name__, called.__doc__ = handler.__name__, "\n".join([before, *lines]) + mark + after
    called.__signature__ = inspect.Signature([*own, *more], return_annotation=dict)  # type: ignore[attr-defined]
    hints = typing.get_type_hints(handler)
    called.__annotations__ = {name: hints.get(name, Any) for name in names} | {"return": dict}
    return called


def describe(inputs: Mapping[str, Any], settings: type[Settings] | None, own: Mapping[str, dict[str, Any]]) -> None:
    """Replace the schemas that Gradio derives from annotations with those of the settings.

    Args:
        inputs: Gradio's components of an endpoint, by the names of its parameters.
        settings: Class of the settings among its parameters; None for none.
        own: Schemas of further parameters, by name.
    """
    schemas = {found.name: _of_control(found) for found in controls(settings)} if settings else {}
    for name, schema in {**schemas, **own}.items():
        inputs[name]._api_info = schema


def as_positional(page: gr.Blocks, path: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Convert a call with named parameters to one with positional parameters.

    Args:
        page: The page with the endpoints.
        path: Path of the request.
        body: The values by parameter name.

    Returns:
        Path and body of the positional call; None if there is no such endpoint.

    Raises:
        InvalidSetting: If a parameter is unknown or missing.
    """
    found = V2.search(path)
    name = found["name"] if found else ""
    endpoint = next((fn for fn in page.fns.values() if fn.api_name == name and fn.api_visibility == "public"), None)
    if found is None or endpoint is None or endpoint.fn is None:
        return None
    parameters = inspect.signature(endpoint.fn).parameters
    unknown = next((key for key in body if key not in parameters), None)
    if unknown is not None:
        raise InvalidSetting(
            f"The endpoint {name} has no parameter {unknown[:60]!r}: its parameters are {', '.join(parameters)}."
        )
    missing = next((key for key, one in parameters.items() if one.default is one.empty and key not in body), None)
    if missing is not None:
        raise InvalidSetting(f"The endpoint {name} needs a value for {missing}.")
    data = [body.get(key, one.default) for key, one in parameters.items()]
    return f"{path[: found.start()]}/gradio_api/call/{name}", {"data": data}
