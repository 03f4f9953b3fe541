"""Which models: the families that were checked one by one, as `neftune bench families` found them."""

from __future__ import annotations

import html
import json
from typing import Any

from neftune_core.home import assets

WORDS = {True: "yes", False: "no", None: "–"}
# What the page shows of the checks; the rest is summed up in one column.
SHOWN = ("noise reaches the loss", "answers equal generate")
HOOK = "the common trainer hook has an effect"


def families_html() -> str:
    """A table of families, one click away: what holds with the lab's noise, and what the common trainer hook does."""
    found = json.loads((assets() / "docs" / "families.json").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    rows = "".join(_row(family, found["ours"]) for family in found["families"].values())
    heads = ("family", *SHOWN, "checks that hold", HOOK)
    return (
        '<details class="lab-more lab-families"><summary>Which models?</summary>'
        "<p>Causal language models, encoder-decoders, and encoders used as decoders. Each family was tried with a "
        "small random model of its real architecture. A model on which noise would have no effect is refused when it "
        "is loaded.</p>"
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>Measured with {html.escape(versions)}: <code>neftune bench families</code> has every check.</p></details>"
    )


def _row(family: dict[str, Any], ours: list[str]) -> str:
    checks = family["checks"]
    applying = [checks[name] for name in ours if checks[name] is not None]
    note = "" if family["pretrained_for_this"] else " (not pre-trained for this)"
    cells = [
        html.escape(family["words"]) + note,
        *(WORDS[checks[name]] for name in SHOWN),
        f"{sum(applying)} of {len(applying)}",
        WORDS[checks[HOOK]],
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
