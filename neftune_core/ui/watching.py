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
from neftune_core.ui.running_arms import arm_rows
from neftune_core.ui.server.addresses import STUDY_PATH
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.recent import Recent
from neftune_core.ui.study_text import progress_text, state_text

OWNER_HEADER = "x-lab-owner"
LONGEST_WAIT_SECONDS, LOOK_SECONDS = 0.9, 0.05
KEPT_FIGURES = 16


@dataclass(frozen=True)
class Asked:
    """The request of a page that watches a study.

    `view` is one of `STUDY_VIEWS`, or "" for no figure. `tag` is that of the figure on the page, or "" for none.
    Without a view, it is the size of the log.
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

    async def respond(self, request: Request) -> ORJSONResponse:
        """Respond as soon as there is something new, or after `LONGEST_WAIT_SECONDS`."""
        query = request.query_params
        code = query.get("language", ENGLISH)
        view = query.get("view", "")
        key, record_id = request.headers.get(OWNER_HEADER, ""), request.path_params["record_id"]
        asked = Asked(record_id, key, view if view in STUDY_VIEWS else "", query.get("tag", ""))
        until = time.monotonic() + LONGEST_WAIT_SECONDS
        answer: dict[str, Any] = {}
        before: tuple[str, int, int] | None = None
        while True:
            now = await run_in_threadpool(self._looked, asked)
            if now is None or now != before:  # computing an answer slows the training
                with language.in_language(code if code in TAGS else ENGLISH):  # the thread has the same context
                    answer = await run_in_threadpool(self.answer, asked)
                before = now
            if _is_news(answer, asked) or time.monotonic() >= until:
                return ORJSONResponse(answer, headers={"Cache-Control": "no-store"})
            await asyncio.sleep(LOOK_SECONDS)

    def _looked(self, asked: Asked) -> tuple[str, int, int] | None:
        """Return a value that changes whenever the answer does; None if the study does not exist."""
        try:
            record = find(asked.record_id, require_key(asked.key))
        except RecordError:
            return None
        status = self.lab.jobs.status(record)
        return status.state, status.place, self.lab.log(record).size

    def answer(self, asked: Asked) -> dict[str, Any]:
        """Return what is new in a study; `{"gone": True}` if it does not exist.

        That is `running`; `state`, `progress` and `arms` as HTML; and the `size` of the log. With a view also `tag`,
        and either the whole `figure` or its `changes` since the tag of the page, unless the tag is unchanged.
        """
        try:
            record = find(asked.record_id, require_key(asked.key))
        except RecordError:
            return {"gone": True}
        status, log = self.lab.jobs.status(record), self.lab.log(record)
        events, size = log.events, log.size
        news = {
            "running": not status.is_over,
            "state": state_text(record, status, log, judged=False),
            "progress": progress_text(record, status),
            "arms": arm_rows(record, status, log),
            "size": size,
        }
        return news | (self._grown(record, events, asked) if asked.view else {})

    def _grown(self, record: Record, events: list[Event], asked: Asked) -> dict[str, Any]:
        tag = tag_of(events)
        if tag == asked.tag:
            return {"tag": tag}
        new, old = self._figure(record, events, asked.view), None
        count = asked.tag.partition("-")[0]
        before = events[: int(count)] if count.isdecimal() and len(count) < 10 else []
        if before and tag_of(before) == asked.tag:
            old = self._figure(record, before, asked.view)
        more = changes(old, new) if old else None
        return {"tag": tag, **({"changes": more} if more else {"figure": new})}

    def _figure(self, record: Record, events: list[Event], view: str) -> Figure:
        """Return the figure of these events, from the cache of recent figures if possible."""
        name = record.id, view, language.current(), tag_of(events)
        return self._figures.cached(name, lambda: curves_of(record, events, view))


def _is_news(answer: Mapping[str, Any], asked: Asked) -> bool:
    """Return whether an answer is sent immediately; a figure is not sent before it has its first point."""
    if not answer.get("running"):
        return True
    if not asked.view:
        return str(answer["size"]) != asked.tag
    return answer["tag"] != asked.tag and bool(answer.get("changes") or answer["figure"]["data"])


def tag_of(events: list[Event]) -> str:
    """Return the number of events with a checksum of the last one; the checksum differs if a run has resumed since."""
    return f"{len(events)}-{zlib.crc32(json.dumps(events[-1]).encode()) if events else 0:x}"
