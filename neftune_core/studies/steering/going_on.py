"""More epochs for a finished study: a new record that continues from the state at the end of each seed.

The first record is not changed. The new one has the same settings with more steps, and a restart at the step at which
the first one ended: the schedules of the learning rate and the noise begin again. Training from scratch with these
settings would give the same numbers.
"""

from __future__ import annotations

import json
import math
import shutil

from neftune_core.durable import write_whole
from neftune_core.engine.settings import TrainingSettings, check_length
from neftune_core.errors import InvalidSetting, RecordError
from neftune_core.home import folder_bytes
from neftune_core.language import later, say
from neftune_core.settings import Limits, to_toml
from neftune_core.studies.checkpoint import state_folder
from neftune_core.studies.records.log import Event, as_jsonl, finite
from neftune_core.studies.records.numbers import EXAMPLES
from neftune_core.studies.records.owners import require_space
from neftune_core.studies.records.record import LOG, STUDY_FILE, Record, new_record
from neftune_core.studies.records.user_rows import with_copied_rows
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering import best_arms
from neftune_core.studies.steering.log import STEERED, stopped_arms

KEPT = ("started", "planned", "step", "evaluated", "diverged", STEERED)
"""Events of the first record that are copied to the new one."""
STOPPED_EARLY = later(
    "Early stopping ended this study, so its seeds may have different numbers of steps: it cannot be trained further."
)
NO_STATE = later(
    "The final state of this study was not kept, so it cannot be trained further: train it again with more epochs. "
    "(Set keep_state to always to keep the state. Imported records and those of older versions have none.)"
)


def reason_against(record: Record) -> str:
    """Return a sentence that explains why a study cannot be trained further; "" if it can."""
    if record.is_sweep or record.name != record.id:
        return say("A sweep and its studies cannot be trained further: train a separate study.")
    if record.is_running():
        return say("This study is still running: it can be trained further once it is finished.")
    ending = record.ending() or {}
    if ending.get("event") != "finished":
        return say("Only a finished study can be trained further: resume this one first.")
    if best_arms.ended_early(record.events()):
        return say(STOPPED_EARLY)
    try:
        study = record.study
    except RecordError as error:
        return str(error)
    if any(not (state_folder(record.folder, seed) / "state.json").is_file() for seed in study.runs):
        return say(NO_STATE)
    return ""


def go_on(record: Record, epochs: float, owner: str, limits: Limits) -> Record:
    """Create a record that continues a finished study for more epochs; it is then run like any other record.

    Args:
        record: The finished study.
        epochs: Number of additional passes over the training rows.
        owner: Key of the visitor; empty for the command line.
        limits: Limits of this server.

    Returns:
        The new record.

    Raises:
        RecordError: If the study cannot be trained further.
        LabError: If a limit is exceeded.
    """
    record.require_usable()
    if reason := reason_against(record):
        raise RecordError(reason)
    study, rows = record.study, int(record.about_table("data").get("train", 1))
    done = max(event["step"] for event in record.events() if event["event"] == "step")
    training = _longer(study.training, done, epochs, rows)
    longer = study.model_copy(update={"training": training})
    longer.check(limits)
    check_length(rows, training, limits, seeds=len(longer.runs))
    require_space(record.folder.parent, owner, limits, more=folder_bytes(record.folder))
    with new_record(study, owner, limits, record.folder.parent) as made:
        write_whole(made.folder / STUDY_FILE, to_toml(with_copied_rows(longer, made.folder), comments=True))
        _copy(record, made, longer, done)
    return made


def _longer(training: TrainingSettings, done: int, epochs: float, rows: int) -> TrainingSettings:
    """Return the settings of a run that restarts after `done` steps and then trains for more epochs.

    Raises:
        InvalidSetting: If `epochs` amounts to less than one step.
    """
    more = round(math.ceil(rows / training.batch_size) * epochs) if math.isfinite(epochs) else 0
    if more < 1:
        raise InvalidSetting(say("The additional epochs amount to less than one step: choose more."))
    length = {"steps": done + more, "time_budget_seconds": 0.0}
    return TrainingSettings(**training.model_dump() | length | {"restarts": (*training.restarts, done)})


def _copy(record: Record, made: Record, study: StudySettings, done: int) -> None:
    """Copy events, states and best weights to the new record, without the measures taken when the first one ended."""
    steps = {"steps": study.training.steps}
    kept = (event for event in record.events() if event["event"] in KEPT)
    log = [event | steps if "steps" in event else event for event in kept]
    write_whole(made.folder / LOG, as_jsonl(log))
    own = {name: made.about[name] for name in ("owner", "created")}
    continues = [*record.about.get("continues", []), {"record": record.id, "step": done}]
    about = {**record.about, **own, "continues": continues}  # without a date if the first record has none
    write_whole(made.folder / "record.json", json.dumps(finite(about), indent=2, ensure_ascii=False))
    if (record.folder / EXAMPLES).is_file():
        shutil.copyfile(record.folder / EXAMPLES, made.folder / EXAMPLES)
    for seed in study.runs:
        shutil.copytree(state_folder(record.folder, seed), state_folder(made.folder, seed))
        _copy_best(record, made, seed, log)


def _copy_best(record: Record, made: Record, seed: int, log: list[Event]) -> None:
    """Copy stopped arms, and the weights of each arm's best evaluation, which may be its last weights."""
    stopped = stopped_arms(log).get(seed, {})
    for arm in record.arms:
        source, last = record.arm_folder(f"{arm}{best_arms.BEST}", seed), record.arm_folder(arm, seed)
        if arm in stopped and last.is_dir():  # it is no longer being trained
            shutil.copytree(last, made.arm_folder(arm, seed))
        step = best_arms.best_step(log, arm, seed)
        if source.is_dir() and step and record.study.training.keep_best:
            shutil.copytree(source, best_arms.step_folder(made.arm_folder(arm, seed), step))
