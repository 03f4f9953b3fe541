"""A visitor cannot read, stop, resume, remove or query another visitor's study, whatever they send."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from neftune_core.engine.saving import ADAPTER
from neftune_core.studies.records.owners import owner_hash
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from tests.stress.visitor import OWNER_KEY, Answer, Function, Server, Visitor

KEY = "5a" * 32
SECRET = "Violet-Marker-7"
EVERYBODY = "Amber-Marker-3"


@pytest.fixture(scope="module")
def record(server: Server) -> Record:
    """Return a finished study of the visitor with `KEY`, with a secret word in every text."""
    return _study(server, KEY, SECRET)


def _study(server: Server, key: str, word: str) -> Record:
    study = EXAMPLE.model_copy(update={"title": word})
    made = create(study, key, folder=server.home / "runs")
    arms = {name: {"text": word, "tokens": 3, "ended": "stop"} for name in ("base", *study.arms)}
    made.append({"event": "started", "steps": 1, "message": word})
    made.append({"event": "finished", "message": word})
    made.write_answers([{"prompt": word, "reference": word, "arms": arms}], study.seed)
    for arm in study.arms:
        made.arm_folder(arm, study.seed).mkdir(parents=True)
        (made.arm_folder(arm, study.seed) / ADAPTER).touch()
    return made


def asked(visitor: Visitor, function: Function, key: object, record_id: str) -> Answer:
    """Call a function with this key, and with the record's id in every other parameter that could name it."""
    data = [
        key if field.elem_id == OWNER_KEY else record_id if field.kind in ("textbox", "dropdown") else field.usual
        for field in function.fields
    ]
    return visitor.call(function, data, event_data={"id": record_id})


def state_of(folder: Path) -> str:
    """Return a fingerprint of every file in `folder`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}".encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def keyed(visitor: Visitor) -> list[Function]:
    return [
        function for function in visitor.functions() if any(field.elem_id == OWNER_KEY for field in function.fields)
    ]


def test_the_owner_sees_the_study_in_several_places(visitors: Callable[[str], Visitor], record: Record) -> None:
    owner = visitors(KEY)
    removing = ("remove", "surely", "discard", "delete", "resume", "start")
    shown = {
        function.name
        for function in keyed(owner)
        if not function.name.startswith(removing) and SECRET in asked(owner, function, KEY, record.id).text
    }
    # Else the tests below would look for what is never shown.
    assert {"fill", "open_record", "choices"} <= shown


OTHER_KEYS = {
    "another": "6b" * 32,
    "empty": "",
    "missing": None,
    "the hash that is on disk": owner_hash(KEY),
    "in capitals": KEY.upper(),
    "with a space": KEY + " ",
    "shortened": KEY[:-1],
    "a number": 1,
    "a list": [KEY],
    "endless": KEY * 5,
}


FAST_KEYS = ("another", "the hash that is on disk", "with a space", "a list")  # one of each sort


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in FAST_KEYS else [pytest.mark.slow]) for kind in OTHER_KEYS]
)
def test_no_function_reveals_or_changes_another_visitors_study(
    visitors: Callable[[str], Visitor], record: Record, kind: str
) -> None:
    visitor, before = visitors(), state_of(record.folder)
    functions = [function for function in keyed(visitor) if function.name != "start"]
    assert len(functions) >= 6
    for function in functions:
        answer = asked(visitor, function, OTHER_KEYS[kind], record.id)
        assert SECRET not in answer.text, function.name
        assert "An internal error" not in answer.text, function.name
    assert state_of(record.folder) == before


def test_functions_without_a_key_reveal_nothing_of_a_study(visitor: Visitor, record: Record) -> None:
    before = state_of(record.folder)
    own, slow = keyed(visitor), ("load_model", "fetch", "run")
    keyless = [one for one in visitor.functions() if one not in own and one.handler not in slow]
    assert len(keyless) >= 6
    for function in keyless:
        assert SECRET not in asked(visitor, function, None, record.id).text, function.name
    assert state_of(record.folder) == before


def test_what_the_command_line_made_is_seen_by_all_and_removed_by_none(
    visitors: Callable[[str], Visitor], server: Server
) -> None:
    made = _study(server, "", EVERYBODY)
    visitor, before = visitors(), state_of(made.folder)
    shown = [
        function.name for function in keyed(visitor) if EVERYBODY in asked(visitor, function, visitor.key, made.id).text
    ]
    assert {"fill", "open_record"} <= set(shown)
    assert state_of(made.folder) == before


@pytest.mark.parametrize(
    "record_id",
    [
        "..",
        pytest.param("../runs", marks=pytest.mark.slow),
        pytest.param("", marks=pytest.mark.slow),
        pytest.param(".", marks=pytest.mark.slow),
        "20260101-000000-abcdef/../..",
        "/etc",
        pytest.param("20260101-000000-abcdef\n", marks=pytest.mark.slow),
        "x" * 5000,
        "\u202e",
        pytest.param("*", marks=pytest.mark.slow),
    ],
)
def test_an_invalid_id_is_never_a_path(visitors: Callable[[str], Visitor], server: Server, record_id: str) -> None:
    visitor, before = visitors(), state_of(server.home / "runs")
    functions = [function for function in keyed(visitor) if function.name != "start"]
    assert len(functions) >= 6
    for function in functions:
        answer = asked(visitor, function, visitor.key, record_id)
        assert "An internal error" not in answer.text, function.name
        assert "root:" not in answer.text
    assert state_of(server.home / "runs") == before


def test_no_response_repeats_a_key(visitors: Callable[[str], Visitor], server: Server, record: Record) -> None:
    owner = visitors(KEY)
    showing = ("fill", "open_record", "update", "attach", "show", "choices")
    functions = [function for function in keyed(owner) if function.name.startswith(showing)]
    assert len(functions) >= 6
    for function in functions:
        assert KEY not in asked(owner, function, KEY, record.id).text
    files = [path for path in (server.home / "runs").rglob("*") if path.is_file()]
    assert record.folder / "record.json" in files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in server.logged() + server.printed()
