"""The model families that were tested individually, as reported by `python -m tests.stress families`."""

from __future__ import annotations

import html
import json
from typing import Any

from neftune_core.home import assets
from neftune_core.language import later, say

WORDS = {True: later("yes"), False: later("no"), None: "–"}
# What the page shows of the checks; the rest is summed up in one column.
SHOWN = (later("noise reaches the loss"), later("answers equal generate"))
HOOK = later("the common trainer hook has an effect")


def families_html() -> str:
    """Return a folded table of families: the test results with the lab's noise, and with the common trainers' hook."""
    found = json.loads((assets() / "docs" / "families.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    rows = "".join(_row(family, found["ours"]) for family in found["families"].values())
    heads = (later("family"), *SHOWN, later("checks passed"), HOOK)
    about = say(
        "Causal language models, encoder-decoders, and encoders used as decoders. Each family "
        "was tested with a small, randomly initialised model of its architecture. A model on "
        "which noise would have no effect is refused when it is loaded."
    )
    source = say(
        "Measured with {versions}; {command} runs every check.",
        versions=html.escape(versions),
        command="<code>python -m tests.stress families</code>",
    )
    row = "".join(f"<th>{say(head)}</th>" for head in heads)
    return (
        f'<details class="lab-more lab-families"><summary>{say("Supported models")}</summary><p>{about}</p>'
        f"<table><thead><tr>{row}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>{source}</p></details>"
    )


def _row(family: dict[str, Any], ours: list[str]) -> str:
    checks = family["checks"]
    applying = [checks[name] for name in ours if checks[name] is not None]
    note = "" if family["pretrained_for_this"] else say(" (not pre-trained for this)")
    cells = [
        html.escape(say(family["words"])) + note,
        *(say(WORDS[checks[name]]) for name in SHOWN),
        say("{some} of {count}", some=sum(applying), count=len(applying)),
        say(WORDS[checks[HOOK]]),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
