"""The results of a record as HTML: tables of measures with collapsed definitions, and the details of the verdict."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neftune_core.errors import LabError, RecordError
from neftune_core.evaluation.measures import FIRST, MEASURES
from neftune_core.evaluation.outcomes import Question
from neftune_core.evaluation.verdict import Verdict
from neftune_core.export.report_parts import verdict_details
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, say, translate_finished
from neftune_core.noise.names import arm_words
from neftune_core.sentences import sentence
from neftune_core.studies.records.numbers import metrics, table
from neftune_core.studies.records.record import Record
from neftune_core.studies.results import MeanResults, mean_results, measured_rows, rows_text
from neftune_core.studies.steering.best_arms import plain_name
from neftune_core.sweeps.table import judge
from neftune_core.ui.parts.markup import quiet

SAMPLED = {
    "train_loss": later("training loss"),
    "held_out_loss": later("held-out loss"),
    "robustness": later("robustness"),
    "answers": later("answers"),
}


@dataclass(frozen=True)
class Evidence:
    """What the page shows of a record's results below the headline, as HTML.

    Attributes:
        card: The measures that matter most, or why there is no verdict; "" before anything has been measured.
        details: The other sentences of the verdict, the other measures and what was measured; "" if there are none.
    """

    card: str = ""
    details: str = ""


def evidence_of(record: Record) -> Evidence:
    """Return the results of a record for the page, without the sentences that `study_text.end_text` shows."""
    try:
        found = judge(record)
        if found.is_empty:
            return Evidence()
        if record.is_sweep:
            return Evidence(details=_section(verdict_details(found)))
        return _evidence(record, found, mean_results(record))
    except LabError as error:
        about = _samples(record) + _saved_best(record)
        return Evidence(quiet(say("There is no verdict: {reason}", reason=error)), _section(about) if about else "")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # the numbers were not written by the lab
        unread = say("There is no verdict: the numbers of this record cannot be read.")
        return Evidence(quiet(f"{unread} {sentence(error)}"))


def verdict_card(record: Record) -> str:
    """Return the results of a record as HTML, with the details collapsed; "" before anything has been measured."""
    found = evidence_of(record)
    if not found.details:
        return found.card
    return f'{found.card}<details class="lab-more"><summary>{say("Details")}</summary>{found.details}</details>'


def _section(content: str) -> str:
    return f'<section class="lab-evidence">{content}</section>'


def _evidence(record: Record, found: Verdict, numbers: MeanResults) -> Evidence:
    question, means = found.question, numbers.last
    known = [measure for measure in MEASURES if any(measure in of for of in means.values())]
    first = [measure for measure in dict.fromkeys((question.measure, *FIRST)) if measure in known]
    first = [each for each in first if each == question.measure or any(of.get(each) for of in means.values())]
    rest = {measure: MEASURES[measure].group for measure in known if measure not in first}
    only = say("Only the measure in bold is tested. Press a name for its definition.")
    about = quiet(" ".join([only, *numbers.lost_notes]))
    only_seed = say(", seed {seed}", seed=numbers.seeds[0]) if len(numbers.seeds) == 1 else ""
    heading = f"<h3>{say('Results after the last epoch')}{only_seed or numbers.of_seeds}</h3>"
    rows = measured_rows(record)
    card = _section(heading + _table(record, means, question, {"": first}, rows) + about)
    groups = {group: [measure for measure, own in rest.items() if own == group] for group in rest.values()}
    details = verdict_details(found, numbers.rounding_notes)
    if rest:
        heading = f"<h3>{say('Other measures after the last epoch')}</h3>"
        details += heading + _table(record, means, question, groups, rows)
    return Evidence(card, _section(details + _samples(record) + _saved_best(record)))


def _table(
    record: Record,
    means: Mapping[str, Mapping[str, float]],
    question: Question,
    groups: Mapping[str, Sequence[str]],
    counts: Mapping[str, int],
) -> str:
    """Return an HTML table of measures by group, with a column for the base and each arm; group "" has no heading."""
    names = [name for name in ("base", *record.arms) if means.get(name)]
    colours = arm_colours(record.arms)
    heads = "".join(
        f'<th scope="col" style="--arm: {colours[name]}">{html.escape(arm_words(name))}</th>' for name in names
    )
    body = ""
    for group, measures in groups.items():
        heading = f'<th scope="rowgroup" colspan="{len(names) + 1}">{html.escape(say(group))}</th>' if group else ""
        heading = heading and f'<tr class="lab-measures-group">{heading}</tr>'
        rows = "".join(_row(measure, names, means, question, counts.get(measure, 0)) for measure in measures)
        body += f"<tbody>{heading}{rows}</tbody>"
    return (
        f'<div class="lab-measures"><div class="lab-measures-scroll" tabindex="0" role="region" '
        f'aria-label="{say("Measures")}"><table><thead><tr><th></th>{heads}</tr></thead>{body}</table></div></div>'
    )


def _row(
    measure: str, names: list[str], means: Mapping[str, Mapping[str, float]], question: Question, count: int
) -> str:
    definition = MEASURES[measure]
    cells = "".join(f"<td>{_number(means[name].get(measure))}</td>" for name in names)
    asked = ' class="lab-measures-asked"' if measure == question.measure else ""
    label, words = html.escape(say(definition.label)), html.escape(say(definition.words))
    measured = f" <small>{rows_text(count)}</small>" if count else ""
    details = f"<details><summary>{label}{measured}</summary><p>{words}</p></details>"
    return f'<tr{asked}><th scope="row">{details}</th>{cells}</tr>'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _samples(record: Record) -> str:
    """List the rows and prompts that were measured, and the signatures of text measures, as HTML; "" if unknown."""
    kept = next(iter(metrics(record).values()), {})
    samples = {**record.about_table("samples"), **table(kept.get("samples"))}
    entries = [
        say(": ").join((say(SAMPLED.get(name, name)), translate_finished(words)))
        for name, words in samples.items()
        if isinstance(words, str)
    ]
    entries += [
        say("{measure}, settings of sacrebleu: {settings}", measure=say(MEASURES[name].label), settings=words)
        for name, words in table(kept.get("signatures")).items()
        if isinstance(words, str) and name in MEASURES
    ]
    listed = "".join(f"<li>{html.escape(words)}</li>" for words in entries)
    return f"<h3>{say('Measured on')}</h3><ul>{listed}</ul>" if listed else ""


def _saved_best(record: Record) -> str:
    """List the arms with saved weights from their best evaluation, as HTML; "" if there are none."""
    from neftune_core.studies.comparison import saved_best, saved_seeds

    try:
        steps = {seed: saved_best(record, seed) for seed in saved_seeds(record)}
    except RecordError:
        return ""
    found = [
        say("{arm} at step {step:,}", arm=arm_words(plain_name(arm)), step=step)
        + (say(" (seed {seed})", seed=seed) if len(steps) > 1 else "")
        for seed, own in steps.items()
        for arm, step in own.items()
    ]
    if not found:
        return ""
    words = say(
        "For these arms, the weights from the best evaluation (lowest held-out loss) are saved in addition to the "
        "final weights: {arms}. You can choose either set of weights on the Compare tab and under Export.",
        arms=say(", ").join(found),
    )
    return quiet(words)
