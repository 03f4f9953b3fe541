"""The words of the Noise tab: what the browser fills in, the help, and a note for each kind."""

from __future__ import annotations

import re
from collections.abc import Sequence

from neftune_core.language import later, say
from neftune_core.noise.kinds import KINDS
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import controls


def chips_html() -> str:
    return f'<ol class="lab-chips" aria-label="{say("The sentence as tokens")}"></ol>'


def words_html() -> str:
    """What the browser fills in beside the controls."""
    return f"""<div class="lab-noise-words"><p class="lab-verdict" data-word="verdict" aria-live="polite"></p>
<p class="lab-warning" data-word="warning" role="status"></p>
<p class="lab-quiet" data-word="kind"></p>
<dl><div><dt>{say("the median token turns by")}</dt><dd data-word="angle"></dd></div>
<div><dt>{say("signal to noise")}</dt><dd data-word="snr"></dd></div></dl></div>"""


def ruler_html() -> str:
    about = say("One strength in every unit, for {about}.", about='<span data-word="about"></span>')
    return f"""<figure class="lab-ruler"><svg role="img" aria-label=""></svg>
<figcaption class="lab-quiet">{about}</figcaption></figure>"""


def more_button_html() -> str:
    return f"""<button type="button" class="lab-unfold" aria-expanded="false" aria-controls="noise-more">
{say("Where and when: tokens, places, schedule")}</button>"""


# Where a kind is more than the shape of its distribution. No entry: nothing to explain.
_NOTES = {
    "symmetric": later("Every batch is seen twice, with the noise added and taken away; shown is the half with plus."),
    "adversarial": later(
        "Shown is its first draw, the uniform one: the ascent on the loss keeps its norm but has no closed form. "
        "The view Loss measures it."
    ),
    "token-dropout": later(
        "No noise but a control: whole tokens are set to zero; there is no standard deviation to match."
    ),
}


def kind_notes() -> dict[str, str]:
    """A sentence for each kind, empty where its name says all."""
    return {name: say(_NOTES[name]) if name in _NOTES else "" for name in KINDS}


def short_words(words: str) -> str:
    """The words of a choice in the current language, without what stands in parentheses."""
    return re.split(r" \(|（", say(words))[0]


def help_words(names: Sequence[str]) -> str:
    """The help of the settings, one click away."""
    rows = "".join(
        f"<p><b>{say(found.label)}.</b> {say(found.help)}</p>"
        for found in controls(NoiseSettings)
        if found.name in names
    )
    return f'<details class="lab-more"><summary>{say("What do these mean?")}</summary>{rows}</details>'
