"""Fuzzed imports: randomly changed records are imported into a served lab and opened if accepted."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from neftune_core.home import assets
from tests.stress.visitor import Function, Server, Visitor

from .target import Target, target

COUNT, SHORT = 2_000, 12
MOST_MEMORY_MB = 400
SLOWEST_SECONDS = 60
RECORD = "20260101-000000-abcdef"
FAULT = "An internal error occurred"
STUDY = assets() / "studies" / "smollm2-open-ended"
JUDGED = min(assets().glob("recorded/*/cells/*"))
"""A study with the measures of its rows."""

WORKERS = 3
"""Visitors who import at the same time: an import is checked in a process of its own."""
CASES_AN_ADDRESS = 100
"""Imports from one address of the loopback interface: one address has a limited share of the room for uploads."""

Parts = dict[str, bytes]


class Draw(random.Random):
    """The random stream of one case, and the id of its record."""

    record = RECORD


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, -(10**30), 1e300, float("nan"), float("inf"), "", "x" * 300_000, "\ud800", "\0", [], {},
    [[]], {"a": {}}, "<b>x</b>", "../../etc/passwd", "file:/etc/passwd", "-rf", [0] * 30_000, [[]] * 20_000,
)  # fmt: skip


def parts_of(folder: Path) -> Parts:
    """Return the parts of a record by name."""
    names = ("study.toml", "record.json", "events.jsonl", "answers.jsonl")
    parts = {name: (folder / name).read_bytes() for name in names}
    return {**parts, **{name: (JUDGED / name).read_bytes() for name in ("metrics.json", "examples.jsonl")}}


def packed(parts: Parts, name: str = RECORD) -> bytes:
    """Return a zip file of the parts of a record."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts.items():
            archive.writestr(f"{name}/{part}", content)
    return held.getvalue()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Yield every container in a JSON value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _odd_field(block: bytes, draw: Draw) -> bytes:
    value = json.loads(block)
    container, key = draw.choice(_places(value))
    container[key] = draw.choice(ODD)
    return json.dumps(value).encode(errors="replace")


def _bytes(block: bytes, draw: Draw) -> bytes:
    changed = bytearray(block)
    for _ in range(draw.choice((1, 3, 30))):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    cut = draw.randrange(len(changed)) if draw.random() < 0.2 else len(changed)
    return bytes(changed[:cut])


def _json(name: str) -> Callable[[Parts, Draw], bytes]:
    def change(parts: Parts, draw: Draw) -> bytes:
        alter = draw.choice((_odd_field, _odd_field, _bytes, lambda *_: b"[" * draw.choice((50, 100_000))))
        return packed({**parts, name: alter(parts[name], draw)}, draw.record)

    return change


def _lines(name: str) -> Callable[[Parts, Draw], bytes]:
    def change(parts: Parts, draw: Draw) -> bytes:
        lines = parts[name].splitlines()
        for _ in range(draw.choice((1, 5))):
            place = draw.randrange(len(lines))
            lines[place] = draw.choice((_odd_field, _odd_field, _bytes))(lines[place], draw).replace(b"\n", b" ")
            try:
                json.loads(lines[place])
            except ValueError:
                break
        huge = (
            b"\n" * 3_000_000,
            b"{}\n" * 500_000,
            b'{"event": "x", "y": [' + b"[]," * 3_000_000 + b"0]}",
            b"[" * 10**6,
        )
        more = [draw.choice(huge)] if draw.random() < 0.1 else []
        return packed({**parts, name: b"\n".join([*lines, *more])}, draw.record)

    return change


def _toml(parts: Parts, draw: Draw) -> bytes:
    text = parts["study.toml"]
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: _bytes(text, draw),
        lambda: text.replace(
            b"= 1", b"= " + draw.choice((b"1e999", b"-1", b"nan", b"9" * 5000, b'"x"', b"[[[1]]]")), 1
        ),
        lambda: b".".join([b"a"] * draw.choice((20, 20_000))) + b" = 1\n" + text,
        lambda: b"x = " + b"[" * draw.choice((50, 50_000)) + b"\n" + text,
        lambda: b'title = "' + b"x" * draw.choice((5_000, 300_000)) + b'"\n' + text,
        lambda: text.replace(b"starter:", draw.choice((b"file:/etc/", b"file:../", b"file:data/source/", b"hub:"))),
    )
    return packed({**parts, "study.toml": draw.choice(ways)()}, draw.record)


def _zip(parts: Parts, draw: Draw) -> bytes:
    names = (
        "../x",
        "/x",
        "data/source/-rf",
        "data/source/.x",
        "arms/x/seed-0/adapter_model.safetensors",
        "x.py",
        "claim",
    )
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: _bytes(packed(parts, draw.record), draw),
        lambda: _bytes(packed(parts, draw.record), draw),
        lambda: packed({**parts, draw.choice(names): b"x"}, draw.record),
        lambda: packed(
            {name: content for name, content in parts.items() if name != draw.choice(list(parts))}, draw.record
        ),
        lambda: packed({**parts, **{f"data/source/{number}": b"" for number in range(2_100)}}, draw.record),
        lambda: packed(parts, draw.choice(("x", "", "..", "20260101-000000-ABCDEF"))),
        lambda: packed({**parts, draw.choice(list(parts)): b"\0" * 40_000_000}, draw.record),
        lambda: packed({}, draw.record),
    )
    return draw.choice(ways)()


FILE_KINDS: dict[str, Callable[[Parts, Draw], bytes]] = {
    "record.json": _json("record.json"),
    "events": _lines("events.jsonl"),
    "answers": _lines("answers.jsonl"),
    "examples": lambda parts, draw: _lines("examples.jsonl")(parts_of(JUDGED), draw),
    "metrics": _json("metrics.json"),
    "toml": _toml,
    "zip": _zip,
}


def peak_memory(server: Server) -> float:
    """Return the server's peak memory since the last reset, in MB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def reset_peak(server: Server) -> float:
    """Reset the server's peak memory; return its current memory in MB."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5", encoding="utf-8")
    return peak_memory(server)


def run(folder: Path, short: bool, count: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Import `count` fuzzed records into a lab of its own; return the rows of `import_into`."""
    with target(folder) as lab:
        return import_into(lab, count or (SHORT if short else COUNT), seed)


def import_into(lab: Target, cases: int, seed: int = 0) -> list[dict[str, Any]]:
    """Import fuzzed records; return one row per kind, and one for the server's memory."""
    rows = {kind: {"kind": kind, "cases": 0, "taken": 0, "slowest_seconds": 0.0, "found": ""} for kind in FILE_KINDS}
    with ThreadPoolExecutor(WORKERS) as workers:
        idle, begun = reset_peak(lab.server), time.perf_counter()
        shares = [range(worker, cases, WORKERS) for worker in range(WORKERS)]
        for share in [workers.submit(_share, lab, share, seed, rows) for share in shares]:
            share.result()
        seconds = time.perf_counter() - begun
        peak = peak_memory(lab.server) - idle
    words = f"{peak:.0f} MB over the idle server" if peak > MOST_MEMORY_MB else ""
    memory = {"kind": "memory", "idle_mb": round(idle), "over_idle_mb": round(peak)}
    return [*rows.values(), {**memory, "seconds_a_case": round(seconds / cases, 2), "found": words}]


def _share(lab: Target, numbers: range, seed: int, rows: dict[str, dict[str, Any]]) -> None:
    """Import the cases of one worker, whose record has a separate id."""
    visitor, kinds, parts = lab.visitor(), list(FILE_KINDS), parts_of(STUDY)
    functions = importing(visitor), visitor.function("fill"), visitor.function("open_record")
    for number in numbers:
        visitor = lab.visitor(visitor.key, f"127.0.2.{1 + number // CASES_AN_ADDRESS % 250}")
        kind, draw = kinds[number % len(kinds)], Draw(f"{seed} {number}")
        draw.record = f"{RECORD[:-1]}{numbers.start}"
        given = FILE_KINDS[kind](parts, draw)
        _note(rows[kind], number, *_imported(lab.server, visitor, functions, given, draw.record))
        visitor.client.close()
        if number % 100 == 99:
            print(f"{number + 1} cases", file=sys.stderr)


def _note(row: dict[str, Any], number: int, taken: bool, seconds: float, found: str) -> None:
    row["cases"] += 1
    row["taken"] += taken
    row["slowest_seconds"] = round(max(row["slowest_seconds"], seconds), 1)
    if found or seconds > SLOWEST_SECONDS:
        row["found"] = row["found"] or f"case {number}: {found or f'took {seconds:.0f} seconds'}"


def importing(visitor: Visitor) -> Function:
    """Return the page's function that imports a record."""
    return next(found for found in visitor.functions() if "bring-file" in [field.elem_id for field in found.fields])


def _imported(
    server: Server, visitor: Visitor, functions: tuple[Function, Function, Function], given: bytes, record: str
) -> tuple[bool, float, str]:
    """Import one archive and open its record; return whether it was accepted, the seconds, and any fault."""
    started = time.perf_counter()
    bring, listing, opening = functions
    sent = visitor.upload("record.zip", given)
    if sent.status != 200:
        return False, time.perf_counter() - started, f"the upload got status {sent.status}"
    said = visitor.call(bring, [visitor.key, sent.outputs[0]])
    taken = said.outputs and said.outputs[0] == record
    found = "" if taken or _is_sentence(said.told) else f"no sentence: {said.told} {said.text[-300:]}"
    if taken:
        for function, more in ((listing, {}), (opening, {"event_data": {"id": record}})):
            shown = visitor.call(function, function.usual(visitor.key), **more)
            found = found or _fault(shown.status, shown.text)
    found = found or _fault(said.status, said.text)
    shutil.rmtree(server.home / "runs" / record, ignore_errors=True)
    return bool(taken), time.perf_counter() - started, found


def _is_sentence(told: tuple[str, ...]) -> bool:
    return len(told) == 1 and 10 < len(told[0]) < 600 and "\n" not in told[0] and FAULT not in told[0]


def _fault(status: int, text: str) -> str:
    wrong = status != 200 or FAULT in text or "Traceback" in text
    return f"status {status}: {text[-300:]}" if wrong else ""
