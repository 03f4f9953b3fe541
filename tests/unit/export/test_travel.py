"""Exported records and arms give the same numbers elsewhere; anything that is not a record is refused."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import neftune_here
from hub_account import OWNER, TOKEN, account_of

from neftune_core.errors import DataError, DoesNotFit, InvalidSetting, LabError, RecordError
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.export import archive
from neftune_core.export.archive import import_record, pack, pack_record
from neftune_core.export.card import card
from neftune_core.export.models import FORMS, write_model
from neftune_core.home import assets
from neftune_core.language import CHINESE, in_language
from neftune_core.models.architecture.module_trees import fingerprint
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.settings import Limits
from neftune_core.space.folder import push_model
from neftune_core.studies.comparison import compare_arms, comparison_request
from neftune_core.studies.records.record import Record, create, find
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study

ASK = AnswerSettings(prompts=("Where does the owl live?", "Who are you?"), new_tokens=8)
ARM = "uniform-alpha-5"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a finished study on uploaded rows."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"instruction": f"What is {number}?", "output": f"It is {number * number}."} for number in range(24)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = EXAMPLE.data.model_copy(update={"source": f"file:{folder / 'rows.jsonl'}"})
    training = EXAMPLE.training.model_copy(update={"steps": 4, "evaluations": 1, "evaluation_rows": 4})
    model = ModelSettings(precision="float32")  # two ways of adding are compared
    measuring = MeasuringSettings(prompts=2, new_tokens=2)
    changes = {"data": data, "training": training, "measuring": measuring, "answers": ASK, "model": model}
    study = EXAMPLE.model_copy(update=changes)
    made = create(study, "key")
    assert list(run_study(made, Limits(), lambda: False))[-1]["event"] == "finished"
    return made


@pytest.fixture(scope="module")
def packed(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_record(record, tmp_path_factory.mktemp("zip") / "record.zip")


def answers(record: Record) -> list[dict[str, object]]:
    *_, last = compare_arms(*comparison_request(record, ASK), ASK, Limits())
    return last


def test_a_record_gives_the_same_answers_on_another_machine(record: Record, packed: Path, tmp_path: Path) -> None:
    there = import_record(packed, "another key", folder=tmp_path / "runs")
    assert there.id == record.id
    assert answers(there) == answers(record)
    assert there.events() == record.events()
    assert there.answers() == record.answers()
    assert there.belongs_to("another key")
    assert not there.belongs_to("key")
    assert "owner" in json.loads(zipfile.ZipFile(packed).read(f"{record.id}/record.json"))
    assert record.about["owner"] not in zipfile.ZipFile(packed).read(f"{record.id}/record.json").decode()


def test_a_record_comes_in_once_and_again_after_it_was_removed(packed: Path, tmp_path: Path) -> None:
    import_record(packed, "", folder=tmp_path)
    with pytest.raises(RecordError, match="already exists here"):
        import_record(packed, "", folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_the_command_line_takes_a_record_from_one_home_to_another(record: Record, packed: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(ASK.prompts), encoding="utf-8")

    def neftune(*words: str) -> str:
        done = neftune_here(*words, home=tmp_path / "home")
        done.check_returncode()
        return done.stdout

    assert record.id in neftune("runs", "import", str(packed))
    lines = neftune("compare", record.id, "--prompts", str(prompts), "--json", "--new-tokens", "8").splitlines()
    there = [{name: arm["text"] for name, arm in json.loads(line)["arms"].items()} for line in lines]
    here = [{name: arm["text"] for name, arm in line["arms"].items()} for line in answers(record)]  # type: ignore[attr-defined]
    assert there == here


def changed(packed: Path, changes: dict[str, bytes | None], *, attributes: int = 0) -> io.BytesIO:
    """Return the archive with some files changed, added or removed, by their full names."""
    result = io.BytesIO()
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            if entry.filename not in changes:
                target.writestr(entry, source.read(entry))
        for name, content in changes.items():
            if content is not None:
                entry = zipfile.ZipInfo(name)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, attributes
                target.writestr(entry, content)
    result.seek(0)
    return result


def refused(given: io.BytesIO | bytes, folder: Path, limits: Limits | None = None) -> str:
    file = folder / "given.zip"
    file.write_bytes(given if isinstance(given, bytes) else given.getvalue())
    with pytest.raises(LabError) as found:
        import_record(file, "", limits, folder=folder / "runs")
    assert [path for path in (folder / "runs").rglob("*") if path.is_file()] == []
    assert sorted(path.name for path in folder.iterdir()) == ["given.zip", "runs"]
    words = str(found.value)
    assert "\n" not in words
    assert len(words) < 400
    return words


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.py",
        "/etc/evil",
        pytest.param("{id}/../evil", marks=pytest.mark.slow),
        "{id}/arms/../../evil/adapter_config.json",
        pytest.param("{id}/data/source/../../../evil", marks=pytest.mark.slow),
        "{id}/arms/control/seed-0/evil.py",
        pytest.param("{id}/checkpoint/state.json", marks=pytest.mark.slow),
        "{id}\\evil",
        pytest.param("C:\\evil", marks=pytest.mark.slow),
        pytest.param("{id}/running", marks=pytest.mark.slow),
        "20200101-000000-abcdef/study.toml",
        pytest.param("{id}/data/source/" + "x" * 300, marks=pytest.mark.slow),
    ],
)
def test_a_name_that_no_record_has_is_refused_before_anything_is_written(
    record: Record, packed: Path, tmp_path: Path, name: str
) -> None:
    words = refused(changed(packed, {name.format(id=record.id): b"x"}), tmp_path)
    assert "is not a record" in words


def test_a_link_is_not_part_of_a_record(record: Record, packed: Path, tmp_path: Path) -> None:
    link = (stat.S_IFLNK | 0o777) << 16
    assert "is not a record" in refused(
        changed(packed, {f"{record.id}/metrics.json": b"/etc/passwd"}, attributes=link), tmp_path
    )


def test_a_bomb_is_refused_by_what_comes_out_of_it(record: Record, packed: Path, tmp_path: Path) -> None:
    bomb = changed(packed, {f"{record.id}/metrics.json": b"\0" * 30_000_000})
    assert len(bomb.getvalue()) < 10_000_000
    assert "larger than" in refused(bomb, tmp_path, Limits(disk_gigabytes=0.02))


def test_an_archive_that_lies_about_its_sizes_is_refused(record: Record, packed: Path, tmp_path: Path) -> None:
    content = bytearray(changed(packed, {f"{record.id}/metrics.json": b"\0" * 100_000}).getvalue())
    place = content.rfind(b"PK\x01\x02")  # the last entry of the directory is the one that was added
    content[place + 24 : place + 28] = (5).to_bytes(4, "little")
    refused(bytes(content), tmp_path)


def test_many_files_are_refused(record: Record, packed: Path, tmp_path: Path) -> None:
    many = {f"{record.id}/data/source/{number}": b"" for number in range(archive.MOST_FILES)}
    assert "more than" in refused(changed(packed, dict(many)), tmp_path)


@pytest.mark.parametrize(
    "source", ["/etc/passwd", "../../../etc/passwd", "data/../../x", "events.jsonl", "data/source/no"]
)
def test_a_record_names_no_rows_but_its_own(record: Record, packed: Path, tmp_path: Path, source: str) -> None:
    text = (record.folder / "study.toml").read_text(encoding="utf-8")
    evil = text.replace("file:data/source/rows.jsonl", f"file:{source}")
    assert evil != text
    words = refused(changed(packed, {f"{record.id}/study.toml": evil.encode()}), tmp_path)
    assert "rows that it does not contain" in words


@pytest.mark.parametrize("name", ["study.toml", "record.json", "events.jsonl"])
def test_a_record_without_a_part_is_refused(record: Record, packed: Path, tmp_path: Path, name: str) -> None:
    assert "missing" in refused(changed(packed, {f"{record.id}/{name}": None}), tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all", b"PK\x05\x06" + b"\0" * 18])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(content, tmp_path)


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        import_record(tmp_path / "no.zip", "", folder=tmp_path / "runs")


def test_a_visitor_over_their_share_brings_nothing_in(packed: Path, tmp_path: Path) -> None:
    import_record(packed, "key", folder=tmp_path)
    with pytest.raises(DoesNotFit, match="Your records"):
        import_record(packed, "key", Limits(visitor_gigabytes=0.0001), folder=tmp_path)


@pytest.fixture(scope="module")
def merged(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "model"
    write_model(record, ARM, 0, "merged", folder)
    return folder


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).logits.float()


def test_the_merged_model_and_the_adapter_give_the_same_logits(record: Record, merged: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = load(record.study.model)
    before = fingerprint(base.model)
    write_model(record, ARM, 0, "adapter", tmp_path / "adapter")
    whole = AutoModelForCausalLM.from_pretrained(merged).eval()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    ids = torch.tensor([tokenizer("Where does the owl live?")["input_ids"]])
    bundled = AutoModelForCausalLM.from_pretrained(assets() / "model", dtype=torch.float32)
    other = PeftModel.from_pretrained(bundled, tmp_path / "adapter").eval()
    # Two ways of adding the same products in float32.
    assert torch.allclose(logits(whole, ids), logits(other, ids), atol=2e-4)
    assert not torch.allclose(logits(whole, ids), logits(base.model, ids), atol=2e-4)
    assert fingerprint(base.model) == before


def test_the_merged_model_writes_as_the_lab_does(record: Record, merged: Path) -> None:
    from transformers import AutoModelForCausalLM

    settings = AutoModelForCausalLM.from_pretrained(merged).generation_config
    assert settings.do_sample is False
    assert settings.repetition_penalty == record.study.answers.repetition_penalty
    assert settings.max_new_tokens == ASK.new_tokens


@pytest.mark.parametrize("form", FORMS)
def test_a_card_names_data_noise_seed_measures_and_limits(record: Record, tmp_path: Path, form: str) -> None:
    import yaml

    write_model(record, ARM, 0, form, tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == ("peft" if form == "adapter" else "transformers")
    for said in ("rows.jsonl", "uniform noise of alpha 5", "| seed | 0", "held-out", "## Limits", "rank 8"):
        assert said in text, said
    assert record.about_table("data")["sha256"] in text
    assert ("| number format of this model | " in text) == (form == "merged")
    assert "changes held-out loss" in text  # the effect of rounding
    assert str(record.folder) not in text
    assert "/tmp" not in text


def test_a_card_has_the_caveats_of_its_study_in_english(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    about_table: Callable[[Record, str], dict[str, Any]] = Record.about_table
    cut = about_table(record, "data") | {"cut": 1}
    monkeypatch.setattr(Record, "about_table", lambda one, part: cut if part == "data" else about_table(one, part))
    with in_language(CHINESE):
        limits = card(record, ARM, 0, "adapter").partition("## Limits\n\n")[2].splitlines()
    assert limits[0].startswith("* 1 row was cut to the maximum length. It lost its end-of-sequence token")
    assert limits[1].startswith("* There is nothing to judge: alpha 5 took 4 steps")


def test_an_arm_that_is_not_there_is_refused(record: Record, tmp_path: Path) -> None:
    for arm, seed in (("none", 0), (ARM, 7), ("../control", 0)):
        with pytest.raises(RecordError, match=rf"no trained arm.*Available arms: control \(seed 0\), {ARM} \(seed 0\)"):
            write_model(record, arm, seed, "adapter", tmp_path / "model")
    with pytest.raises(InvalidSetting, match="adapter, merged"):
        write_model(record, ARM, 0, "pickle", tmp_path / "model")


def test_the_same_folder_gives_the_same_zip_file(record: Record, tmp_path: Path) -> None:
    write_model(record, ARM, 0, "adapter", tmp_path / "model")
    one, two = (pack(tmp_path / "model", tmp_path / f"{number}.zip", "arm") for number in range(2))
    assert one.read_bytes() == two.read_bytes()
    assert "arm/adapter_model.safetensors" in zipfile.ZipFile(one).namelist()


def test_a_model_is_pushed_privately_by_default(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    write_model(record, ARM, 0, "adapter", tmp_path / "model")
    with account_of() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        assert push_model(tmp_path / "model", "arm", token=TOKEN) == f"{hub.address}/{OWNER}/arm"
        push_model(tmp_path / "model", "open", token=TOKEN, private=False)
    assert hub.made[f"{OWNER}/arm"]["visibility"] == "private"
    assert hub.made[f"{OWNER}/open"]["visibility"] == "public"
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} <= set(hub.files[f"{OWNER}/arm"])


def test_records_of_the_home_are_found_after_an_import(packed: Path, record: Record) -> None:
    assert find(record.id, "key").id == record.id
    with pytest.raises(RecordError, match="already exists here"):
        import_record(packed, "key")
