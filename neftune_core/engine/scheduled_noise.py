"""The noise of every arm, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from neftune_core.noise.batch import ArmNoise
from neftune_core.noise.schedules import AdaptiveSchedule, multipliers
from neftune_core.noise.settings import NoiseSettings


class ScheduledNoise:
    """The noise of the arms in the slots from 1 on, over the steps of a run.

    `adaptive` holds the schedules that follow the training loss, by slot: all that a run has to keep. Raises
    `InvalidSetting` for noise on a layer beyond the model's `layers`.
    """

    def __init__(self, arms: Iterable[NoiseSettings], layers: int) -> None:
        self._arms = dict(enumerate(arms, start=1))
        self._sites = {slot: noise.site_numbers(layers) for slot, noise in self._arms.items()}
        self.adaptive = {slot: AdaptiveSchedule() for slot, noise in self._arms.items() if noise.schedule == "adaptive"}
        self._multipliers: dict[int, list[float]] = {}

    def plan(self, total: int) -> None:
        """Spread the schedules that go by the time over `total` steps; before that, all are at the beginning."""
        self._multipliers = {
            slot: multipliers(noise.schedule, total, point=noise.schedule_point, equal_energy=noise.equal_energy)
            for slot, noise in self._arms.items()
            if slot not in self.adaptive
        }

    def at(self, step: int, slots: Sequence[int]) -> dict[int, ArmNoise]:
        """The noise of some slots in a step (from 1)."""
        return {
            slot: ArmNoise(self._arms[slot], self._sites[slot], multiplier=self._multiplier(slot, step))
            for slot in slots
        }

    def full(self, slot: int) -> ArmNoise:
        """The noise of a slot at its full strength, whatever its schedule."""
        return ArmNoise(self._arms[slot], self._sites[slot])

    def is_scheduled(self, slot: int) -> bool:
        """Whether the noise of a slot changes over the run."""
        return self._arms[slot].schedule != "constant" and not self._arms[slot].is_silent

    def follow(self, losses: Mapping[int, float]) -> None:
        """Take the training losses of a step into account, by slot."""
        for slot, schedule in self.adaptive.items():
            if slot in losses:
                schedule.follow(losses[slot])

    def _multiplier(self, slot: int, step: int) -> float:
        if slot in self.adaptive:
            return self.adaptive[slot].multiplier
        planned = self._multipliers.get(slot)
        return planned[step - 1] if planned else 1.0
