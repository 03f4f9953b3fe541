"""Components shared by the reports of studies and sweeps: the fields of a report, and HTML of verdicts and tables.

All text from a record is escaped here.
"""

from __future__ import annotations

import html
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neftune_core.data.report import RenderedRow, report_of, row_ranges, summary
from neftune_core.errors import LabError
from neftune_core.evaluation.verdict import CLAIMS, ArmVerdict, Verdict
from neftune_core.evaluation.verdict_words import Line
from neftune_core.figures import Figure
from neftune_core.figures.colours import arm_colours
from neftune_core.language import later, say, translate_finished
from neftune_core.noise.names import arm_words
from neftune_core.noise.settings import NoiseSettings
from neftune_core.studies.records.record import Record
from neftune_core.studies.records.schema import settings_text

OF_MACHINE = {
    "processor": later("processor"),
    "cores": later("cores"),
    "device": later("device"),
    "system": later("system"),
    "python": "python",
    "torch": "torch",
    "transformers": "transformers",
}
STATES = {"finished": later("finished"), "stopped": later("stopped"), "failed": later("failed"), "": later("not yet")}

MOST_OPEN_ARMS = 6
"""A collapsed verdict with more arms than this has them in one collapsible section."""


@dataclass(frozen=True)
class Content:
    """The content of a report, before it is laid out as a page.

    Attributes:
        kind: Line above the title, such as "A NEFTune Lab study".
        intro: HTML of the introduction.
        facts: Values of the facts at the top, by label.
        sections: Heading and HTML of each section, in order.
        figures: Heading and figure of each interactive figure, in order.
        settings: Text of the settings file.
        settings_file: Name of the settings file.
        command: The shell command that runs the settings file.
        machine: The machine and the package versions.
    """

    kind: str
    title: str
    intro: str
    facts: Mapping[str, str]
    sections: Sequence[tuple[str, str]]
    figures: Sequence[tuple[str, Figure]]
    settings: str
    settings_file: str
    command: str
    machine: str


def verdict_html(found: Verdict, *, unfolded: bool = True, with_summary: bool = True) -> str:
    """Return a verdict as HTML, for reports and the page.

    Args:
        found: The verdict.
        unfolded: Whether the section with the numbers of each arm is initially open. If not, and there are more than
            `MOST_OPEN_ARMS` arms, as in a sweep, all arms are in one collapsed section.
        with_summary: Whether to include the sentences of `Verdict.summary`.

    Returns:
        HTML.
    """
    left_out = set() if with_summary else {line.text() for line in found.summary}
    headline, asked = found.opening
    warning_class = "lab-judged-headline lab-judged-warning"
    head = [
        *((line, warning_class) for line in found.warnings),
        (headline, "lab-judged-headline"),
        *((line, "") for line in found.disagreements),
        (asked, "lab-quiet"),
    ]
    opening = "".join(
        f'<p class="{kind}">{_escape(line)}</p>' if kind else f"<p>{_escape(line)}</p>"
        for line, kind in head
        if line.text() not in left_out
    )
    arms = [_arm_html(_without(arm, left_out), unfolded=unfolded) for arm in found.arms.values()]
    return _judged_html(found, opening, arms, map(_escape, found.closing), collapsed=not unfolded)


def verdict_details(found: Verdict, others: Iterable[str] = ()) -> str:
    """Return the sentences of a verdict that its summary leaves out, as HTML.

    Args:
        found: The verdict.
        others: More sentences for the end; those that the verdict already has are left out.

    Returns:
        HTML.
    """
    said = {line.text() for line in found.summary}
    arms = [_arm_html(_without(arm, said), folded=False) for arm in found.arms.values()]
    opening = "".join(f"<p>{_escape(line)}</p>" for line in found.opening if line.text() not in said)
    closing = dict.fromkeys([*(line.text() for line in found.closing), *others])
    return _judged_html(found, opening, arms, map(html.escape, closing), collapsed=True)


def _judged_html(found: Verdict, opening: str, arms: Sequence[str], closing: Iterable[str], *, collapsed: bool) -> str:
    """Combine the HTML of a verdict; if `collapsed`, more than `MOST_OPEN_ARMS` arms are in one collapsed section."""
    shown = "".join(arms)
    if collapsed and len(arms) > MOST_OPEN_ARMS:
        shown = f"<details><summary>{html.escape(say('Arm by arm'))}</summary>{shown}</details>"
    claims = sum(arm.status in CLAIMS for arm in found.arms.values())
    return (
        f'<div class="lab-judged" data-claims="{claims}">{opening}{shown}'
        f'<div class="lab-judged-closing">{html_list(closing)}</div></div>'
    )


def _without(arm: ArmVerdict, left_out: Container[str]) -> ArmVerdict:
    return replace(arm, lines=tuple(line for line in arm.lines if line.text() not in left_out))


def _escape(line: Line) -> str:
    return html.escape(line.text())


def _arm_html(arm: ArmVerdict, *, unfolded: bool = True, folded: bool = True) -> str:
    """Return the sentences about one arm as HTML.

    If `folded`, all but the first are in a collapsible section, which is initially open if `unfolded`.
    """
    first, *rest = map(_escape, arm.lines)
    behind = html_list(rest)
    if rest and folded:
        summary_of = f"<summary>{html.escape(say('The numbers behind it'))}</summary>"
        behind = f"<details{' open' * unfolded}>{summary_of}{behind}</details>"
    return f'<div class="lab-judged-arm" data-status="{arm.status}"><p>{first}</p>{behind}</div>'


def html_list(items: Iterable[str]) -> str:
    """Return escaped items as an HTML list; "" if there are none."""
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{rows}</ul>" if rows else ""


def table_html(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table in a box that scrolls horizontally.

    Args:
        heads: Column headers, escaped.
        rows: Cells of each row, escaped; the first cell is the row header.

    Returns:
        HTML.
    """
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return f'<div class="wide"><table><thead><tr><th></th>{columns}</tr></thead><tbody>{body}</tbody></table></div>'


def data_html(about: Mapping[str, Any]) -> str:
    """Return an HTML report on the data of a record: how it was read, what happened to its rows, and the first rows."""
    found = report_of(about)
    refused = [(translate_finished(one.reason), f"{one.count:,}", row_ranges(one.rows)) for one in found.refused]
    cut = [(say("row {row:,}", row=one.row), f"{one.tokens_removed:,}") for one in found.cut]
    duplicates = [(say("row {row:,}", row=one.row), f"{one.same_as:,}") for one in found.duplicates]
    tables: list[tuple[str, list[str], Sequence[Sequence[str]]]] = [
        (say("Refused"), [say("Rows"), say("Which")], refused),
        (say("Cut to length"), [say("Tokens removed")], cut),
        (say("Duplicates left out"), [say("The same as row")], duplicates),
    ]
    shown = "".join(_folding_table(heading, heads, rows) for heading, heads, rows in tables if rows)
    return html_list(map(html.escape, summary(about))) + shown + "".join(map(_render_row, found.rows))


def _folding_table(heading: str, heads: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    table = table_html(map(html.escape, heads), ([html.escape(cell) for cell in row] for row in rows))
    return f"<details><summary>{html.escape(heading)}</summary>{table}</details>"


def _render_row(row: RenderedRow) -> str:
    """Return a row as the model reads it, with its trained tokens marked, as HTML."""
    tags = {True: "mark", False: "span"}
    text = "".join("<{0}>{1}</{0}>".format(tags[span.trained], html.escape(span.text)) for span in row.spans)
    heading = say("Row {row:,} as the model reads it, with the trained tokens marked", row=row.row)
    return f"<h3>{html.escape(heading)}</h3><pre>{text}</pre>"


def arm_heads(arms: Mapping[str, NoiseSettings]) -> dict[str, str]:
    """Return the label of each arm with a dot in its colour, as HTML."""
    colours = arm_colours(arms)
    dot = '<span class="dot" style="--arm: {}"></span>'
    return {arm: dot.format(colours.get(arm, "var(--lab-quiet)")) + html.escape(arm_words(arm)) for arm in arms}


def count(value: Any) -> str:
    """Format an integer with thousands separators; "" for anything else."""
    return f"{value:,}" if isinstance(value, int) else ""


def creation_time(record: Record) -> str:
    """Return the time at which a record was created, in local time; "" if unknown."""
    created = record.about.get("created")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else ""


def machine_text(record: Record) -> str:
    """Describe the machine and the package versions of a record."""
    machine = record.about_table("machine")
    facts = (f"{say(words)} {machine[name]}" for name, words in OF_MACHINE.items() if machine.get(name))
    return ", ".join(facts) or say("An unknown machine")


def ending_label(record: Record) -> str:
    """Return the final state of a record in the current language, such as "finished"; "not yet" if it has not ended."""
    state = str((record.ending() or {}).get("event", ""))
    return say(STATES.get(state, state))


def settings_of(record: Record, name: str) -> str:
    """Return the text of a settings file of a record.

    Args:
        record: Record of a study or a sweep.
        name: Name of the file.

    Returns:
        The text; a TOML comment if the file cannot be read.
    """
    try:
        return settings_text(record.folder / name)
    except (OSError, UnicodeDecodeError, LabError):
        return say("# The settings of this record are missing or cannot be read.")
