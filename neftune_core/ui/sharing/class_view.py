"""The view of a class opened by a link such as `?class=K7M2QX`: join the class, and see figures of all its studies.

The board of a class shows numbers and curves of its studies, but no text written by students.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from neftune_core.errors import LabError, RecordError
from neftune_core.figures import Figure
from neftune_core.figures.base import changes
from neftune_core.figures.class_overlay import ClassStudy, class_curves, class_differences
from neftune_core.figures.colours import CONTROL
from neftune_core.figures.curves import downsample, gather_losses, mean_of_seeds, shared_seeds
from neftune_core.language import later, plural, say
from neftune_core.studies.records.record import ENDINGS, Record, asked_from
from neftune_core.studies.results import mean_results
from neftune_core.studies.sharing.classes import Classroom, end_class, find_class, join_class, leave_class
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.plot import live_figure
from neftune_core.ui.parts.wiring import QUIET, events, in_browser, reports_errors, show_error
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.rate_limits import MINUTE, TooManyCalls, Window
from neftune_core.ui.server.recent import Recent
from neftune_core.ui.sharing.link_panel import NOT_HERE

SECONDS = 1.0
"""Polling interval of the page."""
BOARD_SECONDS = 0.5
"""Maximum age of a board; with the polling interval, a page shows a board at most two seconds old."""
KEPT_CLASSES, KEPT_STUDIES, KEPT_BOARDS = 50, 3_000, 100
LOSS = "held_out_loss"
SEND_VERSION = in_browser("[code, Lab.figureTag('class-curves')]", "code, held")
"""Script that sends the version of the board on the page to the server."""
STORE_CODE = in_browser("Lab.sharing.keep(code)", "code")
"""Script that stores the code of the class that the visitor has joined."""
UNKNOWN = "?"
"""Code of the joined class before the first response."""
LOOKS_A_MINUTE = 200
"""Classes that one IP address can open per minute: enough for a school, too few to guess codes."""
TOO_MANY_OPENED = later(
    "Too many classes were opened from your IP address within a minute: wait a moment, then try again."
)
CONSENT = later(
    "If you join, each study that you start from now on will be shown in the class under a number: its strengths, "
    "curves and differences, but none of your texts, rows or answers. You can leave at any time; the class then no "
    "longer shows your studies."
)
MEMBER = later(
    "You are number {number}: the studies that you have started since you joined are shown under this number."
)
TEACHER = later(
    "You created this class. “Copy link” in the header shows its link and QR code, with the page's current settings."
)


@dataclass(frozen=True)
class Board:
    """The content of a class's board.

    Attributes:
        version: Hash of the content.
        students: Number of students.
        studies: Studies with a held-out loss.
        unmeasured: Number of studies without a held-out loss.
    """

    version: int
    students: int
    studies: tuple[ClassStudy, ...]
    unmeasured: int

    @property
    def over(self) -> int:
        """Number of studies with a final difference from the control."""
        return sum(bool(study.differences) for study in self.studies)


class ClassBoards:
    """The boards of all classes on one server; a study is read again only if its log has grown."""

    def __init__(self) -> None:
        self._boards: Recent[tuple[float, Board]] = Recent(KEPT_CLASSES)
        self._shown: Recent[Board] = Recent(KEPT_BOARDS)
        self._studies: Recent[tuple[int, ClassStudy]] = Recent(KEPT_STUDIES)
        self._guard = threading.Lock()

    def of(self, room: Classroom) -> Board:
        """Return the board of a class, computed at most `BOARD_SECONDS` seconds ago."""
        with self._guard:
            made, board = self._boards.get(room.code, (float("-inf"), None))
            if board is None or time.monotonic() - made >= BOARD_SECONDS or board.students != len(room.students):
                board = self._read(room)
                self._shown[room.code, board.version] = board
                self._boards[room.code] = time.monotonic(), board
            return board

    def shown(self, code: str, version: int) -> Board | None:
        """Return a version of a board that a page shows.

        Args:
            code: Code of the class.
            version: Version of the board.

        Returns:
            The board; None if it is no longer cached.
        """
        with self._guard:
            return self._shown.get((code, version))

    def _read(self, room: Classroom) -> Board:
        found = [self._study(number, record) for number, record in room.records()]
        shown = tuple(study for study in found if study is not None and study.curves)
        version = hash((len(room.students), tuple((one.student, _sizes(one)) for one in shown)))
        return Board(version, len(room.students), shown, len(found) - len(shown))

    def _study(self, number: int, record: Record) -> ClassStudy | None:
        """Return a study, from the cache if its log has not grown; None if it cannot be read."""
        try:
            size = (record.folder / "events.jsonl").stat().st_size
            known = self._studies.get(record.id)
            if known is None or known[0] != size or known[1].student != number:
                self._studies[record.id] = known = size, class_study(number, record)
            return known[1]
        except (OSError, LabError, ArithmeticError, LookupError, TypeError, ValueError):
            return None  # before its first event, removed in the meantime, or damaged


def _sizes(study: ClassStudy) -> tuple[object, ...]:
    curves = tuple((name, len(steps), losses[-1]) for name, (steps, losses) in study.curves.items())
    return curves, tuple(study.differences.items())


def class_study(number: int, record: Record) -> ClassStudy:
    """Return the numbers of a study that its class can see.

    Args:
        number: Number of the student.
        record: Record of the study.

    Returns:
        The arms, their held-out losses and, once the study has ended, their differences from the control, without text.
    """
    events = record.events()
    arms, shared, losses = record.arms, shared_seeds(events), gather_losses(events)[LOSS]
    curves = {arm: downsample(*mean_of_seeds(losses[arm], shared)) for arm in arms if arm in losses}
    is_over = any(event["event"] in ENDINGS for event in events)
    return ClassStudy(number, arms, curves, _differences(record) if is_over and len(curves) > 1 else {})


def _differences(record: Record) -> dict[str, float]:
    last = mean_results(record).last
    control = last.get(CONTROL, {}).get(LOSS)
    if control is None:
        return {}
    return {
        name: found[LOSS] - control for name, found in last.items() if name not in (CONTROL, "base") and LOSS in found
    }


@dataclass(frozen=True)
class ClassView:
    """The components of a class.

    Attributes:
        code: Code of the opened class, stored on the server only.
        version: Version of the board on the page, from `SEND_VERSION`.
        joined: Code of the joined class, which `STORE_CODE` stores in the browser.
        about: The visitor's role, or the terms of joining.
        timer: Polls the board while it is shown.
    """

    code: gr.State
    version: gr.Textbox
    joined: gr.Textbox
    box: gr.Column
    about: gr.HTML
    buttons: dict[str, gr.Button]
    board: gr.Column
    counts: gr.HTML
    figures: list[gr.HTML]
    timer: gr.Timer

    def shown(self) -> list[Any]:
        """Return the components that `_opened` updates."""
        return [self.code, self.joined, self.box, self.about, *self.buttons.values(), self.board, self.timer]

    def drawn(self) -> list[Any]:
        """Return the components of the board."""
        return [self.counts, *self.figures]


def build(lab: Lab, key: gr.Textbox) -> None:
    """Build the view of the class in the link, above the tabs; without such a link the server is not called.

    Args:
        lab: The state shared by all visitors.
        key: Component with the visitor's key.
    """
    view, looks = _components(), Window(LOOKS_A_MINUTE, MINUTE)
    asked = gr.Textbox("", visible=False, label=say("Class in the link"), elem_id="class-asked")
    events(key).change(None, None, asked, js=in_browser("Lab.sharing.code()"))

    @reports_errors
    def open_class(key: str, code: str) -> list[Any]:
        """Open a class.

        Args:
            key: The visitor's key.
            code: Code of the class.

        Returns:
            Updates of the outputs.

        Raises:
            TooManyCalls: If this IP address has tried too many codes.
        """
        if looks.wait(asked_from.get()):
            raise TooManyCalls(say(TOO_MANY_OPENED))
        try:
            if not lab.limits.sharing:
                raise RecordError(say(NOT_HERE))
            room = find_class(code)
        except RecordError as error:
            return _closed(view, str(error))
        return _opened(room, require_key(key))

    opened = events(asked).change(open_class, [key, asked], view.shown(), **QUIET)
    opened.success(None, view.joined, None, js=STORE_CODE)
    clicked = _connect_buttons(view, key)
    _connect_board(view, [opened.success, clicked["show"].success])


def _components() -> ClassView:
    names: dict[str, tuple[str, Literal["primary", "secondary", "stop"]]] = {
        "join": (say("Join the class"), "primary"),
        "show": (say("Show the class"), "secondary"),
        "hide": (say("Hide the class"), "secondary"),
        "leave": (say("Leave the class"), "secondary"),
        "end": (say("End the class"), "stop"),
    }
    with gr.Column(elem_id="lab-class", visible=False) as box:
        about = gr.HTML(elem_id="class-about", apply_default_css=False)
        with gr.Row(elem_classes=["lab-actions"]):
            buttons = {
                name: gr.Button(words, variant=variant, size="md", visible=False, elem_id=f"class-{name}")
                for name, (words, variant) in names.items()
            }
        with gr.Column(visible=False) as board:
            counts = gr.HTML(elem_id="class-counts", apply_default_css=False)
            with gr.Row(elem_id="class-figures"):
                figures = [live_figure(elem_id="class-curves"), live_figure(elem_id="class-differences")]
    joined = gr.Textbox(UNKNOWN, visible=False, label=say("Class in the link"))
    timer = gr.Timer(SECONDS, active=False)
    version = gr.Textbox("", visible=False, label=say("Class in the link"))
    return ClassView(gr.State(""), version, joined, box, about, buttons, board, counts, figures, timer)


def _opened(room: Classroom, owner: str, *, shows: bool | None = None) -> list[Any]:
    """Return the updates that show a class; `shows` opens the board, by default only for the teacher."""
    student, is_teacher = room.student(owner), room.is_of(owner)
    shows = is_teacher if shows is None else shows
    words = say(MEMBER, number=student.number) if student else say(TEACHER if is_teacher else CONSENT)
    visible = {
        "join": not student and not is_teacher,
        "show": not shows,
        "hide": shows,
        "leave": student is not None,
        "end": is_teacher,
    }
    return [
        room.code,
        room.code if student else "",
        gr.update(visible=True),
        _about_html(say("Class {code}", code=room.code), words),
        *[gr.update(visible=one) for one in visible.values()],
        gr.update(visible=shows),
        gr.Timer(active=shows),
    ]


def _closed(view: ClassView, words: str) -> list[Any]:
    """Return the updates for a class that cannot be opened, with the reason; the browser forgets its code."""
    hidden = [gr.update(visible=False)] * (len(view.buttons) + 1)
    return ["", "", gr.update(visible=True), _about_html(say("Class"), words), *hidden, gr.Timer(active=False)]


def _about_html(head: str, words: str) -> str:
    return f"<h2>{html.escape(head)}</h2><p>{html.escape(words)}</p>"


def _connect_buttons(view: ClassView, key: gr.Textbox) -> dict[str, Any]:
    """Connect the buttons, and return their click events by name."""

    def opened_after(action: Callable[[str, str], Any], shows: bool | None = None) -> Callable[..., list[Any]]:
        def handle(key: str, code: str) -> list[Any]:
            action(code, require_key(key))
            return _opened(find_class(code), key, shows=shows)

        return handle

    def end(key: str, code: str) -> list[Any]:
        """End a class.

        Args:
            key: The visitor's key.
            code: Code of the class.

        Returns:
            Updates of the outputs.
        """
        end_class(code, require_key(key))
        return _closed(view, say("The class has ended; everyone keeps their own studies."))

    handlers = {
        "join": opened_after(join_class),
        "leave": opened_after(leave_class),
        "show": opened_after(lambda code, key: None, shows=True),
        "hide": opened_after(lambda code, key: None, shows=False),
        "end": end,
    }
    clicked = {}
    for name, handler in handlers.items():
        handler.__name__ = name  # Gradio derives endpoint names from this name
        clicked[name] = view.buttons[name].click(reports_errors(handler), [key, view.code], view.shown(), **QUIET)
        clicked[name].success(None, view.joined, None, js=STORE_CODE)
    return clicked


def _connect_board(view: ClassView, opened: list[Any]) -> None:
    """Draw the board after the `opened` events, and update it while it is shown."""
    boards = ClassBoards()
    outputs = [*view.drawn(), view.timer]
    unchanged = [gr.skip()] * len(outputs)

    @reports_errors
    def update(code: str, version: str) -> list[Any]:
        """Redraw the board if it has changed.

        Args:
            code: Code of the open class; "" for none.
            version: Version of the board on the page.

        Returns:
            Updates of the outputs.
        """
        try:
            board = boards.of(find_class(code)) if code else None
        except RecordError as error:  # the class has ended
            show_error(error)
            return [*unchanged[:-1], gr.Timer(active=False)]
        if board is None or str(board.version) == version:
            return unchanged
        before = boards.shown(code, int(version)) if version.lstrip("-").isdecimal() else None
        return [_counts_html(board), *_figure_updates(board, before), gr.skip()]

    for whenever in (view.timer.tick, *opened):
        whenever(update, [view.code, view.version], outputs, js=SEND_VERSION, **QUIET)


def _figure_updates(board: Board, before: Board | None) -> list[Figure]:
    """Return the figures of a board, or only their changes since `before`, the board on the page."""
    new = _figures(board)
    grown = [changes(old, now) for old, now in zip(_figures(before), new, strict=True)] if before else []
    return [{"since": str(before.version), **one} for one in grown if one] if before and all(grown) else new


def _figures(board: Board) -> list[Figure]:
    return [drawn(board.studies) | {"tag": str(board.version)} for drawn in (class_curves, class_differences)]


def _counts_html(board: Board) -> str:
    studies = len(board.studies) + board.unmeasured
    numbers = (
        (board.students, plural(board.students, "student", "students")),
        (studies, plural(studies, "study", "studies")),
        (board.over, later("finished")),
    )
    counts = " · ".join(f"<b>{count:,}</b> {say(words)}" for count, words in numbers)
    waiting = say("Studies without a held-out loss are counted, but not plotted: {count}.", count=board.unmeasured)
    return f"<p>{counts}</p>" + (quiet(waiting) if board.unmeasured else "")
