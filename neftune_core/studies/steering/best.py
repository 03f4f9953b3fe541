"""Store the weights of every arm's best evaluation during a run, and decide when to stop early."""

from __future__ import annotations

from collections.abc import Iterator

from neftune_core.engine.lockstep import Event, Lockstep
from neftune_core.engine.parallel import STOP, process_group
from neftune_core.studies import checkpoint
from neftune_core.studies.records.record import Record
from neftune_core.studies.steering import best_arms


class BestKeeper:
    """Stores the best weights of one seed; create it after restoring the run and rewinding its log.

    Args:
        run: The run.
        record: Its record.
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

        The best weights as of the last checkpoint are kept until the next checkpoint, because a killed run resumes from
        the last one.
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
        """Whether the number of evaluations since any arm last improved has reached the patience of early stopping."""
        patience = self.run.study.training.early_stop
        arms = [self.found[name] for name in map(self.run.name, self.run.alive) if name in self.found]
        if not patience or not arms:
            return False
        latest = max(max(steps) for steps in arms)
        return sum(step > latest for step in self.evaluated) >= patience

    def finish(self) -> None:
        """Keep only the best stored weights of each arm, or none if its last weights are the best."""
        ends = dict.fromkeys(self.run.alive, self.run.done) | self.run.stopped
        for slot, name in enumerate(self.run.names, start=1):
            best = max(self.found.get(name, {}), default=0) if slot in ends else 0
            best_arms.keep_only(self.record.arm_folder(name, self.seed), {best} - {ends.get(slot)})
