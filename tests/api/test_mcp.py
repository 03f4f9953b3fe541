"""The endpoints as tools of the Model Context Protocol, and calls whose body names the parameters."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from own_loop import in_own_loop

from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import controls
from tests.stress.fuzz import TRACEBACK
from tests.stress.visitor import Server, Visitor

TOOLS = {
    "preview_noise", "read_instructions", "start_study", "study_status", "stop_study", "stop_arm", "set_strength",
    "continue_study", "answers", "verdict",
}  # fmt: skip
STUDY = {
    "data": {"source": "starter:world-format", "rows": 16},
    "training": {"steps": 2, "evaluations": 1, "evaluation_rows": 4},
    "measuring": {"prompts": 0, "robustness": False},
    "noise": [{"strength": 5}],
}


def as_client(server: Server, do: Callable[[ClientSession], Awaitable[Any]], local: str = "127.0.0.1") -> Any:
    """Return what `do` returns for a client connected from a local address."""

    async def connected() -> Any:
        address = f"{server.address.rstrip('/')}/gradio_api/mcp/"
        transport = httpx.AsyncHTTPTransport(local_address=local)
        async with (
            httpx.AsyncClient(transport=transport, timeout=60) as http,
            streamable_http_client(address, http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await do(session)

    return in_own_loop(connected)


async def result(session: ClientSession, tool: str, **values: Any) -> Any:
    """Return the result of a tool."""
    found = await session.call_tool(tool, values)
    assert not found.isError, found.content
    return json.loads(found.content[0].text)


def test_a_client_lists_the_tools_with_descriptions_and_schemas_from_the_settings(long_server: Server) -> None:
    async def listed(session: ClientSession) -> Any:
        return (await session.list_tools()).tools

    tools = {tool.name: tool for tool in as_client(long_server, listed)}
    assert set(tools) == TOOLS
    assert all(tool.description for tool in tools.values())
    previewed = tools["preview_noise"].inputSchema["properties"]
    for found in controls(NoiseSettings):
        assert found.help in previewed[found.name]["description"]
        assert previewed[found.name].get("maximum") == found.maximum
    study = tools["start_study"].inputSchema["properties"]["settings"]["properties"]
    assert study["training"]["properties"]["learning_rate"]["type"] == "number"
    assert study["noise"]["items"]["properties"]["kind"]["enum"] == list(
        next(found.choices or () for found in controls(NoiseSettings) if found.name == "kind")
    )


def test_a_client_previews_noise_and_runs_a_study(long_server: Server) -> None:
    key = secrets.token_hex(32)

    async def studied(session: ClientSession) -> Any:
        noise = await result(session, "preview_noise", text="Where does the owl live?", strength=5)
        started = await result(session, "start_study", settings=STUDY, key=key)
        end, own = time.monotonic() + 120, {"record": started["record"], "key": key}
        while not (seen := await result(session, "study_status", **own))["is_over"]:
            assert time.monotonic() < end
        return noise, seen, await result(session, "verdict", **own)

    noise, seen, verdict = as_client(long_server, studied, "127.0.0.5")
    assert len(noise["tokens"]) == len(noise["noised_norms"]) > 3
    assert seen["state"] == "finished"
    assert "uniform-alpha-5" in verdict["arms"]
    assert TRACEBACK not in long_server.printed()


def test_a_wrong_value_gets_one_sentence(long_server: Server) -> None:
    async def refused(session: ClientSession) -> Any:
        return await session.call_tool("study_status", {"record": "../..", "key": secrets.token_hex(32)})

    found = as_client(long_server, refused)
    assert found.isError
    assert "no record called" in found.content[0].text
    assert "\n" not in found.content[0].text


def test_a_client_lets_a_finished_study_go_on_and_gets_a_sentence_where_nothing_can_be_steered(
    long_server: Server,
) -> None:
    async def steered(session: ClientSession) -> Any:
        own = {"key": secrets.token_hex(32)}
        own |= {"record": (await result(session, "start_study", settings=STUDY, **own))["record"]}
        end = time.monotonic() + 120
        while not (await result(session, "study_status", **own))["is_over"]:
            assert time.monotonic() < end
        refused = await session.call_tool("stop_arm", {**own, "arm": "uniform-alpha-5"})
        longer = await result(session, "continue_study", epochs=1, **own)
        return refused, own["record"], longer

    refused, first, longer = as_client(long_server, steered, "127.0.0.4")
    assert refused.isError and "not running" in refused.content[0].text
    assert longer["record"] != first
    assert longer["arms"] == ["control", "uniform-alpha-5"]


def test_a_tool_has_the_limits_of_whoever_calls_it(long_server: Server) -> None:
    async def started(session: ClientSession) -> list[Any]:
        values = {"settings": STUDY, "key": secrets.token_hex(32)}
        return [await session.call_tool("start_study", values) for _ in range(3)]

    for local in ("127.0.0.2", "127.0.0.3"):
        first, second, third = as_client(long_server, started, local)
        assert not (first.isError or second.isError), (first.content, second.content)
        assert "maximum number of studies per hour (2)" in third.content[0].text


def test_tools_are_closed_on_a_public_lab_whose_host_says_nothing(visitor: Visitor) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = visitor.send("POST", "/gradio_api/mcp/", json=body, headers={"accept": "application/json"})
    assert 400 <= answer.status < 500
    assert "preview_noise" not in answer.text


def by_name(visitor: Visitor, name: str, **values: Any) -> str:
    """Call an endpoint by named parameters, and return the text of its events, or of the refusal."""
    joined = visitor.send("POST", f"/gradio_api/call/v2/{name}", json=values)
    if joined.status != 200:
        return f"{joined.status} {joined.text}"
    return visitor.send("GET", f"/gradio_api/call/{name}/{json.loads(joined.text)['event_id']}").text


def test_an_endpoint_is_called_by_named_parameters(visitor: Visitor) -> None:
    events = by_name(visitor, "preview_noise", text="Where does the owl live?", strength=2.5)
    assert events.startswith("event: complete\n")
    (noise,) = json.loads(events.partition("data: ")[2])
    assert noise["standard_deviation"] < by_default(visitor)


def by_default(visitor: Visitor) -> float:
    """Return the standard deviation at the default strength."""
    events = by_name(visitor, "preview_noise", text="Where does the owl live?")
    return json.loads(events.partition("data: ")[2])[0]["standard_deviation"]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("preview_noise", {"text": "hello", "strenght": 5}, "400.*no parameter 'strenght'"),
        ("preview_noise", {}, "400.*needs a value for text"),
        ("plan", {}, "404.*no such endpoint"),
        ("nothing", {}, "404.*no such endpoint"),
        ("preview_noise", {"text": "hello", "kind": "none"}, "event: error.*Kind must be one of"),
        ("read_instructions", {"file": {"path": "http://127.0.0.1/x"}}, "400.*does not fetch files"),
        (
            "start_study",
            {"settings": {"training": {"steps": 10**6}}, "key": "7c" * 32},
            "error.*this server allows at most 5",
        ),
    ],
)
def test_a_call_by_name_has_the_same_checks(visitor: Visitor, name: str, values: dict[str, Any], words: str) -> None:
    assert re.search(words, by_name(visitor, name, **values), re.DOTALL)
