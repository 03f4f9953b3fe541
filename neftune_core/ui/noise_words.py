"""The words of the Noise tab: what the browser fills in, the help, and a note for each kind."""

from __future__ import annotations

from collections.abc import Sequence

from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import controls

CHIPS = '<ol class="lab-chips" aria-label="The sentence as tokens"></ol>'

WORDS = """<div class="lab-noise-words"><p class="lab-verdict" data-word="verdict" aria-live="polite"></p>
<p class="lab-warning" data-word="warning" role="status"></p>
<p class="lab-quiet" data-word="kind"></p>
<dl><div><dt>the median token turns by</dt><dd data-word="angle"></dd></div>
<div><dt>signal to noise</dt><dd data-word="snr"></dd></div></dl></div>"""

RULER = """<figure class="lab-ruler"><svg role="img" aria-label=""></svg>
<figcaption class="lab-quiet">One strength in every unit, for <span data-word="about"></span>.</figcaption></figure>"""

MORE_BUTTON = """<button type="button" class="lab-unfold" aria-expanded="false" aria-controls="noise-more">Where and
when: tokens, places, schedule</button>"""

# Where a kind is more than the shape of its distribution. No entry: nothing to explain.
_NOTES = {
    "symmetric": "Every batch is seen twice, with the noise added and taken away; shown is the half with plus.",
    "adversarial": (
        "Shown is its first draw, the uniform one: the ascent on the loss keeps its norm but has no closed form. "
        "The view Loss measures it."
    ),
    "token-dropout": "No noise but a control: whole tokens are set to zero; there is no standard deviation to match.",
}


def kind_notes() -> dict[str, str]:
    """A sentence for each kind, empty where its name says all."""
    return {name: _NOTES.get(name, "") for name in KINDS}


def short_words(words: str) -> str:
    """The words of a choice without what stands in parentheses."""
    return words.partition(" (")[0]


def help_words(names: Sequence[str]) -> str:
    """The help of the settings, one click away."""
    rows = "".join(
        f"<p><b>{found.label}.</b> {found.help}</p>" for found in controls(NoiseSettings) if found.name in names
    )
    return f'<details class="lab-more"><summary>What do these mean?</summary>{rows}</details>'
