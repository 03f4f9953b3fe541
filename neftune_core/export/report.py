"""A study as one HTML file: figures that can be zoomed, answers, settings; it asks no network and prints well.

Every text of the record is escaped here, and the numbers of the figures cannot end the script that they stand in.
"""

from __future__ import annotations

import html
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from neftune_core import __version__
from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.colours import arm_colours, css_variables
from neftune_core.figures.curves import loss_curves
from neftune_core.home import assets
from neftune_core.training.record import Record, write_whole

FIGURES: dict[str, Callable[[Record], Figure]] = {
    "Losses over the run": lambda record: loss_curves(record.events(), record.arms),
}
"""What is drawn, by the heading over it; a figure without a curve is left out."""

LOSSES = {"train_loss": "training rows", "held_out_loss": "held-out rows"}
ENDINGS = {"stop": ", ended by itself", "limit": ", cut at the limit"}


def report(record: Record) -> str:
    """The whole page as text; raises `RecordError` where nothing was measured yet."""
    events = record.events()
    if not any(event["event"] == "evaluated" for event in events):
        raise RecordError(f"The record {record.id} has no measured loss yet: there is nothing to report.")
    figures = [(heading, make(record)) for heading, make in FIGURES.items()]
    shown = [(heading, found) for heading, found in figures if found["data"]]
    parts = {
        "title": html.escape(_title(record)),
        "light": css_variables("light"),
        "dark": css_variables("dark"),
        "style": _own("style.css"),
        "about": _about(record, events),
        "losses": _losses(events, record),
        "figures": "".join(_figure(place, heading, found) for place, (heading, found) in enumerate(shown)),
        "answers": _answers(record),
        "settings": html.escape(_settings(record)),
        "machine": _machine(record),
        "data": _as_script([found for _, found in shown]),
        "script": _own("report.js"),
        "plotly": _plotly(),
    }
    return Template(_own("page.html")).substitute(parts)


def write_report(record: Record, path: Path) -> Path:
    """Write the report of `record` to `path`, whole or not at all."""
    write_whole(path, report(record))
    return path


def _own(name: str) -> str:
    return (assets() / "report" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The script that draws, from the installed package; it must not end the element that it stands in."""
    found = importlib.util.find_spec("plotly")
    assert found is not None and found.origin is not None, "plotly is a dependency"
    text = (Path(found.origin).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _as_script(value: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _title(record: Record) -> str:
    model, data = record.said_of("model").get("name"), record.said_of("data").get("title")
    try:
        if record.study.title:
            return record.study.title
    except RecordError:
        pass
    return f"{model or 'A model'} on {data or 'its data'}"


def _about(record: Record, events: Sequence[Mapping[str, Any]]) -> str:
    model, data = record.said_of("model"), record.said_of("data")
    last = max((event.get("step", 0) for event in events), default=0)
    created = record.about.get("created")
    facts = {
        "Model": model.get("name"),
        "Parameters": _count(model.get("parameters")),
        "Trained parameters an arm": _count(model.get("trained_parameters")),
        "Data": data.get("title"),
        "Rows to train on, held out": " and ".join(
            filter(None, [_count(data.get("train")), _count(data.get("held_out"))])
        ),
        "Arms": ", ".join(record.arms),
        "Seeds": ", ".join(str(seed) for seed in _seeds(events)),
        "Steps": _count(last),
        "Made": time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else "",
        "How it ended": (record.ending() or {}).get("event", "not yet"),
    }
    rows = "".join(
        f"<div><dt>{words}</dt><dd>{html.escape(str(value))}</dd></div>" for words, value in facts.items() if value
    )
    return f"<dl>{rows}</dl>"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _seeds(events: Iterable[Mapping[str, Any]]) -> list[Any]:
    return sorted(
        {event["seed"] for event in events if event["event"] == "evaluated" and event.get("seed") is not None}
    )


def _losses(events: Sequence[Mapping[str, Any]], record: Record) -> str:
    """The last and the lowest loss of every arm, as means over the seeds."""
    found: dict[tuple[str, str], dict[Any, list[float]]] = {}
    for event in events:
        if event["event"] == "evaluated":
            for arm, numbers in event["arms"].items():
                for kind in LOSSES:
                    if isinstance(numbers.get(kind), int | float):
                        found.setdefault((arm, kind), {}).setdefault(event.get("seed"), []).append(numbers[kind])
    colours = arm_colours(record.arms)
    head = "".join(
        f'<th scope="col">{words}, last</th><th scope="col">{words}, lowest</th>' for words in LOSSES.values()
    )
    body = ""
    for arm in dict.fromkeys(name for name, _ in found):
        cells = "".join(_cells(found.get((arm, kind), {})) for kind in LOSSES)
        colour = colours.get(arm, "var(--lab-quiet)")
        body += (
            f'<tr><th scope="row"><span class="dot" style="--arm: {colour}"></span>{html.escape(arm)}</th>{cells}</tr>'
        )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(by_seed: Mapping[Any, Sequence[float]]) -> str:
    if not by_seed:
        return "<td>–</td><td>–</td>"
    seeds = list(by_seed.values())
    last, lowest = (sum(each) / len(seeds) for each in ([v[-1] for v in seeds], [min(v) for v in seeds]))
    return f"<td>{last:.4f}</td><td>{lowest:.4f}</td>"


def _figure(place: int, heading: str, found: Figure) -> str:
    summary = html.escape(found["summary"])
    return (
        f'<figure><h3>{html.escape(heading)}</h3><div class="plot" data-figure="{place}" role="img" '
        f'aria-label="{summary}"></div><figcaption>{summary}</figcaption></figure>'
    )


def _answers(record: Record) -> str:
    answers, colours = record.answers(), arm_colours(record.arms)
    if not answers:
        return "<p>No answers were kept.</p>"
    return "".join(_answer(answer, colours) for answer in answers)


def _answer(answer: Mapping[str, Any], colours: Mapping[str, str]) -> str:
    columns = "".join(
        f'<article style="--arm: {colours.get(name, "var(--lab-quiet)")}"><h4>{html.escape(name)}</h4>'
        f"<p>{html.escape(said['text'].strip())}</p>"
        f"<footer>{said['tokens']:,} tokens{ENDINGS.get(said.get('ended', ''), '')}</footer></article>"
        for name, said in answer["arms"].items()
    )
    seed = f" <small>(seed {html.escape(str(answer['seed']))})</small>" if "seed" in answer else ""
    reference = answer.get("reference")
    known = f"<p class='quiet'>In the data: {html.escape(str(reference))}</p>" if reference else ""
    heading = f"<h3>{html.escape(answer['prompt'])}{seed}</h3>"
    return f'<section class="answer">{heading}{known}<div class="columns">{columns}</div></section>'


def _settings(record: Record) -> str:
    try:
        return (record.folder / "study.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "# The settings of this record are missing or cannot be read."


def _machine(record: Record) -> str:
    machine = record.said_of("machine")
    named = ("processor", "cores", "device", "system", "python", "torch", "transformers")
    said = ", ".join(f"{name} {machine[name]}" for name in named if machine.get(name))
    return html.escape(f"{said or 'An unknown machine'}. Reported by NEFTune Lab {__version__}.")
