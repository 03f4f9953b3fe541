"""Store the token norms of one training row with a record: `python -m tests.tools.recorded_norms RECORD ROW`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from neftune_core.data.preparing import prepare
from neftune_core.durable import write_whole
from neftune_core.models.token_text import token_texts
from neftune_core.noise.batch import ArmNoise, BatchNoise, Rows
from neftune_core.noise.sites import noise_sites
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record
from neftune_core.studies.study import base_of
from neftune_core.ui.parts.recorded_study import NORMS


def compute_norms(record: Record, index: int) -> dict[str, Any]:
    """Compute the norm of every token of one training row, without noise and per epoch and arm.

    The noise is drawn by the engine, exactly as in training. Adversarial arms show the draw before ascent.

    Args:
        record: The study.
        index: Index of the training row, from 0.

    Returns:
        `{"tokens": [...], "response": n, "clean": [...], "epochs": [{arm: [...]}, ...]}`; `response` is the index of
        the first trained token.
    """
    study, loaded = record.study, base_of(record)
    row = prepare(study.data.within(loaded.context), loaded.tokenizer, Limits()).train[index]
    ids = torch.from_numpy(row.ids.astype("int64"))
    site = noise_sites(loaded.model)[0]
    with torch.no_grad():
        clean = site.module(ids.to(loaded.device))[None]
    arms = {name: noise for name, noise in study.arms.items() if not noise.is_silent}
    response, special = torch.from_numpy(row.trained)[None], torch.isin(ids, torch.tensor(sorted(row.special)))[None]
    epochs = []
    for epoch in range(max(1, round(study.training.epochs))):
        rows = Rows([(study.seed, epoch, index)], [len(ids)], len(ids), response, special)
        noise = BatchNoise([ArmNoise(settings) for settings in arms.values()], {site.part: rows})
        noisy = noise.add_to(site, clean.repeat(len(arms), 1, 1))
        epochs.append(dict(zip(arms, map(_norms, noisy), strict=True)))
    words = token_texts(ids.tolist(), loaded.tokenizer)
    return {"tokens": words, "response": row.prompt_length, "clean": _norms(clean[0]), "epochs": epochs}


def _norms(vectors: Any) -> list[float]:
    return [round(float(norm), 4) for norm in vectors.float().norm(dim=-1)]


def store_norms(record: Record, index: int) -> Path:
    """Compute the norms and store them with the record.

    Args:
        record: The study.
        index: Index of the training row, from 0.

    Returns:
        The file.
    """
    path = record.folder / NORMS
    write_whole(path, json.dumps(compute_norms(record, index), ensure_ascii=False))
    return path


if __name__ == "__main__":
    print(store_norms(Record(Path(sys.argv[1])), int(sys.argv[2])))
