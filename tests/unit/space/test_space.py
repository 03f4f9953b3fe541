"""Profiles, the folder of a Space, storage, and pushing to an account."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hub_account import OWNER, TOKEN, Account, account_of
from huggingface_hub.utils import filter_repo_objects
from packaging.requirements import Requirement

from neftune_core import home as home_module
from neftune_core.engine.settings import check_length
from neftune_core.errors import InvalidSetting, LabError, ModelError, NotAvailable
from neftune_core.home import home, home_note
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources.hub_files import UNWANTED, WANTED
from neftune_core.models.sources.resolve import allow_only
from neftune_core.space import folder
from neftune_core.space.profiles import PROFILES, detect_profile, host_profile
from neftune_core.studies.settings import EXAMPLE, PRESETS


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "local"),
        ({"SPACE_ID": "owner/space"}, "cpu-space"),
        ({"SPACE_ID": "owner/space", "SPACES_ZERO_GPU": "true"}, "zerogpu"),
        ({"SPACE_ID": "owner/space", "NEFTUNE_PROFILE": "local"}, "local"),
        ({"NEFTUNE_PROFILE": " CPU-Space "}, "cpu-space"),
    ],
)
def test_a_profile_is_recognised_and_can_be_overruled(environment: dict[str, str], name: str) -> None:
    assert detect_profile(environment) == name


def test_an_unknown_profile_gets_a_sentence() -> None:
    with pytest.raises(InvalidSetting, match="NEFTUNE_PROFILE must be one of local, cpu-space, zerogpu"):
        detect_profile({"NEFTUNE_PROFILE": "gpu"})


def test_what_a_profile_says_is_what_the_lab_has() -> None:
    for name, profile in PROFILES.items():
        here = host_profile({"NEFTUNE_PROFILE": name})
        assert {limit: getattr(here.limits, limit) for limit in profile.limits} == dict(profile.limits)
        assert set(profile.presets) <= set(PRESETS)
        assert profile.model in (profile.models or CATALOGUE)
        assert here.limits.local_paths is not profile.public


@pytest.mark.parametrize("name", PROFILES)
def test_the_study_that_the_page_opens_with_is_within_the_limits_of_every_profile(name: str) -> None:
    limits = host_profile({"NEFTUNE_PROFILE": name}).limits
    EXAMPLE.check(limits)
    check_length(200, EXAMPLE.training, limits)
    for preset in PROFILES[name].presets:
        check_length(200, PRESETS[preset].bundled, limits)


def test_a_limit_and_a_model_can_be_set_in_the_environment() -> None:
    here = host_profile(
        {"SPACE_ID": "a/b", "NEFTUNE_LIMIT_STEPS": "7", "NEFTUNE_MODELS": "lab/tiny@" + "c" * 40 + ", lab/other"}
    )
    assert here.limits.steps == 7
    assert here.models is not None
    assert here.models["lab/tiny"] == "c" * 40
    assert here.models["lab/other"] == ""
    assert host_profile({"SPACE_ID": "a/b", "NEFTUNE_MODELS": "any"}).models is None
    assert host_profile({}).models is None
    assert host_profile({"NEFTUNE_PUBLIC": "1"}).models is not None


def test_every_model_that_a_public_profile_offers_is_pinned() -> None:
    offered = {name: pin for profile in PROFILES.values() for name, pin in (profile.models or {}).items()}
    assert len(offered) > 1
    assert [name for name, pin in offered.items() if "/" in name and not re.fullmatch("[0-9a-f]{40}", pin)] == []


@pytest.fixture
def any_model() -> Iterator[None]:
    """Allow any model again after the test."""
    yield
    allow_only(None)


def test_a_model_off_the_list_is_refused_and_a_revision_cannot_be_chosen(any_model: None) -> None:
    allow_only({"bundled": "", "lab/tiny": "c" * 40})
    load(ModelSettings(device="cpu"))
    for source, revision, words in (
        ("somebody/else", "", "not one of the models"),
        ("../bundled", "", "not one of the models"),
        ("lab/tiny", "main", "pinned revision only"),
        ("bundled", "x", "pinned revision only"),
    ):
        with pytest.raises(ModelError, match=words):
            load(ModelSettings(source=source, revision=revision, device="cpu"))


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("NEFTUNE_HOME", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    return monkeypatch


def test_the_home_is_what_was_named(no_home: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_home.setenv("NEFTUNE_HOME", str(tmp_path / "named"))
    assert home() == tmp_path / "named"
    assert home_note() == ""
    (tmp_path / "file").touch()
    no_home.setenv("NEFTUNE_HOME", str(tmp_path / "file" / "inside"))
    with pytest.raises(NotAvailable, match="cannot be created"):
        home()


@pytest.mark.skipif(sys.platform != "linux", reason="the other systems have other folders")
def test_the_home_is_the_platforms_own_folder(no_home: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_home.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "neftune-lab"
    assert home_note() == ""


def test_a_space_with_storage_keeps_its_files_and_one_without_warns(
    no_home: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_home.setenv("SPACE_ID", "owner/space")
    no_home.setattr(home_module, "SPACE_STORAGE", tmp_path)
    assert home() == tmp_path / "neftune-lab"
    assert home_note() == ""
    no_home.setattr(home_module, "SPACE_STORAGE", tmp_path / "missing")
    assert home().is_dir()
    assert home() == home()
    assert "lost when it restarts" in home_note()


@pytest.mark.skipif(sys.platform != "linux", reason="the other systems have other folders")
def test_where_nothing_can_be_written_the_home_is_temporary_and_reports_it(
    no_home: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    no_home.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert home().is_dir()
    assert "temporary" in home_note()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("space") / "lab"
    folder.build(target)
    return target


def head(target: Path) -> dict[str, object]:
    found = yaml.safe_load((target / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_the_front_matter_is_what_the_platform_reads(built: Path) -> None:
    import gradio

    said = head(built)
    assert said["sdk"] == "gradio"
    assert said["sdk_version"] == gradio.__version__
    assert str(said["python_version"]) == "3.12"
    assert (built / str(said["app_file"])).is_file()
    assert len(str(said["short_description"])) <= 60
    assert said["hf_oauth"] is True
    assert said["hf_oauth_scopes"] == ["contribute-repos"]
    assert said["datasets"] == []
    assert said["startup_duration_timeout"] == "10m"
    assert {"title", "license", "suggested_hardware", "models", "tags", "emoji"} <= set(said)


@pytest.mark.parametrize("target", folder.TARGETS)
def test_the_platform_preloads_the_files_that_the_lab_looks_for_at_its_commit(target: str) -> None:
    (line,) = yaml.safe_load(folder.readme(target).split("---\n")[1])["preload_from_hub"]
    name, files, commit = line.split(" ")
    assert commit == CATALOGUE[name].revision == (PROFILES[target].models or {})[name]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files.split(","))
    assert list(filter_repo_objects(files.split(","), allow_patterns=WANTED, ignore_patterns=UNWANTED)) == files.split(
        ","
    )


def test_requirements_are_those_of_the_project_without_what_a_space_brings(built: Path) -> None:
    lines = (built / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    wanted = {Requirement(line).name: Requirement(line) for line in lines[1:]}
    project = {Requirement(line).name: Requirement(line) for line in folder.needs()}
    assert set(wanted) == set(project) - {"gradio", "spaces", "huggingface_hub"}
    assert str(wanted["torch"].specifier).endswith("+cpu")
    torch = str(wanted["torch"].specifier).removeprefix("==")
    assert project["torch"].specifier.contains(torch)
    assert all(wanted[name].specifier == project[name].specifier for name in wanted if name != "torch")


def test_zerogpu_takes_the_usual_torch(tmp_path: Path) -> None:
    folder.build(tmp_path / "zero", "zerogpu")
    text = (tmp_path / "zero" / "requirements.txt").read_text(encoding="utf-8")
    assert "index-url" not in text
    assert "\nspaces" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("torch"))
    project = next(Requirement(need) for need in folder.needs() if need.startswith("torch"))
    assert project.specifier.contains(line.removeprefix("torch=="))


def test_only_what_is_needed_is_in_the_folder(built: Path) -> None:
    files = [path.relative_to(built) for path in built.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in files} <= {
        "README.md", "LICENSE", "app.py", "requirements.txt", ".gitattributes", "neftune_core",
        *(path.parts[0] for path in files if path.parts[0].endswith(".dist-info")),
    }  # fmt: skip
    assert not [path for path in files if "__pycache__" in path.parts or path.suffix in (".pyc", ".log", ".jpg")]
    assert sum((built / path).stat().st_size for path in files) < 30e6


def test_a_space_can_be_built_again_but_no_other_folder_is_written_over(built: Path, tmp_path: Path) -> None:
    (built / "neftune_core" / "gone.py").touch()
    folder.build(built)
    assert not (built / "neftune_core" / "gone.py").exists()
    (tmp_path / "README.md").write_text("# Mine", encoding="utf-8")
    with pytest.raises(InvalidSetting, match="neither empty nor a Space built by the lab"):
        folder.build(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "# Mine"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    from huggingface_hub import constants

    with account_of() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


def test_a_push_makes_a_private_space_with_the_files_of_the_folder(hub: Account, built: Path) -> None:
    address = folder.push_space(built, "lab")
    assert address == f"{hub.address}/spaces/{OWNER}/lab"
    made, files = hub.made[f"{OWNER}/lab"], hub.files[f"{OWNER}/lab"]
    assert made["type"] == "space"
    assert made["sdk"] == "gradio"
    assert made["visibility"] == "private"
    sent = {path.relative_to(built).as_posix(): path.read_bytes() for path in built.rglob("*") if path.is_file()}
    assert "app.py" in sent
    assert sent.items() <= files.items()


def test_a_second_push_removes_what_the_folder_no_longer_has(hub: Account, built: Path, tmp_path: Path) -> None:
    folder.push_space(built, f"{OWNER}/lab")
    hub.files[f"{OWNER}/lab"]["old.py"] = b""
    folder.push_space(built, f"{OWNER}/lab")
    assert "old.py" not in hub.files[f"{OWNER}/lab"]
    assert "app.py" in hub.files[f"{OWNER}/lab"]


def test_a_push_that_the_hub_refuses_gets_a_sentence(
    hub: Account, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(name: str = "lab", token: str | None = None) -> str:
        with pytest.raises(LabError) as found:
            folder.push_space(built, name, token=token)
        assert TOKEN not in str(found.value)
        return str(found.value)

    assert "cannot write to" in words("somebody/lab")
    assert "does not accept this token" in words(token="hf_wrong")
    assert "is not the name of a repository" in words("../../lab")
    hub.refuse = 402
    assert "no storage left" in words()
    with pytest.raises(InvalidSetting, match="contains no Space"):
        folder.push_space(tmp_path, "lab")
    monkeypatch.delenv("HF_TOKEN")
    assert "no hub token" in words()
