"""Python API: run studies, follow their events, and read losses, verdicts, answers and adapters.

Example:
    result = run_study(StudySettings(noise=[{"strength": 5}], seeds=6), progress=print)
    print(result.verdict)
    result.losses["control"][-1].held_out_loss
    result.ask(["Where does the owl live?"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neftune_core.engine.lockstep import Event
from neftune_core.errors import LabError, NotAvailable
from neftune_core.evaluation.settings import DecodingSettings
from neftune_core.evaluation.text_measures import with_measures
from neftune_core.evaluation.verdict import Verdict
from neftune_core.export.models import write_model
from neftune_core.export.notebook import answers_html, study_html
from neftune_core.settings import Limits
from neftune_core.studies.comparison import compare_arms, selected_arms
from neftune_core.studies.judging import verdict_of
from neftune_core.studies.language_judge.endpoint import Judge
from neftune_core.studies.language_judge.verdicts import JudgeProgress, judge_arms
from neftune_core.studies.prompts import Prompt, as_messages
from neftune_core.studies.records.record import STUDY_FILE, Record, create
from neftune_core.studies.records.removal import remove_unstarted
from neftune_core.studies.settings import StudySettings
from neftune_core.studies.steering.going_on import go_on
from neftune_core.studies.steering.requests import set_strength, stop_arm
from neftune_core.studies.study import run_study as run_record
from neftune_core.sweeps.more_seeds import find_same
from neftune_core.sweeps.record import find_study, require_single

EventCallback = Callable[[Event], object]


@dataclass(frozen=True)
class LossPoint:
    """Losses of one arm at one evaluation, with noise off.

    Attributes:
        seed: Seed of the run.
        step: Optimizer steps taken so far.
        train_loss: Mean loss on training rows, in nats per response token; None if not measured.
        held_out_loss: Mean loss on held-out rows, in the same unit; None without held-out rows.
    """

    seed: int
    step: int
    train_loss: float | None
    held_out_loss: float | None


class AnswerTable(list[dict[str, Any]]):
    """List of answers: dicts with `prompt`, `reference` and `arms`, one per prompt, or per seed or sample if several.

    `arms` maps each name to an answer: `text`, `tokens`, `ended` and, from `ask` and `compare`, measures of the text.
    """

    def to_pandas(self) -> Any:
        """Return a data frame with one row per dict: the prompt, and a column with the answer of each arm.

        Raises:
            NotAvailable: If pandas is not installed.
        """
        rows = [{"prompt": line["prompt"]} | {arm: said["text"] for arm, said in line["arms"].items()} for line in self]
        return _pandas().DataFrame(rows)

    def __str__(self) -> str:
        return "\n".join(
            "\n".join([f"> {line['prompt']}", *(f"  [{arm}] {said['text']}" for arm, said in line["arms"].items())])
            for line in self
        )

    def _repr_html_(self) -> str:
        return answers_html(self)


class StudyResult:
    """Results of a study; every property reads the record again, so the results of a running study stay current.

    Attributes:
        record: The record on disk.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    @property
    def folder(self) -> Path:
        """Folder of the record."""
        return self.record.folder

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the trained arms, the control first."""
        return tuple(self.record.arms)

    @property
    def losses(self) -> dict[str, list[LossPoint]]:
        """Losses of the base and of every arm by name, in order of evaluation."""
        found: dict[str, list[LossPoint]] = {name: [] for name in ("base", *self.arms)}
        for event in self.record.events():
            if event["event"] == "evaluated":
                for arm, of in event["arms"].items():
                    point = LossPoint(event["seed"], event["step"], of.get("train_loss"), of.get("held_out_loss"))
                    found.setdefault(arm, []).append(point)
        return {name: points for name, points in found.items() if points}

    @property
    def verdict(self) -> Verdict:
        """Comparison of every arm with the control; `str(verdict)` is the verdict as text.

        Raises:
            RecordError: If the settings of the record cannot be read, or the study is live.
            DataError: If the runs were measured on different numbers of examples.
        """
        return verdict_of(self.record)

    @property
    def answers(self) -> AnswerTable:
        """Answers of all seeds, each stored when its seed ended."""
        return AnswerTable(self.record.answers())

    def adapter(self, arm: str, folder: Path | str, *, seed: int | None = None) -> Path:
        """Write the adapter of one arm in PEFT format, with a model card.

        Args:
            arm: Name of the arm, such as "uniform-alpha-5"; "uniform-alpha-5@best" for its best evaluation.
            folder: Folder to create.
            seed: Seed of the run; by default, the first seed of the study.

        Returns:
            The folder.

        Raises:
            InvalidSetting: If the study trained all weights, or `folder` already exists.
            RecordError: If the record has no such arm.
        """
        return self._write(arm, folder, seed, "adapter")

    def merged_model(self, arm: str, folder: Path | str, *, seed: int | None = None) -> Path:
        """Write the full model with the trained weights of one arm merged into it, and a model card.

        Args:
            arm: Name of the arm, as for `adapter`.
            folder: Folder to create.
            seed: Seed of the run; by default, the first seed of the study.

        Returns:
            The folder, for `from_pretrained` of transformers.

        Raises:
            InvalidSetting: If `folder` already exists.
            RecordError: If the record has no such arm.
        """
        return self._write(arm, folder, seed, "merged")

    def _write(self, arm: str, folder: Path | str, seed: int | None, form: str) -> Path:
        target = Path(folder)
        write_model(self.record, arm, self.record.study.seed if seed is None else seed, form, target)
        return target

    def go_on(self, epochs: float) -> StudyRun:
        """Continue this finished study for more epochs, in a new record.

        The schedules of the learning rate and the noise restart for these epochs; a constant rate stays constant.
        The verdict on the new record states that the result of this study was already known.

        Args:
            epochs: Number of further passes over the training rows.

        Returns:
            The continued study, which trains while it is iterated over.

        Raises:
            RecordError: If the study is part of a sweep, unfinished, stopped early, or did not store its final state.
            LabError: If a limit is exceeded.
        """
        limits = Limits()
        return StudyRun(go_on(self.record, epochs, "", limits), limits)

    def ask(self, prompts: Sequence[str], *, arms: Sequence[str] | None = None, **decoding: Any) -> AnswerTable:
        """Generate answers from the base and the arms; see `compare`.

        Args:
            prompts: User messages, one per prompt.
            arms: Names of the arms that answer in addition to the base; all by default.
            **decoding: Fields of `DecodingSettings`.

        Returns:
            The answers, one dict per prompt and sample.

        Raises:
            LabError: If an arm, a prompt or a setting cannot be used.
        """
        return compare([self], prompts, arms=arms, **decoding)

    def judge(
        self, arm: str, against: str = "control", *, base_url: str, model: str, key: str = "", seed: int | None = None
    ) -> JudgeProgress:
        """Compare the stored answers of two arms with a language model behind an OpenAI-compatible API.

        Prompts and answers are sent to this API. The verdicts of the language model are stored in the record, and are
        never requested twice.

        Args:
            arm: Name of the arm for which the win rate is computed.
            against: Name of the other arm.
            base_url: URL of the API, such as "http://127.0.0.1:8000/v1".
            model: Name of the model at this API.
            key: API key; it is not stored.
            seed: Seed whose answers are judged; all seeds by default.

        Returns:
            The verdicts, with the win rates `rate.raw` and `rate.controlled` (controlled for length). `rate` is None if
            fewer than two prompts have been judged.

        Raises:
            LabError: If the arms or the judge cannot be used; verdicts received before are kept.
        """
        asked = Judge(base_url, model, key)
        *_, found = judge_arms(self.record, (arm, against), asked, seed=seed)
        return found

    def to_pandas(self) -> Any:
        """Return the losses as a data frame with the columns arm, seed, step, train_loss and held_out_loss.

        Raises:
            NotAvailable: If pandas is not installed.
        """
        rows = [{"arm": arm} | asdict(point) for arm, points in self.losses.items() for point in points]
        return _pandas().DataFrame(rows)

    def __repr__(self) -> str:
        ending = self.record.ending() or {"event": "unfinished"}
        return f"StudyResult({self.record.id!r}, arms={list(self.arms)}, {ending['event']})"

    def _repr_html_(self) -> str:
        return study_html(self.record)


class StudyRun:
    """An iterable study: it trains while its events are read, and stops when the iterator is closed.

    Attributes:
        result: Results so far.

    Args:
        record: Record of the study.
        limits: Limits on the size and duration of the study.
    """

    def __init__(self, record: Record, limits: Limits) -> None:
        self.result = StudyResult(record)
        self._limits = limits

    def __iter__(self) -> Iterator[Event]:
        """Yield the events of the study, each after it has been written to the record.

        Raises:
            LabError: If the study fails. Its record keeps the measurements; a new record without steps is removed.
        """
        record = self.result.record
        if (record.ending() or {}).get("event") == "finished":
            return
        is_new, event = not record.events(), Event()
        with closing(run_record(record, self._limits, lambda: False)) as events:  # type: ignore[type-var]
            for event in events:
                yield event
        if event.get("event") == "failed":
            if is_new:
                remove_unstarted(record)
            raise LabError(event["message"])

    def set_strength(self, strength: float) -> None:
        """Change the strength of the first noise arm of a live study starting with the next step, and log the change.

        Args:
            strength: New strength, in the unit of the arm.

        Raises:
            RecordError: If the study is not live, or the study or the arm is not being trained.
            InvalidSetting: If the strength is out of range.
        """
        set_strength(self.result.record, strength)

    def stop_arm(self, arm: str) -> None:
        """Stop one arm after the current step.

        This may be called inside the loop over the events or from another thread. The other arms continue, and the
        remaining seeds train without this arm. The verdict reports the arm's differences up to this step, but makes
        no claim about it.

        Args:
            arm: Name of the arm, such as "uniform-alpha-5".

        Raises:
            RecordError: If the study or the arm is not being trained, or the arm is the control.
        """
        stop_arm(self.result.record, arm)


def start_study(study: StudySettings, *, resume: bool = False) -> StudyRun:
    """Create the record of a study, and return the study as an iterable of events.

    Args:
        study: The settings.
        resume: Whether to continue the newest record with the same settings, if there is one.

    Returns:
        The study, which trains while it is iterated over.

    Raises:
        LabError: If a setting cannot be used, or disk space is short.
    """
    limits = Limits()
    study.check(limits)
    record = find_same(study, owner="") if resume else None
    return StudyRun(record or create(study, "", limits), limits)


def run_study(study: StudySettings, *, progress: EventCallback | None = None, resume: bool = False) -> StudyResult:
    """Run a study to completion.

    Args:
        study: The settings.
        progress: Called with every event.
        resume: Whether to continue the newest record with the same settings, if there is one.

    Returns:
        The results.

    Raises:
        LabError: If a setting cannot be used, or the study fails.
    """
    run = start_study(study, resume=resume)
    for event in run:
        if progress is not None:
            progress(event)
    return run.result


def open_study(name: str | Path) -> StudyResult:
    """Open the record of a study.

    Args:
        name: Id of the record, as listed by `neftune runs`, or path of its folder.

    Returns:
        The results.

    Raises:
        RecordError: If there is no such record, or it is a sweep.
    """
    folder = Path(name)
    found = Record(folder.resolve()) if (folder / STUDY_FILE).is_file() else find_study(str(name), owner=None)
    return StudyResult(require_single(found))


def compare(
    results: Sequence[StudyResult], prompts: Sequence[str], *, arms: Sequence[str] | None = None, **decoding: Any
) -> AnswerTable:
    """Generate answers to the same prompts from a base model and from arms that were trained on it.

    Args:
        results: Studies with the same base model.
        prompts: User messages, one per prompt.
        arms: Names of the arms that answer in addition to the base; all by default.
        **decoding: Fields of `DecodingSettings`, such as `new_tokens` or `temperature`.

    Returns:
        The answers, one dict per prompt and sample.

    Raises:
        LabError: If the studies have different base models, or an arm, a prompt or a setting cannot be used.
    """
    settings = DecodingSettings(**decoding)
    chosen = selected_arms([result.record for result in results], arms=arms)
    asked = [Prompt(as_messages(prompt, settings.system)) for prompt in prompts]
    lines: list[dict[str, Any]] = []
    for lines in compare_arms(chosen, asked, settings, Limits()):  # noqa: B007 - the last list is complete
        pass
    return AnswerTable(with_measures(line) for line in lines)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise NotAvailable("This needs pandas, which is not installed: run `pip install pandas`.") from None
    return pandas
