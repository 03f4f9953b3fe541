"""The views of the Compare tab on the trained arms of one study: By row, Robustness, Weights and Judge.

A view is computed when it is chosen. Missing measurements can be made with the stored adapters.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from neftune_core.errors import InvalidSetting, LabError, RecordError
from neftune_core.figures.colours import arm_colours
from neftune_core.figures.trained import robustness_figure, weights_figure
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.settings import Limits, parse
from neftune_core.studies.language_judge import verdicts
from neftune_core.studies.language_judge.endpoint import KEY_VARIABLE, Judge
from neftune_core.studies.language_judge.verdicts import JudgeProgress
from neftune_core.studies.records.record import Record, find
from neftune_core.studies.records.tokens import read_tokens
from neftune_core.ui.parts.markup import bar, page_html, quiet
from neftune_core.ui.parts.plot import live_figure, scripted
from neftune_core.ui.parts.wiring import QUIET, events, reports_errors, saves_text
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.study_text import arm_choices
from neftune_core.ui.tabs.compare_tab import JUDGE, CompareTab

ROWS, ROBUSTNESS, WEIGHTS = "rows", "robustness", "weights"
NOT_MEASURED = {
    ROWS: later(
        "This record has no losses per token for this seed. Press “Measure now” to measure them with its stored "
        "adapters."
    ),
    ROBUSTNESS: later(
        "Press “Measure now” to see how much noise each trained arm tolerates: its held-out loss and its share of "
        "correct tokens with noise at test time, from 0 to 300% of the signal. The results are stored with the study."
    ),
}
NO_STUDY = later("Train a study first: press Train at the top of the page.")
VIEW_PURPOSES = {
    ROWS: later("This view then shows how well each arm predicts every token of the rows."),
    ROBUSTNESS: later("This view then shows how much noise each arm tolerates at test time."),
    WEIGHTS: later("This view then shows how far each arm has moved from the base model, layer by layer."),
    JUDGE: later("In this view, a language model can then choose the better of two arms' answers."),
}
JUDGE_ABOUT = later(
    "A language model behind an OpenAI-compatible endpoint compares the stored answers of the study, blind and in both "
    "orders. The prompts and answers are sent to this endpoint, and the key is used only for these requests. Each "
    "verdict is requested once and then stored with the study."
)
JUDGE_LIMITS = later("This is one model's preference on these prompts, not a measure of correctness.")

Drawn = dict[str, Any] | None


def _drawn_rows(record: Record, seed: int) -> Drawn:
    """Return the stored losses per token for the browser; None if no losses are stored."""
    from neftune_core.studies.trained.token_kinds import ALL, TOKEN_KINDS, payload

    lines = read_tokens(record, seed)
    if not lines:
        return None
    names = {**{kind: say(words) for kind, words in TOKEN_KINDS.items()}, ALL: say("all tokens")}
    arms = list(record.arms)
    names |= {arm: arm_words(arm) for arm in ("base", *arms)}
    return {"arms": arms, "colours": arm_colours(record.arms), "names": names, **payload(lines, arms)}


def _drawn_figure(record: Record, seed: int, view: str) -> Drawn:
    """Return the figure of robustness or weights; None if it has not been measured."""
    from neftune_core.studies.trained.robustness import read_robustness
    from neftune_core.studies.trained.weights import layers_of, updates

    if view == WEIGHTS:
        found = updates(record, seed)
        return weights_figure(found, layers_of(found), record.arms)
    kept = read_robustness(record, seed)
    return None if kept is None else robustness_figure(kept, record.arms)


def _measure_view(folder: str, seed: int, view: str, limits: dict[str, Any]) -> Iterator[float]:
    """Measure rows or robustness with the stored arms, and store the results; yield the completed share (0 to 1).

    Raises:
        InvalidSetting: If the view needs no measurement.
    """
    from neftune_core.studies.trained.loading import measure_tokens
    from neftune_core.studies.trained.robustness import measure_robustness

    record, allowed = Record(Path(folder)), parse(Limits, limits)
    if view == ROBUSTNESS:
        yield from (progress.share for progress in measure_robustness(record, seed, allowed))
    elif view == ROWS:
        measure_tokens(record, seed, allowed)
        yield 1.0
    else:
        raise InvalidSetting(say("This view needs no measurement."))


def view_seconds(record: Record, view: str) -> int:
    """Estimate the GPU time of `_measure_view` in seconds.

    Args:
        record: Record of the study.
        view: "rows" or "robustness".

    Returns:
        Whole seconds.
    """
    from neftune_core.engine.settings import evaluation_batch
    from neftune_core.space.gpu_seconds import layers_of, pass_seconds
    from neftune_core.studies.trained.robustness import MOST_ROWS, STRENGTHS

    data, training = record.about_table("data"), record.study.training
    rows = len(STRENGTHS) * MOST_ROWS if view == ROBUSTNESS else data.get("train", 0) + data.get("held_out", 0)
    turns = 1 if training.together else len(record.arms) + 1
    return pass_seconds(turns * -(-rows // evaluation_batch(training)), layers_of(record))


def build(lab: Lab, key: gr.Textbox, tab: CompareTab) -> None:
    """Build the views in the column reserved by the tab.

    Args:
        lab: The state shared by all visitors.
        key: Component with the visitor's key.
        tab: The Compare tab.
    """
    with tab.inside:
        about = gr.HTML(apply_default_css=False, elem_id="inside-about")
        measure = gr.Button(say("Measure now"), variant="primary", size="md", visible=False, elem_id="inside-measure")
        rows = scripted("compare-rows", page_html("compare-rows"), elem_id="inside-rows")
        figure = live_figure(elem_id="inside-figure")
    outputs = [about, measure, rows, figure]
    given = [key, tab.view, tab.record, tab.seed]
    gr.on([tab.view.change, tab.record.change, tab.seed.change], reports_errors(show_view), given, outputs, **QUIET)
    events(measure).click(reports_errors(measuring(lab)), given, outputs, **{**QUIET, "concurrency_limit": 2})
    if lab.offers_judge:
        _build_judge(lab, key, tab)


def measuring(lab: Lab) -> Callable[..., Iterator[list[Any]]]:
    """Return the handler of the measuring button; its inputs are the key, the view, the record id and the seed."""

    def measure(key: str, view: str, record_id: str, seed: int | None) -> Iterator[list[Any]]:
        """Measure a view of a record, and show it.

        Args:
            key: The visitor's key.
            view: Name of the view.
            record_id: Id of the record.
            seed: The seed; None for the first seed of the study.

        Yields:
            Updates of the outputs.
        """
        record, chosen = _chosen(key, record_id, seed)
        hidden = gr.update(visible=False)
        yield [bar(0.0, say("Measuring")), hidden, None, None]
        given = (str(record.folder), chosen, view, lab.limits.model_dump())
        stream = lab.gpu.run(_measure_view, given, view_seconds(record, view)) if lab.gpu else _measure_view(*given)
        for share in stream:
            yield [bar(share, say("Measuring")), hidden, None, None]
        yield show_view(key, view, record_id, seed)

    return measure


def show_view(key: str, view: str, record_id: str | None, seed: int | None) -> list[Any]:
    """Return the content of a view, or explain why it has none.

    Args:
        key: The visitor's key.
        view: Name of the view; nothing is shown for the other views of the Compare tab.
        record_id: Id of the record; None or "" if none is chosen.
        seed: The seed; None for the first seed of the study.

    Returns:
        Updates of text, button, rows and figure. The button is visible if the view can be measured.

    Raises:
        RecordError: If the record is missing, or belongs to another visitor.
    """
    hidden = gr.update(visible=False)
    if view not in (ROWS, ROBUSTNESS, WEIGHTS):
        return ["", hidden, None, None]
    if not record_id:
        return [_no_study(view), hidden, None, None]
    record, chosen = _chosen(key, record_id, seed)
    try:
        found = _drawn_rows(record, chosen) if view == ROWS else _drawn_figure(record, chosen, view)
    except LabError as error:
        return [quiet(str(error)), hidden, None, None]
    if found is None:
        return [quiet(say(NOT_MEASURED[view])), gr.update(visible=True), None, None]
    return ["", hidden, *((found, None) if view == ROWS else (None, found))]


def _no_study(view: str) -> str:
    return quiet(f"{say(NO_STUDY)} {say(VIEW_PURPOSES[view])}")


def _chosen(key: str, record_id: str | None, seed: int | None) -> tuple[Record, int]:
    if not record_id:
        raise RecordError(say(NO_STUDY))
    record = find(record_id, require_key(key))
    return record, record.study.seed if seed is None else int(seed)


def _build_judge(lab: Lab, key: gr.Textbox, tab: CompareTab) -> None:
    """Build the Judge view in the column reserved by the tab."""
    with tab.inside, gr.Column(elem_id="inside-judge"):
        gr.HTML(quiet(say(JUDGE_ABOUT)), apply_default_css=False)
        with gr.Row():
            first = gr.Dropdown([], label=say("First arm"), elem_id="judge-first")
            second = gr.Dropdown([], label=say("Second arm"), elem_id="judge-second")
        with gr.Row():
            url = gr.Textbox(
                "", label=say("URL of the API"), placeholder="http://127.0.0.1:8000/v1", max_length=300,
                min_width=240, elem_id="judge-url",
            )  # fmt: skip
            model = gr.Textbox("", label=say("Judge model"), max_length=200, elem_id="judge-model")
            secret = gr.Textbox("", label=say("Key"), type="password", max_length=400, elem_id="judge-key")
        with gr.Row():
            ask = gr.Button(say("Judge the answers"), variant="primary", size="md", elem_id="judge-ask")
            stop = gr.Button(say("Stop"), size="md", visible=False, elem_id="judge-stop")
        found = gr.HTML(apply_default_css=False, elem_id="judge-found")
        with gr.Row():
            exports = {
                kind: gr.Button(say("Save as {kind}", kind=kind.upper()), size="sm", elem_id=f"judge-{kind}")
                for kind in verdicts.WRITERS
            }

    @reports_errors
    def arms(key: str, view: str, record_id: str | None) -> list[Any]:
        if view != JUDGE:
            return [gr.skip()] * 3
        if not record_id:
            return [gr.skip(), gr.skip(), _no_study(view)]
        answers = find(record_id, require_key(key)).answers()
        names = list(dict.fromkeys(name for line in answers for name in line["arms"]))
        noisy = [name for name in names if name not in ("base", "control")]
        chosen = next(iter(noisy or names), None), "control" if "control" in names else None
        return [*(gr.update(choices=arm_choices(names), value=name) for name in chosen), ""]

    @reports_errors
    def judge(key: str, record_id: str | None, seed: int | None, *given: str | None) -> Iterator[list[Any]]:
        shown: JudgeProgress | None = None
        for shown in judged(lab, key, record_id, seed, given):
            share = shown.done / shown.prompts
            yield [bar(share, say("Judging")) + quiet(verdicts.judged_text(shown)), gr.update(visible=True)]
        text = html.escape(verdicts.judged_text(shown)) if shown else ""
        yield [f'<p class="lab-end">{text}</p>{quiet(say(JUDGE_LIMITS))}', gr.update(visible=False)]

    gr.on([tab.view.change, tab.record.change], arms, [key, tab.view, tab.record], [first, second, found], **QUIET)
    asked = [key, tab.record, tab.seed, first, second, url, model, secret]
    asking = events(ask).click(judge, asked, [found, stop], **{**QUIET, "concurrency_limit": 2})
    asking.then(lambda: gr.update(visible=False), None, stop, **QUIET)  # also after an error
    stop.click(lambda: gr.update(visible=False), None, stop, cancels=asking, **QUIET)
    for kind, button in exports.items():
        saves_text(button, judge_exporter(lab, kind), asked[:-1])


def judge_exporter(lab: Lab, kind: str) -> Callable[..., dict[str, str]]:
    """Return the handler that saves the stored verdicts of a judge without sending any request.

    Args:
        lab: The state shared by all visitors.
        kind: "json" or "csv".

    Returns:
        The handler.
    """

    def export(key: str, record_id: str | None, seed: int | None, *given: str | None) -> dict[str, str]:
        """Return the stored verdicts as a file.

        Args:
            key: The visitor's key.
            record_id: Id of the record.
            seed: Seed of the answers; None for all.
            *given: Both arms, then URL and model of the judge.

        Returns:
            Name and text of the file.
        """
        first, second, url, model = (text or "" for text in given)
        judge = Judge(url.strip(), model)
        record, _ = _chosen(key, record_id, seed)
        found = verdicts.judged_so_far(record, (first, second), judge, seed=seed, most=lab.limits.prompts)
        return {"name": f"verdicts-{record.id}.{kind}", "text": verdicts.verdicts_text(found, judge, kind)}

    return export


def judged(
    lab: Lab, key: str, record_id: str | None, seed: int | None, given: tuple[str | None, ...]
) -> Iterator[JudgeProgress]:
    """Judge the answers of a visitor's own record.

    Args:
        lab: The state shared by all visitors.
        key: The visitor's key.
        record_id: Id of the record.
        seed: Seed of the answers; None for all.
        given: Both arms, then URL, model and key of the judge.

    Yields:
        The progress after each prompt.

    Raises:
        LabError: If the arms or the judge cannot be used.
        RecordError: If no record is chosen, or it belongs to someone else.
    """
    if not record_id:
        raise RecordError(say(NO_STUDY))
    first, second, url, model, secret = (text or "" for text in given)
    own = "" if lab.has_strangers else os.environ.get(KEY_VARIABLE, "")  # must not be sent to a stranger's URL
    judge = Judge(url.strip(), model, secret.strip() or own.strip(), public_only=lab.has_strangers)
    record = lab.jobs.find_owned(record_id, require_key(key))
    yield from verdicts.judge_arms(record, (first, second), judge, seed=seed, most=lab.limits.prompts)
