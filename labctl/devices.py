"""The devices of a rig: `Display`, `Camera`, `Instrument`, and how a plug-in offers one.

Simulated, emulated and real devices have these very interfaces. They also have the shape of `bluesky.protocols`
(`stage`, `unstage`, `read`, `describe`), so that its plans can drive them; see `labctl/bluesky_shape.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from labctl.exposure import Exposure, Frames, FrameTag
from labctl.frozen import Frozen

Levels = npt.NDArray[np.uint8]


@runtime_checkable
class Device(Protocol):
    """What every device can do."""

    name: str

    def open(self) -> None:
        """Connect and reach the safe state. Raises HardwareError with the cause."""

    def safe(self) -> None:
        """Reach the safe state (blank, dark, closed) from any state. May be called twice, and after errors."""

    def close(self) -> None:
        """Let go of the hardware. May be called twice."""

    def describe_device(self) -> dict[str, Any]:
        """Identity and limits as plain JSON values, for the run record."""


class Playback(Protocol):
    """A pattern sequence under way."""

    def wait(self, timeout_s: float) -> npt.NDArray[np.float64]:
        """Wait for the end; returns the true dwell time of every pattern in seconds. Raises DeviceTimeout."""


@runtime_checkable
class Display(Device, Protocol):
    """Shows uint8 levels: the SLM, or the monitor that plays the scene."""

    shape: tuple[int, int]
    """(rows, columns) of the panel in its own pixels."""

    settle_s: float
    """How long after `show` the panel needs until the new levels are reached."""

    def show(self, levels: Levels) -> float:
        """Show (rows, columns) uint8 levels; returns the host time in seconds when the picture is on the panel.

        Raises BadInput for another shape or type, HardwareError when the panel does not show it.
        """

    def play(self, levels: Levels, slot_s: float) -> Playback:
        """Start a sequence (T, rows, columns), each shown for `slot_s`; returns at once."""

    def blank(self) -> None:
        """Show the blank level everywhere."""


@runtime_checkable
class SelfChecking(Protocol):
    """What a display can do beside, when it can tell what really stands on its panel."""

    def check_shown(self) -> None:
        """Raises HardwareError when the panel does not show any more what it was given last."""


@runtime_checkable
class Camera(Device, Protocol):
    """Measures frames in DN."""

    shape: tuple[int, int]
    """(rows, columns) of the whole sensor."""

    saturation_dn: int
    exposure_limits_s: tuple[float, float]

    def configure(self, exposure: Exposure) -> Exposure:
        """Set exposure, gain and region; returns what the device really took.

        Raises InterlockError beyond the limits of the device.
        """

    def arm(self, n: int) -> None:
        """Get ready for n triggered frames."""

    def trigger(self, tag: FrameTag) -> None:
        """Start one exposure now. Raises HardwareError when not armed."""

    def fetch(self, timeout_s: float) -> Frames:
        """The next frame, as `Frames` of length one. Raises DeviceTimeout."""

    def disarm(self) -> None:
        """Leave the armed state; drops frames not fetched."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One named quantity of an instrument."""

    unit: str
    low: float
    high: float
    settable: bool = True

    choices: tuple[float, ...] = ()
    """Of a switch: the only values it takes. Empty: all from low to high."""

    stays: bool = False
    """Whether the safe state leaves it where it is: a position, where nothing shines and nothing burns."""


@runtime_checkable
class Instrument(Device, Protocol):
    """Named quantities with units and limits."""

    quantities: Mapping[str, Quantity]

    def read_quantity(self, name: str) -> float:
        """The present value in the unit of `quantities[name]`."""

    def set_quantity(self, name: str, value: float) -> float:
        """Set and read back. Raises InterlockError outside the limits, HardwareError when the read-back differs."""


DeviceKind = Literal["display", "camera", "instrument"]


@dataclass(frozen=True)
class OpenContext:
    """What a device gets when its rig opens."""

    name: str
    """The device's name in the rig: `mask`, `scene`, `camera`, or the instrument's own."""

    rig_name: str

    world: Any = None
    """What simulated devices stand in; None on a real rig."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the device's child process gets beside our own. All that a virtual lab changes is in here."""


class DeviceSettings(Frozen):
    """Settings of one device type, registered under the entry-point group `labctl.devices`."""

    kind: ClassVar[DeviceKind]
    simulated: ClassVar[bool] = False
    needs_world: ClassVar[bool] = False

    type: str

    def declared_quantities(self) -> Mapping[str, Quantity]:
        """Of an instrument: what it has and within which limits, as far as its settings tell before it is opened.

        Empty where only the device knows.
        """
        return {}

    @abstractmethod
    def make(self, context: OpenContext) -> Device:
        """Make the device, not yet opened."""
