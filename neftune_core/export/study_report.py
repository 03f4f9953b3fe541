"""The content of a study's report."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neftune_core.data.formats.starters import data_title
from neftune_core.errors import RecordError
from neftune_core.evaluation.settings import CUT
from neftune_core.evaluation.verdict import Verdict
from neftune_core.export import report_parts
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.curves import loss_curves
from neftune_core.figures.evidence import seed_differences
from neftune_core.language import later, plural, say, translate_finished
from neftune_core.noise.names import arm_words
from neftune_core.studies.judging import verdict_of
from neftune_core.studies.records.record import Record
from neftune_core.studies.results import mean_results, measured_rows, rows_text

LOSSES = {
    "train_loss": (later("training rows, last"), later("training rows, lowest")),
    "held_out_loss": (later("held-out rows, last"), later("held-out rows, lowest")),
}
ENDINGS = {"stop": later("ended by itself"), "limit": later("cut off at the length limit")}
INTRO = later(
    "All arms started from the same weights and were trained on the same batches in the same "
    "order; they differ only in what their names describe. Losses are in nats per response "
    "token, measured with noise off."
)
ABOUT_LOSSES = later(
    "The lowest held-out loss is chosen on the rows that it is measured on, which is optimistic for every arm; the "
    "verdict chooses the best epoch on one half of these rows and measures it on the other half."
)


def study_content(record: Record) -> report_parts.Content:
    """Return the report of a study.

    Raises:
        RecordError: If nothing has been measured yet.
    """
    events = record.events()
    if not any(event["event"] == "evaluated" for event in events):
        words = later(
            "The record {record} has no measured loss yet, so there is nothing to report: train the study first."
        )
        raise RecordError(say(words, record=record.id))
    found = _verdict(record)
    figures = [(say("Losses over the run"), loss_curves(events, record.arms))]
    if found:
        figures.append((say("Differences seed by seed"), seed_differences(found, record.arms)))
    return report_parts.Content(
        kind=say("A NEFTune Lab study"),
        title=_title(record),
        intro=html.escape(say(INTRO)),
        facts=_facts(record, events),
        sections=[
            *([(say("The verdict"), report_parts.verdict_html(found))] if found else []),
            (say("Losses"), losses_html(record)),
            (say("The data"), report_parts.data_html(record.about_table("data"))),
            (say("Answers"), _answers(record)),
        ],
        figures=figures,
        settings=report_parts.settings_of(record, "study.toml"),
        settings_file="study.toml",
        command="neftune train study.toml",
        machine=report_parts.machine_text(record),
    )


def _verdict(record: Record) -> Verdict | None:
    """Return the verdict if the settings can be read and an arm can be compared; otherwise None."""
    try:
        found = verdict_of(record)
    except RecordError:
        return None
    return None if found.is_empty else found


def _title(record: Record) -> str:
    with contextlib.suppress(RecordError):  # the settings may be unreadable
        if record.study.title:
            return record.study.title
    model = say(record.about_table("model").get("name") or later("a model"))
    return say(
        "{title} on {data}", title=model, data=data_title(record.about_table("data").get("title")) or say("its data")
    )


def _facts(record: Record, events: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    model, data = record.about_table("model"), record.about_table("data")
    rows = [report_parts.count(data.get("train")), report_parts.count(data.get("held_out"))]
    return {
        say("Model"): say(str(model.get("name") or "")),
        say("About the model"): " ".join(
            translate_finished(str(text)) for text in (model.get("note"), *model.get("reach", ())) if text
        ),
        say("Parameters"): report_parts.count(model.get("parameters")),
        say("Trained parameters per arm"): report_parts.count(model.get("trained_parameters")),
        say("Data"): data_title(data.get("title")),
        say("Training and held-out rows"): say(" and ").join(filter(None, rows)),
        say("Arms"): say(", ").join(map(arm_words, record.arms)),
        say("Seeds used"): ", ".join(str(seed) for seed in _seeds(record, events)),
        say("Steps taken"): report_parts.count(max((event.get("step", 0) for event in events), default=0)),
        say("Created"): report_parts.creation_time(record),
        say("How it ended"): report_parts.ending_label(record),
    }


def _seeds(record: Record, events: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the seeds of the arms, without those of a repeated control used as a noise floor."""
    found = {event["seed"] for event in events if event["event"] == "evaluated" and event.get("seed") is not None}
    try:
        return sorted(found & set(range(record.study.seed, record.study.seed + record.study.seeds)))
    except RecordError:
        return sorted(found)


def losses_html(record: Record) -> str:
    """Return notes and a table of the final and lowest losses, as means over the seeds that all arms have, as HTML."""
    try:
        found = mean_results(record)
    except RecordError as error:
        return f"<p>{html.escape(str(error))}</p>"
    rows_of = measured_rows(record)
    heads = [
        html.escape(say(words)) + (f"<br><small>{rows_text(rows_of[kind])}</small>" if kind in rows_of else "")
        for kind, pair in LOSSES.items()
        for words in pair
    ]
    names = {"base": html.escape(arm_words("base"))} | report_parts.arm_heads(record.arms)
    rows = (
        [name, *(_cell(of.get(arm, {}).get(kind)) for kind in LOSSES for of in (found.last, found.lowest))]
        for arm, name in names.items()
    )
    about = " ".join((say(ABOUT_LOSSES), *found.notes))
    title = say("Nats per response token") + found.of_seeds
    return f"<p class='quiet'>{html.escape(say('. ').join((title, about)))}</p>" + report_parts.table_html(heads, rows)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _answers(record: Record) -> str:
    answers, colours = record.answers(), arm_colours(record.arms)
    if not answers:
        return f"<p>{html.escape(say('No answers were stored.'))}</p>"
    return "".join(_answer(answer, colours) for answer in answers)


def _answer(answer: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    columns = "".join(
        f'<article style="--arm: {colours.get(name, "var(--lab-quiet)")}"><h4>{html.escape(arm_words(name))}</h4>'
        f"<p>{html.escape(entry['text'].strip())}</p>"
        f"<footer>{html.escape(_ending(entry))}</footer></article>"
        for name, entry in answer["arms"].items()
    )
    seed = f" <small>({html.escape(say('seed {seed}', seed=answer['seed']))})</small>" if "seed" in answer else ""
    notes = [say(CUT)] if answer.get("cut") else []
    if reference := answer.get("reference"):
        notes.append(say("Reference answer: {answer}", answer=reference))
    shown = "".join(f"<p class='quiet'>{html.escape(note)}</p>" for note in notes)
    heading = f"<h3>{html.escape(answer['prompt'])}{seed}</h3>"
    return f'<section class="answer">{heading}{shown}<div class="columns">{columns}</div></section>'


def _ending(entry: Mapping[str, Any]) -> str:
    parts = [
        say(plural(entry["tokens"], "1 token", "{count:,} tokens"), count=entry["tokens"]),
        say(ENDINGS.get(entry.get("ended", ""), "")),
    ]
    return ", ".join(filter(None, parts))
