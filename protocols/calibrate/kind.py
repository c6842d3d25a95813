"""What every kind of calibration is: settings that know what they stand on, how to measure, and how to draw it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt, Le

from labctl.calibration.record import ArrayNote, Calibration, Value
from labctl.frozen import Frozen
from labctl.steps import Role

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from labctl.steps import StepSetting
    from protocols.calibrate.bench import Bench

HOUR_S, DAY_S = 3_600.0, 86_400.0

BETWEEN_S, BETWEEN_SIMULATED_S = 0.12, 0.002
"""From one exposure to the next, roughly, settling and transfer included: as measured through the real drivers."""


@dataclass(frozen=True)
class Found:
    """What a kind found out: see `CalibrationRecord` for the parts. arrays: name → (array, what it is)."""

    values: Mapping[str, Value]
    arrays: Mapping[str, tuple[npt.NDArray[Any], ArrayNote]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    holds_for: Mapping[str, Any] = field(default_factory=dict)


class Kind(Frozen):
    """Settings of one kind of calibration. Frozen models: the same settings find the same calibration again."""

    name: ClassVar[str]
    title: ClassVar[str]
    """As a heading."""

    version: ClassVar[int] = 1
    """Raise it when the method changes: older results are stale then."""

    after: ClassVar[tuple[str, ...]] = ()
    """Kinds that it stands on; they are measured first when they are missing or stale."""

    needs: ClassVar[frozenset[Role]] = frozenset({"mask", "scene", "camera"})
    beliefs: ClassVar[tuple[str, ...]] = ()
    """Sections of the twin in whose terms its values are told: `optics`, `panel`, `sensor`, ..., or `roads`."""

    max_age_s: Annotated[float, Gt(0), Le(366 * DAY_S)] = DAY_S
    """For how long it counts."""

    @abstractmethod
    def exposures(self, setting: StepSetting) -> int:
        """About how many frames it takes; for the plan."""

    def exposure_seconds(self, setting: StepSetting) -> float:
        """About how long its exposures are in all, without settling and transfer; for the plan."""
        return 0.01 * self.exposures(setting)

    def seconds(self, setting: StepSetting) -> float:
        """About how long it takes in all; for the plan."""
        between_s = BETWEEN_SIMULATED_S if setting.rig.simulated else BETWEEN_S
        return self.exposure_seconds(setting) + between_s * self.exposures(setting)

    @abstractmethod
    def measure(self, bench: Bench) -> Found:
        """Do it. What it stands on is in `bench.built_on`. Raises by `bench.refuse` when the frames do not allow it."""

    @abstractmethod
    def draw(self, calibration: Calibration) -> Figure:
        """The one-page plot: what was measured, what was concluded, in units, with the uncertainty to be seen."""

    def method(self) -> dict[str, Any]:
        """The settings that decide the result, as they stand in the record."""
        return self.model_dump(mode="json", exclude={"max_age_s"})
