"""The endpoint that a page polls about once a second while it watches a study, outside of Gradio's queue.

A call through the queue takes two requests, transfers whole values and can lose its response. The responses of this
endpoint are small, need no session and can be repeated at any time. `assets/page/watch.js` shows them.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradio.routes import ORJSONResponse  # writes NaN as null
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Route

from neftune_core import language
from neftune_core.errors import RecordError
from neftune_core.figures import Figure
from neftune_core.figures.base import changes
from neftune_core.language import ENGLISH, TAGS
from neftune_core.studies.records.log import Event
from neftune_core.studies.records.record import Record, find
from neftune_core.ui.parts.study_views import STUDY_VIEWS, curves_of
from neftune_core.ui.server.addresses import STUDY_PATH
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.recent import Recent
from neftune_core.ui.study_text import arm_rows, progress_text, state_text

OWNER_HEADER = "x-lab-owner"
LONGEST_WAIT_SECONDS, POLL_SECONDS = 0.9, 0.05
KEPT_FIGURES = 16


@dataclass(frozen=True)
class UpdateRequest:
    """The request of a page that watches a study.

    Attributes:
        view: One of `STUDY_VIEWS`; "" for no figure.
        tag: Tag of the figure on the page, "" for none; without a view, the size of the log.
    """

    record_id: str
    key: str
    view: str = ""
    tag: str = ""


class Studies:
    """The handler of requests from pages that watch a study."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._figures: Recent[Figure] = Recent(KEPT_FIGURES)

    def route(self) -> Route:
        """Return the route of the endpoint."""
        return Route(f"/{STUDY_PATH}/{{record_id}}", self.respond)

    async def respond(self, call: Request) -> ORJSONResponse:
        """Respond as soon as there is something new, or after `LONGEST_WAIT_SECONDS`."""
        query = call.query_params
        code = query.get("language", ENGLISH)
        view = query.get("view", "")
        key, record_id = call.headers.get(OWNER_HEADER, ""), call.path_params["record_id"]
        request = UpdateRequest(record_id, key, view if view in STUDY_VIEWS else "", query.get("tag", ""))
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        answer: dict[str, Any] = {}
        before: tuple[str, int, int] | None = None
        while True:
            now = await run_in_threadpool(self._version, request)
            if now is None or now != before:  # computing an answer slows the training
                with language.in_language(code if code in TAGS else ENGLISH):  # the thread has the same context
                    answer = await run_in_threadpool(self.answer, request)
                before = now
            if _is_new(answer, request) or time.monotonic() >= until:
                return ORJSONResponse(answer, headers={"Cache-Control": "no-store"})
            await asyncio.sleep(POLL_SECONDS)

    def _version(self, request: UpdateRequest) -> tuple[str, int, int] | None:
        """Return a value that changes whenever the answer does; None if the study does not exist."""
        try:
            record = find(request.record_id, require_key(request.key))
        except RecordError:
            return None
        status = self.lab.jobs.status(record)
        return status.state, status.place, record.read_log().size

    def answer(self, request: UpdateRequest) -> dict[str, Any]:
        """Return what is new in a study; `{"gone": True}` if the study does not exist.

        The answer has `running`, the `size` of the log, and `state`, `progress` and `arms` as HTML. With a view it also
        has `tag` and, if the tag has changed, the whole `figure` or its `changes` since the tag of the request.
        """
        try:
            record = find(request.record_id, require_key(request.key))
        except RecordError:
            return {"gone": True}
        status, log = self.lab.jobs.status(record), record.read_log()
        events, size = log.events, log.size
        news = {
            "running": not status.is_over,
            "state": state_text(record, status, log, judged=False),
            "progress": progress_text(record, status),
            "arms": arm_rows(record, status, log),
            "size": size,
        }
        return news | (self._figure_update(record, events, request) if request.view else {})

    def _figure_update(self, record: Record, events: list[Event], request: UpdateRequest) -> dict[str, Any]:
        tag = tag_of(events)
        if tag == request.tag:
            return {"tag": tag}
        new, old = self._figure(record, events, request.view), None
        count = request.tag.partition("-")[0]
        before = events[: int(count)] if count.isdecimal() and len(count) < 10 else []
        if before and tag_of(before) == request.tag:
            old = self._figure(record, before, request.view)
        more = changes(old, new) if old else None
        return {"tag": tag, **({"changes": more} if more else {"figure": new})}

    def _figure(self, record: Record, events: list[Event], view: str) -> Figure:
        """Return the figure of these events, from the cache of recent figures if possible."""
        name = record.id, view, language.current(), tag_of(events)
        return self._figures.cached(name, lambda: curves_of(record, events, view))


def _is_new(answer: Mapping[str, Any], request: UpdateRequest) -> bool:
    """Return whether an answer is sent immediately; a figure is not sent before it has its first point."""
    if not answer.get("running"):
        return True
    if not request.view:
        return str(answer["size"]) != request.tag
    return answer["tag"] != request.tag and bool(answer.get("changes") or answer["figure"]["data"])


def tag_of(events: list[Event]) -> str:
    """Return the number of events with a checksum of the last one; the checksum differs if a run has resumed since."""
    return f"{len(events)}-{zlib.crc32(json.dumps(events[-1]).encode()) if events else 0:x}"
