"""Attacks on the gate: routes, hosts, origins, admission, passwords, and shutdown."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neftune_core.studies.checkpoint import saved_step
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import all_records
from tests.stress.visitor import Visitor, served

from .target import LIMITS, Attack, Target

FOREIGN = "https://attacker.example"
PASSWORD = "correct horse battery staple"
JSON = {"content-type": "application/json"}


def an_address_of_the_framework(lab: Target) -> None:
    """Request routes of the framework that the page does not use, in several spellings."""
    for address in (
        "/gradio_api/token",
        "/gradio_api/user",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://127.0.0.1:1/",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/vibe-code/",
        "/gradio_api/dev/reload",
        "/GRADIO_API/runs",
        "/gradio_api/queue/status",
        "/monitoring/summary",
        "/openapi.json",
        "/docs",
        "/pwa_icon/512",
    ):
        answer = lab.visitor().send("GET", address)
        assert answer.status in (403, 404), f"{address} answered with status {answer.status}"
        assert "root:" not in answer.text
    for address in ("/gradio_api/run/start", "/gradio_api/api/start", "/gradio_api/component_server"):
        assert lab.visitor().send("POST", address, json={"data": []}).status == 404, address


def a_call_under_another_functions_number(lab: Target) -> None:
    """Name one function in the path and a different one in the body."""
    visitor = lab.visitor()
    start, preview = visitor.function("start_study"), visitor.function("preview_noise")
    for path, number in ((start.name, preview.number), (preview.name, start.number)):
        body = {"fn_index": number, "data": [{}, visitor.key], "session_hash": visitor.session}
        answer = visitor.send("POST", f"/gradio_api/call/{path}", json=body)
        assert answer.status == 400, f"a call of {path} was taken as function {number}: {answer.text[:200]}"


def a_call_with_the_same_name_twice(lab: Target) -> None:
    """Send a value of the body twice; the checked value must be the one that is used."""
    visitor = lab.visitor()
    start, preview = visitor.function("start_study"), visitor.function("preview_noise")
    body = f'{{"fn_index": {preview.number}, "fn_index": {start.number}, "data": ["x"], "session_hash": "twice"}}'
    answer = visitor.send("POST", "/gradio_api/call/preview_noise", content=body.encode(), headers=JSON)
    assert answer.status == 400, answer.text[:200]


def one_address_takes_all_places(lab: Target) -> None:
    """Start studies with new keys from one address until the queue is full."""
    owners = [lab.visitor() for _ in range(LIMITS["queue_places"] + 3)]
    taken, refused = [], 0
    for owner in owners:
        start = owner.function("start")
        answer = owner.call(start, start.usual(owner.key, train_steps=1_000, train_strengths=""))
        record = str(answer.outputs[0]) if answer.outputs and not answer.told else ""
        taken += [(owner, record)] if record else []
        refused += "IP address" in " ".join(answer.told)
    for owner, record in taken:
        stop = owner.function("stop_study")
        owner.call(stop, [record, owner.key])
    most = LIMITS["address_jobs"] + 1  # one of them runs
    assert refused, "nothing was refused"
    assert len(taken) <= most, f"{len(taken)} of {LIMITS['queue_places']} places went to one address"


def a_foreign_host(lab: Target) -> None:
    """Send requests under the host name of another site, as after DNS rebinding."""
    visitor = lab.visitor()
    for name in (
        "attacker.example",
        "attacker.example:7860",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example",
    ):
        for headers in ({"host": name}, {"x-forwarded-host": name}):
            answer = visitor.send("GET", "/config", headers=headers)
            assert answer.status == 421, f"{headers} was answered with status {answer.status}"
        preview = visitor.function("preview_noise")
        body = {"fn_index": preview.number, "data": [], "session_hash": "x"}
        assert visitor.send("POST", "/gradio_api/queue/join", json=body, headers={"host": name}).status == 421


def a_foreign_origin(lab: Target) -> None:
    """Send requests from another site's page, and request CORS access."""
    visitor = lab.visitor()
    for origin in (
        FOREIGN,
        "null",
        "http://127.0.0.1.attacker.example",
        f"{visitor.client.base_url}".rstrip("/") + "0",
    ):
        for address in ("/gradio_api/queue/join", "/gradio_api/call/preview_noise", "/gradio_api/upload", "/login"):
            answer = visitor.send("POST", address, json={"data": []}, headers={"origin": origin})
            assert answer.status == 403, f"{origin} may send to {address}: {answer.status}"
        asked = {"origin": origin, "access-control-request-method": "POST"}
        for method, headers in (("OPTIONS", asked), ("GET", {"origin": origin})):
            said = visitor.client.request(method, "/config", headers=headers)
            assert "access-control-allow-origin" not in said.headers, f"{method} grants {origin}"
    own = visitor.send(
        "POST", "/gradio_api/reset", json={}, headers={"origin": str(visitor.client.base_url).rstrip("/")}
    )
    assert own.status != 403, "the page's own origin is refused"


def a_frame_or_a_script_of_a_foreign_site(lab: Target) -> None:
    """Look for a content security policy in every kind of response."""
    for address in ("/", "/zh", "/config", "/theme.css", "/nothing"):
        policy = lab.visitor().client.get(address).headers.get("content-security-policy", "")
        for part in ("frame-ancestors 'self'", "object-src 'none'", "base-uri 'self'", "default-src 'self'"):
            assert part in policy, f"{address} has no {part}"
        scripts = policy.partition("script-src ")[2].partition(";")[0].split()
        assert not {"'unsafe-inline'", "blob:", "data:", "*", "https:"} & set(scripts), f"{address}: {scripts}"
    seen = set()
    for address in ("/", "/zh", "/"):
        page = lab.visitor().client.get(address)
        nonces = {found[1] for found in re.finditer(r"<script nonce=\"([^\"]+)\"", page.text)}
        assert len(nonces) == 1 and not nonces & seen, f"{address}: {nonces}"
        assert f"'nonce-{nonces.copy().pop()}'" in page.headers["content-security-policy"]
        seen |= nonces


def malformed_direct_calls(lab: Target) -> None:
    """Send values that the page never sends directly to the functions."""
    visitor = lab.visitor()
    before = lab.server.printed()
    for body in (
        {"data": [1, 2, 3]},
        {"data": ["x"] * 50},
        {"data": [None]},
        {"data": [], "event_data": 5},
        {"data": [{"path": 7}]},
        {"data": [], "session_hash": {"a": 1}},
        {"data": [], "event_id": {"a": 1}, "trigger_id": 99_999},
    ):
        for address in (
            "call/start_study",
            "call/verdict",
            "run/verdict",
            "api/verdict",
            "queue/join",
            "cancel",
            "reset",
        ):
            assert visitor.send("POST", f"/gradio_api/{address}", json=body).status < 500, (address, body)
    assert "Traceback" not in lab.server.printed().removeprefix(before)


@contextmanager
def _with_password(folder: Path) -> Iterator[Visitor]:
    code = f"from neftune_core.ui.server.serve import serve; serve(host='127.0.0.1', password={PASSWORD!r})"
    with served(folder, code=code) as server:
        assert server.address.startswith("http"), server.printed()
        visitor = Visitor(server.address)
        yield visitor
        visitor.client.close()


def a_password_by_guessing(lab: Target) -> None:
    """Guess the password of a lab, look for unprotected information, and reuse its cookie."""
    with _with_password(lab.scratch / "password") as visitor:
        for address in ("/config", "/gradio_api/info", "/openapi.json", "/gradio_api/openapi.json"):
            status = visitor.send("GET", address).status
            assert status in (401, 404), f"{address} is answered without the password ({status})"
        signed = visitor.client.post("/login", data={"username": "x", "password": PASSWORD})
        assert signed.status_code == 200, signed.text
        for cookie in signed.headers.get_list("set-cookie"):
            assert "samesite=lax" in cookie.lower() and "samesite=none" not in cookie.lower(), cookie
        left = visitor.client.get("/logout", headers={"x-forwarded-host": "attacker.example"})
        assert "attacker" not in left.headers.get("location", ""), left.headers["location"]
        guesses = [visitor.send("POST", "/login", data={"username": "x", "password": str(n)}).status for n in range(30)]
        assert guesses.count(429) >= 20, f"{guesses.count(400)} guesses of 30 were answered"


def a_redirect_to_a_foreign_site(lab: Target) -> None:
    """Request a redirect to another site after logging out."""
    for address in ("/logout?_target_url=https://attacker.example/", "/logout?_target_url=//attacker.example"):
        said = lab.visitor().client.get(address, follow_redirects=False)
        assert "attacker" not in said.headers.get("location", ""), said.headers["location"]


def _asking(address: str, over: threading.Event) -> Callable[[], None]:
    """Change the text again and again."""

    def ask() -> None:
        visitor = Visitor(address)
        draw = visitor.function("redraw")
        while not over.is_set():
            visitor.call(draw, draw.usual(visitor.key, noise_text=f"A text of {time.time()} words."))
        visitor.client.close()

    return ask


def _fetching(address: str, path: str, over: threading.Event) -> Callable[[], None]:
    """Download a file, or read a stream, again and again."""

    def fetch() -> None:
        visitor = Visitor(address)
        while not over.is_set():
            visitor.send("GET", path)
        visitor.client.close()

    return fetch


def ended_by_the_system_under_load(lab: Target) -> None:
    """Let the system end a lab that trains while 40 visitors ask it, download files and have streams open."""
    with served(lab.scratch / "ended", OMP_NUM_THREADS="1") as server:
        owner, over = Visitor(server.address), threading.Event()
        start = owner.function("start")
        started = owner.call(start, start.usual(owner.key, train_epochs=20))
        assert not started.told, started.told
        (record,) = (one for one in all_records(folder=server.home / "runs") if one.belongs_to(owner.key))
        busy = [_asking(server.address, over) for _ in range(16)]
        busy += [_fetching(server.address, "/page-files/plotly.min.js", over) for _ in range(8)]
        busy += [_fetching(server.address, f"/gradio_api/heartbeat/ended{number}", over) for number in range(16)]
        threads = [threading.Thread(target=one) for one in busy]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while of_record(record).step < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        begun = time.monotonic()
        server.process.terminate()
        status = server.process.wait(30)
        seconds = time.monotonic() - begun
        over.set()
        for thread in threads:
            thread.join()
        owner.client.close()
        found = of_record(record)
        assert seconds < 10, f"it ended after {seconds:.1f} s"
        assert status == 128 + 15, f"its status is {status}"
        assert found.state == "stopped" and saved_step(record.folder) == found.step >= 2, f"{found}"


ATTACKS: tuple[Attack, ...] = (
    an_address_of_the_framework,
    a_call_under_another_functions_number,
    a_call_with_the_same_name_twice,
    one_address_takes_all_places,
    a_foreign_host,
    a_foreign_origin,
    a_frame_or_a_script_of_a_foreign_site,
    malformed_direct_calls,
    a_password_by_guessing,
    a_redirect_to_a_foreign_site,
    ended_by_the_system_under_load,
)
