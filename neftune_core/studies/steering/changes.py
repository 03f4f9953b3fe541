"""Apply a person's changes to a running study between two steps, and log them, so that a resumed run repeats them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.engine.parallel import process_group
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL
from neftune_core.studies.steering.log import STEERED, stopped_arms, strengths
from neftune_core.studies.steering.requests import Requests, last_seed


class Changes:
    """Applies the changes to one seed; create it after restoring the run and rewinding its log.

    Args:
        run: The run.
        record: Its record.
        requests: The requests to the study, for all seeds.
    """

    def __init__(self, run: Lockstep, record: Record, requests: Requests) -> None:
        self.run, self.record, self.requests = run, record, requests
        self.is_last = run.study.seed >= last_seed(record.study)
        self.later: dict[int, list[Event]] = {}
        self.before: list[float] = [strength for _, _, strength in strengths(record.events())]
        for event in record.events():
            if event["event"] == STEERED and event.get("seed") == run.study.seed:
                self.before = []
                if event["step"] > run.done:
                    self.later.setdefault(event["step"], []).append(event)
                else:
                    self._apply(event["step"], event["arms"])

    def begin(self) -> Iterator[Event]:
        """Before the first step, apply the last requested strength, if any, and yield the event.

        The request may date from an earlier seed. If the seed starts again, its logged changes are repeated instead.
        """
        group = process_group()
        for arms in group.share(self._first() if group.is_first and not self.run.done else []):
            self._apply(0, arms)
            yield {"event": STEERED, "step": 0, "arms": arms}
        if group.is_first and self._is_closing():
            self._close()

    def end(self) -> None:
        """Refuse further requests if this was the last seed, which early stopping may have ended."""
        if self.is_last and process_group().is_first:
            self._close()

    def _close(self) -> None:
        """Refuse all requests from now on, and store in `unmet` those accepted too late to be applied."""
        left, self.requests.kept = self.requests.close() or self.requests.kept, []
        stopped = {arm for arms in stopped_arms(self.record.events()).values() for arm in arms}
        self.requests.unmet += [request for request in left if request.get("stop") not in stopped]

    def __call__(self) -> Iterator[Event]:
        """Repeat the changes logged for the last step, then apply the requested ones and yield their events.

        With several processes, only the first reads requests, and all apply them after the same step. Requests during
        the last step of a seed are left for the next seed; those during the last step of the last seed are refused.
        """
        for event in self.later.pop(self.run.done, []):
            self._apply(event["step"], event["arms"])
        if self.run.done == self.run.total:
            return
        group = process_group()
        asked = [*self._requested()] if group.is_first else []
        for arms in group.share(asked):
            self._apply(self.run.done, arms)
            yield {"event": STEERED, "step": self.run.done, "arms": arms}

    def _is_closing(self) -> bool:
        """Return whether no further step can follow a change."""
        has_arms = any(name != CONTROL.name for name in self.run.names)
        return self.is_last and (not has_arms or 0 < self.run.total <= self.run.done + 1)

    def _first(self) -> list[dict[str, dict[str, Any]]]:
        """Return the change before the first step of a seed, if any; requests to stop wait until that step ends."""
        requests, live = self.requests.new(), self.run.study.live_arm
        self.requests.kept = [one for one in requests if "stop" in one]
        wanted = [*self.before, *(one["strength"] for one in requests if "strength" in one)]
        is_new = wanted and live in self.run.names and wanted[-1] != self.run.study.noise[0].strength
        return [{live: {"strength": float(wanted[-1])}}] if is_new else []

    def _requested(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield the new requests as changes by arm: each stop once, and only the last of several strengths.

        A request for an arm that diverged is kept for the next seed, which trains it again.
        """
        requests, live = self.requests.close() if self._is_closing() else self.requests.new(), self.run.study.live_arm
        alive = {*map(self.run.name, self.run.alive)} - {CONTROL.name}
        stops = {str(one["stop"]): one for one in requests if "stop" in one}
        moved = [(live, one) for one in requests if "strength" in one and live not in stops]
        for arm, request in [*stops.items(), *moved[-1:]]:
            if arm not in alive:
                self.requests.kept.append(request)
            elif "stop" in request:
                yield {arm: {"stopped": True}}
            else:
                yield {arm: {"strength": float(request["strength"])}}

    def _apply(self, step: int, arms: Mapping[str, Mapping[str, Any]]) -> None:
        for name, change in arms.items():
            if name not in self.run.names:
                continue
            slot = self.run.names.index(name) + 1
            if "strength" in change:
                self.run.noise.set_strength(slot, change["strength"])
            if change.get("stopped"):
                if slot in self.run.alive and process_group().is_first:
                    self.run.stack.save(slot, self.record.arm_folder(name, self.run.study.seed))
                self.run.stop_arm(slot, step)
