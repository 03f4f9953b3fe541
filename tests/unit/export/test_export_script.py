"""Exports of a study: the script that trains it again, and the report."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from as_written import require_installed, run_commands
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, OPTConfig

from neftune_core.commands.train import read_study
from neftune_core.data.settings import DataSettings
from neftune_core.durable import UMASK
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.errors import InvalidSetting, RecordError
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.export.models import write_model
from neftune_core.export.report import report, write_report
from neftune_core.export.script import reason_against, script_archive, script_folder
from neftune_core.home import assets
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.study import run_study
from neftune_core.sweeps.table import write_table
from tests.standin import standin

PAYLOAD = "</script><img src=x onerror=alert(1)>"
ARMS = (
    NoiseSettings(strength=5),
    NoiseSettings(strength=0.05, unit="std", kind="gaussian", schedule="linear", tokens="prompt"),
    NoiseSettings(strength=0.3, unit="relative", sites="embedding, 2"),
    NoiseSettings(strength=5, kind="adversarial"),
)


def studied(place: Path, **changes: Any) -> Record:
    """Return a short trained study with rows of different lengths, so that batches are padded."""
    lines = [{"instruction": f"Say {'very ' * (n % 7)}{n}.", "output": f"It is {n}."} for n in range(20)]
    (place / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    given = {
        "title": PAYLOAD,
        "model": ModelSettings(precision="float32"),
        "seed": 3,
        "data": DataSettings(source=f"file:{place / 'rows.jsonl'}"),
        "training": TrainingSettings(
            steps=7, warmup=0.3, evaluations=2, evaluation_rows=4, accumulation=2, clip_norm=0.5
        ),
        "answers": AnswerSettings(prompts=(PAYLOAD,), new_tokens=4),
        "measuring": MeasuringSettings(prompts=2, new_tokens=2),
        "noise": ARMS,
        "methods": (MethodSettings(weight_decay=0.1),),
    }
    made = create(StudySettings(**{**given, **changes}), "", folder=place / "runs")
    assert [event["event"] for event in run_study(made, Limits(), lambda: False)][-1] == "finished"
    return made


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a study with several kinds of arms."""
    return studied(tmp_path_factory.mktemp("study"))


def run_as_written(record: Record, folder: Path) -> dict[str, Any]:
    """Run the script with the commands of its README, and return its results; its requirements are installed."""
    script_folder(record, folder)
    text = (folder / "READ-ME.txt").read_text(encoding="utf-8")
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert commands[:3] == ["python3 -m venv .venv", ". .venv/bin/activate", "pip install -r requirements.txt"]
    require_installed((folder / "requirements.txt").read_text(encoding="utf-8").split())
    run_commands(commands[3 : commands.index("python standalone.py") + 1], folder)
    return dict(json.loads((folder / "found.json").read_text(encoding="utf-8")))


def check_losses(record: Record, losses: dict[str, Any]) -> None:
    events = record.events()
    steps = [event["arms"] for event in events if event["event"] == "step"]
    last = [event["arms"] for event in events if event["event"] == "evaluated"][-1]
    for name, found in losses.items():
        # Float32 sums in a different order; a wrong order, adapter or draw is off by hundredths.
        assert found["losses"] == pytest.approx([arms[name]["loss"] for arms in steps], abs=1e-3), name
        assert found["held_out_loss"] == pytest.approx(last[name]["held_out_loss"], abs=1e-3), name


def test_the_script_finds_the_losses_of_the_study_for_every_arm_that_it_can_train(
    record: Record, tmp_path: Path
) -> None:
    losses = run_as_written(record, tmp_path / "script")
    assert list(losses) == [name for name in record.arms if "adversarial" not in name]
    check_losses(record, losses)
    assert losses["uniform-alpha-5"]["losses"][0] != losses["control"]["losses"][0]  # the noise was there
    assert (tmp_path / "script" / "trained" / "control" / "adapter_config.json").is_file()
    told = json.loads((tmp_path / "script" / "losses.json").read_text(encoding="utf-8"))
    check_losses(record, told)


METADATA = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The regular expression of PEP 723."""


def imported(folder: Path) -> set[str]:
    """Return the packages that the Python files of a folder import, without those of Python itself."""
    found = set[str]()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"neftune_core", "pydantic_core"}  # the latter is a part of pydantic


def test_the_script_lists_what_it_imports_for_uv(record: Record, tmp_path: Path) -> None:
    folder = script_folder(record, tmp_path / "script")
    (block,) = METADATA.finditer((folder / "standalone.py").read_text(encoding="utf-8"))
    about = tomllib.loads("".join(line.removeprefix("# ") for line in block["content"].splitlines(keepends=True)))
    needs = {re.split("[=>]", need)[0]: need for need in about["dependencies"]}
    assert set(needs) == {"torch", "transformers", "peft", "safetensors", "numpy", "pydantic", "tomlkit", "filelock"}
    assert imported(folder) <= set(needs)
    assert sorted(needs.values()) == sorted((folder / "requirements.txt").read_text(encoding="utf-8").split())
    assert about["requires-python"] == ">=3.11"


def test_the_script_finds_its_files_in_a_mounted_folder_and_writes_into_another(record: Record, tmp_path: Path) -> None:
    folder, alone, results = script_folder(record, tmp_path / "script"), tmp_path / "job", tmp_path / "results"
    for made in (alone, results):
        made.mkdir()
    shutil.move(folder / "standalone.py", alone / "standalone.py")
    command = [sys.executable, "standalone.py", "control"]
    lost = subprocess.run(command, cwd=alone, capture_output=True, text=True)
    assert (lost.returncode, lost.stdout) == (1, "")
    assert "set STUDY_FOLDER to their folder" in lost.stderr
    assert len(lost.stderr.splitlines()) == 1
    places = {"STUDY_FOLDER": str(folder), "STUDY_RESULTS": str(results)}
    subprocess.run(command, cwd=alone, env={**os.environ, **places}, check=True, capture_output=True)
    assert (results / "found.json").is_file()
    assert (results / "trained" / "control" / "adapter_config.json").is_file()
    assert not (folder / "found.json").exists()


def test_the_script_trains_all_weights_where_the_study_does(tmp_path: Path) -> None:
    training = TrainingSettings(method="full", steps=4, learning_rate=1e-4, evaluations=1, evaluation_rows=4)
    record = studied(tmp_path, training=training, noise=ARMS[:1], methods=())
    check_losses(record, run_as_written(record, tmp_path / "script"))


def with_dropout(folder: Path, kind: str) -> Path:
    """Return a small random model with its family's default dropout."""
    tokenizer = AutoTokenizer.from_pretrained(standin())
    sizes = {"vocab_size": 2048, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = {
        "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=256, **sizes),
        "opt": lambda: OPTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64, word_embed_proj_dim=32,
            max_position_embeddings=256, **sizes,
        ),
    }[kind]()  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def configured(folder: Path) -> dict[str, Any]:
    """The configuration of a saved model, without what depends on where and by what it was saved."""
    found = AutoConfig.from_pretrained(folder).to_dict()
    return {name: value for name, value in found.items() if name not in ("_name_or_path", "transformers_version")}


# The rates are found by family and the weights written by method, so that each of them once is enough.
@pytest.mark.parametrize(
    ("kind", "rates", "method"),
    [("gpt2", {"attn_pdrop": 0.1, "resid_pdrop": 0.1}, "lora"), ("opt", {"dropout": 0.1}, "full")],
)
def test_models_whose_configuration_has_dropout_are_trained_as_in_the_lab(
    tmp_path: Path, kind: str, rates: dict[str, float], method: str
) -> None:
    source = with_dropout(tmp_path / "model", kind)
    training = TrainingSettings(method=method, steps=4, learning_rate=1e-2, evaluations=1, evaluation_rows=4)
    record = studied(
        tmp_path,
        model=ModelSettings(source=str(source), precision="float32"),
        training=training,
        noise=ARMS[:1],
        methods=(),
    )
    check_losses(record, run_as_written(record, tmp_path / "script"))
    write_model(record, "control", 3, "merged", tmp_path / "merged")
    kept = [tmp_path / "merged"]
    kept += [record.arm_folder("control", 3), tmp_path / "script" / "trained" / "control"] if method == "full" else []
    for folder in kept:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert {name: config[name] for name in rates} == rates
    assert configured(tmp_path / "merged") == configured(source)
    assert json.loads((tmp_path / "merged" / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"
    assert "| number format of the base | float32 |" in (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")


def test_the_dropout_of_a_study_is_that_of_its_script(tmp_path: Path) -> None:
    source = with_dropout(tmp_path / "model", "gpt2")
    training = TrainingSettings(steps=2, model_dropout=0.5, lora_dropout=0.2, evaluations=1, evaluation_rows=2)
    model = ModelSettings(source=str(source), precision="float32")
    record = studied(tmp_path, model=model, training=training, noise=ARMS[:1], methods=())
    losses = run_as_written(record, tmp_path / "script")
    without = studied(tmp_path, model=model, training=training.model_copy(update={"model_dropout": 0.0}), noise=())
    clean = [event["arms"]["control"]["loss"] for event in without.events() if event["event"] == "step"]
    assert losses["control"]["losses"][0] != pytest.approx(clean[0], abs=1e-4)  # the masks were there
    assert run_as_written(record, tmp_path / "again") == losses  # and are those of the seed
    assert "has dropout" in (tmp_path / "script" / "READ-ME.txt").read_text(encoding="utf-8")


def test_the_study_lies_beside_its_script_with_its_rows(record: Record, tmp_path: Path) -> None:
    folder = script_folder(record, tmp_path / "script")
    study = read_study(folder / "study.toml")
    assert Path(study.data.source.removeprefix("file:")).read_bytes() == (
        next((record.folder / "data").rglob("*.jsonl")).read_bytes()
    )
    assert study.model_copy(update={"data": record.study.data}) == record.study
    config = json.loads((folder / "initial" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "base"
    assert (folder / "base" / "model.safetensors").is_file()
    paths = [folder, *folder.rglob("*")]
    texts = [path for path in paths if path.suffix in (".json", ".toml", ".txt", ".py", ".jsonl")]
    assert {path.suffix for path in texts} == {".json", ".toml", ".txt", ".py", ".jsonl"}
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~UMASK, path
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert str(tmp_path) not in text, path
        assert str(assets()) not in text, path
        assert "pip install neftune" not in text, path


def test_a_script_takes_the_place_of_nothing(record: Record, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(InvalidSetting, match=r"mine already exists"):
        script_folder(record, tmp_path / "mine")
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "mine"


def test_the_archive_lists_what_it_leaves_out(record: Record, tmp_path: Path) -> None:
    with zipfile.ZipFile(script_archive(record, tmp_path / "study.zip")) as archive:
        names = {Path(name).name for name in archive.namelist()}
        note = next(name for name in archive.namelist() if name.endswith("READ-ME.txt"))
        words = archive.read(note).decode()
    assert {"standalone.py", "study.toml", "study.json", "train.jsonl", "adapter_model.safetensors"} <= names
    assert "adversarial-alpha-5-k2-0.5 is left out: it needs gradient ascent passes" in words
    assert reason_against(NoiseSettings(schedule="adaptive")) == "its schedule follows the loss"


def test_rows_that_have_changed_are_refused(record: Record, tmp_path: Path) -> None:
    copied = Record(Path(shutil.copytree(record.folder, tmp_path / record.id)))
    file = next((copied.folder / "data").rglob("*.jsonl"))
    file.write_text('{"instruction": "a", "output": "b"}\n' * 2 + file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RecordError, match="have changed"):
        script_folder(copied, tmp_path / "script")


def test_the_report_holds_everything_and_asks_nobody(record: Record, tmp_path: Path) -> None:
    text = write_report(record, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "<script src" not in text
    assert "<link" not in text
    for arm in record.arms:
        assert f"</span>{arm_words(arm)}</th>" in text
    last = [event["arms"] for event in record.events() if event["event"] == "evaluated"][-1]
    assert f"<td>{last['control']['held_out_loss']:.4f}</td>" in text
    assert "[[noise]]" in text


def test_the_report_of_a_study_starts_with_the_verdict(record: Record) -> None:
    text = report(record)
    assert text.index("<h2>The verdict</h2>") < text.index("<h2>Losses</h2>") < text.index("<h2>Answers</h2>")
    assert "There is nothing to judge" in text  # it made a few steps


def test_a_recorded_sweep_is_reported_whole(tmp_path: Path) -> None:
    sweep = Record(assets() / "recorded" / "1-std-format")
    text = write_report(sweep, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A NEFTune Lab sweep" in text
    assert "No effect beyond chance with uniform std" in text
    assert "</span>uniform std 0.05</th><td>8</td><td>0.973<br><small><b>+0.0125</b> [+0.0026, +0.022]" in text
    assert text.count('<div class="plot"') == 2  # the last and the best epoch
    assert "neftune sweep sweep.toml" in text
    table = json.loads(write_table(sweep, tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [row["arm"] for row in table["settings"]][:2] == ["control", "uniform-std-0.01"]
    assert len(table["settings"][1]["seeds"]) == 8


def test_texts_of_strangers_are_texts_in_the_report(record: Record) -> None:
    text = report(record)
    assert "<img" not in text
    assert "&lt;/script&gt;&lt;img src=x" in text
    assert text.count("</script>") == 3  # the three that the page itself closes


def test_a_record_without_a_measured_loss_has_no_report(tmp_path: Path) -> None:
    empty = create(StudySettings(), "", folder=tmp_path)
    with pytest.raises(RecordError, match="nothing to report"):
        report(empty)
