"""Apply the user's changes to a running study, and store the best weights of a seed.

Changes are applied between steps and logged, so that a resumed run repeats them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.engine.parallel import STOP, process_group
from neftune_core.studies import checkpoint
from neftune_core.studies.records.record import Record
from neftune_core.studies.settings import CONTROL
from neftune_core.studies.steering import best_arms
from neftune_core.studies.steering.log import STEERED, stopped_arms, strengths
from neftune_core.studies.steering.requests import Requests, last_seed


class Changes:
    """Applies the changes to one seed; create it after restoring the run and rewinding its log.

    Args:
        run: The training run of the seed.
        record: Record of the study.
        requests: The requests to the study, for all seeds.
    """

    def __init__(self, run: Lockstep, record: Record, requests: Requests) -> None:
        self.run, self.record, self.requests = run, record, requests
        self.is_last = run.study.seed >= last_seed(record.study)
        self.later = defaultdict[int, list[Event]](list)
        self.earlier_strengths = [strength for _, _, strength in strengths(record.events())]
        for event in record.events():
            if event["event"] == STEERED and event.get("seed") == run.study.seed:
                self.earlier_strengths = []
                if event["step"] > run.done:
                    self.later[event["step"]].append(event)
                else:
                    self._apply(event["step"], event["arms"])

    def begin(self) -> Iterator[Event]:
        """Before the first step, apply the last requested strength, if any, and yield the event.

        The request may come from an earlier seed. If the seed starts again, its logged changes are repeated instead.
        """
        group = process_group()
        for arms in group.share(self._first_change() if group.is_first and not self.run.done else []):
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
        """Repeat the changes logged for the step just completed, then apply new requests and yield their events.

        With several processes, only the first one reads requests, and all apply them after the same step. Requests that
        arrive during the final step of a seed are applied in the next seed; in the last seed, they are refused.
        """
        for event in self.later.pop(self.run.done, []):
            self._apply(event["step"], event["arms"])
        if self.run.done == self.run.total:
            return
        group = process_group()
        for arms in group.share([*self._new_changes()] if group.is_first else []):
            self._apply(self.run.done, arms)
            yield {"event": STEERED, "step": self.run.done, "arms": arms}

    def _is_closing(self) -> bool:
        """Return whether a request that arrives later could no longer affect any step."""
        has_arms = any(name != CONTROL.name for name in self.run.names)
        return self.is_last and (not has_arms or 0 < self.run.total <= self.run.done + 1)

    def _first_change(self) -> list[dict[str, dict[str, Any]]]:
        """Return the change before a seed's first step, if any; requests to stop an arm are applied after that step."""
        requests, live = self.requests.new(), self.run.study.live_arm
        self.requests.kept = [one for one in requests if "stop" in one]
        wanted = [*self.earlier_strengths, *(one["strength"] for one in requests if "strength" in one)]
        is_new = wanted and live in self.run.names and wanted[-1] != self.run.study.noise[0].strength
        return [{live: {"strength": float(wanted[-1])}}] if is_new else []

    def _new_changes(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield the new requests as changes by arm: each stop once, and only the last of several strengths.

        A request for an arm that diverged is kept for the next seed, which trains it again.
        """
        requests, live = self.requests.close() if self._is_closing() else self.requests.new(), self.run.study.live_arm
        alive = {*map(self.run.name, self.run.alive)} - {CONTROL.name}
        stops = {str(one["stop"]): one for one in requests if "stop" in one}
        changes = [(live, one) for one in requests if "strength" in one and live not in stops]
        for arm, request in [*stops.items(), *changes[-1:]]:
            if arm not in alive:
                self.requests.kept.append(request)
            elif "stop" in request:
                yield {arm: {"stopped": True}}
            else:
                yield {arm: {"strength": float(request["strength"])}}

    def _apply(self, step: int, arms: Mapping[str, Mapping[str, Any]]) -> None:
        for slot, name in enumerate(self.run.names, start=1):
            change = arms.get(name, {})
            if "strength" in change:
                self.run.noise.set_strength(slot, change["strength"])
            if change.get("stopped"):
                if slot in self.run.alive and process_group().is_first:
                    self.run.stack.save(slot, self.record.arm_folder(name, self.run.study.seed))
                self.run.stop_arm(slot, step)


class BestKeeper:
    """Stores the best weights of one seed; create it after restoring the run and rewinding its log.

    Args:
        run: The training run of the seed.
        record: Record of the study.
    """

    def __init__(self, run: Lockstep, record: Record) -> None:
        self.run, self.record, self.seed = run, record, run.study.seed
        events = [one for one in record.events() if one["event"] == "evaluated" and one.get("seed") == self.seed]
        self.evaluated = [one["step"] for one in events if one["step"] > 0]
        self.found = best_arms.improvements(events, self.seed)
        for name in run.names:  # remove weights from steps that are about to be repeated
            last = record.arm_folder(name, self.seed)
            best_arms.keep_only(last, [step for step in best_arms.stored_steps(last) if step <= run.done])

    def follow(self, event: Event) -> None:
        """Store the weights of every arm that improved in the evaluation `event`; ignore other events.

        The best weights at the last checkpoint are kept until the next one, because a killed run resumes from there.
        """
        if event["event"] != "evaluated" or event["step"] == 0:
            return
        self.evaluated.append(event["step"])
        better = best_arms.follow(self.found, event)
        if not self.run.study.training.keep_best:
            return
        saved = checkpoint.saved_step(self.record.folder)
        for slot in self.run.alive:
            name = self.run.name(slot)
            if name in better:
                last = self.record.arm_folder(name, self.seed)
                self.run.stack.save(slot, best_arms.step_folder(last, event["step"]))
                before = [step for step in self.found[name] if step <= saved]
                best_arms.keep_only(last, {event["step"], *before[-1:]})

    def followed(self, steps: Iterator[Event]) -> Iterator[Event]:
        """Yield and process the events of the training until its end or until early stopping."""
        if not self.is_over:  # true from the start if the run was interrupted after early stopping
            for event in steps:
                self.follow(event)
                yield event
                if self.is_over:
                    break
        if self.is_over and self.run.done < self.run.total:
            process_group().broadcast(STOP)  # the other processes stop before their next step
            if self.seed not in best_arms.ended_early(self.record.events()):
                yield {"event": "ended_early", "step": self.run.done, "steps": self.run.total}
        self.finish()

    @property
    def is_over(self) -> bool:
        """Whether no arm has improved in the last `early_stop` evaluations; False if this setting is 0."""
        patience = self.run.study.training.early_stop
        arms = [self.found[name] for name in map(self.run.name, self.run.alive) if name in self.found]
        if not patience or not arms:
            return False
        latest = max(max(steps) for steps in arms)
        return sum(step > latest for step in self.evaluated) >= patience

    def finish(self) -> None:
        """Keep only the best stored weights of each arm, or none if its final weights are the best."""
        ends = dict.fromkeys(self.run.alive, self.run.done) | self.run.stopped
        for slot, name in enumerate(self.run.names, start=1):
            best = max(self.found.get(name, {}), default=0) if slot in ends else 0
            best_arms.keep_only(self.record.arm_folder(name, self.seed), {best} - {ends.get(slot)})
