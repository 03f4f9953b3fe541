"""Actions on one study, shared by the Train and Runs tabs: resume, add seeds, compare, train further, discard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import later, say
from neftune_core.studies.records import removal
from neftune_core.studies.records.progress import Status
from neftune_core.studies.records.record import Record
from neftune_core.studies.tracking import tracked
from neftune_core.sweeps.more_seeds import seconds_for, seeds_offered
from neftune_core.ui.parts.markup import duration
from neftune_core.ui.parts.strip import Strip, following
from neftune_core.ui.parts.wiring import QUIET, reports_errors
from neftune_core.ui.server.lab import Lab, require_key


def watch_in_browser(tab: str) -> str:
    """Return the script that adds a study to the URL and opens a tab."""
    return f"(id) => {{ Lab.expect(); Lab.setParameter('job', id); Lab.openTab('{tab}'); }}"


WATCH_IN_BROWSER = watch_in_browser("Train")
MORE, MORE_TIMED = later("Run {count} seeds"), later("Run {count} seeds, about {duration}")
EPOCHS_INFO = later(
    "A new record continues from the end of this one; the learning-rate and noise schedules start again."
)
FORGET_IN_BROWSER = "() => Lab.setParameter('job', '')"


@dataclass(frozen=True)
class Actions:
    """The buttons below a study.

    Attributes:
        resume: Continues an interrupted study.
        more: Adds seeds.
        compare: Opens the Compare tab with the arms of the study.
        epochs: Number of further epochs for `go_on`.
        go_on: Trains a finished study further, as a new record.
        remove: Asks for confirmation; `confirm` takes its place.
        confirm: Discards the study.
        undo: Restores the discarded study.
        discarded: Id of the study that `undo` restores.
    """

    resume: gr.Button
    more: gr.Button
    compare: gr.Button
    epochs: gr.Number
    go_on: gr.Button
    remove: gr.Button
    confirm: gr.Button
    undo: gr.Button
    discarded: gr.State

    def components(self) -> list[Any]:
        """Return the components that `fitting` updates."""
        return [self.resume, self.more, self.compare, self.epochs, self.go_on, self.remove, self.confirm]

    def fitting(self, record: Record, status: Status) -> list[Any]:
        """Return updates that show the buttons applicable to a study.

        Args:
            record: Record of the study.
            status: Status of the study.

        Returns:
            One update per component of `components()`.
        """
        from neftune_core.studies.steering.going_on import reason_against

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
    """Build the buttons in their own row, initially hidden."""

    def button(words: str, name: str, variant: Any = "secondary") -> gr.Button:
        """Create a hidden button.

        Args:
            words: Its label.
            name: Suffix of its element id.
            variant: Its style.

        Returns:
            The button.
        """
        return gr.Button(words, variant=variant, size="md", visible=False, elem_id=f"{prefix}-{name}")

    with gr.Row(elem_id=f"{prefix}-actions", elem_classes=["lab-actions"]):
        return Actions(
            resume=button(say("Resume"), "resume"),
            more=button(say(MORE, count=CLAIM_SEEDS), "more", "primary"),
            compare=button(say("Compare the answers"), "compare"),
            remove=button(say("Discard"), "remove"),
            confirm=button(say("Yes, discard"), "surely", "stop"),
            undo=button(say("Restore the discarded study"), "undo"),
            epochs=gr.Number(
                1,
                label=say("More epochs"),
                info=say(EPOCHS_INFO),
                minimum=0.01,
                maximum=1000,
                visible=False,
                elem_id=f"{prefix}-more-epochs",
            ),
            go_on=button(say("Train further"), "go-on"),
            discarded=gr.State(""),
        )


@dataclass(frozen=True)
class ButtonContext:
    """Components and values that the handlers of the buttons use.

    Attributes:
        record_id: Component with the id of the study.
        asked: Component that requests a comparison of the study's arms on the Compare tab.
        seen: Size of the watched log when the page last drew it.
        tab: Name of the tab that shows the study.
        tracker: Components that select a tracker; empty if the visitor cannot choose one.
    """

    lab: Lab
    strip: Strip
    key: gr.Textbox
    record_id: gr.Textbox | gr.Dropdown
    asked: gr.Textbox
    seen: gr.State
    tab: str = "Train"
    tracker: Sequence[Any] = ()


def connect(actions: Actions, context: ButtonContext, cleared: Callable[[], list[Any]], shown: list[Any]) -> list[Any]:
    """Connect the buttons.

    Args:
        actions: The buttons.
        context: Components and values that their handlers use.
        cleared: Returns the values of `shown` after a study has been removed.
        shown: Components that show the study.

    Returns:
        Events that fire when training starts, in a new or in the same record.
    """
    lab, strip = context.lab, context.strip

    def started(start: Callable[..., Record]) -> Callable[..., Iterator[list[Any]]]:
        """Return a handler that starts a study with `start`, and keeps the request open if `Lab.attended` needs it."""

        def handle(key: str, record_id: str, *values: Any) -> Iterator[list[Any]]:
            own, tracker = (values[:-2], values[-2:]) if context.tracker else (values, ("",))
            with tracked(*tracker):
                record = start(require_key(key), record_id, *own)
            yield [record.id, -1, following(record.id)]
            yield from lab.attended(record, key)

        handle.__name__ = start.__name__  # Gradio derives endpoint names from this name
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

    chosen, watching = [context.key, context.record_id], [strip.watched, context.seen, strip.watcher]
    starting: Any = ((actions.resume, resume, []), (actions.more, more, []), (actions.go_on, further, [actions.epochs]))
    starts: list[Any] = []
    for button, handler, more_inputs in starting:
        inputs = [*chosen, *more_inputs, *context.tracker]
        clicked = button.click(handler, inputs, watching, **QUIET, **lab.attending)
        clicked.success(None, strip.watched, None, js=watch_in_browser(context.tab))
        starts.append(clicked.success)
    # The suffix makes a second request for the same study a change of value.
    actions.compare.click(None, context.record_id, context.asked, js="(id) => id + '#' + Date.now()").then(
        None, None, None, js="() => Lab.openTab('Compare')"
    )
    _connect_discarding(actions, context, cleared, shown)
    return starts


def _connect_discarding(
    actions: Actions, context: ButtonContext, cleared: Callable[[], list[Any]], shown: list[Any]
) -> None:
    lab, strip = context.lab, context.strip

    @reports_errors
    def remove(key: str, record_id: str) -> list[Any]:
        """Discard a study.

        Args:
            key: The visitor's key.
            record_id: Id of the record.

        Returns:
            Updates of the outputs.
        """
        lab.jobs.discard(record_id, require_key(key))
        return [*cleared(), *actions.hidden(), gr.update(visible=True), record_id]

    @reports_errors
    def undo(key: str, record_id: str) -> list[Any]:
        """Restore a discarded study.

        Args:
            key: The visitor's key.
            record_id: Id of the record.

        Returns:
            Updates of the outputs.
        """
        record = removal.restore(record_id, require_key(key))
        return [record.id, -1, following(record.id), gr.update(visible=False)]

    swapped = [gr.update(visible=False), gr.update(visible=True)]
    actions.remove.click(lambda: swapped, None, [actions.remove, actions.confirm], **QUIET)
    gone = [*shown, *actions.components(), actions.undo, actions.discarded]
    removed = actions.confirm.click(remove, [context.key, context.record_id], gone, **QUIET)
    removed.success(None, None, None, js=FORGET_IN_BROWSER)
    watching = [strip.watched, context.seen, strip.watcher, actions.undo]
    back = actions.undo.click(undo, [context.key, actions.discarded], watching, **QUIET)
    back.success(None, strip.watched, None, js=watch_in_browser(context.tab))
