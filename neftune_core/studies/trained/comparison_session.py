"""A comparison of arms over several turns: its prompts, answers, anonymous columns and votes."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from neftune_core.data.chat import with_system
from neftune_core.errors import DataError, InvalidSetting, RecordError
from neftune_core.evaluation.settings import AnswerSettings, DecodingSettings
from neftune_core.evaluation.text_measures import with_measures
from neftune_core.language import later, say
from neftune_core.models.settings import BUNDLED
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, find, owned_records
from neftune_core.studies.steering.best_arms import plain_name
from neftune_core.studies.votes import BOTH_BAD, TIE, store_vote

if TYPE_CHECKING:
    from neftune_core.data.preparing import PreparedData
    from neftune_core.studies.comparison import SelectedArm
    from neftune_core.studies.prompts import Prompt

Line = dict[str, Any]
Answering = Callable[["Sequence[SelectedArm]", "Sequence[Prompt]", DecodingSettings], Iterator[list[Line]]]
"""Function that answers prompts with arms and yields the lines so far, like `studies.comparison.compare_arms`."""
BASE = "base"


@dataclass(frozen=True)
class Ballot:
    """The vote on one line with anonymous columns.

    Attributes:
        pair: The arms in the left and in the right column.
        cast: "a" (left), "b" (right), "tie" or "both bad"; "" if not cast yet.
    """

    pair: tuple[str, str]
    cast: str = ""


@dataclass(frozen=True)
class ComparisonSession:
    """One turn of a comparison, with the turns before it.

    Attributes:
        columns: Identifiers of the columns, from `column_id`.
        arms: Noise settings of the arms by name.
        ballots: One per line if the columns are anonymous, else empty.
        earlier: The earlier turns of the conversation, each without its own `earlier`.
        taught: Sentence shown with prompts that have no expected answer; "" for none.
        bundled: Whether all columns are the bundled model.
        exact: Whether each expected answer is the only correct one, so that answers can be marked.
    """

    columns: tuple[str, ...] = ()
    arms: Mapping[str, NoiseSettings] = field(default_factory=dict)
    prompts: tuple[Prompt, ...] = ()
    lines: tuple[Line, ...] = ()
    ballots: tuple[Ballot, ...] = ()
    id: str = ""
    earlier: tuple[ComparisonSession, ...] = ()
    taught: str = ""
    bundled: bool = False
    exact: bool = False

    @property
    def turns(self) -> tuple[ComparisonSession, ...]:
        """All turns of the conversation, this one last."""
        return (*self.earlier, self)

    def revealed(self) -> ComparisonSession:
        """Return the comparison with the names shown in every turn."""
        return replace(self, ballots=(), earlier=tuple(replace(turn, ballots=()) for turn in self.earlier))

    @property
    def is_hidden(self) -> bool:
        """Whether names are hidden, which they are until every line has a vote or the visitor reveals them."""
        return bool(self.ballots)


def column_id(chosen: SelectedArm) -> str:
    """Return the identifier of an arm of a record, as used by the page."""
    return f"{chosen.record.id}/{chosen.seed}/{chosen.arm}"


def offered_columns(
    record: Record, seed: int, every: Sequence[Record], when: Callable[[Record], str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return all columns that a comparison can have, and the initial columns, which are the arms of one seed.

    Args:
        record: The selected study.
        seed: Its selected seed.
        every: All studies of the visitor.
        when: Function that describes when a study was started.

    Returns:
        Label and identifier of every column, final weights first, and the identifiers of the initial columns.

    Raises:
        RecordError: If the record has no trained arm with this seed.
    """
    from neftune_core.studies.comparison import SelectedArm, saved_best, saved_seeds, selected_arms

    mine = selected_arms([record], seeds=[seed])
    records = [record, *(one for one in every if one.id != record.id)]
    runs = [(one, own) for one in records for own in saved_seeds(one)]
    labels = {arm: arm_words(arm.arm) for one, own in runs for arm in selected_arms([one], seeds=[own])}
    at_best = later("{arm}, at its best (step {step:,})")
    for one, own in runs:
        for name, step in saved_best(one, own).items():
            labels[SelectedArm(one, name, own)] = say(at_best, arm=arm_words(plain_name(name)), step=step)
    named = []
    for arm, label in labels.items():
        if arm.record != record or arm.seed != seed:
            label = say("{arm}, seed {seed}, {when}", arm=label, seed=arm.seed, when=when(arm.record))
        named.append((label, column_id(arm)))
    return named, [column_id(arm) for arm in mine]


def first_columns(every: Sequence[Record]) -> list[str]:
    """Return the identifiers of the initial columns, the arms of the first study; empty without studies.

    Raises:
        RecordError: If the first study has no trained arm.
    """
    from neftune_core.studies.comparison import saved_seeds, selected_arms

    return [column_id(one) for one in selected_arms(every[:1], seeds=saved_seeds(every[0])[:1])] if every else []


def selected_columns(ids: Sequence[Any], owner: str) -> list[SelectedArm]:
    """Return the arms with these identifiers.

    Args:
        ids: Identifiers from `column_id`.
        owner: The visitor's key.

    Returns:
        The arms.

    Raises:
        RecordError: If `ids` is empty, or an arm does not exist or belongs to another visitor.
    """
    from neftune_core.studies.comparison import SelectedArm, has_arm

    found = []
    for given in ids:
        record_id, _, rest = str(given).partition("/")
        seed, _, arm = rest.partition("/")
        record = find(record_id, owner)
        if not seed.isdigit() or len(seed) > 10 or not has_arm(record, arm, int(seed)):
            words = later("The record {record} has no trained arm {arm!r} of this seed: choose another.")
            raise RecordError(say(words, record=record_id, arm=arm[:60]))
        found.append(SelectedArm(record, arm, int(seed)))
    if not found:
        words = say("No arm is selected: choose arms under Columns, or press Train first if none has been trained yet.")
        raise RecordError(words)
    return found


def typed_prompts(text: str, system: str, limits: Limits) -> list[Prompt]:
    """Parse typed prompts, one per line.

    Args:
        text: The prompts.
        system: System message; "" for none.
        limits: Limits of the server.

    Returns:
        The prompts.

    Raises:
        DataError: If the text has no prompt.
        DoesNotFit: If a limit is exceeded.
    """
    from neftune_core.studies.prompts import Prompt, as_messages

    found = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not found:
        raise DataError(say("There is no prompt: write one per line."))
    AnswerSettings(prompts=tuple(found)).check(limits)
    return [Prompt(as_messages(line, system)) for line in found]


def held_out_prompts(prepared: PreparedData, count: int, system: str) -> list[Prompt]:
    """Return the first held-out rows of a study as prompts with references.

    Args:
        prepared: The rows of the study.
        count: Number of rows.
        system: System message; "" for none.

    Returns:
        The prompts.

    Raises:
        DataError: If the study has no held-out rows.
    """
    from neftune_core.studies.prompts import Prompt

    rows = prepared.held_out[: max(1, count)]
    if not rows:
        raise DataError(say("This study has no held-out rows: type the prompts instead."))
    return [Prompt(with_system(row.example.prompt, system), row.example.response) for row in rows]


def answer_prompts(
    answer: Answering,
    chosen: Sequence[SelectedArm],
    prompts: Sequence[Prompt],
    settings: DecodingSettings,
    pair: Sequence[str] = (),
    taught: str = "",
) -> Iterator[ComparisonSession]:
    """Answer prompts with arms.

    Args:
        answer: Function that generates the answers.
        chosen: The arms.
        prompts: Prompts to answer, each with one conversation for all arms or one per arm.
        settings: Decoding settings.
        pair: Names of the two columns to compare anonymously; empty for none.
        taught: Sentence shown with prompts that have no expected answer.

    Yields:
        The comparison so far.

    Raises:
        InvalidSetting: If `pair` does not name two different columns.
    """
    from neftune_core.studies.comparison import names_of
    from neftune_core.studies.judging import may_be_marked

    names = [BASE, *names_of(chosen)]
    arms = {name: one.record.arms[name] for one in chosen for name in [plain_name(one.arm)]}
    ids = tuple(column_id(one) for one in chosen)
    ballots = _shuffle(pair, names, len(prompts) * settings.answers_each) if pair else ()
    bundled = all(one.record.study.model.source == BUNDLED for one in chosen)
    name = secrets.token_hex(6)
    exact = all(may_be_marked(one.record) for one in chosen)
    session = ComparisonSession(
        ids, arms, tuple(prompts), (), ballots, name, taught=taught, bundled=bundled, exact=exact
    )
    for lines in answer(chosen, prompts, settings):
        yield replace(session, lines=tuple(with_measures(line) for line in lines))


def continued(session: ComparisonSession, growing: Iterator[ComparisonSession]) -> Iterator[ComparisonSession]:
    """Yield the next turn while it is answered, together with all earlier turns.

    Args:
        session: The conversation so far.
        growing: Its next turn, from `answer_prompts`.

    Yields:
        The conversation.
    """
    earlier = (*session.earlier, replace(session, earlier=()))
    for turn in growing:
        yield replace(turn, earlier=earlier)


def _shuffle(pair: Sequence[str], names: Sequence[str], count: int) -> tuple[Ballot, ...]:
    """Return one ballot per line, with the two columns in random order; `pair` must name two different columns."""
    if len(set(pair)) != 2 or any(name not in names for name in pair):
        raise InvalidSetting(say("Choose two different columns to judge from {choices}.", choices=", ".join(names)))
    shuffle = random.SystemRandom()
    return tuple(Ballot((first, second)) for first, second in (shuffle.sample(list(pair), 2) for _ in range(count)))


def next_turn(session: ComparisonSession, text: str) -> list[Prompt]:
    """Return the next prompt of every line, in which each column continues from its own answers.

    Args:
        session: The comparison.
        text: The next user message.

    Returns:
        The prompts.

    Raises:
        DataError: If there are no answers yet, or no message.
    """
    from neftune_core.studies.prompts import continued_with

    if not session.lines:
        raise DataError(say("There are no answers to continue yet: press Answer first."))
    if not (text or "").strip():
        raise DataError(say("The next message is empty: write what to say next."))
    each, found = len(session.lines) // len(session.prompts), []
    for index, line in enumerate(session.lines):
        answers = {name: answer["text"] for name, answer in line["arms"].items()}
        found.append(continued_with(session.prompts[index // each], answers, text.strip()))
    return found


def cast_vote(session: ComparisonSession, number: Any, vote: Any, owner: str) -> ComparisonSession:
    """Store a vote on one line in the record; the last vote reveals the names.

    Args:
        session: The comparison.
        number: Index of the line.
        vote: "a", "b", "tie" or "both bad".
        owner: The visitor's key.

    Returns:
        The comparison after the vote.

    Raises:
        InvalidSetting: If the line or the vote is not valid.
        DoesNotFit: If the record has reached the maximum number of votes.
        RecordError: If the record is missing.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(session.ballots):
        raise InvalidSetting(say("This vote does not belong to any line on the page: reload the page."))
    ballot, line = session.ballots[number], session.lines[number]
    choices = {"a": ballot.pair[0], "b": ballot.pair[1], "tie": TIE, "both bad": BOTH_BAD}
    if vote not in choices:
        raise InvalidSetting(say("A vote must be one of {choices}.", choices=", ".join(choices)))
    store_vote(record_of(session, owner), f"{session.id}-{number}", ballot.pair, choices[vote], line)
    ballots, lines = [*session.ballots], [*session.lines]
    ballots[number], lines[number] = replace(ballot, cast=vote), {**line, "vote": choices[vote]}
    session = replace(session, ballots=tuple(ballots), lines=tuple(lines))
    return session.revealed() if all(one.cast for one in ballots) else session


def record_of(session: ComparisonSession, owner: str) -> Record:
    """Return the record that stores the votes of a comparison, which is the record of its first column.

    Args:
        session: The comparison.
        owner: The visitor's key.

    Returns:
        The record.

    Raises:
        RecordError: If the record is missing, or belongs to another visitor.
    """
    return find(session.columns[0].partition("/")[0], owner)


def answerable(owner: str) -> list[Record]:
    """Return the visitor's records with trained arms, newest first."""
    from neftune_core.studies.comparison import saved_seeds

    found = []
    for record in owned_records(owner):
        with suppress(RecordError):  # a record whose settings cannot be read
            if saved_seeds(record):
                found.append(record)
    return found


def judged_pair(session: ComparisonSession) -> tuple[str, str]:
    """Return the two judged columns in the order of all columns.

    Raises:
        DataError: If there is nothing to vote on.
    """
    if not session.ballots:
        raise DataError(say("There is nothing to vote on: choose Blind, and press Answer."))
    first, second = (name for name in session.lines[0]["arms"] if name in session.ballots[0].pair)
    return first, second


def export_text(session: ComparisonSession, kind: str) -> str:
    """Return the answers as the text of a file.

    Args:
        session: The comparison.
        kind: "jsonl" or "csv".

    Returns:
        The text.

    Raises:
        DataError: If there are no answers, or the file would reveal hidden names.
    """
    from neftune_core.studies.prompts import WRITERS

    if not session.lines:
        raise DataError(say("There are no answers to save yet: press Answer first."))
    if session.is_hidden:
        raise DataError(say("The file would reveal the names: vote first, or press “Show the names”."))
    lines: Sequence[Line] = session.lines
    if session.earlier:
        lines = [{"turn": number, **line} for number, turn in enumerate(session.turns, 1) for line in turn.lines]
    return WRITERS[kind](lines)
