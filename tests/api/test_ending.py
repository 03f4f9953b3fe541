"""A server that receives SIGTERM, as before a host is moved or updated."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

from short_study import short_rows, short_study

from neftune_core.settings import to_toml
from neftune_core.studies.checkpoint import saved_step
from neftune_core.studies.records.progress import of_record
from neftune_core.studies.records.record import all_records
from tests.stress.visitor import Visitor, served


def test_a_server_that_is_asked_to_end_stops_the_study_with_a_checkpoint(tmp_path: Path) -> None:
    with served(tmp_path, OMP_NUM_THREADS="1") as server:
        visitor = Visitor(server.address)
        study = short_study(short_rows(tmp_path), {"epochs": 1_000})
        visitor.call(visitor.function("start_study"), [tomllib.loads(to_toml(study)), visitor.key])
        (record,) = (one for one in all_records(folder=tmp_path / "runs") if one.belongs_to(visitor.key))
        deadline = time.monotonic() + 60
        while of_record(record).step < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        visitor.client.close()
        server.process.terminate()
        assert server.process.wait(30) == 128 + 15
        assert "Traceback" not in server.printed()
    status = of_record(record)
    assert status.state == "stopped"
    assert saved_step(record.folder) == status.step >= 2
    assert not record.is_running()
