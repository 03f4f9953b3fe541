"""A study or a sweep as one self-contained HTML file: verdict, interactive figures, numbers and settings."""

from __future__ import annotations

import html
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from neftune_core.durable import write_whole
from neftune_core.export.report_parts import Content
from neftune_core.export.study_report import study_content
from neftune_core.export.sweep_report import sweep_content
from neftune_core.figures import Figure
from neftune_core.figures.colours import css_variables
from neftune_core.home import assets
from neftune_core.javascript import as_one
from neftune_core.language import TAGS, current, say
from neftune_core.studies.records.record import Record
from neftune_core.version import __version__


def report(record: Record) -> str:
    """Return the report of a record as an HTML page, in the current language.

    Raises:
        RecordError: If nothing has been measured yet.
    """
    return _page(sweep_content(record) if record.is_sweep else study_content(record))


def write_report(record: Record, path: Path) -> Path:
    """Write the report of a record atomically.

    Args:
        record: The study or sweep.
        path: The HTML file to write.

    Returns:
        `path`.

    Raises:
        RecordError: If nothing has been measured yet.
    """
    write_whole(path, report(record))
    return path


def _page(content: Content) -> str:
    drawn = [(heading, found) for heading, found in content.figures if found["data"]]
    figures = "".join(_figure(index, heading, found) for index, (heading, found) in enumerate(drawn))
    (first, *others) = content.sections  # the figures follow the first section, the verdict
    parts = {
        "language": TAGS[current()],
        "kind": html.escape(content.kind),
        "title": html.escape(content.title),
        "intro": content.intro,
        "facts": _facts(content.facts),
        "first": _section(*first),
        "figures": figures,
        "others": "".join(_section(*section) for section in others),
        "settings": html.escape(content.settings),
        "settings_file": content.settings_file,
        "settings_heading": html.escape(say("Settings")),
        "again": _instructions(content),
        "machine": html.escape(
            say("{machine}. Report by NEFTune Lab {version}.", machine=content.machine, version=__version__)
        ),
        "light": css_variables("light"),
        "dark": css_variables("dark"),
        "style": _asset_text("style.css"),
        "data": _json_for_script([found for _, found in drawn]),
        "script": as_one("report/report.js"),
        "plotly": _plotly(),
    }
    return Template(_asset_text("page.html")).substitute(parts)


def _instructions(content: Content) -> str:
    words = html.escape(say("To train it again, save this as {file} and run: {command}"))
    return words.format(file=content.settings_file, command=f"<code>{html.escape(content.command)}</code>")


def _section(heading: str, content: str) -> str:
    return f"<h2>{html.escape(heading)}</h2>{content}"


def _facts(facts: Mapping[str, str]) -> str:
    known = ((words, html.escape(value)) for words, value in facts.items() if value)
    return "<dl>" + "".join(f"<div><dt>{words}</dt><dd>{value}</dd></div>" for words, value in known) + "</dl>"


def _figure(index: int, heading: str, found: Figure) -> str:
    summary = html.escape(found["summary"])
    return (
        f'<figure><h3>{html.escape(heading)}</h3><div class="plot" data-figure="{index}" role="img" '
        f'aria-label="{summary}"></div><figcaption>{summary}</figcaption></figure>'
    )


def _asset_text(name: str) -> str:
    return (assets() / "report" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """Return the Plotly script of the installed package, escaped so that it cannot close its script element."""
    found = importlib.util.find_spec("plotly")
    assert found is not None and found.origin is not None, "plotly is a dependency"
    text = (Path(found.origin).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _json_for_script(value: Any) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
