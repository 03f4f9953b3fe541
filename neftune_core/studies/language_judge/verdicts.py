"""Judge the stored answers of two arms blindly in both orders, and store every verdict in the record."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from neftune_core.bounded_io import read_file
from neftune_core.errors import DataError, DoesNotFit, InvalidSetting
from neftune_core.evaluation.statistics import Interval
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.language_judge.endpoint import INSTRUCTIONS, Judge
from neftune_core.studies.language_judge.win_rate import Judged, WinRate, win_rate
from neftune_core.studies.records.log import append, csv_text, parsed
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.schema import JUDGE_BYTES

FILE = "judge.jsonl"
REPLY_CHARACTERS = 500
TIE, UNREADABLE = "tie", ""
ORDERS = (0, 1)
"""The first arm's answer is A in order 0 and B in order 1."""

Line = Mapping[str, Any]


@dataclass(frozen=True)
class JudgedPrompt:
    """The verdicts on one prompt.

    Attributes:
        verdicts: Verdict in each of `ORDERS`: an arm's name, `TIE`, `UNREADABLE`, or None if not requested yet. Both
            are `TIE` for identical answers, which are not sent.
        score: Share of the two orders in which the first arm won, counting a tie as one half; None until both are
            known.
    """

    prompt: str
    seed: int | None
    answers: tuple[str, str]
    verdicts: tuple[str | None, ...]
    score: float | None

    @property
    def is_identical(self) -> bool:
        """Whether both answers are the same text."""
        return self.answers[0] == self.answers[1]

    @property
    def agrees(self) -> bool:
        """Whether the verdicts in both orders are the same."""
        return len(set(self.verdicts)) == 1


@dataclass(frozen=True)
class JudgeProgress:
    """Verdicts on two arms so far.

    Attributes:
        done: Number of prompts processed so far; if nothing is running, number of prompts judged in both orders.
        unreadable: Number of replies without a verdict; the next run repeats these requests.
        identical: Number of prompts with identical answers, which are not sent and count as ties.
        rate: The win rates of the first arm; None with fewer than two prompts.
    """

    done: int
    prompts: int
    unreadable: int
    identical: int
    rate: WinRate | None
    between: tuple[str, str] = field(default=("", ""))
    rows: tuple[JudgedPrompt, ...] = ()


def judge_arms(
    record: Record, between: tuple[str, str], judge: Judge, *, seed: int | None = None, most: int | None = None
) -> Iterator[JudgeProgress]:
    """Judge the stored answers of two arms; each verdict is stored at once and never requested again.

    Args:
        record: Record with the stored answers.
        between: The two arms; "base" is the untrained model.
        judge: Address, model and key of the judge.
        seed: Seed of the answers to judge; None for all.
        most: Largest number of prompts; None for all.

    Yields:
        The progress, after each prompt.

    Raises:
        DataError: If the record has no answers of both arms.
        InvalidSetting: If the arms are the same.
        NotAvailable: If the judge cannot be reached or refuses the request; the verdicts so far are stored.
        DoesNotFit: If the record has reached the maximum number of verdicts.
    """
    lines = _answers_of(record, between, seed)[:most]
    known = stored_verdicts(record)
    for done, line in enumerate(lines, start=1):
        first, second = _texts(line, between)
        for order in ORDERS if first != second else ():
            key = _key(line, between, judge, order)
            if not known.get(key):
                known[key] = _ask(record, line, between, judge, order)
        yield _progress(lines, between, judge, known, done)


def _answers_of(record: Record, between: tuple[str, str], seed: int | None = None) -> list[dict[str, Any]]:
    """Return the stored answers to prompts that both arms answered; raise a `LabError` if there are none."""
    if between[0] == between[1]:
        raise InvalidSetting(say("Choose two different arms to judge."))
    lines = [line for line in record.answers(seed) if all(name in line["arms"] for name in between)]
    if not lines:
        answered = dict.fromkeys(name for line in record.answers(seed) for name in line["arms"])
        arms = ", ".join(answered) or say("none yet")
        words = later(
            "This record has no prompts with stored answers of both {first} and {second}. Arms with stored "
            "answers: {arms}."
        )
        raise DataError(say(words, first=between[0], second=between[1], arms=arms))
    return lines


def judged_so_far(
    record: Record, between: tuple[str, str], judge: Judge, *, seed: int | None = None, most: int | None = None
) -> JudgeProgress:
    """Return the verdicts of a judge that are stored in a record.

    Args:
        record: Record with the stored answers and verdicts.
        between: The two arms.
        judge: The judge; its key is not needed.
        seed: The seed; None for all.
        most: Largest number of prompts; None for all.

    Returns:
        The verdicts so far.

    Raises:
        DataError: If the record has no answers of both arms.
        InvalidSetting: If the arms are the same.
    """
    lines = _answers_of(record, between, seed)[:most]
    return _progress(lines, between, judge, stored_verdicts(record), 0)


def stored_verdicts(record: Record) -> dict[str, str]:
    """Return the stored verdicts by request key: an arm's name, `TIE`, or `UNREADABLE`."""
    try:
        block = read_file(record.folder / FILE, JUDGE_BYTES)
    except (OSError, ValueError):
        return {}
    found = (parsed(line) for line in block.splitlines())
    return {str(one["key"]): str(one["verdict"]) for one in found if one and {"key", "verdict"} <= set(one)}


def _texts(line: Line, between: tuple[str, str]) -> tuple[str, str]:
    return str(line["arms"][between[0]]["text"]), str(line["arms"][between[1]]["text"])


def _key(line: Line, between: tuple[str, str], judge: Judge, order: int) -> str:
    """Return the key of one request, a hash of the prompt, answers, arms, order and judge."""
    asked = [line["prompt"], _texts(line, between), between, order, judge.base_url.rstrip("/"), judge.model.strip()]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _ask(record: Record, line: Line, between: tuple[str, str], judge: Judge, order: int) -> str:
    path = record.folder / FILE
    if path.exists() and path.stat().st_size >= JUDGE_BYTES:
        raise DoesNotFit(say("This record has reached the maximum number of verdicts."))
    texts = _texts(line, between)
    letter, reply = judge.ask(str(line["prompt"]), texts[order], texts[1 - order])
    verdict = {"A": between[order], "B": between[1 - order], "TIE": TIE}.get(letter, UNREADABLE)
    entry = {
        "time": round(time.time(), 3),
        "key": _key(line, between, judge, order),
        "judge": {"base_url": judge.base_url, "model": judge.model},
        "between": list(between),
        "order": order,
        "prompt": line["prompt"],
        "answers": dict(zip(between, texts, strict=True)),
        "verdict": verdict,
        "reply": reply[:REPLY_CHARACTERS],
    }
    append(path, entry)
    return verdict


def _progress(
    lines: Sequence[Line], between: tuple[str, str], judge: Judge, known: Mapping[str, str], done: int
) -> JudgeProgress:
    rows = tuple(_row(line, between, judge, known) for line in lines)
    scored = ((row, row.score) for row in rows if row.score is not None)
    judged = [Judged(score, (len(row.answers[0]), len(row.answers[1])), row.agrees) for row, score in scored]
    unreadable = sum(row.verdicts.count(UNREADABLE) for row in rows)
    identical = sum(row.is_identical for row in rows)
    return JudgeProgress(done or len(judged), len(lines), unreadable, identical, win_rate(judged), between, rows)


def _row(line: Line, between: tuple[str, str], judge: Judge, known: Mapping[str, str]) -> JudgedPrompt:
    texts = _texts(line, between)
    given = tuple(TIE if texts[0] == texts[1] else known.get(_key(line, between, judge, order)) for order in ORDERS)
    points = [0.5 if verdict == TIE else float(verdict == between[0]) for verdict in given]
    score = sum(points) / len(points) if all(given) else None
    return JudgedPrompt(str(line["prompt"]), line.get("seed"), texts, given, score)


def judged_text(found: JudgeProgress) -> str:
    """Describe the verdicts in a few sentences; a preference is only claimed if the interval excludes one half."""
    if found.rate is None:
        parts = [say("Fewer than two prompts have been judged in both orders, so there is no win rate yet.")]
    else:
        parts = [*_rate_sentences(found.rate, *map(arm_words, found.between))]
    if found.identical:
        parts.append(say("Prompts with identical answers, counted as ties: {count}.", count=found.identical))
    if found.unreadable:
        words = later("Replies without a verdict: {count}. The next run requests them again.")
        parts.append(say(words, count=found.unreadable))
    return " ".join(parts)


def _rate_sentences(rate: WinRate, first: str, second: str) -> Iterator[str]:
    """Yield the sentences about the win rate of the arm labelled `first` against `second`."""
    words = later(
        "{first} won {raw} of {prompts} prompts against {second} (95% interval {low} to {high}; ties count as half)."
    )
    yield say(words, first=first, second=second, prompts=rate.prompts, **_percentages(rate.raw, "raw"))
    if rate.controlled is None:
        yield say("The difference in length is the same for every prompt, so it cannot be controlled for.")
    else:
        words = later(
            "Controlled for length: {share} ({low} to {high}); {first} wrote the longer answer to {longer} of the "
            "prompts."
        )
        yield say(words, first=first, longer=f"{rate.longer:.0%}", **_percentages(rate.controlled, "share"))
    words = later("The judge gave the same verdict in both orders on {share} of the prompts.")
    yield say(words, share=f"{rate.agreement:.0%}")
    share = rate.controlled or rate.raw
    if share.low > 0.5 or share.high < 0.5:
        yield say("This judge preferred {name} on these prompts.", name=first if share.low > 0.5 else second)
    else:
        yield say("The interval contains 50%, so there is no clear preference.")


def _percentages(share: Interval, name: str) -> dict[str, str]:
    values = {name: share.estimate, "low": share.low, "high": share.high}
    return {key: f"{value:.0%}" for key, value in values.items()}


COLUMNS = (
    "prompt", "seed", "first_arm", "second_arm", "first_answer", "second_answer", "verdict_first_shown_first",
    "verdict_second_shown_first", "score_of_first", "orders_agree", "identical",
)  # fmt: skip


def _as_json(found: JudgeProgress, judge: Judge) -> str:
    """Return the judge, the win rates with their intervals, the ties, and every prompt with both verdicts."""
    judged = [row for row in found.rows if row.score is not None]
    values = {
        "judge": {"base_url": judge.base_url, "model": judge.model, "instructions": INSTRUCTIONS},
        "arms": list(found.between),
        "prompts": found.prompts,
        "judged": len(judged),
        "ties": sum(set(row.verdicts) == {TIE} for row in judged),
        "orders_disagree": sum(not row.agrees for row in judged),
        "identical": found.identical,
        "unreadable": found.unreadable,
        "win_rate_of_first": None if found.rate is None else _rate_values(found.rate),
        "rows": [dict(zip(COLUMNS, _table_row(row, found.between), strict=True)) for row in found.rows],
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _rate_values(rate: WinRate) -> dict[str, Any]:
    return {
        "prompts": rate.prompts,
        "raw": asdict(rate.raw),
        "controlled_for_length": None if rate.controlled is None else asdict(rate.controlled),
        "agreement_of_orders": rate.agreement,
        "first_is_longer": rate.longer,
    }


def _as_csv(found: JudgeProgress, judge: Judge) -> str:
    """Return one line per prompt, with the judge, the answers of both arms and the verdict in each order."""
    rows = ([judge.model, *_table_row(row, found.between)] for row in found.rows)
    return csv_text([["judge", *COLUMNS], *rows])


def _table_row(row: JudgedPrompt, between: tuple[str, str]) -> list[Any]:
    return [row.prompt, row.seed, *between, *row.answers, *row.verdicts, row.score, row.agrees, row.is_identical]


WRITERS: dict[str, Callable[[JudgeProgress, Judge], str]] = {"json": _as_json, "csv": _as_csv}


def verdicts_text(found: JudgeProgress, judge: Judge, kind: str) -> str:
    """Return the verdicts as JSON or CSV.

    Args:
        found: The verdicts.
        judge: The judge that gave them.
        kind: One of `WRITERS`.

    Returns:
        The text.

    Raises:
        DataError: If this judge has given no verdict on these arms yet.
    """
    sent = [row for row in found.rows if not row.is_identical]
    if sent and all(row.verdicts[0] is None for row in sent):
        raise DataError(say("This judge has not judged these two arms yet: press “Judge the answers” first."))
    return WRITERS[kind](found, judge)
