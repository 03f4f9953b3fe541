"""The model card of a trained arm: its data, noise, seed, measured losses and limitations."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from huggingface_hub import ModelCardData

from neftune_core.data.formats.starters import STARTERS
from neftune_core.engine.saving import is_saved
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import RecordError
from neftune_core.export.bases import Base, base_of, is_on_hub
from neftune_core.home import assets
from neftune_core.language import ENGLISH, in_language, later, plural, say
from neftune_core.models.cards import CATALOGUE
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import to_toml
from neftune_core.studies.comparison import has_arm
from neftune_core.studies.judging import LIVE, rounding_of, verdict_of
from neftune_core.studies.records.record import Record
from neftune_core.studies.results import rounding_note
from neftune_core.studies.steering.best_arms import best_step, plain_name
from neftune_core.version import __version__

IDENTIFIERS = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "gemma", "llama3.2", "bsd-3-clause")
"""Hub identifiers of the licences that small models use."""
CAUSAL, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
TEXT_AND_IMAGES = "AutoModelForImageTextToText"
CARD_MEASURES = ("train_loss", "held_out_loss")

NEEDS = {"adapter": ("torch", "transformers", "peft"), "merged": ("torch", "transformers")}

WORDS: dict[str, Any] = tomllib.loads((assets() / "report" / "card.toml").read_text(encoding="utf-8"))


def card(record: Record, arm: str, seed: int, form: str, kind: str = CAUSAL) -> str:
    """Return the README of one arm: front matter and text.

    Args:
        record: Record of the study.
        arm: Name of the arm.
        seed: Seed of the arm.
        form: "adapter" or "merged".
        kind: Name of the transformers class that loads the model.

    Returns:
        Markdown, with commands and code to run in the folder of the arm.
    """
    base, plain = base_of(record), plain_name(arm)
    is_best = arm != plain
    fetched = base.commands if form == "adapter" else ()
    return str(WORDS["text"]).format(
        front_matter=_front_matter(record, base, form, kind),
        name=record.about_table("model").get("name") or record.study.model.source,
        arm=_arm_text(record, plain) + ", at its best evaluation" * is_best,
        version=__version__,
        commands="\n".join([" ".join(["pip install", *requirements(NEEDS[form])]), *fetched]),
        code=WORDS["code"][form].format(kind=kind, base=base.code(kind, _precision(record))),
        facts="\n".join(f"| {label} | {value} |" for label, value in _facts(record, arm, seed, base, form)),
        measurements=_measurements(record, seed, arm),
        caveats="".join(f"* {words}\n" for words in _caveats(record)),
        measured=WORDS["measured"]["best" if is_best else "last"],
        study=to_toml(_without_files(record)).strip(),
    )


def _front_matter(record: Record, base: Base, form: str, kind: str) -> str:
    """Return the metadata for the hub, omitting entries with unknown values."""
    lora = record.study.training.method == "lora"
    source = record.study.data.source.strip()
    starter = STARTERS.get(source.removeprefix("starter:")) if source.startswith("starter:") else None
    known: dict[str, Any] = {
        "library_name": "peft" if form == "adapter" else "transformers",
        "pipeline_tag": None if kind == SEQ2SEQ else "text-generation",  # the hub has no task for encoder-decoders
        "tags": ["neftune", "neftune-lab", *(["lora"] if lora else [])],
        "language": list(starter.languages) if starter else None,
        "datasets": [source.removeprefix("hub:")] if source.startswith("hub:") else None,
        **_licence(str(record.about_table("model").get("licence", "")), base),
    }
    if base.hub:
        known |= {"base_model": base.hub, "base_model_relation": "adapter" if form == "adapter" else "finetune"}
    return ModelCardData(**known).to_yaml()


def requirements(packages: Sequence[str]) -> list[str]:
    """Return the arguments of `pip install` for `packages`, with each installed package pinned to its version."""
    found = []
    for package in packages:
        try:
            found.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(package)
    return found


def _precision(record: Record) -> str:
    return str(record.about_table("model").get("precision", "float32"))


def _caveats(record: Record) -> list[str]:
    """Return the limitations of this study: those of its base, its rows and its verdict."""
    model, cut = record.about_table("model"), record.about_table("data").get("cut", 0)
    source = CATALOGUE.get(str(model.get("source")))
    note = str(model.get("note") or (source.note if source and source.package else ""))
    reach = map(str, model.get("reach") or ())
    with in_language(ENGLISH):
        unjudged = [LIVE] if record.study.live else [line.text() for line in verdict_of(record).warnings]
    return [
        *([note] if note else []),
        *reach,
        *([plural(cut, *WORDS["cut"].values()).format(count=cut)] if cut else []),
        *unjudged,
    ]


def _facts(record: Record, arm: str, seed: int, base: Base, form: str) -> list[tuple[str, str]]:
    study, machine, data = record.study, record.about_table("machine"), record.about_table("data")
    model = record.about_table("model")
    training = study.training
    rows = f"{data.get('train', '?')} rows to train on, {data.get('held_out', '?')} held out"
    length = (
        f"{training.steps} {plural(training.steps, 'step', 'steps')}"
        if training.steps
        else f"{training.epochs:g} {plural(training.epochs, 'epoch', 'epochs')}"
    )
    if training.restarts:
        length += f" (schedules restarted after step {', '.join(map(str, training.restarts))})"
    changed = ", changed by hand while it trained" if plain_name(arm) == study.live_arm else ""
    return [
        ("base", f"{_base_text(record, base)}, {model.get('licence', 'licence not stated')}"),
        ("number format of the base", _precision(record)),
        *([("number format of this model", _precision(record))] if form == "merged" else []),
        ("data", f"{data.get('title', '?')} ({rows}; {data.get('licence') or 'licence not stated'})"),
        ("fingerprint of the data", f"`{data.get('sha256', '?')}`"),
        ("noise", _noise_text(record.arms.get(plain_name(arm)), plain_name(arm)) + changed),
        ("seed", f"{seed}, of {study.seeds} in the study"),
        ("trained", _training_text(training)),
        ("training", f"{length}, batches of {training.batch_size}, learning rate {training.learning_rate:g}"),
        ("made with", f"torch {machine.get('torch', '?')}, transformers {machine.get('transformers', '?')}"),
    ]


def _base_text(record: Record, base: Base) -> str:
    name = str(record.about_table("model").get("name") or record.study.model.source)
    if not base.hub:
        return f"{name} ({base.words})"
    at = f" at revision `{base.revision}`" if base.revision else ""
    linked = f"[{base.hub}](https://huggingface.co/{base.hub}){at}"
    return f"{name}, made from {linked}; {base.words}" if base.commands else linked


def _training_text(training: TrainingSettings) -> str:
    if training.method == "full":
        return "all weights"
    return f"an adapter: LoRA, rank {training.lora_rank}, alpha {training.lora_alpha:g}"


def _arm_text(record: Record, arm: str) -> str:
    if arm in {found.name for found in record.study.methods}:
        return f"with a method that the control does not use ({_name(arm)})"
    return "without noise (the control)" if arm == "control" else _noise_text(record.arms.get(arm), arm)


def _name(arm: str) -> str:
    with in_language(ENGLISH):
        return arm_words(arm)


def _noise_text(noise: NoiseSettings | None, arm: str) -> str:
    if noise is None or noise.is_silent:
        return "none" if arm == "control" else f"none; another method ({_name(arm)})"
    return f"{noise.kind} noise of {noise.unit} {noise.strength:g}"


def _measurements(record: Record, seed: int, arm: str) -> str:
    """Return a Markdown table with the losses of the base, the control and the arm for one seed, and notes below it."""
    events = [event for event in record.events() if event["event"] == "evaluated" and event.get("seed") == seed]
    if not events:
        return "Nothing was measured."
    shown = plain_name(arm)
    last = next((event for event in reversed(events) if shown in event["arms"]), events[-1])  # it may have been stopped
    if shown != arm:
        last = next(event for event in events if event["step"] == best_step(events, arm, seed))
    base: dict[str, Any] = next((event["arms"]["base"] for event in events if "base" in event["arms"]), {})
    names = dict.fromkeys(["control", shown])
    rows = ["| loss with noise off, nats per response token | training rows | held-out rows |", "|---|---|---|"]
    measured = {"base, before training": base}
    measured |= {f"{_name(name)}, step {last['step']}": last["arms"].get(name, {}) for name in names}
    for label, numbers in measured.items():
        cells = [f"{numbers[measure]:.4f}" if numbers.get(measure) is not None else "-" for measure in CARD_MEASURES]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    samples = " and ".join(str(words) for words in record.about_table("samples").values())
    with in_language(ENGLISH):
        rounded = [rounding_note(rounding_of(record), measure) for measure in CARD_MEASURES if measure in base]
    return "\n".join([*rows, "", *([f"On {samples}."] if samples else []), *rounded])


def _without_files(record: Record) -> Any:
    """Return the study settings with file names instead of local paths."""
    study = record.study
    shown = {part: getattr(study.data, part) for part in ("source", "held_out_source")}
    named = {part: f"file:{value.rpartition('/')[2]}" for part, value in shown.items() if value.startswith("file:")}
    model = study.model
    if "/" in model.source and not is_on_hub(model.source):
        model = model.model_copy(update={"source": model.source.rstrip("/").rpartition("/")[2]})
    return study.model_copy(update={"data": study.data.model_copy(update=named), "model": model})


def _licence(words: str, base: Base) -> dict[str, str]:
    """Return the licence for the hub's metadata: an identifier if the hub has one, otherwise a name and a link."""
    if not words or words.lower() in IDENTIFIERS:
        return {"license": words.lower()} if words else {}
    name = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")
    link = {"license_link": f"https://huggingface.co/{base.hub}"} if base.hub else {}
    return {"license": "other", "license_name": name, **link}


def require_arm(record: Record, arm: str, seed: int) -> None:
    """Check that a trained arm is stored in a record.

    Args:
        record: Record of the study.
        arm: Name of the arm.
        seed: Seed of the arm.

    Raises:
        RecordError: If there is no such trained arm; the message lists those that exist.
    """
    if plain_name(arm) not in record.arms or not has_arm(record, arm, seed):
        words = later("This record has no trained arm {arm!r} for seed {seed}. Available arms: {arms}.")
        raise RecordError(say(words, arm=arm[:60], seed=seed, arms=_arm_list(record) or say("none yet")))


def _arm_list(record: Record) -> str:
    """List the trained arms with their seeds: `control (seeds 0, 1), uniform-alpha-5 (seeds 0, 1)`."""
    study = record.study
    seeds = {arm: [str(seed) for seed in study.runs if is_saved(record.arm_folder(arm, seed))] for arm in study.arms}
    return ", ".join(
        say(plural(len(kept), "{arm} (seed {seeds})", "{arm} (seeds {seeds})"), arm=arm, seeds=", ".join(kept))
        for arm, kept in seeds.items()
        if kept
    )
