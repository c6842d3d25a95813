"""An exposure in our units and in the camera's: what is allowed, what is asked for, what was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drivers.genicam.pixel_formats import PixelFormat, pixel_format
from drivers.genicam.settings import GenicamSettings
from drivers.genicam.window import Span
from labctl.errors import BadInput, HardwareError, InterlockError
from labctl.exposure import Exposure

LONGEST_S = 60.0
"""What `Exposure` allows."""

ROUNDING, ROUNDING_S = 0.05, 50e-6
"""By how much a camera may round an exposure time: this share, or this time (about a line of a slow sensor)."""


@dataclass(frozen=True)
class Gain:
    """The camera's gain feature. unit: its own word; step_db: dB per unit of it, 0 where that is not known."""

    low: float
    high: float
    unit: str
    step_db: float

    @property
    def limit_db(self) -> float:
        """The largest gain in dB over the smallest gain the camera has, or over 0 dB where it counts in dB."""
        return self.to_db(self.high)

    def to_camera(self, gain_db: float) -> float:
        """The feature's value for a gain."""
        return self._base + (gain_db / self.step_db if self.step_db else 0.0)

    def to_db(self, value: float) -> float:
        """The gain that the feature's value stands for; rounded so that 60 steps of 0.1 dB are 6 dB."""
        return round((value - self._base) * self.step_db, 6)

    @property
    def _base(self) -> float:
        return max(self.low, 0.0) if self.step_db == 1 else self.low


@dataclass(frozen=True)
class Sensor:
    """What the opened camera can do. shape: (rows, columns); exposure_us: None where it has no such feature."""

    rows: Span
    columns: Span
    format: PixelFormat
    exposure_us: tuple[float, float] | None
    exposure_limits_s: tuple[float, float]
    gain: Gain | None
    saturation_dn: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the whole sensor."""
        return self.rows.high, self.columns.high

    def check(self, name: str, exposure: Exposure) -> None:
        """Raise InterlockError when `exposure` is beyond what the camera called `name` can or may do."""
        low, high = self.exposure_limits_s
        if not low <= exposure.exposure_s <= high:
            allowed = f"only {low:.6g} s, which is fixed," if low == high else f"{low:.6g}..{high:.6g} s"
            raise InterlockError(
                f"{name}: exposure_s is {exposure.exposure_s:.6g} s, {allowed} is allowed; change the light instead"
            )
        limit_db = 0.0 if self.gain is None else self.gain.limit_db
        if exposure.gain_db > limit_db:
            action = "expose longer instead"
            if self.gain is not None and not self.gain.step_db:
                unit = f"'{self.gain.unit}'" if self.gain.unit else "an unnamed unit"
                action = f"its gain counts in {unit}: expose longer, or state `gain_step_db`"
            raise InterlockError(
                f"{name}: gain_db is {exposure.gain_db:.4g} dB, at most {limit_db:.4g} dB is allowed; {action}"
            )
        rows, columns = exposure.roi or self.shape
        if rows > self.shape[0] or columns > self.shape[1]:
            raise InterlockError(
                f"{name}: roi is {rows}x{columns}, the sensor has {self.shape[0]}x{self.shape[1]}; use a smaller region"
            )


def sensor_of(name: str, told: Mapping[str, Any], settings: GenicamSettings) -> Sensor:
    """What an opened camera told of itself, within what the rig file allows.

    Raises BadInput when the settings do not fit the camera, naming the setting.
    """
    rows, columns = (Span(**axis) for axis in told["axes"])
    try:
        form = pixel_format(settings.pixel_format, told["formats"])
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    exposure_us = None if told["exposure"] is None else (told["exposure"]["low"], told["exposure"]["high"])
    if exposure_us is not None:
        own_s = (exposure_us[0] / 1e6, min(exposure_us[1] / 1e6, LONGEST_S))
        if settings.fixed_exposure_s is not None:
            raise BadInput(f"{name}: the camera sets its own exposure time; remove `fixed_exposure_s`")
    elif settings.fixed_exposure_s is not None:
        own_s = (settings.fixed_exposure_s, settings.fixed_exposure_s)
    else:
        raise BadInput(f"{name}: the camera has no feature for its exposure time; state it as `fixed_exposure_s`")
    narrow = settings.exposure_limits_s or own_s
    limits_s = (max(own_s[0], narrow[0]), min(own_s[1], narrow[1]))
    if limits_s[0] > limits_s[1]:
        raise BadInput(
            f"{name}: exposure_limits_s is {narrow[0]:g}..{narrow[1]:g} s, the camera has {own_s[0]:g}..{own_s[1]:g} s"
        )
    return Sensor(
        rows, columns, form, exposure_us, limits_s, _gain_of(name, told["gain"], settings),
        settings.saturation_dn or form.saturation_dn,
    )  # fmt: skip


def seconds(exposure_us: float) -> float:
    """Microseconds as the camera counts them, in seconds."""
    return exposure_us / 1e6


def microseconds(exposure_s: float) -> float:
    """The other way; rounded to nanoseconds, so that a time that was taken is asked for again exactly."""
    return round(exposure_s * 1e6, 3)


def check_taken(name: str, asked: Exposure, taken: Exposure) -> None:
    """Raise HardwareError when the camera took something else than asked, beyond rounding."""
    if abs(taken.exposure_s - asked.exposure_s) > max(ROUNDING * asked.exposure_s, ROUNDING_S):
        raise HardwareError(
            f"{name}: asked for {asked.exposure_s:.6g} s the camera exposes for {taken.exposure_s:.6g} s; another "
            "feature limits it, the frame rate perhaps"
        )


def _gain_of(name: str, told: Mapping[str, Any] | None, settings: GenicamSettings) -> Gain | None:
    if told is None:
        return None
    unit, step_db = told["unit"].strip(), settings.gain_step_db
    if unit.lower() == "db":
        if step_db is not None:
            raise BadInput(f"{name}: the camera counts its gain in dB by itself; remove `gain_step_db`")
        step_db = 1.0
    return Gain(told["low"], told["high"], unit, step_db or 0.0)  # a Gain without unit may well be a factor
