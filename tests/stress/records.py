"""Attacks with records, uploads and exports on memory, disk, time and other visitors' lists."""

from __future__ import annotations

import json
import time

from neftune_core.home import folder_bytes
from neftune_core.settings import to_toml
from neftune_core.studies.settings import EXAMPLE
from tests.stress.visitor import Answer, Visitor

from .imports import MOST_MEMORY_MB, RECORD, STUDY, importing, packed, parts_of, peak_memory, reset_peak
from .target import Attack, Target

LONGEST_SECONDS = 20
"""For the answer to one attack, on a machine that does other work."""


def _brought(visitor: Visitor, parts: dict[str, bytes], name: str = RECORD) -> Answer:
    sent = visitor.upload("record.zip", packed(parts, name))
    assert sent.status == 200, sent.text
    return visitor.call(importing(visitor), [visitor.key, sent.outputs[0]])


def _listed(visitor: Visitor) -> Answer:
    function = visitor.function("fill")
    return visitor.call(function, function.usual(visitor.key))


def a_record_made_to_exhaust_memory(lab: Target) -> None:
    """Import archives of a megabyte whose parts take gigabytes when read."""
    visitor, usual = lab.visitor(), parts_of(STUDY)
    idle = reset_peak(lab.server)
    for name, content in (
        ("record.json", b'{"format": 1, "x": [' + b"{}," * 30_000_000 + b"0]}"),
        ("events.jsonl", b'{"event": "x", "y": [' + b"[]," * 5_000_000 + b"0]}\n"),
        ("events.jsonl", b'{"event": ""}\n' * 1_000_000),
        ("study.toml", b".".join([b"a"] * 20_000) + b" = 1\n"),
    ):
        began = time.perf_counter()
        answer = _brought(visitor, {**usual, name: content})
        assert len(answer.told) == 1 or answer.outputs, f"{name}: {answer.text[-300:]}"
        assert time.perf_counter() - began < LONGEST_SECONDS, f"{name} took {time.perf_counter() - began:.0f} seconds"
    taken = peak_memory(lab.server) - idle
    assert taken < MOST_MEMORY_MB, f"{taken:.0f} MB"
    assert not list((lab.server.home / "runs").glob(".import-*"))


def a_record_that_slows_the_lists_of_others(lab: Target) -> None:
    """Store a record of maximum size, and measure how long another visitor's list takes."""
    large = {f"field {number}": "x" * 200 for number in range(1_000)}
    about = json.loads((STUDY / "record.json").read_bytes()) | large
    answer = _brought(lab.visitor(), {**parts_of(STUDY), "record.json": json.dumps(about).encode()})
    assert answer.outputs, answer.told
    other = lab.visitor()
    _listed(other)
    began = time.perf_counter()
    _listed(other)
    assert time.perf_counter() - began < 2


def a_wrong_field_that_breaks_a_list(lab: Target) -> None:
    """Import records with one field that a reader does not expect."""
    visitor = lab.visitor()
    about = json.loads((STUDY / "record.json").read_bytes())
    for wrong in ({"created": 1e300}, {"created": "x"}, {"model": {"precision": "int3"}}, {"data": {"train": 10**30}}):
        answer = _brought(visitor, {**parts_of(STUDY), "record.json": json.dumps(about | wrong).encode()})
        assert len(answer.told) == 1, answer.told
    event = json.dumps({"event": "step", "step": 10**30, "arms": {"control": {"loss": 1}}}).encode()
    name = "20260102-000000-abcdef"
    assert _brought(visitor, {**parts_of(STUDY), "events.jsonl": event + b"\n"}, name).outputs == [name]
    listed = _listed(visitor)
    assert not listed.told
    assert name in listed.text
    function = visitor.function("open_record")
    opened = visitor.call(function, function.usual(visitor.key), event_data={"id": name})
    assert not opened.told, opened.told
    assert "cannot be read" in opened.text


def an_archive_with_odd_names(lab: Target) -> None:
    """Import archives whose names are options, hidden files or paths."""
    visitor = lab.visitor()
    for name in ("data/source/-rf", "data/source/.x", "arms/-x/seed-0/adapter_config.json", "../x", "claim"):
        answer = _brought(visitor, {**parts_of(STUDY), name: b"x"})
        assert len(answer.told) == 1, f"{name}: {answer.told}"
        assert "does not belong" in answer.told[0]


def links_and_exports_that_fill_the_disk(lab: Target) -> None:
    """Open the link of a study with rows ten times, and export the study ten times."""
    visitor, name = lab.visitor(), "20260103-000000-abcdef"
    rows = b"".join(b'{"instruction": "%d", "output": "b"}\n' % number for number in range(20_000))
    data = EXAMPLE.data.model_copy(update={"source": "file:data/source/rows.jsonl"})
    study = to_toml(EXAMPLE.model_copy(update={"data": data})).encode()
    given = {**parts_of(STUDY), "study.toml": study, "data/source/rows.jsonl": rows}
    assert _brought(visitor, given, name).outputs == [name]
    make = next(
        found
        for found in visitor.functions()
        if "take-what" in [field.elem_id for field in found.fields] and found.name.startswith("make")
    )
    restore = [found for found in visitor.functions() if found.name.startswith("restore")]
    before = folder_bytes(lab.server.home / "uploads")
    for _ in range(10):
        for function in restore:
            values = [visitor.key if field.elem_id == "owner-key" else name for field in function.fields]
            visitor.call(function, values)
        made = visitor.call(make, [visitor.key, name, "record", None])
        assert made.outputs, made.told
    grown = folder_bytes(lab.server.home / "uploads") - before - len(rows)  # the link is counted as a file here
    assert grown < 1_000_000, f"{grown:,} bytes"


ATTACKS: tuple[Attack, ...] = (
    a_record_made_to_exhaust_memory,
    a_record_that_slows_the_lists_of_others,
    a_wrong_field_that_breaks_a_list,
    an_archive_with_odd_names,
    links_and_exports_that_fill_the_disk,
)
