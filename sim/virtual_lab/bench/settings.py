"""What is true on the bench, as plain numbers, and where its sockets and screens are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Pair = tuple[int, int]

ADC_BITS = 12
"""Depth of every frame that the bench hands over."""

TOP_DN = (1 << ADC_BITS) - 1


@dataclass(frozen=True)
class Optics:
    """Distances, pitches, and how the panel was mounted."""

    mask_pixel_m: float
    gap_m: float
    """As designed; the true one is gap_m (1 + gap_error)."""

    scene_distance_m: float
    scene_pixel_m: float
    fall_off: Literal["none", "cos4"] = "none"
    shift_px: tuple[float, float] = (0.0, 0.0)
    """How far the shadow lies off its place, (rows, columns) in sensor pixels."""

    rotation_deg: float = 0.0
    """Of the panel about its centre, positive from rows to columns."""

    gap_error: float = 0.0
    blur_px: float = 0.0
    """Sigma of a Gaussian, in sensor pixels."""


@dataclass(frozen=True)
class Panel:
    """The SLM. `stop_px` panel pixels in the centre of its monitor pass light; the rest lies behind a field stop."""

    stop_px: Pair
    gamma: float = 1.0
    lut: tuple[float, ...] | None = None
    """Response at equally spaced levels, in place of gamma."""

    contrast: float = 1000.0
    fill_factor: float = 1.0
    crosstalk: float = 0.0
    """Share of its light that a panel pixel exchanges with its four neighbours."""

    latency_s: float = 0.0
    response_s: float = 0.0


@dataclass(frozen=True)
class Monitor:
    """The scene monitor. `view_px` pixels in its centre are seen; a scene pixel is `pixel_px` of them wide."""

    view_px: Pair
    pixel_px: int = 1
    gamma: float = 2.2
    contrast: float = 1000.0
    latency_s: float = 0.0
    response_s: float = 0.0


@dataclass(frozen=True)
class Light:
    """How much light there is."""

    photons_per_s: float
    """At one sensor pixel, from a white scene element that spans one sensor pixel, through an opening of one pixel."""

    stray: float = 0.0
    """As a share of the mean irradiance."""

    live_scene: float = 0.5
    """Radiance 0..1 of what stands there when the monitor is taken away, at full lamp power."""

    shutter_before: Literal["lamp", "camera"] = "lamp"
    """What the shutter covers: only the lamp, or all light."""


@dataclass(frozen=True)
class Silicon:
    """The image sensor, behind a 12-bit ADC."""

    shape: Pair
    pixel_m: float
    quantum_efficiency: float
    full_well_e: float
    read_noise_e: float
    gain_dn_per_e: float
    dark_current_e_per_s: float = 0.0
    dark_offset: float = 0.0
    """Of full scale, on top of the black level that the camera is set to."""

    prnu: float = 0.0
    dsnu: float = 0.0
    column_offset: float = 0.0
    vignetting: float = 0.0
    """Share of light lost at the corner of the `vignetting_px` central pixels; grows with the square of the radius."""

    vignetting_px: Pair = (0, 0)


@dataclass(frozen=True)
class Truth:
    """Everything that decides a frame, but for what stands on the screens."""

    optics: Optics
    panel: Panel
    monitor: Monitor
    light: Light
    silicon: Silicon
    seed: int = 0
    noise: bool = True

    @property
    def scene_px(self) -> Pair:
        """(rows, columns) of the scene in scene pixels."""
        view, pixel = self.monitor.view_px, self.monitor.pixel_px
        return view[0] // pixel, view[1] // pixel


@dataclass(frozen=True)
class Places:
    """Where the bench finds its neighbours. Monitors are (left, top, width, height) on the screen of `display`."""

    display: str
    mask_monitor: tuple[int, int, int, int]
    scene_monitor: tuple[int, int, int, int]
    socket: str
    memory: str
    control: str
    instruments: str | None = None


def truth_from(data: Mapping[str, Any]) -> Truth:
    """The truth from its JSON form. Raises TypeError for a key that does not exist or is missing."""
    parts = {"optics": Optics, "panel": Panel, "monitor": Monitor, "light": Light, "silicon": Silicon}
    made: dict[str, Any] = {name: kind(**_tuples(data[name])) for name, kind in parts.items()}
    return Truth(**made, **{key: value for key, value in data.items() if key not in parts})


def places_from(data: Mapping[str, Any]) -> Places:
    """The places from their JSON form."""
    return Places(**_tuples(data))


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
