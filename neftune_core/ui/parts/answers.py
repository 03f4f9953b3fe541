"""Columns of answers by the base model and the arms, as HTML; all text from models is escaped."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from neftune_core.evaluation.settings import CUT
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, plural, say
from neftune_core.models.settings import BUNDLED
from neftune_core.noise.names import BEST, arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.judging import may_be_marked
from neftune_core.studies.records.record import Record
from neftune_core.studies.trained.comparison_session import BASE, Ballot, ComparisonSession
from neftune_core.studies.trained.expected_answers import taught_by_set
from neftune_core.ui.parts.markup import quiet
from neftune_core.world.scoring import does_not_know, exact_match

ENDINGS = {"stop": later("ended by itself"), "limit": later("cut off at the length limit"), "": later("writing")}
NEUTRAL = "var(--lab-quiet)"
VOTE_NAMES = {"tie": later("tie"), "both bad": later("both bad")}
VOTES = {
    "a": later("A is better"),
    "b": later("B is better"),
    "tie": later("Tie"),
    "both bad": later("Both bad"),
}

STORED_ANSWERS = later(
    "Answers to held-out rows, stored at the end of the study; no arm was trained on these "
    "rows. Choose Typed to use your own prompts."
)
WRITE_PROMPTS = later("Write prompts and press Answer.")
NO_ANSWERS = later("This study stored no answers: press Answer to generate some.")

SAME_ANSWERS = later("All columns give the same answer: on this prompt, training makes no visible difference.")
OUTSIDE_VILLAGE = later(
    "The bundled model knows only its invented village; to anything else, it says that it does not know, before and "
    "after training."
)

Line = Mapping[str, Any]


def answer_columns(
    lines: Sequence[Line],
    arms: Mapping[str, NoiseSettings],
    *,
    against: str = "",
    ballots: Sequence[Ballot] = (),
    votable: bool = False,
    taught: str = "",
    bundled: bool = False,
) -> str:
    """Render one block per prompt, with a column for the expected answer (if known) and one column per arm.

    Args:
        lines: Lines of a record's answers. If a line has `exact`, its answers are marked as the expected one or not.
        arms: Noise settings of the arms by name.
        against: Column that the others are compared with, to mark differing words; "" for none.
        ballots: One ballot per line if the columns are anonymous; otherwise empty.
        votable: Whether visitors can vote on anonymous columns.
        taught: Sentence for prompts without an expected answer.
        bundled: Whether all answers are from the bundled model.

    Returns:
        HTML.
    """
    colours = arm_colours(arms)
    lines = [{**line, "remark": _remark(line, bundled=bundled)} for line in lines]
    lines = [line if line.get("reference") else {**line, "taught": taught} for line in lines]
    if ballots:
        shown = zip(lines, ballots, strict=True)
        return "".join(_blind(line, ballot, number, votable) for number, (line, ballot) in enumerate(shown))
    return "".join(_block(line, colours, against) for line in lines)


def session_html(session: ComparisonSession, against: str = "", *, over: bool = True) -> str:
    """Render the columns of every turn of a comparison.

    Args:
        session: The comparison.
        against: Column that the others are compared with; "" for none.
        over: Whether the answers are complete; otherwise visitors cannot vote.

    Returns:
        HTML.
    """
    shown = ""
    for number, turn in enumerate(session.turns, start=1):
        if session.earlier:
            shown += f'<h3 class="lab-turn">{say("Turn {number}", number=number)}</h3>'
        options: dict[str, Any] = {
            "ballots": turn.ballots,
            "votable": over and turn is session,
            "taught": turn.taught,
            "bundled": turn.bundled,
        }
        lines = [{**line, "exact": turn.exact} for line in turn.lines]
        shown += answer_columns(lines, turn.arms, against=against, **options)
    return shown


def stored_answers(record: Record, seed: int, *, typed: bool = False) -> str:
    """Render the answers that a study stored at the end of a seed.

    Args:
        record: Record of the study.
        seed: Seed of the arms that gave the answers.
        typed: Whether the visitor writes the prompts; then only an invitation to do so is shown.

    Returns:
        HTML.
    """
    taught = taught_by_set(record.about_table("data"))
    lines = answers_of(record, seed)
    kept = answer_columns(lines, record.arms, taught=taught, bundled=of_bundled_model(record))
    if typed and kept:
        return quiet(say(WRITE_PROMPTS))
    return quiet(say(STORED_ANSWERS)) + kept if kept else quiet(say(NO_ANSWERS))


def answers_of(record: Record, seed: int | None = None) -> list[dict[str, Any]]:
    """Return the stored answers of a study for `answer_columns`.

    Args:
        record: Record of the study.
        seed: Seed of the arms that gave the answers; None for all seeds.

    Returns:
        The lines, each with `exact`.
    """
    exact = may_be_marked(record)
    return [{**line, "exact": exact} for line in record.answers(seed)]


def of_bundled_model(record: Record) -> bool:
    """Return whether a study trained the bundled model."""
    return record.about_table("model").get("source") == BUNDLED


def as_pieces(shown: str) -> list[str]:
    """Split HTML at its tags, so that Gradio sends only the pieces that changed or grew."""
    return re.split(r"(?<=>)(?=.)|(?<=[^>])(?=<)", shown, flags=re.DOTALL)


def _block(line: Line, colours: Mapping[str, str], against: str) -> str:
    base = line["arms"].get(against, {}).get("text", "").strip()
    wanted = (line.get("reference") or "") if line.get("exact") else ""
    columns = "".join(
        _column(
            name,
            answer,
            _colour(name, colours),
            base if against in line["arms"] and name != against else None,
            _match(answer, wanted),
        )
        for name, answer in line["arms"].items()
    )
    kept = line.get("vote")
    vote = quiet(say("Your vote: {vote}", vote=say(VOTE_NAMES.get(kept) or kept))) if kept else ""
    return _section(line, columns, vote)


def _colour(name: str, colours: Mapping[str, str]) -> str:
    """Return the colour of an arm; `name` may have a record as prefix and a seed as suffix."""
    known = next((part for part in name.removesuffix(BEST).split("/") if part in colours), name)
    return colours.get(known, NEUTRAL)


def _blind(line: Line, ballot: Ballot, number: int, votable: bool) -> str:
    columns = "".join(
        _column(letter, line["arms"][name], NEUTRAL, None) for letter, name in zip("AB", ballot.pair, strict=True)
    )
    buttons = "".join(
        f'<button type="button" data-line="{number}" data-vote="{vote}" '
        f'aria-pressed="{str(vote == ballot.cast).lower()}">{say(words)}</button>'
        for vote, words in VOTES.items()
    )
    votes = f'<div class="lab-votes" role="group" aria-label="{say("Your vote")}">{buttons}</div>' if votable else ""
    return _section(line, columns, votes)


def _section(line: Line, columns: str, below: str = "") -> str:
    taught = quiet(line["taught"]) if line.get("taught") else ""
    cut = quiet(say(CUT)) if line.get("cut") else ""
    number = say("answer {number}", number=int(line["sample"])) if "sample" in line else ""
    sample = f' <span class="lab-quiet">{number}</span>' if number else ""
    columns = _expected(line.get("reference")) + columns
    return (
        f'<section class="lab-answers"><h3>{html.escape(line["prompt"])}{sample}</h3>{cut}{taught}'
        f'<div class="lab-columns" tabindex="0" role="group" aria-label="{say("Answers by arm")}">{columns}</div>'
        f"{quiet(line['remark']) if line.get('remark') else ''}{below}</section>"
    )


def _remark(line: Line, *, bundled: bool) -> str:
    """Return a remark on answers that are the same, or that say that the bundled model does not know; otherwise ""."""
    answers = line["arms"]
    if len(answers) < 2 or not all(answer.get("ended") for answer in answers.values()):
        return ""
    if bundled and not line.get("reference") and does_not_know(answers.get(BASE, {}).get("text", "")):
        return say(OUTSIDE_VILLAGE)
    return say(SAME_ANSWERS) if len({answer["text"].strip() for answer in answers.values()}) == 1 else ""


def _expected(reference: str | None) -> str:
    """Return the column of the expected answer as HTML; "" if there is none."""
    if not reference:
        return ""
    head, source = html.escape(say("expected answer")), html.escape(say("from the data"))
    return (
        f'<article class="lab-expected"><h4>{head}</h4><p>{html.escape(reference.strip())}</p>'
        f"<footer>{source}</footer></article>"
    )


def _match(answer: Mapping[str, Any], wanted: str) -> str:
    """Return the mark of a complete answer as HTML: whether it is the expected one, as the measure "right" compares."""
    if not wanted.strip() or answer.get("ended") != "stop":
        return ""
    is_same = exact_match(answer["text"], wanted)
    sign, words = ("✓", later("as expected")) if is_same else ("✗", later("not as expected"))
    value = "yes" if is_same else "no"
    return f'<p class="lab-match" data-match="{value}"><span aria-hidden="true">{sign}</span> {say(words)}</p>'


def _column(name: str, answer: Mapping[str, Any], colour: str, base: str | None, match: str = "") -> str:
    text = answer["text"].strip()
    shown = html.escape(text) if base is None else _differing(text, base)
    return (
        f'<article style="--arm: {colour}"><h4>{html.escape(arm_words(name))}</h4><p>{shown}</p>{match}'
        f"<footer>{say(', ').join(_numbers(answer))}</footer></article>"
    )


def _differing(text: str, base: str) -> str:
    """Return a text as HTML, with the words marked that differ from another text."""
    words, others = re.findall(r"\S+|\s+", text), re.findall(r"\S+|\s+", base)
    parts = []
    for kind, start, stop, _, _ in difflib.SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        piece = html.escape("".join(words[start:stop]))
        parts.append(piece if kind == "equal" or not piece.strip() else f'<mark class="lab-differs">{piece}</mark>')
    return "".join(parts)


def _numbers(answer: Mapping[str, Any]) -> list[str]:
    """Return the known measures of an answer, each as a short text."""
    count = answer["tokens"]
    numbers = [
        say(plural(count, "1 token", "{count:,} tokens"), count=count),
        say(ENDINGS.get(answer.get("ended", ""), "")),
    ]
    if answer.get("repetition") is not None:
        numbers.append(say("{share:.0%} repeated", share=answer["repetition"]))
    if answer.get("rouge_l") is not None:
        numbers.append(f"ROUGE-L {answer['rouge_l']:.2f}")
    return numbers
