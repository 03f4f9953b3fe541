"""The views of the Noise tab on the effect of noise inside the model: Depth and Next word.

The browser requests the numbers while one of these views is open, once per sentence, model, draw and kind of noise. One
response covers all strengths, so that moving the slider makes no call. assets/page/noise-depth.js and noise-next.js
draw the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neftune_core.errors import LabError
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.sentences import sentence
from neftune_core.settings import parse
from neftune_core.ui.parts.markup import page_html
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.strip import Strip
from neftune_core.ui.parts.wiring import UNREAD, events, reports_errors
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.server.previews import LONGEST_TOKENS, Payload, key_of, read_ids
from neftune_core.ui.tabs.noise_tab import NoiseTab, strengths_at

# Fractions of the slider's range: alpha 2 (the first strength shown), 5, 10, 15, 30, 60 and 100.
MEASURED_AT = (0.02, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0)

ASKED = ("kind", "unit", "length_rule", "tokens", "special_tokens")
"""Noise settings that the numbers depend on, besides the sites."""


def measure_inside(text: str, model: ModelSettings, draw: int, noise: NoiseSettings) -> Payload:
    """Measure how noise of several strengths propagates through the model.

    Args:
        text: The sentence.
        model: The model settings.
        draw: Seed of the noise.
        noise: The noise settings; strength and schedule are ignored.

    Returns:
        The payload of `noise_propagation`, with the `key` of the preview and the requested settings as `asked`. If the
        measurement fails, the payload has only `key`, `asked` and the `problem` as a sentence.
    """
    from neftune_core.evaluation.noise_propagation import measure_propagation, payload
    from neftune_core.models.accelerator import accelerator
    from neftune_core.models.loading import load
    from neftune_core.models.token_text import token_texts

    asked = _asked(text, model, draw, noise)
    try:
        loaded = load(model)
        ids = read_ids(text, loaded)[:LONGEST_TOKENS]
        with accelerator.held():
            found = measure_propagation(loaded, ids, noise, strengths_at(MEASURED_AT, noise.unit), draw)
    except Exception as error:
        return {**asked, "problem": sentence(error)}
    texts = token_texts(found.ids, loaded.tokenizer)
    return {**asked, **payload(found, texts, lambda number: token_texts([number], loaded.tokenizer)[0])}


def _asked(text: str, model: ModelSettings, draw: int, noise: NoiseSettings) -> Payload:
    return {"key": key_of(text, model, draw, noise.sites), "asked": {name: getattr(noise, name) for name in ASKED}}


def _measure_in_call(text: str, model: dict[str, Any], draw: int, noise: dict[str, Any]) -> Iterator[Payload]:
    """Yield the result of `measure_inside` once, for settings given as plain values."""
    yield measure_inside(text, parse(ModelSettings, model), draw, parse(NoiseSettings, noise))


def follow_on(lab: Lab, text: str, model: ModelSettings, draw: int, noise: NoiseSettings) -> Payload:
    """Run `measure_inside`; models of more than `PROCESSOR_PARAMETERS` use the GPU allocated per call, if there is one.

    Args:
        lab: The state shared by all visitors.
        text: The sentence.
        model: The model settings.
        draw: Seed of the noise.
        noise: The noise settings.

    Returns:
        The result; an error of the model or the platform is included as `problem`.
    """
    from neftune_core.evaluation.noise_propagation import ANSWER_TOKENS
    from neftune_core.models.loading import load
    from neftune_core.space.gpu_seconds import PROCESSOR_PARAMETERS, pass_seconds

    try:
        if lab.gpu is None or load(model).parameters <= PROCESSOR_PARAMETERS:
            return measure_inside(text, model, draw, noise)
        given = (text, model.model_dump(), draw, noise.model_dump())
        *_, found = lab.gpu.run(_measure_in_call, given, pass_seconds(1, load(model).layers, ANSWER_TOKENS))
    except LabError as error:  # of the model or the platform; the result contains other errors
        return {**_asked(text, model, draw, noise), "problem": str(error)}
    return found


def build(lab: Lab, strip: Strip, tab: NoiseTab) -> None:
    """Build the panel in the row reserved by the tab, and connect its requests.

    Args:
        lab: The state shared by all visitors.
        strip: The strip at the top of the page.
        tab: The Noise tab.
    """
    with tab.inside:
        panel = scripted("noise-inside", page_html("noise-inside"), elem_id="noise-inside")

    @reports_errors
    def measure(text: str, draw: int, model: ModelSettings, *values: Any) -> Payload:
        """Measure the effect of the noise inside the model.

        Args:
            text: The sentence.
            draw: Seed of the noise.
            model: The model settings.
            *values: Noise settings.

        Returns:
            The content of the panel.
        """
        return follow_on(lab, text, model, draw, tab.noise.settings(values))

    given = [tab.text, tab.draw, strip.model, *tab.noise.components]
    events(panel).click(measure, given, panel, trigger_mode="always_last", concurrency_limit=2, **UNREAD)
