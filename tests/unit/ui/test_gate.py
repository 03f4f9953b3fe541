"""The gate: allowed routes, hosts and origins, and evicted sessions."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.routes import App
from own_loop import in_own_loop

from neftune_core.settings import Limits
from neftune_core.ui.server import framework, launch
from neftune_core.ui.server.addresses import Hosts, foreign_target, hosts_of, is_open
from neftune_core.ui.server.calls import SERVER, SERVER_HEADER, EvictedSessions
from neftune_core.ui.server.connections import FairQueue, Sessions
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.launch import Serving
from neftune_core.ui.watching import Studies

# The framework's routes that the lab answers, as (method, path). What a new release adds is not among them.
ANSWERED = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/assets/{path:path}"),
    ("GET", "/config"),
    ("GET", "/config/"),
    ("GET", "/favicon.ico"),
    ("GET", "/gradio_api/app_id"),
    ("GET", "/gradio_api/app_id/"),
    ("GET", "/gradio_api/call/{api_name}/{event_id}"),
    ("GET", "/gradio_api/file/{path:path}"),
    ("GET", "/gradio_api/file={path_or_url:path}"),
    ("HEAD", "/gradio_api/file={path_or_url:path}"),
    ("GET", "/gradio_api/heartbeat/{session_hash}"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/info/"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/gradio_api/queue/data"),
    ("GET", "/gradio_api/startup-events"),
    ("GET", "/gradio_api/theme.css"),
    ("GET", "/gradio_api/upload_progress"),
    ("GET", "/logout"),
    ("GET", "/manifest.json"),
    ("GET", "/page-files/{version}/{name}"),
    ("HEAD", "/page-files/{version}/{name}"),
    ("GET", "/page-study/{record_id}"),
    ("HEAD", "/page-study/{record_id}"),
    ("GET", "/robots.txt"),
    ("GET", "/static/{path:path}"),
    ("GET", "/svelte/{path:path}"),
    ("GET", "/theme.css"),
    ("POST", "/gradio_api/call/{api_name}"),
    ("POST", "/gradio_api/call/{api_name}/"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/reset/"),
    ("GET", "/gradio_api/call/v2/{api_name}/{event_id}"),
    ("POST", "/gradio_api/call/v2/{api_name}"),
    ("POST", "/gradio_api/call/v2/{api_name}/"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/login"),
    ("POST", "/login/"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[gr.Blocks, str]]:
    """Serve a page with two functions behind the gate, with room for two sessions."""
    with gr.Blocks(analytics_enabled=False) as page:
        state, text, button = gr.State("usual"), gr.Textbox(), gr.Button()
        button.click(lambda value: f"set to {value}", text, state, api_name="put")
        button.click(lambda value: value, state, text, api_name="get")
        button.click(lambda value: value, text, text, api_name="echo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "SESSIONS", 2)
        limits, routes = Limits(local_paths=False), [Studies(Lab()).route()]
        yield page, launch.launch(page, Serving("127.0.0.1", _free_port()), limits, routes)
    page.close()


def _free_port() -> int:
    """Return a free port; the framework leaves the sockets open with which it tries ports."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def asked(address: str, method: str, path: str, **more: Any) -> httpx.Response:
    with httpx.Client(base_url=address, trust_env=False) as client:
        return client.request(method, path, **more)


def called(address: str, session: str, name: str, *data: Any, server: str = SERVER) -> str:
    """Return the events of one call, from a page that was opened on `server`."""
    body = {"data": list(data), "session_hash": session}
    with httpx.Client(base_url=address, trust_env=False, headers={SERVER_HEADER: server}) as client:
        event = client.post(f"/gradio_api/call/{name}", json=body).json()["event_id"]
        return client.get(f"/gradio_api/call/{name}/{event}").text


def routes(app: App) -> set[tuple[str, str]]:
    """Return every (method, path), including nested routers in newer releases of FastAPI."""
    inner = [getattr(route, "original_router", None) for route in app.routes]
    every = [*app.routes, *(route for router in inner if router for route in router.routes)]
    return {(method, route.path) for route in every for method in getattr(route, "methods", None) or ()}


def filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path)


def test_only_the_named_routes_of_the_framework_are_answered(lab: tuple[gr.Blocks, str]) -> None:
    page, _ = lab
    every = routes(page.app)
    assert len(every) > len(ANSWERED) + 20
    mended = {(method, f"/assets/{name}") for name in framework.patched_scripts() for method in ("GET", "HEAD")}
    assert {(method, path) for method, path in every if is_open(method, filled(path))} == ANSWERED | mended


def test_a_route_that_a_new_release_adds_is_closed(lab: tuple[gr.Blocks, str]) -> None:
    page, address = lab
    for path in ("/gradio_api/new-thing", "/new-thing", "/gradio_api/call/v3/x/y"):
        page.app.add_api_route(path, lambda: "open", methods=["GET", "POST"])
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = asked(address, method, path)
            assert answer.status_code == 404, (method, path)
            assert answer.json() == {"error": "There is nothing at this address."}


@pytest.mark.parametrize("path", ["/static/../x", "/static/a\\b", "/static/a\0b", "/gradio_api/file= HTTP://x/y"])
def test_an_address_that_is_not_normalised_is_closed(path: str) -> None:
    assert not is_open("GET", path)


def test_calls_and_uploads_are_counted_over_http() -> None:
    with gr.Blocks(analytics_enabled=False) as page:
        text = gr.Textbox()
        text.submit(lambda value: value, text, text, api_name="echo")
    address = launch.launch(page, Serving("127.0.0.1", _free_port()), Limits(local_paths=False, calls_a_minute=4))
    ways: list[tuple[str, dict[str, Any]]] = [
        ("/gradio_api/call/echo", {"json": {"data": ["a"]}}),
        ("/gradio_api/upload", {"files": {"files": ("rows.txt", b"x")}}),
        ("/gradio_api/reset", {"json": {}}),
        ("/page-study/1", {}),
    ]

    def statuses() -> list[int]:
        methods = ["GET" if path.startswith("/page-study") else "POST" for path, _ in ways]
        return [
            asked(address, method, path, **more).status_code for method, (path, more) in zip(methods, ways, strict=True)
        ]

    assert 429 not in statuses()
    assert statuses() == [429] * 4
    page.close()


def test_the_second_language_is_an_address_of_its_own() -> None:
    assert is_open("GET", "/zh", ["zh"])
    assert is_open("GET", "/zh/", ["zh"])
    assert not is_open("GET", "/zh")
    assert not is_open("POST", "/zh", ["zh"])


# ---------------------------------------------------------------- hosts and origins


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST", "127.0.0.2"])
def test_a_lab_of_this_machine_answers_under_its_own_names(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert hosts_of(None).accepts(host)


@pytest.mark.parametrize(
    "host", ["attacker.example", "127.0.0.1.attacker.example", "localhost.attacker.example", "192.168.1.5", "", "[::"]
)
def test_a_lab_of_this_machine_answers_under_no_other_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert not hosts_of("127.0.0.1").accepts(host)


def test_a_lab_of_a_network_answers_to_addresses_and_to_the_names_that_its_host_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("NEFTUNE_HOSTS", "lab.example.org:443, other.example.org")
    found = hosts_of("0.0.0.0", "https://root.example.org/lab")
    for host in ("192.168.1.5:7860", "lab.example.org", "other.example.org", "root.example.org", "localhost"):
        assert found.accepts(host), host
    assert not found.accepts("attacker.example")
    assert found.is_own("https://lab.example.org", "127.0.0.1:7860")  # a proxy that names the host behind it


def test_a_shared_lab_answers_under_the_name_of_its_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert hosts_of(None, share=True).accepts("abc.gradio.live")
    assert not hosts_of(None).accepts("abc.gradio.live")


def test_a_space_trusts_the_page_only_of_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "owner/lab")
    monkeypatch.setenv("SPACE_HOST", "owner-lab.hf.space,lab.example.org")
    found = hosts_of("0.0.0.0")
    assert found.accepts("10.1.2.3:7860")
    assert found.accepts("owner-lab.hf.space")
    assert found.is_own("https://owner-lab.hf.space", "10.1.2.3:7860")
    assert found.is_own("https://lab.example.org", "10.1.2.3:7860")
    assert not found.is_own("https://other-space.hf.space", "owner-lab.hf.space")
    monkeypatch.delenv("SPACE_HOST")
    assert hosts_of("0.0.0.0").is_own("https://owner-lab.hf.space", "10.1.2.3:7860")


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("http://127.0.0.1:7860", True),
        ("http://127.0.0.1:7861", False),
        ("http://localhost:7860", False),
        ("null", False),
        ("", False),
        ("file://127.0.0.1:7860", False),
        ("http://[", False),
        ("http://127.0.0.1:7860.attacker.example", False),
    ],
)
def test_an_origin_is_own_where_host_and_port_are_those_that_were_asked(origin: str, own: bool) -> None:
    assert Hosts().is_own(origin, "127.0.0.1:7860") is own


def test_a_usual_port_may_be_omitted() -> None:
    assert Hosts().is_own("https://lab.example.org", "lab.example.org:443")
    assert Hosts().is_own("http://lab.example.org:80", "lab.example.org")
    assert not Hosts().is_own("https://lab.example.org", "lab.example.org:80")


@pytest.mark.parametrize(
    ("location", "foreign"),
    [
        ("/", False),
        ("/zh?x=1", False),
        ("http://127.0.0.1:7860/", False),
        ("https://attacker.example/", True),
        ("//attacker.example", True),
        ("/\\attacker.example", True),
        ("\\\\attacker.example", True),
        ("javascript:alert(1)", True),
    ],
)
def test_a_redirect_is_foreign_by_where_it_leads(location: str, foreign: bool) -> None:
    assert foreign_target(location, "127.0.0.1:7860") is foreign


def test_no_origin_is_granted_and_no_foreign_page_may_send(lab: tuple[gr.Blocks, str]) -> None:
    _, address = lab
    own = address.rstrip("/")
    body = {"data": ["x"], "session_hash": "origin"}
    assert asked(address, "POST", "/gradio_api/call/echo", json=body, headers={"origin": own}).status_code == 200
    assert asked(address, "POST", "/gradio_api/call/echo", json=body).status_code == 200  # a program
    for headers in ({"origin": "https://attacker.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        answer = asked(address, "POST", "/gradio_api/call/echo", json=body, headers=headers)
        assert answer.status_code == 403
        assert "another site" in answer.json()["error"]
    granted = asked(address, "GET", "/config", headers={"origin": own})
    assert "access-control-allow-origin" not in granted.headers


# ---------------------------------------------------------------- calls and sessions


def test_the_name_in_the_path_decides_which_function_is_called(lab: tuple[gr.Blocks, str]) -> None:
    page, address = lab
    echo = next(number for number, fn in page.fns.items() if fn.api_name == "echo")
    for number, status in ((echo, 200), (echo - 1, 400), (True, 400), ("0", 400), (None, 200)):
        body = {"data": ["x"], "session_hash": "number", "fn_index": number}
        assert asked(address, "POST", "/gradio_api/call/echo", json=body).status_code == status, number


def test_a_session_that_was_evicted_is_asked_to_reload_and_gets_no_other_data(lab: tuple[gr.Blocks, str]) -> None:
    _, address = lab
    called(address, "first", "put", "mine")
    assert "set to mine" in called(address, "first", "get")
    for other in ("second", "third", "fourth"):
        called(address, other, "put", "theirs")
    lost = called(address, "first", "get")
    assert "usual" not in lost
    assert "reload the page" in lost
    assert "reload the page" in called(address, "first", "put", "mine")
    assert "x" in called(address, "first", "echo", "x")  # of what keeps nothing
    assert "set to theirs" in called(address, "fourth", "get")


def test_a_session_keeps_no_copy_of_the_page(lab: tuple[gr.Blocks, str]) -> None:
    page, address = lab
    assert "said" in called(address, "copies", "echo", "said")
    state = page.state_holder.session_data["copies"]
    assert not len(state.config_values)
    assert list(state.components) == []


def test_a_page_of_a_server_before_the_restart_is_asked_to_reload(lab: tuple[gr.Blocks, str]) -> None:
    _, address = lab
    told = called(address, "before", "put", "mine", server="another")
    assert "The server was restarted: reload this page" in told
    assert "x" in called(address, "before", "echo", "x", server="another")  # of what keeps nothing
    assert "set to mine" not in called(address, "before", "get")


def test_calls_wait_in_turns_of_their_addresses(lab: tuple[gr.Blocks, str]) -> None:
    page, address = lab
    assert "said" in called(address, "turns", "echo", "said")
    assert all(type(found.queue) is FairQueue for found in page._queue.event_queue_per_concurrency_id.values())


def test_evicted_sessions_are_never_forgotten_and_few_others_are_taken_for_them() -> None:
    evicted = EvictedSessions()
    sessions = Sessions(evicted, 4)
    for number in range(100_000):
        sessions[f"session-{number}"] = None
        sessions.popitem(last=False)
    assert all(f"session-{number}" in evicted for number in range(100_000))
    wrong = sum(f"other-{number}" in evicted for number in range(10_000))
    assert wrong < 150  # 60 are expected
    assert None not in evicted


def test_a_websocket_is_closed() -> None:
    from neftune_core.ui.server.gate import Gate

    with gr.Blocks(analytics_enabled=False) as page:
        gr.Textbox()
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    gate = Gate(lambda *_: pytest.fail("let through"), page=page, limits=Limits(), hosts=Hosts())  # type: ignore[arg-type, return-value]
    in_own_loop(lambda: gate({"type": "websocket", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
