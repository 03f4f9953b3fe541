"""Show the recorded effect of noise on a starter set, with a button that sets up the recorded study."""

from __future__ import annotations

from typing import Any

import gradio as gr

from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import say
from neftune_core.studies.settings import StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.sweeps.settings import cells
from neftune_core.ui import page_state
from neftune_core.ui.page_state import PageParts
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.wiring import QUIET, events, reports_errors
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.study_state import study_state
from neftune_core.ui.tabs import noise_tab


def recorded_studies(lab: Lab) -> dict[str, tuple[Sweep, StudySettings]]:
    """Return the recorded sweeps that compare one noise arm with the control, and their studies, by starter set.

    Each study has the number of seeds that the verdict requires for a claim.
    """
    found = {}
    for sweep in lab.recorded_sweeps:
        studies = [cell.study for cell in cells(sweep.settings)]
        if not studies or studies[0].methods:
            continue
        if {study.noise for study in studies} == {studies[0].noise} and len(studies[0].noise) == 1:
            name = studies[0].data.source.removeprefix("starter:")
            found[name] = sweep, studies[0].model_copy(update={"seeds": CLAIM_SEEDS})
    return found


def effect_words(lab: Lab, starter: str) -> str:
    """Describe the effect of noise in the recorded sweep on a starter set.

    Args:
        lab: The state shared by all visitors.
        starter: Name of the starter set.

    Returns:
        HTML; "" if there is no such sweep or it has no verdict.
    """
    sweep, _ = recorded_studies(lab).get(starter, (None, None))
    found = lab.sweep_table(sweep).verdict if sweep else None
    return quiet(say("Recorded with this set: {result}", result=found.opening[0].text())) if found else ""


def connect(page: PageParts) -> None:
    """Connect the recorded effect to the choice of the starter set, and its button to the forms on all tabs."""
    lab, data, noise = page.lab, page.data, page.noise.noise
    fields = page_state.fields_of(page)

    @reports_errors
    def show(source: str, starter: str) -> list[Any]:
        words = effect_words(lab, starter) if source == "starter" else ""
        return [words, gr.update(visible=bool(words))]

    @reports_errors
    def set_up(starter: str) -> list[Any]:
        _, study = recorded_studies(lab)[starter]
        values = page_state.state_updates(page, fields, study_state(fields, study))
        return [*values, *page_state.use(page, study.model, study.data)]

    chosen = [data.source, data.starter]
    changed = [data.place.select, *(events(found).change for found in chosen)]
    gr.on(changed, show, chosen, [data.effect, data.use_effect], trigger_mode="always_last", **QUIET)
    outputs = [*page_state.state_components(page, fields), *page_state.in_use_components(page)]
    done = data.use_effect.click(set_up, data.starter, outputs, **QUIET)
    noise_tab.update_range_after(done, noise)
    done = done.then(None, page.train.form.seed, None, js=page_state.look_again(page))
    done.then(None, None, None, js="() => Lab.openTab('Train')")
