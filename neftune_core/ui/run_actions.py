"""What can be done with one study: go on with it, ask its arms, remove it. The Train and the Runs tab have the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from neftune_core.errors import RecordError
from neftune_core.evaluation.verdict import CLAIM_SEEDS
from neftune_core.language import later, say
from neftune_core.training.record import Record
from neftune_core.ui.lab import Lab, require_key
from neftune_core.ui.strip import Strip
from neftune_core.ui.wiring import QUIET, told

if TYPE_CHECKING:
    from neftune_core.training.progress import Status


def watch_in_browser(tab: str) -> str:
    """The script that puts a study into the address and opens the tab where it is watched."""
    return f"(id) => {{ Lab.setParameter('job', id); Lab.openTab('{tab}'); }}"


WATCH_IN_BROWSER = watch_in_browser("Train")
MORE = later("Train more seeds, {count} in all")
FORGET_IN_BROWSER = "() => Lab.setParameter('job', '')"


@dataclass(frozen=True)
class Actions:
    """The buttons under a study. Removing takes two: the second one appears in the place of the first."""

    resume: gr.Button
    more: gr.Button
    compare: gr.Button
    remove: gr.Button
    surely: gr.Button

    def components(self) -> list[Any]:
        return [self.resume, self.more, self.compare, self.remove, self.surely]

    def fitting(self, record: Record, status: Status) -> list[Any]:
        """The buttons that make sense for a study as it stands, as updates of `components()`."""
        usable = not record.is_newer and record.settings_file.is_file()
        more = _more_seeds(record) if status.state == "finished" and usable else 0
        shown = [
            status.can_resume and usable,
            more > 0,
            status.is_over and usable and (record.folder / "arms").is_dir(),
            status.is_over and record.is_owned,
            False,
        ]
        updates = [gr.update(visible=visible) for visible in shown]
        if more:
            updates[1] = gr.update(visible=True, value=say(MORE, count=more))
        return updates

    def hidden(self) -> list[Any]:
        """No button, where there is no study."""
        return [gr.update(visible=False)] * len(self.components())


def _more_seeds(record: Record) -> int:
    """With how many seeds in all the study would say more; 0 if it has as many as can be, or its settings are lost."""
    from neftune_core.training.more_seeds import next_seeds

    try:
        seeds = record.study.seeds
    except RecordError:
        return 0
    return next_seeds(seeds) if next_seeds(seeds) > seeds else 0


def build(prefix: str) -> Actions:
    """The buttons, in a row of their own, none of them shown yet."""
    with gr.Row(elem_id=f"{prefix}-actions", elem_classes=["lab-actions"]):
        return Actions(
            resume=gr.Button(say("Resume"), size="md", visible=False, elem_id=f"{prefix}-resume"),
            more=gr.Button(say(MORE, count=CLAIM_SEEDS), size="md", visible=False, elem_id=f"{prefix}-more"),
            compare=gr.Button(say("Compare the answers"), size="md", visible=False, elem_id=f"{prefix}-compare"),
            remove=gr.Button(say("Discard"), size="md", visible=False, elem_id=f"{prefix}-remove"),
            surely=gr.Button(
                say("Discard for good"), variant="stop", size="md", visible=False, elem_id=f"{prefix}-surely"
            ),
        )


@dataclass(frozen=True)
class Place:
    """Where the buttons are: whose study (`record_id`), what is to be asked (`asked`), what watches it (`seen`), and
    the `tab` to see it in."""

    lab: Lab
    strip: Strip
    key: gr.Textbox
    record_id: gr.Textbox | gr.Dropdown
    asked: gr.Textbox
    seen: gr.State
    tab: str = "Train"


def connect(actions: Actions, place: Place, cleared: Callable[[], list[Any]], shown: list[Any]) -> None:
    """Let the buttons work; once a study is removed, `shown` (components) becomes `cleared()`."""
    lab, strip = place.lab, place.strip

    @told
    def resume(key: str, record_id: str) -> Iterator[list[Any]]:
        record = lab.jobs.resume(record_id, require_key(key))
        yield [record.id, -1, gr.Timer(active=True)]
        yield from lab.attended(record, key)

    @told
    def more(key: str, record_id: str) -> Iterator[list[Any]]:
        record = lab.jobs.extend(record_id, require_key(key))
        yield [record.id, -1, gr.Timer(active=True)]
        yield from lab.attended(record, key)

    @told
    def remove(key: str, record_id: str) -> list[Any]:
        lab.jobs.discard(record_id, require_key(key))
        return [*cleared(), *actions.hidden()]

    chosen = [place.key, place.record_id]
    watching = [strip.watched, place.seen, strip.timer]
    for button, goes_on in ((actions.resume, resume), (actions.more, more)):
        going = button.click(goes_on, chosen, watching, **QUIET, **lab.attending)
        going.success(None, strip.watched, None, js=watch_in_browser(place.tab))
    # A text that is new at each click, so that asking for the same study again is a change as well.
    actions.compare.click(None, place.record_id, place.asked, js="(id) => id + '#' + Date.now()").then(
        None, None, None, js="() => Lab.openTab('Compare')"
    )
    swapped = [gr.update(visible=False), gr.update(visible=True)]
    actions.remove.click(lambda: swapped, None, [actions.remove, actions.surely], **QUIET)
    removed = actions.surely.click(remove, chosen, [*shown, *actions.components()], **QUIET)
    removed.success(None, None, None, js=FORGET_IN_BROWSER)
