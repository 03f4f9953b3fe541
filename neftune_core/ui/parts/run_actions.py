"""Actions on one study, shared by the Train and the Runs tab: resume, compare, remove."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.data.formats.starters import data_title
from neftune_core.errors import LabError, RecordError
from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import later, plural, say, translate_finished
from neftune_core.noise.names import arm_label, with_arm_labels
from neftune_core.studies.records import removal
from neftune_core.studies.records.log import Log
from neftune_core.studies.records.record import Record
from neftune_core.studies.steering.best_arms import plain_name
from neftune_core.studies.tracking import tracked, tracking_failure
from neftune_core.ui.parts.markup import bar, duration, open_bar, quiet
from neftune_core.ui.parts.strip import Strip, following
from neftune_core.ui.parts.wiring import QUIET, reports_errors
from neftune_core.ui.server.lab import Lab, require_key

if TYPE_CHECKING:
    from neftune_core.studies.records.progress import Status

OPEN_ENDED = {
    "preparing": later("Loading the model and the data"),
    "answering": later("Answering the prompts of the study"),
    "stopping": later("Aborting the current step"),
}
"""States of unknown duration, which are shown with an indeterminate progress bar."""


def state_text(record: Record, status: Status, log: Log, *, judged: bool = True) -> str:
    """Describe the state of a study with its numbers, and any damage to its record; details are folded once it is over.

    Args:
        record: The study.
        status: Its status.
        log: Its log.
        judged: Whether to include the result of a finished study, which takes a moment to compute.

    Returns:
        HTML.
    """
    from neftune_core.studies.records.integrity import damages
    from neftune_core.studies.records.progress import WORDS

    rows = [translate_finished(str(words)) for words in record.about_table("samples").values()]
    listed = say("{one} and {other}", one=rows[0], other=rows[1]) if len(rows) == 2 else say(", ").join(rows)
    measured = quiet(say("Losses with noise off are measured on {rows}.", rows=listed)) if listed else ""
    if status.is_over and (measured := measured + best_text(record, status)):
        head = html.escape(say("Measured rows and kept weights"))
        measured = f'<details class="lab-more"><summary>{head}</summary>{measured}</details>'
    said = with_arm_labels(translate_finished(status.message), record.arms)
    message = f"<p>{html.escape(said)}</p>" if said else ""
    message += quiet(translate_finished(tracking_failure(record))) if tracking_failure(record) else ""
    wrong = "".join(f"<li>{html.escape(words)}</li>" for words in damages(record, log))
    broken = f'<ul class="lab-damages">{wrong}</ul>' if wrong else ""
    return (
        f'<div class="lab-state" data-state="{status.state}">{end_text(record, status) if judged else ""}'
        f"<p><b>{say(WORDS[status.state])}</b> "
        f"<span>{' · '.join(_numbers(status))}</span></p>{quiet(study_text(record))}{message}{broken}{measured}</div>"
    )


def best_text(record: Record, status: Status) -> str:
    """List the arms of a study that has ended whose weights at their best evaluation are stored beside the last ones.

    Args:
        record: The study.
        status: Its status.

    Returns:
        HTML; "" if there are none.
    """
    from neftune_core.studies.comparison import saved_best, saved_seeds

    try:
        steps = {seed: saved_best(record, seed) for seed in saved_seeds(record)} if status.is_over else {}
    except RecordError:
        return ""
    found = [
        say("{arm} step {step:,}", arm=arm_label(plain_name(arm)), step=step)
        + (say(" (seed {seed})", seed=seed) if len(steps) > 1 else "")
        for seed, own in steps.items()
        for arm, step in own.items()
    ]
    if not found:
        return ""
    words = say(
        "The weights from each arm's best evaluation (lowest held-out loss) are kept as well as its final weights: "
        "{arms}. You can choose either on Compare and Export.",
        arms=say(", ").join(found),
    )
    return quiet(words)


def end_text(record: Record, status: Status) -> str:
    """Summarise the result of a study that has ended, its certainty, and what would make it more certain.

    Args:
        record: The study.
        status: Its status.

    Returns:
        HTML; "" while it runs, or without a result.
    """
    from neftune_core.sweeps.table import judge

    if not status.is_over:
        return ""
    try:
        summary = judge(record).summary
    except (LabError, ArithmeticError, LookupError, TypeError, ValueError):  # the card below shows the error
        return ""
    first, *rest = [line.text() for line in summary] or [""]
    return f'<p class="lab-end">{html.escape(first)}</p>' + "".join(map(quiet, rest)) if first else ""


def missing_record_text(why: str) -> str:
    """Report that a study's record no longer exists, with the reason."""
    return f'<div class="lab-state" data-state="failed"><p><b>{say("Failed")}</b></p><p>{html.escape(why)}</p></div>'


def _numbers(status: Status) -> list[str]:
    numbers = []
    if status.place:
        numbers.append(say("position {place} in the queue", place=status.place))
    if status.seeds > 1 and status.seed_number and status.state != "finished":
        numbers.append(say("seed {number} of {count}", number=status.seed_number, count=status.seeds))
    if status.steps and not (status.state == "finished" and status.step == status.steps):
        numbers.append(say("step {step:,} of {steps:,}", step=status.step, steps=status.steps))
    elif status.steps:
        seeds = say("{count} seeds of ", count=status.seeds) if status.seeds > 1 else ""
        steps = status.steps // max(1, status.seeds)
        numbers.append(seeds + say(plural(steps, "{steps:,} step", "{steps:,} steps"), steps=steps))
    if status.state == "running" and status.seconds_left is not None:
        numbers.append(say("{duration} left", duration=duration(status.seconds_left)))
    if status.tokens_per_second and not status.is_over:
        numbers.append(say("{speed:,.0f} tokens per second, all arms together", speed=status.tokens_per_second))
    if status.losses and status.state == "running":
        losses = ", ".join(f"{html.escape(arm_label(arm))} {loss:.3f}" for arm, loss in status.losses.items())
        numbers.append(say("loss: {losses}", losses=losses))
    return numbers


def progress_text(record: Record, status: Status) -> str:
    """Describe the watched study in a short line for the strip, with a progress bar while it runs.

    Args:
        record: The study.
        status: Its status.

    Returns:
        HTML.
    """
    from neftune_core.studies.records.progress import WORDS

    parts = [f"<b>{say(WORDS[status.state])}</b>"]
    if status.place:
        parts.append(say("position {place}", place=status.place))
    if status.state == "running":
        share = status.step / status.steps if status.steps else 0
        parts.append(f"{bar(share, say('Progress'))} {share:.0%}")
        parts.append(_time_left(status.seconds_left))
    elif status.state in OPEN_ENDED:
        parts.append(open_bar(say(OPEN_ENDED[status.state])))
    about = html.escape(study_text(record))
    return (
        f'<span class="lab-progress" data-state="{status.state}"><span class="lab-progress-about">{about}</span>'
        f"<span>{' · '.join(parts)}</span></span>"
    )


def _time_left(seconds: float | None) -> str:
    """Return the time left; the page title is read from here (learn.js)."""
    if seconds is None:
        return say("estimating the time left")
    words = say("{duration} left", duration=duration(seconds))
    return f'<span class="lab-progress-left" data-seconds="{seconds:.0f}">{words}</span>'


def when(record: Record) -> str:
    """Return when the study was started, in local time."""
    created = record.about.get("created")
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created)) if isinstance(created, int | float) else record.id


def study_text(record: Record) -> str:
    """Describe a study in one line: its title or model, and its data."""
    model, data = record.about_table("model").get("name"), data_title(record.about_table("data").get("title"))
    try:
        study = record.study
    except RecordError:
        return say("{title} on {data}", title=say(model) if model else say("a study"), data=data or say("unknown data"))
    title = study.title or (say(model) if model else "") or study.model.source.rstrip("/").rpartition("/")[2]
    title = say("Sweep: {title}", title=title) if record.is_sweep else title
    return say(
        "{title} on {data}",
        title=title,
        data=data or data_title(study.data.source.partition(":")[2].rpartition("/")[2]),
    )


def watch_in_browser(tab: str) -> str:
    """Return the script that puts a study into the URL and opens the tab that shows it."""
    return f"(id) => {{ Lab.setParameter('job', id); Lab.openTab('{tab}'); }}"


WATCH_IN_BROWSER = watch_in_browser("Train")
MORE, MORE_TIMED = later("Run {count} seeds"), later("Run {count} seeds, about {duration}")
GOING_ON = later(
    "A new record continues from the end of this one; the schedules of learning rate and noise start again."
)
FORGET_IN_BROWSER = "() => Lab.setParameter('job', '')"


@dataclass(frozen=True)
class Actions:
    """The buttons below a study; removal is confirmed with a second button in place of the first, and can be undone."""

    resume: gr.Button
    more: gr.Button
    compare: gr.Button
    epochs: gr.Number
    go_on: gr.Button
    remove: gr.Button
    surely: gr.Button
    undo: gr.Button
    discarded: gr.State

    def components(self) -> list[Any]:
        return [self.resume, self.more, self.compare, self.epochs, self.go_on, self.remove, self.surely]

    def fitting(self, record: Record, status: Status) -> list[Any]:
        """Return updates that show the buttons applicable to a study.

        Args:
            record: The study.
            status: Its status.

        Returns:
            One update per component of `components()`.
        """
        from neftune_core.studies.steering.going_on import reason_against
        from neftune_core.sweeps.more_seeds import seconds_for, seeds_offered

        usable = not record.is_newer and record.settings_file.is_file()
        more = seeds_offered(record) if status.state == "finished" and usable else 0
        shown = [
            status.can_resume and usable,
            more > 0,
            status.is_over and usable and (record.folder / "arms").is_dir(),
            *[status.state == "finished" and usable and not reason_against(record)] * 2,
            status.is_over and record.is_owned,
            False,
        ]
        updates = [gr.update(visible=visible) for visible in shown]
        if more:
            seconds = seconds_for(record, more)
            label = say(MORE_TIMED if seconds else MORE, count=more, duration=duration(seconds))
            updates[1] = gr.update(visible=True, value=label)
        return updates

    def hidden(self) -> list[Any]:
        """Return updates that hide all buttons."""
        return [gr.update(visible=False)] * len(self.components())


def build(prefix: str) -> Actions:
    """Build the buttons, hidden, in their own row."""
    with gr.Row(elem_id=f"{prefix}-actions", elem_classes=["lab-actions"]):
        return Actions(
            resume=gr.Button(say("Resume"), size="md", visible=False, elem_id=f"{prefix}-resume"),
            more=gr.Button(say(MORE, count=CLAIM_SEEDS), size="md", visible=False, elem_id=f"{prefix}-more"),
            compare=gr.Button(say("Compare the answers"), size="md", visible=False, elem_id=f"{prefix}-compare"),
            remove=gr.Button(say("Discard"), size="md", visible=False, elem_id=f"{prefix}-remove"),
            surely=gr.Button(say("Yes, discard"), variant="stop", size="md", visible=False, elem_id=f"{prefix}-surely"),
            undo=gr.Button(say("Restore the discarded study"), size="md", visible=False, elem_id=f"{prefix}-undo"),
            epochs=gr.Number(
                1,
                label=say("More epochs"),
                info=say(GOING_ON),
                minimum=0.01,
                maximum=1000,
                visible=False,
                elem_id=f"{prefix}-more-epochs",
            ),
            go_on=gr.Button(say("Train further"), size="md", visible=False, elem_id=f"{prefix}-go-on"),
            discarded=gr.State(""),
        )


@dataclass(frozen=True)
class ButtonContext:
    """The context of the buttons.

    Attributes:
        lab: The state shared by all visitors.
        strip: The strip.
        key: Component with the visitor's key.
        record_id: Component with the id of the study.
        asked: Component that requests a comparison of a study's arms.
        seen: State of the watched log.
        tab: Name of the tab that shows the study.
        tracker: Components with the tracker of the studies that are started here; empty if none can be chosen.
    """

    lab: Lab
    strip: Strip
    key: gr.Textbox
    record_id: gr.Textbox | gr.Dropdown
    asked: gr.Textbox
    seen: gr.State
    tab: str = "Train"
    tracker: Sequence[Any] = ()


def connect(actions: Actions, place: ButtonContext, cleared: Callable[[], list[Any]], shown: list[Any]) -> list[Any]:
    """Connect the buttons.

    Args:
        actions: The buttons.
        place: Their context.
        cleared: Returns the values of `shown` after a study has been removed.
        shown: Components that show the study.

    Returns:
        The events of a start, also one into the same record.
    """
    lab, strip = place.lab, place.strip

    def started(start: Callable[..., Record]) -> Callable[..., Iterator[list[Any]]]:
        """Return the handler of a button that starts the study that `start` returns, and waits for it."""

        def handle(key: str, record_id: str, *given: Any) -> Iterator[list[Any]]:
            own, tracker = (given[:-2], given[-2:]) if place.tracker else (given, ("",))
            with tracked(*tracker):
                record = start(require_key(key), record_id, *own)
            yield [record.id, -1, following(record.id)]
            yield from lab.attended(record, key)

        handle.__name__ = start.__name__  # the framework names its endpoints after it
        return reports_errors(handle)

    @started
    def resume(key: str, record_id: str) -> Record:
        return lab.jobs.resume(record_id, key)

    @started
    def more(key: str, record_id: str) -> Record:
        return lab.jobs.add_seeds(record_id, key)

    @started
    def further(key: str, record_id: str, epochs: float | None) -> Record:
        from neftune_core.studies.steering.going_on import go_on

        found = lab.jobs.find_owned(record_id, key)
        return lab.jobs.submit_made(key, lambda: go_on(found, float(epochs or 0), key, lab.limits))

    chosen, watching = [place.key, place.record_id], [strip.watched, place.seen, strip.watcher]
    starting: Any = ((actions.resume, resume, []), (actions.more, more, []), (actions.go_on, further, [actions.epochs]))
    starts: list[Any] = []
    for button, goes_on, given in starting:
        going = button.click(goes_on, [*chosen, *given, *place.tracker], watching, **QUIET, **lab.attending)
        going.success(None, strip.watched, None, js=watch_in_browser(place.tab))
        starts.append(going.success)
    # A new text at each click, so that requesting the same study again counts as a change.
    actions.compare.click(None, place.record_id, place.asked, js="(id) => id + '#' + Date.now()").then(
        None, None, None, js="() => Lab.openTab('Compare')"
    )
    _connect_discarding(actions, place, cleared, shown)
    return starts


def _connect_discarding(
    actions: Actions, place: ButtonContext, cleared: Callable[[], list[Any]], shown: list[Any]
) -> None:
    lab, strip = place.lab, place.strip

    @reports_errors
    def remove(key: str, record_id: str) -> list[Any]:
        lab.jobs.discard(record_id, require_key(key))
        return [*cleared(), *actions.hidden(), gr.update(visible=True), record_id]

    @reports_errors
    def undo(key: str, record_id: str) -> list[Any]:
        record = removal.restore(record_id, require_key(key))
        return [record.id, -1, following(record.id), gr.update(visible=False)]

    swapped = [gr.update(visible=False), gr.update(visible=True)]
    actions.remove.click(lambda: swapped, None, [actions.remove, actions.surely], **QUIET)
    gone = [*shown, *actions.components(), actions.undo, actions.discarded]
    removed = actions.surely.click(remove, [place.key, place.record_id], gone, **QUIET)
    removed.success(None, None, None, js=FORGET_IN_BROWSER)
    back = actions.undo.click(
        undo, [place.key, actions.discarded], [strip.watched, place.seen, strip.watcher, actions.undo], **QUIET
    )
    back.success(None, strip.watched, None, js=watch_in_browser(place.tab))
