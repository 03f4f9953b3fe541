"""Read-only links to studies: their owner makes and withdraws them, and nobody can guess or derive one."""

from __future__ import annotations

from pathlib import Path

import pytest
from owned_study import owned_study

from neftune_core.errors import RecordError
from neftune_core.export.archive import pack, pack_record
from neftune_core.studies.records.record import LOG, Record, create, find
from neftune_core.studies.records.removal import remove
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.sharing.shares import FILE, find_shared, share, shared_link, withdraw

ANN, BEN = "a1" * 32, "b2" * 32
NOTHING = "This link does not lead to a study"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Return Ann's finished study."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    return owned_study(tmp_path / "runs", ANN)


def test_a_study_is_found_by_the_link_that_its_owner_made_and_by_no_other(record: Record) -> None:
    assert shared_link(record.id, ANN) == ""
    link = share(record.id, ANN)
    assert find_shared(link) == record
    assert share(record.id, ANN) == shared_link(record.id, ANN) == link  # the same again
    assert len(link.partition(".")[2]) >= 43  # 172 bits or more
    token = link.partition(".")[2]
    for wrong in (
        "",
        record.id,
        f"{record.id}.",
        f"{record.id}.{token[:-1]}",
        f"{record.id}.{token}0",
        f"../x.{token}",
    ):
        with pytest.raises(RecordError, match=NOTHING):
            find_shared(wrong)


def test_a_shared_study_that_is_trained_again_is_shown_once_it_is_over(record: Record) -> None:
    link, log = share(record.id, ANN), record.folder / LOG
    whole = log.read_text(encoding="utf-8")
    ending = whole.splitlines()[-1]
    assert '"finished"' in ending
    log.write_text(whole.removesuffix(ending + "\n"), encoding="utf-8")
    with pytest.raises(RecordError, match=NOTHING):
        find_shared(link)
    log.write_text(whole, encoding="utf-8")
    assert find_shared(link) == record


def test_a_link_gives_no_right_over_the_study(record: Record) -> None:
    token = share(record.id, ANN).partition(".")[2]
    for stranger in (BEN, "", token):
        assert shared_link(record.id, stranger) is None
        for action in (share, withdraw, find):
            with pytest.raises(RecordError, match="another visitor"):
                action(record.id, stranger)


def test_a_withdrawn_link_shows_nothing_and_a_new_one_is_another(record: Record) -> None:
    link = share(record.id, ANN)
    withdraw(record.id, ANN)
    with pytest.raises(RecordError, match=NOTHING):
        find_shared(link)
    again = share(record.id, ANN)
    assert again != link
    with pytest.raises(RecordError, match=NOTHING):
        find_shared(link)
    remove(record)
    with pytest.raises(RecordError, match=NOTHING):
        find_shared(again)


def test_the_disk_and_an_export_hold_nothing_that_opens_the_study(record: Record, tmp_path: Path) -> None:
    token = share(record.id, ANN).partition(".")[2]
    kept = (record.folder / FILE).read_text(encoding="utf-8")
    assert token not in kept
    assert ANN not in kept
    pack_record(record, tmp_path / "record.zip")
    assert FILE.encode() not in (tmp_path / "record.zip").read_bytes()
    pack(record.folder, tmp_path / "all.zip", "all")
    assert FILE.encode() in (tmp_path / "all.zip").read_bytes()  # the name would be seen if it were there
    (record.folder / FILE).write_text('{"salt": [], "hash": 1}', encoding="utf-8")
    with pytest.raises(RecordError, match=NOTHING):
        find_shared(f"{record.id}.{token}")


def test_a_study_that_is_not_over_or_belongs_to_everybody_is_not_shared(record: Record) -> None:
    unfinished = create(EXAMPLE, ANN)
    with pytest.raises(RecordError, match="has not ended"):
        share(unfinished.id, ANN)
    assert shared_link(unfinished.id, ANN) is None
    of_all = owned_study(record.folder.parent, "")
    with pytest.raises(RecordError, match="Only the owner"):
        share(of_all.id, ANN)
