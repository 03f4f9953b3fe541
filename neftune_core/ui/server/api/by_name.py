"""Support calls with named parameters (`/gradio_api/call/v2/ENDPOINT`), as described in a Space's `agents.md`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import gradio as gr

from neftune_core.errors import InvalidSetting

V2 = re.compile(r"/gradio_api/call/v2/(?P<name>[^/]+)/?$", re.IGNORECASE)


def as_positional(page: gr.Blocks, path: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Convert a call with named parameters to one with positional parameters.

    Args:
        page: The page.
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
