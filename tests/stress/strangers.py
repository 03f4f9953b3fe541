"""Attacks by visitors on the host and on each other: hub data sets, uploads, records, quotas, sessions."""

from __future__ import annotations

import json
import time

from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE
from tests.hub_mock import hub_of
from tests.stress.visitor import Answer, Function, Visitor, served

from .crowd import HOSTILE_ADDRESS
from .imports import STUDY, importing, packed, parts_of
from .target import LIMITS, TOKEN, Attack, Target

ROWS = b"".join(b'{"instruction": "Say %d.", "output": "%d"}\n' % (number, number) for number in range(40))


def _fetched(visitor: Visitor) -> Answer:
    fetch = visitor.function("fetch")
    return visitor.call(fetch, fetch.usual(visitor.key, data_source="hub", data_hub="owner/set"))


def a_data_set_that_searches_the_disk_of_the_host(lab: Target) -> None:
    """Use a data set card that names existing and missing folders, and addresses inside the network.

    The host has a hub token, which must not be sent.
    """
    files, said = {"data.jsonl": ROWS}, set()
    with (
        hub_of(files) as (address, shown),
        served(lab.scratch / "hub", LIMITS, HF_ENDPOINT=address, HF_TOKEN=TOKEN) as server,
    ):
        visitor, uploads = Visitor(server.address), server.home / "uploads"
        for pattern in (f"{uploads}/**", "/nowhere/**", "../**", "http://127.0.0.1:1/x.jsonl"):
            data = json.dumps(pattern)
            files["README.md"] = f"---\nconfigs:\n- config_name: default\n  data_files: {data}\n---\n".encode()
            answer = _fetched(visitor)
            said.add(tuple(shown for shown in map(str, answer.outputs) if "repository" in shown))
        visitor.client.close()
        assert shown, "the hub was not asked"
        assert not any(shown), "the hub was shown a token"
        assert TOKEN not in server.printed() + server.logged()
    assert len(said) == 1 and len(next(iter(said))) == 1, said
    assert "outside its own repository" in next(iter(said))[0], said


def an_upload_of_another_visitor(lab: Target) -> None:
    """Name the upload of another visitor at the same IP address."""
    owner, other = lab.visitor(), lab.visitor()
    sent = owner.upload("rows.jsonl", ROWS)
    read = owner.function("refresh")

    def named_by(visitor: Visitor) -> Answer:
        values = read.usual(visitor.key, data_source="file", data_file=sent.outputs[0])
        return visitor.call(read, values)

    fill = owner.function("fill")
    for visitor in (owner, other):  # as a page does when it opens
        visitor.call(fill, fill.usual(visitor.key))
    assert not named_by(owner).told
    answer = named_by(other)
    assert len(answer.told) == 1 and "upload it first" in answer.told[0], answer.told
    assert not named_by(owner).told


def a_record_of_the_command_line(lab: Target) -> None:
    """Add seeds to a record of the host, resume it, stop it and discard it."""
    made = create(EXAMPLE, "", folder=lab.server.home / "runs")
    made.append({"event": "started", "steps": 1})
    made.append({"event": "finished"})
    before = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    visitor = lab.visitor()
    for function in visitor.functions():
        if _is_keyed(function) and function.name != "start":
            values = [visitor.key if field.elem_id == "owner-key" else made.id for field in function.fields]
            visitor.call(function, values, event_data={"id": made.id})
    assert before == {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}


def _is_keyed(function: Function) -> bool:
    return any(field.elem_id == "owner-key" for field in function.fields)


def imports_over_the_share_of_a_visitor(lab: Target) -> None:
    """Import records until a visitor's disk space is full."""
    with served(lab.scratch / "share", {**LIMITS, "visitor_gigabytes": 0.004}) as server:
        visitor, told = Visitor(server.address), []
        parts = {**parts_of(STUDY), "data/source/rows.jsonl": ROWS * 1_000}
        for number in range(5):
            sent = visitor.upload("record.zip", packed(parts, f"2026010{number + 1}-000000-abcdef"))
            told += visitor.call(importing(visitor), [visitor.key, sent.outputs[0]]).told
        visitor.client.close()
        kept = sum(path.stat().st_size for path in (server.home / "runs").rglob("*") if path.is_file())
        assert told, "nothing was refused"
        assert kept < 5_000_000, f"{kept:,} bytes"


def twelve_hundred_tiny_uploads(lab: Target) -> None:
    """Upload many tiny files, and measure the response times for other visitors."""
    visitor, other = lab.visitor(), lab.visitor()
    files = [("files", (f"{number}.jsonl", b'{"a": %d}' % number)) for number in range(1_200)]
    visitor.client.post("/gradio_api/upload", files=files)
    slowest = max(other.client.get("/config").elapsed.total_seconds() for _ in range(5))
    assert slowest < 2, f"{slowest:.1f} s"


def calls_that_hold_up_others(lab: Target) -> None:
    """Send a hundred calls at once from one address, and measure how long a call from another address takes."""
    visitor = lab.visitor()
    draw = visitor.function("redraw")
    many = lab.visitor(local_address=HOSTILE_ADDRESS)
    for number in range(100):
        values = draw.usual(visitor.key, noise_text=f"Number {number}. " * 40)
        call = {"fn_index": draw.number, "session_hash": f"many{number}", "data": values}
        assert many.send("POST", "/gradio_api/queue/join", json=call).status == 200
    begun = time.perf_counter()
    answer = visitor.call(draw, draw.usual(visitor.key, noise_text="One call of another visitor."))
    seconds = time.perf_counter() - begun
    assert not answer.told, answer.told
    assert seconds < 3, f"it took {seconds:.1f} s"


ATTACKS: tuple[Attack, ...] = (
    a_data_set_that_searches_the_disk_of_the_host,
    an_upload_of_another_visitor,
    a_record_of_the_command_line,
    imports_over_the_share_of_a_visitor,
    twelve_hundred_tiny_uploads,
    calls_that_hold_up_others,
)
