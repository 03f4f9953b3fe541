"""The command line: exit status, and errors of one sentence."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from as_written import NEFTUNE
from command_line import neftune_here

from neftune_core.cli import parse_arguments
from neftune_core.commands.data import DataCommand
from neftune_core.errors import InvalidSetting
from neftune_core.settings import from_toml
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import EXAMPLE, StudySettings


def _installed(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as an installation gives it."""
    return subprocess.run([NEFTUNE, *words], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nonsense", "1"], "`neftune data` does not accept --nonsense, 1. ("),
        (["--row", "5"], "`neftune data` does not accept --row, 5. Perhaps you meant --rows. ("),
        (["--rows", "many"], "--rows cannot be 'many': it must be an integer. ("),
        (["--held-out-share", "half"], "--held-out-share cannot be 'half': it must be a number. ("),
    ],
)
def test_a_wrong_option_is_told_once_and_in_plain_words(
    words: list[str], told: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(InvalidSetting) as raised:
        parse_arguments(DataCommand, ["data", "rows.jsonl", *words], None)
    assert str(raised.value).startswith(told)


def test_the_example_is_a_complete_commented_study_that_trains_and_compares(tmp_path: Path) -> None:
    example = _installed("train", "--example")
    assert example.returncode == 0
    assert example.stdout.count("#") > 20
    assert from_toml(StudySettings, example.stdout) == EXAMPLE
    file = tmp_path / "study.toml"
    file.write_text(example.stdout, encoding="utf-8")
    short = ["--training.epochs", "0.2", "--training.evaluations", "1", "--answers.new-tokens", "4"]
    trained = neftune_here("train", str(file), *short, home=tmp_path / "home")
    assert trained.returncode == 0, trained.stderr
    assert "held-out loss" in trained.stdout
    record = next((tmp_path / "home" / "runs").iterdir())
    assert Record(record).study.training.epochs == 0.2
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Who lives in the barn?\n", encoding="utf-8")
    answered = neftune_here(
        "compare", record.name, "--prompts", str(prompts), "--json", "--new-tokens", "3", home=tmp_path / "home"
    )
    assert answered.returncode == 0, answered.stderr
    line = json.loads(answered.stdout)
    assert list(line["arms"]) == ["base", "control", "uniform-alpha-5"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('title = "x', "not valid TOML"),
        ("[training]\nepochs = -1\n", "training.epochs cannot be -1"),
        ("[training]\nlearning_rat = 1\n", "no setting called 'training.learning_rat'"),
        ('[data]\nsource = "file:nowhere.jsonl"\n', "nowhere.jsonl"),
        ('[data]\nsource = "starter:unknown"\n', "starter:unknown"[8:]),
        ('[model]\nsource = "/no/such/model"\n', "/no/such/model"),
    ],
)
def test_a_wrong_study_gets_one_sentence_and_a_failing_status(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(text, encoding="utf-8")
    done = neftune_here("train", str(file), home=tmp_path / "home")
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fly"], "There is no command 'fly'"),
        (["train"], "No study file was given"),
        (["train", "missing.toml"], "missing.toml cannot be read"),
        (["train", "no-such-study"], "no-such-study cannot be read"),
        (["train", "--seed", "1"], "No study file was given"),
        (["serve", "--colour", "red"], "--colour"),
        (["compare", "20260101-000000-abcdef", "--prompts", "p.txt"], "no record called"),
        (["bench", "nothing"], "no benchmark 'nothing'"),
        (["models", "get"], "neftune models get NAME"),
        (["sweep", "s.toml", "--fly", "3"], "`neftune sweep` does not accept --fly, 3."),
        (["verdict"], "`neftune verdict` needs one more argument. The record's id"),
        (["report", "x"], "`neftune report` needs one more argument. The file to write"),
        (["runs", "--days", "soon"], "--days cannot be 'soon': it must be a number."),
        (["serve", "--port", "abc"], "--port cannot be 'abc': it must be an integer."),
        (["runs", "--seeds"], "--seeds needs a value: write it after the option."),
    ],
)
def test_a_wrong_command_gets_one_sentence(words: list[str], sentence: str, tmp_path: Path) -> None:
    done = neftune_here(*words, home=None if len(words) == 1 and words[0] != "train" else tmp_path)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert not any(word in done.stderr for word in ("Traceback", "<class", "literal"))


def test_an_option_out_of_its_range_gets_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "my study"  # any name will do
    file.write_text('title = "mine"\n', encoding="utf-8")
    done = neftune_here("train", str(file), "--training.epochs", "-1", home=tmp_path / "home")
    assert done.returncode != 0
    assert "epochs" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    prompts = tmp_path / "p.txt"
    prompts.write_text("x\n", encoding="utf-8")
    done = neftune_here("compare", "x", "--prompts", str(prompts), "--new-tokens", "0", home=tmp_path / "home")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_models_and_doctor_answer_without_a_network(tmp_path: Path) -> None:
    listed = neftune_here("models", home=tmp_path)
    assert listed.returncode == 0
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in listed.stdout
    facts = json.loads(neftune_here("doctor", "--json", home=tmp_path).stdout)
    assert facts["cores"] >= 1
    assert facts["home"] == str(tmp_path)


def test_help_lists_every_command() -> None:
    done = _installed("--help")
    assert done.returncode == 0
    for command in ("serve", "train", "compare", "models", "doctor", "bench"):
        assert command in done.stdout
