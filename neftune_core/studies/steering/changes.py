"""What a person changes in a running study, applied between two steps and logged, so that a resumed run repeats it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.engine.parallel import process_group
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL
from neftune_core.studies.steering.log import STEERED
from neftune_core.studies.steering.requests import Requests


class Changes:
    """The changes of one seed; create it after the run was restored and its log rewound.

    Args:
        run: The run.
        record: Its record.
    """

    def __init__(self, run: Lockstep, record: Record) -> None:
        self.run, self.record, self.requests = run, record, Requests(record)
        self.later: dict[int, list[Event]] = {}
        for event in record.events():
            if event["event"] == STEERED and event.get("seed") == run.study.seed:
                if event["step"] > run.done:
                    self.later.setdefault(event["step"], []).append(event)
                else:
                    self._apply(event["step"], event["arms"])

    def __call__(self) -> Iterator[Event]:
        """Repeat the logged changes of the last step, then apply and yield the requested ones.

        With several processes, only the first reads requests, and all apply them after the same step.
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

    def _requested(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield the new requests as changes by arm: each stop once, and the last strength of a slider that moves."""
        requests = [*self.requests.new()]
        stops = {str(one["stop"]): one for one in requests if "stop" in one}
        strengths = [one for one in requests if "strength" in one and self.run.study.live_arm not in stops]
        yield from filter(None, map(self._asked, [*stops.values(), *strengths[-1:]]))

    def _asked(self, request: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the change of each arm; empty if the request is of an arm that is not trained any more."""
        arm, strength = request.get("stop"), request.get("strength")
        if isinstance(strength, int | float):
            live = self.run.study.live_arm
            return {live: {"strength": float(strength)}} if live in map(self.run.name, self.run.alive) else {}
        alive = [name for name in map(self.run.name, self.run.alive) if name != CONTROL.name]
        return {str(arm): {"stopped": True}} if arm in alive else {}

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
