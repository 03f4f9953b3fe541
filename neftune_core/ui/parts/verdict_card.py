"""The verdict on a record as a card, with a table of all measures and their collapsed definitions."""

from __future__ import annotations

import html
from collections.abc import Mapping

from neftune_core.errors import LabError
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.outcomes import Question
from neftune_core.evaluation.verdict import Verdict
from neftune_core.export.report_parts import verdict_html
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, say, translate_finished
from neftune_core.noise.names import arm_label
from neftune_core.sentences import sentence
from neftune_core.studies.records.numbers import metrics, table
from neftune_core.studies.records.record import Record
from neftune_core.studies.results import MeanResults, mean_results
from neftune_core.sweeps.table import judge
from neftune_core.ui.parts.markup import quiet

SAMPLED = {
    "train_loss": later("training loss"),
    "held_out_loss": later("held-out loss"),
    "robustness": later("robustness"),
    "answers": later("answers"),
}


def verdict_card(record: Record) -> str:
    """Return the verdict and the measures of a record as HTML; "" before anything has been measured."""
    try:
        found = judge(record)
        if found.is_empty:
            return ""
        card = f"<h3>{html.escape(say('The verdict'))}</h3>{verdict_html(found, unfolded=False)}"
        measures = "" if record.is_sweep else _table(record, found, mean_results(record))
        return f'<section class="lab-evidence">{card}{measures}</section>'
    except LabError as error:
        return quiet(say("There is no verdict: {reason}", reason=error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # the numbers were not written by the lab
        unread = say("There is no verdict: the numbers of this record cannot be read.")
        return quiet(f"{unread} {sentence(error)}")


def _table(record: Record, found: Verdict, numbers: MeanResults) -> str:
    arms, means = record.arms, numbers.last
    names = [name for name in ("base", *arms) if means.get(name)]
    colours = arm_colours(arms)
    heads = "".join(
        f'<th scope="col" style="--arm: {colours[name]}">{html.escape(arm_label(name))}</th>' for name in names
    )
    groups = dict.fromkeys(definition.group for definition in MEASURES.values())
    body = "".join(_group(group, names, means, found.question) for group in groups)
    notes = " ".join(numbers.notes)
    return (
        f'<div class="lab-measures"><h3>{say("Every measure after the last epoch")}{numbers.of_seeds}</h3>'
        + quiet(
            say(
                "Only the measure chosen as the question is tested; all others are descriptive. Press a name for its "
                "definition."
            )
            + " "
            + notes
        )
        + f'<div class="lab-measures-scroll" tabindex="0" role="region" aria-label="{say("Measures")}"><table>'
        + f"<thead><tr><th></th>{heads}</tr></thead>{body}</table></div>{_samples(record)}</div>"
    )


def _group(group: str, names: list[str], means: Mapping[str, Mapping[str, float]], question: Question) -> str:
    rows = [
        _row(measure, names, means, question)
        for measure, definition in MEASURES.items()
        if definition.group == group and any(measure in means[name] for name in names)
    ]
    if not rows:
        return ""
    words = html.escape(say(group))
    head = f'<tr class="lab-measures-group"><th scope="rowgroup" colspan="{len(names) + 1}">{words}</th></tr>'
    return f"<tbody>{head}{''.join(rows)}</tbody>"


def _row(measure: str, names: list[str], means: Mapping[str, Mapping[str, float]], question: Question) -> str:
    definition = MEASURES[measure]
    cells = "".join(f"<td>{_number(means[name].get(measure))}</td>" for name in names)
    asked = ' class="lab-measures-asked"' if measure == question.measure else ""
    label, words = html.escape(say(definition.label)), html.escape(say(definition.words))
    details = f"<details><summary>{label}</summary><p>{words}</p></details>"
    return f'<tr{asked}><th scope="row">{details}</th>{cells}</tr>'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _samples(record: Record) -> str:
    """Describe the rows and prompts of the measurements, and the sacrebleu signature."""
    kept = next(iter(metrics(record).values()), {})
    samples = {**record.about_table("samples"), **table(kept.get("samples"))}
    entries = [
        say(": ").join((say(SAMPLED.get(name, name)), translate_finished(words)))
        for name, words in samples.items()
        if isinstance(words, str)
    ]
    entries += [
        say(": ").join((name, words)) for name, words in table(kept.get("signatures")).items() if isinstance(words, str)
    ]
    listed = "".join(f"<li>{html.escape(words)}</li>" for words in entries)
    return (
        f'<details class="lab-more"><summary>{say("Measured on")}</summary><ul>{listed}</ul></details>'
        if listed
        else ""
    )
