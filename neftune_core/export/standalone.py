"""Retrain the arms of a study with transformers and PEFT: python standalone.py [ARM ...]

The rows, their order, the initial adapter and the noise settings are read from the folder of this script, or from the
folder in STUDY_FOLDER, so that the losses match those of the study in losses.json. The results are written to the same
folder, or to the folder in STUDY_RESULTS. READ-ME.txt lists the packages to install.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM

HERE = Path(os.environ.get("STUDY_FOLDER") or Path(__file__).parent)
RESULTS = Path(os.environ.get("STUDY_RESULTS") or HERE)
if not (HERE / "study.json").is_file():
    sys.exit(f"The files of the study are not in {HERE}: set STUDY_FOLDER to their folder (see READ-ME.txt).")
sys.path.insert(0, str(HERE))  # has the modules that draw the noise

from neftune_core import NoiseSettings, noisy_embeddings  # noqa: E402
from neftune_core.models.architecture.anatomy import dropout_rates, set_model_dropout  # noqa: E402

STUDY = json.loads((HERE / "study.json").read_text(encoding="utf-8"))
ROWS = {part: [json.loads(line) for line in (HERE / f"{part}.jsonl").open()] for part in ("train", "held_out")}
TRAINING = STUDY["training"]


def batch(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Collate rows, right-padded; labels are -100 outside the response."""
    length = max(len(row["ids"]) for row in rows)

    def padded(name: str, filling: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filling] * (length - len(row[name])) for row in rows])

    mask = torch.tensor([[1] * len(row["ids"]) + [0] * (length - len(row["ids"])) for row in rows])
    return {"input_ids": padded("ids", STUDY["pad"]), "attention_mask": mask, "labels": padded("labels", -100)}


def base_model() -> Any:
    """Load the base in the study's number format; a GGUF base is rounded to bfloat16 first, as in the lab."""
    base, precision = STUDY["base"], getattr(torch, STUDY["precision"])
    place = HERE / base["place"]
    model = AutoModelForCausalLM.from_pretrained(
        str(place) if place.is_dir() else base["place"],
        dtype=torch.float32 if base["rounded"] else precision,
        **base["options"],
    )
    return model.to(torch.bfloat16).to(precision) if base["rounded"] else model


def learning_rate(step: int) -> float:
    """Return the learning rate of a step, counted from 1."""
    total, warm = len(STUDY["order"]), round(TRAINING["warmup"] * len(STUDY["order"]))
    if step <= warm:
        return TRAINING["learning_rate"] * step / warm
    progress = (step - 1 - warm) / max(total - warm, 1)
    shares = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return TRAINING["learning_rate"] * shares[TRAINING["schedule"]]


def train(arm: str) -> dict[str, Any]:
    """Train one arm from the initial adapter, save it under `trained/`, and return its losses."""
    about = STUDY["arms"][arm]
    model = base_model()
    rates = dropout_rates(model.config)
    set_model_dropout(model, TRAINING["model_dropout"])  # overrides the dropout rates of the configuration
    if TRAINING["method"] == "lora":
        config = PeftConfig.from_pretrained(str(HERE / "initial"))
        config.lora_dropout = about["lora_dropout"]
        model = PeftModel.from_pretrained(model, str(HERE / "initial"), config=config, is_trainable=True)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    maps, others = ([one for one in parameters if (one.dim() > 1) is is_map] for is_map in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": maps, "weight_decay": about["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=TRAINING["learning_rate"],
    )
    named: list[tuple[int, int, int]] = []  # seeds the noise of each row in the next call
    noise, losses = NoiseSettings(**about["noise"]), []
    model.train()
    torch.manual_seed(STUDY["seed"])  # dropout masks: the same for every arm, and in every run on one machine
    with noisy_embeddings(model, noise, calls=len(STUDY["order"]), names=lambda: named):
        for step, (epoch, places) in enumerate(STUDY["order"], start=1):
            named[:] = [(STUDY["seed"], epoch, place) for place in places]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)
            loss = model(**batch([ROWS["train"][place] for place in places])).loss
            loss.backward()
            if TRAINING["clip_norm"]:
                torch.nn.utils.clip_grad_norm_(parameters, TRAINING["clip_norm"])
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        held_out = [_clean_loss(model, row) for row in ROWS["held_out"]]
    vars(model.config).update(rates)  # save the configuration of the base
    model.save_pretrained(str(RESULTS / "trained" / arm))
    tokens = sum(count for _, count in held_out)
    return {"losses": losses, "held_out_loss": sum(total for total, _ in held_out) / tokens if tokens else None}


def _clean_loss(model: Any, row: dict[str, list[int]]) -> tuple[float, int]:
    """Return the loss of one row with noise off in nats, summed over the response tokens, and their number."""
    count = sum(label != -100 for label in row["labels"][1:])
    return model(**batch([row])).loss.item() * count, count


def _largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest absolute difference between the losses of this run and those of the lab; NaN if none."""
    pairs = [*zip(found["losses"], expected["losses"], strict=False)]
    pairs.append((found["held_out_loss"], expected["held_out_loss"]))
    return max((abs(one - other) for one, other in pairs if None not in (one, other)), default=math.nan)


if __name__ == "__main__":
    expected = json.loads((HERE / "losses.json").read_text(encoding="utf-8"))
    found = {}
    for name in sys.argv[1:] or STUDY["arms"]:
        found[name] = train(name)
        last, held_out = found[name]["losses"][-1], found[name]["held_out_loss"]
        measured = "not measured" if held_out is None else f"{held_out:.4f}"
        print(f"{name}: last training loss {last:.4f}, held-out loss {measured}")
        print(f"  furthest from losses.json: {_largest_difference(found[name], expected[name]):.1e}")
    (RESULTS / "found.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
