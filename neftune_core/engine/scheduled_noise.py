"""The noise of every arm and the values of its methods at every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from neftune_core.engine.methods.registry import METHODS
from neftune_core.engine.settings import MethodSettings, spans
from neftune_core.noise.batch import ArmNoise
from neftune_core.noise.schedules import AdaptiveSchedule, multipliers
from neftune_core.noise.settings import NoiseSettings


class ScheduledNoise:
    """The noise of the arms (slots 1 and up) at every step of a run.

    Attributes:
        adaptive: Schedules that follow the training loss, by slot; the only state of this object in a checkpoint.

    Args:
        arms: Noise of every arm, in slot order from slot 1.
        layers: Number of layers of the model.
        tables: Whether the model has per-layer embedding tables.

    Raises:
        InvalidSetting: If an arm has noise on a layer beyond `layers`, or on tables that the model lacks.
    """

    def __init__(self, arms: Iterable[NoiseSettings], layers: int, *, tables: bool = False) -> None:
        self._arms = dict(enumerate(arms, start=1))
        self._sites = {slot: noise.site_numbers(layers, tables=tables) for slot, noise in self._arms.items()}
        self.adaptive = {slot: AdaptiveSchedule() for slot, noise in self._arms.items() if noise.schedule == "adaptive"}
        self._multipliers: dict[int, list[float]] = {}

    def plan(self, total: int, restarts: Sequence[int] = ()) -> None:
        """Compute the time-based schedules for `total` steps. Before this call, their multipliers are 1.

        Args:
            total: Number of steps.
            restarts: Steps after which the schedules start again.
        """
        self._multipliers = {
            slot: _planned(noise, total, restarts, equal_energy=noise.equal_energy)
            for slot, noise in self._arms.items()
            if slot not in self.adaptive
        }

    def set_strength(self, slot: int, strength: float) -> None:
        """Change the strength of an arm's noise starting with the next step.

        Args:
            slot: Slot of the arm.
            strength: New strength, in the arm's unit.
        """
        self._arms[slot] = self._arms[slot].with_strength(strength)

    def at(self, step: int, slots: Sequence[int]) -> dict[int, ArmNoise]:
        """Return the noise at a step.

        Args:
            step: Number of the step, from 1.
            slots: Slots whose noise to return.

        Returns:
            The noise by slot.
        """
        return {
            slot: ArmNoise(self._arms[slot], self._sites[slot], multiplier=self._multiplier(slot, step))
            for slot in slots
        }

    def full(self, slot: int) -> ArmNoise:
        """Return the noise of a slot at full strength, without its schedule."""
        return ArmNoise(self._arms[slot], self._sites[slot])

    def is_scheduled(self, slot: int) -> bool:
        """Return whether the noise of a slot changes over the run."""
        return self._arms[slot].schedule != "constant" and not self._arms[slot].is_silent

    def follow(self, losses: Mapping[int, float]) -> None:
        """Update the adaptive schedules with the training losses of a step, by slot."""
        for slot, schedule in self.adaptive.items():
            if slot in losses:
                schedule.follow(losses[slot])

    def _multiplier(self, slot: int, step: int) -> float:
        if slot in self.adaptive:
            return self.adaptive[slot].multiplier
        planned = self._multipliers.get(slot)
        return planned[step - 1] if planned else 1.0


class ScheduledMethods:
    """The values of the methods of every arm at every step of a run.

    Args:
        arms: Settings of every arm by slot, with a value for every method.
    """

    def __init__(self, arms: Mapping[int, MethodSettings]) -> None:
        self.values = {slot: arm.values for slot, arm in arms.items()}
        self._arms = {slot: arm for slot, arm in arms.items() if arm.schedule != "constant"}
        self._multipliers: dict[int, list[float]] = {}

    def of(self, name: str) -> dict[int, float]:
        """Return the value of one method by slot, without its schedule."""
        return {slot: own[name] for slot, own in self.values.items()}

    def plan(self, total: int, restarts: Sequence[int] = ()) -> None:
        """Compute the schedules of the methods for `total` steps. Before this call, their multipliers are 1.

        Args:
            total: Number of steps.
            restarts: Steps after which the schedules start again.
        """
        self._multipliers = {slot: _planned(arm, total, restarts) for slot, arm in self._arms.items()}

    def at(self, step: int) -> dict[int, dict[str, float]]:
        """Return the values at a step (counted from 1), by slot and method."""
        found = dict(self.values)
        for slot, planned in self._multipliers.items():
            if planned:
                scheduled = {
                    name: value * planned[step - 1] for name, value in found[slot].items() if METHODS[name].scheduled
                }
                found[slot] = found[slot] | scheduled
        return found


def _planned(
    arm: NoiseSettings | MethodSettings, total: int, restarts: Sequence[int], *, equal_energy: bool = False
) -> list[float]:
    """Return the schedule multiplier of every step. The schedule starts again after each step in `restarts`."""
    return [
        value
        for start, end in spans(total, restarts)
        for value in multipliers(arm.schedule, end - start, point=arm.schedule_point, equal_energy=equal_energy)
    ]
