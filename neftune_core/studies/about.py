"""Facts stored in a record when its study starts: model, data and machine."""

from __future__ import annotations

from typing import Any

from neftune_core.data.report import KEPT_ROWS, data_report
from neftune_core.engine.lockstep import Lockstep
from neftune_core.language import later
from neftune_core.models.device import describe_machine
from neftune_core.models.module_trees import fingerprint
from neftune_core.studies.measuring import sample_prompts
from neftune_core.studies.prompts import fitted_rows, fitting_words, mostly_reasons, study_asked


def about_run(run: Lockstep) -> dict[str, Any]:
    """Return the facts for a record and its first event: arms, model, data, samples and machine."""
    loaded, prepared, rows = run.stack.loaded, run.prepared, run.sample_rows
    return {
        "arms": {name: noise.model_dump() for name, noise in run.study.arms.items()},
        "model": {
            "source": loaded.source,
            "name": loaded.name,
            "licence": loaded.licence,
            "parameters": loaded.parameters,
            "width": loaded.width,
            "layers": loaded.layers,
            "precision": loaded.precision,
            "trained_parameters": run.stack.trained_parameters,
            "fingerprint": fingerprint(loaded.model),
            "revision": loaded.revision,
            "note": loaded.note,
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
            "report": _report(run),
            "reasoning": mostly_reasons(prepared.train),
        },
        "samples": {
            "train_loss": later("the first {count} training rows").format(count=min(rows, len(prepared.train))),
            "held_out_loss": later("the first {count} held-out rows").format(count=min(rows, len(prepared.held_out))),
        },
        "machine": {name: value for name, value in describe_machine().items() if name != "available_bytes"},
    }


def _report(run: Lockstep) -> dict[str, Any]:
    """Return the stored report on the data, including prompts that do not fit."""
    study, prepared, loaded = run.study, run.prepared, run.stack.loaded
    kept = data_report(prepared, loaded.tokenizer, rows=KEPT_ROWS).kept()
    rows = [*prepared.held_out[: sample_prompts(run)], *prepared.train[: sample_prompts(run)]]
    fitted = fitted_rows(rows, loaded, study.measuring.new_tokens)
    words = fitting_words([*fitted, *(found for _, found in study_asked(study, prepared, loaded))])
    return {**kept, "notes": [*kept["notes"], *([words] if words else [])]}
