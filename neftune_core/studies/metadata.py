"""Describe the model, data and machine of a study for its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neftune_core.data.chat import EncodedExample
from neftune_core.data.fitting import FittedPrompt
from neftune_core.data.preparing import PreparedData
from neftune_core.data.report import RECORD_ROWS, data_report
from neftune_core.engine.lockstep import Lockstep
from neftune_core.errors import RecordError
from neftune_core.language import say
from neftune_core.models.architecture.module_trees import fingerprint
from neftune_core.models.device import describe_machine
from neftune_core.studies.measuring import first_rows, sample_prompts
from neftune_core.studies.prompts import fit_rows, mostly_reasons, shortened_prompts_note, tokenised_study_prompts
from neftune_core.studies.records.record import Record


def about_run(run: Lockstep) -> dict[str, Any]:
    """Return descriptions of a run's arms, model, data, samples and machine, for its record and its first event."""
    loaded, prepared, rows = run.stack.loaded, run.prepared, run.sample_rows
    samples = {
        "train_loss": (min(rows, len(prepared.train)), "train"),
        "held_out_loss": (min(rows, len(prepared.held_out)), "held_out"),
    }
    return {
        "arms": {name: noise.model_dump() for name, noise in run.study.arms.items()},
        "model": {
            **{name: getattr(loaded, name) for name in ("source", "name", "licence", "parameters", "width", "layers")},
            "precision": loaded.precision,
            "trained_parameters": run.stack.trained_parameters,
            "fingerprint": fingerprint(loaded.model),
            "revision": loaded.revision,
            "note": loaded.note,
            "reach": list(loaded.reach),
        },
        "data": {
            "title": prepared.title,
            "licence": prepared.licence,
            "sha256": prepared.sha256,
            "train": len(prepared.train),
            "held_out": len(prepared.held_out),
            "cut": prepared.cut,
            "refused": prepared.refused,
            "duplicates": prepared.duplicates_removed,
            "frequency_loss": frequency_loss(prepared.train, prepared.train[:rows]),
            "report": _report(run),
            "reasoning": mostly_reasons(prepared.train),
        },
        "samples": {name: first_rows(size, part) for name, (size, part) in samples.items()},
        "sample_sizes": {name: size for name, (size, _) in samples.items()},
        "machine": {name: value for name, value in describe_machine().items() if name != "available_bytes"},
    }


def frequency_loss(rows: Sequence[EncodedExample], sample: Sequence[EncodedExample]) -> float:
    """Return the loss of predicting response tokens from token frequencies alone, without context.

    Args:
        rows: Rows that supply the token frequencies.
        sample: Rows to evaluate, a subset of `rows`.

    Returns:
        Mean loss in nats per response token; 0 if `sample` is empty.
    """
    counts = np.bincount(np.concatenate([row.ids[row.trained] for row in rows]))
    guessed = [row.ids[row.trained] for row in sample]
    return float(np.log(counts.sum() / counts[np.concatenate(guessed)]).mean()) if guessed else 0.0


def _report(run: Lockstep) -> dict[str, Any]:
    """Return the data report for the record, with a note about prompts that were shortened or left out."""
    study, prepared, loaded = run.study, run.prepared, run.stack.loaded
    report = data_report(prepared, loaded.tokenizer, rows=RECORD_ROWS).for_record()
    count = sample_prompts(study, prepared)
    rows = [*prepared.held_out[:count], *prepared.train[:count]]
    fitted = dict(zip(map(id, rows), fit_rows(rows, loaded, study.measuring.new_tokens), strict=True))
    asked = tokenised_study_prompts(study, prepared, loaded)
    for index, (prompt, found) in enumerate(zip(*asked, strict=True)):
        key = id(prompt if study.answers.prompts else prepared.held_out[index])  # a held-out row may be listed twice
        fitted[key] = _worse_fit(fitted.get(key, found), found)
    words = shortened_prompts_note([*fitted.values()])
    return {**report, "notes": [*report["notes"], *([words] if words else [])]}


def _worse_fit(one: FittedPrompt | None, other: FittedPrompt | None) -> FittedPrompt | None:
    """Return the worse of two fitting results: left out (None) is worse than cut, which is worse than whole."""
    return None if one is None or other is None else one if one.cut else other


def require_same_rows(record: Record, prepared: PreparedData) -> None:
    """Check that the rows have not changed since the record was created.

    Args:
        record: Record with the hash of its data.
        prepared: The current data.

    Raises:
        RecordError: If the hash or the number of rows differs.
    """
    found = {"sha256": prepared.sha256, "train": len(prepared.train), "held_out": len(prepared.held_out)}
    stored = record.about_table("data")
    if any(stored.get(name, value) != value for name, value in found.items()):
        raise RecordError(say("The data has changed since this study started: train the study again."))
