"""What describes a lensless rig: optics, panel, monitor, light, registration, and whether a design fits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from labctl.errors import BadInput, concerning
from labctl.frozen import Frozen
from labctl.roads import ResponseTable, Roads
from sim.optics.convolution import Border
from sim.optics.fresnel import check_fresnel
from sim.optics.scene_grid import size_on_sensor
from sim.optics.shadow import CELL_TOLERANCE, check_cell, projected_px
from sim.sensor import Count, SensorSettings, Wavelength
from sim.surrogates import Surrogate

if TYPE_CHECKING:
    from sim.twin import Twin

Length = Annotated[float, Gt(0), Le(100)]


class OpticsSettings(Frozen):
    """Distances and pitches."""

    mask_pitch_m: Annotated[float, Gt(0), Lt(0.1)]
    """Side of one mask cell, which is `cell_px` panel pixels of the mask road."""

    gap_m: Length
    """From mask to sensor."""

    scene_distance_m: Length
    """From scene to mask."""

    scene_pitch_m: Annotated[float, Gt(0), Lt(10)]
    """Side of one scene pixel, which is `pixel_px` monitor pixels of the scene road."""

    model: Literal["shadow", "fresnel"] = "shadow"
    """How light passes the mask: straight, or with diffraction, which costs more and holds for finer cells."""

    wavelength_m: Wavelength = 550e-9
    """Of a grey sensor; a Bayer sensor has `sensor.channel_wavelength_m`."""

    fall_off: Literal["none", "cos4"] = "none"
    """Whether scene points off the axis give less light, by the fourth power of the cosine of their angle."""

    border: Border = "valid"
    """Which part of the image a frame holds when no region is asked for."""

    margin_px: Annotated[int, Ge(0), Le(256)] | None = None
    """Room round the shadow for registration and blur, in sensor pixels; None takes what the registration needs."""


class PanelSettings(Frozen):
    """The SLM."""

    shape: tuple[Count, Count]
    """(rows, columns) in panel pixels."""

    gamma: Annotated[float, Ge(0.2), Le(5)] = 1.0
    lut: ResponseTable | None = None
    """Measured response; goes before `gamma`."""

    contrast: Annotated[float, Gt(1)] = 1000.0
    fill_factor: Annotated[float, Gt(0), Le(1)] = 1.0
    crosstalk: Annotated[float, Ge(0), Le(0.8)] = 0.0
    """Share of its light that a panel pixel exchanges with its four neighbours."""

    response_s: Annotated[float, Ge(0), Le(10)] = 0.0
    """Time constant of the exponential response."""

    surrogate: Surrogate = "straight-through"
    """Slope of the 8-bit levels in training; what the panel shows is the same."""

    steepness: Annotated[float, Gt(0), Le(100)] = 1.0
    """Of the sigmoid surrogate, in levels: towards 0 it is straight-through, above 10 nearly a staircase."""

    stop_px: tuple[Count, Count] | None = None
    """(rows, columns) of the centred field stop in panel pixels; None leaves the whole panel open to light."""


class MonitorSettings(Frozen):
    """The display that plays the scene."""

    shape: tuple[Count, Count]
    """(rows, columns) in monitor pixels."""

    gamma: Annotated[float, Ge(0.2), Le(5)] = 2.2
    contrast: Annotated[float, Gt(1)] = 1000.0
    response_s: Annotated[float, Ge(0), Le(10)] = 0.0
    view_px: tuple[Count, Count] | None = None
    """(rows, columns) of the centred part that the camera sees, in monitor pixels; None: the whole monitor."""


class LightSettings(Frozen):
    """How much light there is, and where it strays."""

    photons_per_s: Annotated[float, Gt(0), Le(1e15)]
    """At one sensor pixel, from a white scene element that spans one sensor pixel, through an opening of one pixel."""

    stray: Annotated[float, Ge(0), Le(1)] = 0.0
    """Stray light as a share of the mean irradiance."""


class RegistrationSettings(Frozen):
    """Where the shadow falls, against the nominal geometry."""

    shift_px: tuple[Annotated[float, Ge(-64), Le(64)], Annotated[float, Ge(-64), Le(64)]] = (0.0, 0.0)
    """(rows, columns) in sensor pixels."""

    rotation_deg: Annotated[float, Ge(-45), Le(45)] = 0.0
    scale: Annotated[float, Ge(0.5), Le(2)] = 1.0
    blur_px: Annotated[float, Ge(0), Le(32)] = 0.0
    """Sigma of a Gaussian, in sensor pixels."""


class TwinSettings(Frozen):
    """A lensless rig: a mask on a panel, a bare sensor behind it, a monitor in front."""

    type: Literal["lensless"] = "lensless"
    optics: OpticsSettings
    panel: PanelSettings
    monitor: MonitorSettings
    sensor: SensorSettings
    light: LightSettings
    registration: RegistrationSettings = RegistrationSettings()

    def build(
        self,
        roads: Roads,
        *,
        dtype: torch.dtype = torch.float32,
        values: Mapping[str, torch.Tensor] | None = None,
    ) -> Twin:
        """The twin of this rig. values: starting values by name (see `Twin`); a Parameter stays a parameter."""
        from sim.twin import Twin

        return Twin(self, roads, dtype=dtype, values=values)

    @property
    def scene_px(self) -> float:
        """Sensor pixels that the image of one scene pixel spans."""
        optics = self.optics
        return optics.scene_pitch_m * optics.gap_m / optics.scene_distance_m / self.sensor.pitch_m

    @property
    def wavelengths_m(self) -> tuple[float, ...]:
        """That of a grey sensor, or those of red, green and blue."""
        return (self.optics.wavelength_m,) if self.sensor.colour == "none" else self.sensor.channel_wavelength_m

    @property
    def channels(self) -> int:
        """Colours that the sensor tells apart: 1 or 3."""
        return len(self.wavelengths_m)

    @property
    def spreading(self) -> str:
        """What can move light beyond the nominal shadow, in words."""
        return "registration and blur" if self.optics.model == "shadow" else "registration, blur and diffraction"

    def geometric(self) -> TwinSettings:
        """The same rig with straight rays in place of diffraction."""
        return self.model_copy(update={"optics": self.optics.model_copy(update={"model": "shadow"})})

    @property
    def exposure_limits_s(self) -> tuple[float, float]:
        """Shortest and longest exposure of the sensor."""
        return self.sensor.exposure_limits_s

    @property
    def cell_on_sensor_px(self) -> float:
        """Sensor pixels that the shadow of one mask cell spans."""
        optics = self.optics
        return projected_px(optics.mask_pitch_m, self.sensor.pitch_m, optics.gap_m, optics.scene_distance_m)

    def shadow_shape(self, mask_shape: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the nominal shadow of a mask of so many cells, in sensor pixels."""
        return self.shadow_shape_px(mask_shape, 1)

    def shadow_shape_px(self, panel_px: tuple[int, int], cell_px: int) -> tuple[int, int]:
        """(rows, columns) of the nominal shadow of so many panel pixels, in sensor pixels."""
        pixel = self.cell_on_sensor_px / cell_px
        return size_on_sensor(panel_px[0], pixel), size_on_sensor(panel_px[1], pixel)

    def frame_shape(self, mask_shape: tuple[int, int], scene_shape: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the frame of such a mask and scene at `optics.border`. Raises BadInput when empty."""
        shadow = self.shadow_shape(mask_shape)
        image = (size_on_sensor(scene_shape[0], self.scene_px), size_on_sensor(scene_shape[1], self.scene_px))
        if self.optics.border == "same":
            return image
        if self.optics.border == "full":
            return image[0] + shadow[0] - 1, image[1] + shadow[1] - 1
        if shadow[0] > image[0] or shadow[1] > image[1]:
            raise BadInput(
                f"mask larger than the scene: the shadow of {_by(mask_shape)} mask cells spans {_by(shadow)} sensor "
                f"pixels, the image of {_by(scene_shape)} scene pixels {_by(image)}; "
                "use fewer mask cells or a larger scene"
            )
        return image[0] - shadow[0] + 1, image[1] - shadow[1] + 1

    def check_design(
        self, mask_shape: tuple[int, int], scene_shape: tuple[int, int], roads: Roads | None = None
    ) -> None:
        """Raises BadInput when a mask of (H, W) cells and scenes of (H, W) pixels cannot work on this rig.

        roads: with them, the sizes on the displays are checked too.
        """
        with concerning("rig", "twin", "optics", "mask_pitch_m"):
            check_cell(self.cell_on_sensor_px)
            self._check_shadow()
        with concerning("rig", "twin", "optics", "model"):
            self._check_fresnel(mask_shape)
        with concerning("mask_cells"):
            frame = self.frame_shape(mask_shape, scene_shape)
        with concerning("scene_px"):
            _check_fits("sensor.shape", "the frame", frame, self.sensor.shape)
        cell_px = roads.mask.cell_px if roads else 1
        pixel_px = roads.scene.pixel_px if roads else 1
        mask_px = (mask_shape[0] * cell_px, mask_shape[1] * cell_px)
        view_px = (scene_shape[0] * pixel_px, scene_shape[1] * pixel_px)
        with concerning("mask_cells"):
            _check_fits("panel.shape", "the mask", mask_px, self.panel.shape)
            if roads:
                _check_same("panel.stop_px", "the mask", mask_px, self.panel.stop_px or self.panel.shape)
        with concerning("scene_px"):
            _check_fits("monitor.shape", "the scene", view_px, self.monitor.shape)
            if roads:
                _check_same("monitor.view_px", "the scene", view_px, self.monitor.view_px or self.monitor.shape)

    def _check_shadow(self) -> None:
        optics = self.optics
        spread = optics.gap_m * max(self.wavelengths_m)
        limit = optics.mask_pitch_m**2 * (1 + CELL_TOLERANCE)
        if optics.model == "shadow" and spread > limit:
            raise BadInput(
                f"diffraction: gap_m * wavelength_m is {spread:.3g} m2, above mask_pitch_m squared, {limit:.3g} m2; "
                "the shadow is not geometric: set optics.model: fresnel, or use a wider mask pitch or a smaller gap"
            )

    def _check_fresnel(self, mask_shape: tuple[int, int]) -> None:
        optics = self.optics
        if optics.model != "fresnel":
            return
        for wavelength_m in self.wavelengths_m:
            check_fresnel(
                cell_pitch_m=optics.mask_pitch_m,
                aperture_m=(mask_shape[0] * optics.mask_pitch_m, mask_shape[1] * optics.mask_pitch_m),
                sensor_pitch_m=self.sensor.pitch_m,
                gap_m=optics.gap_m,
                scene_distance_m=optics.scene_distance_m,
                wavelength_m=wavelength_m,
            )


def _check_fits(key: str, what: str, needed: tuple[int, int], there: tuple[int, int]) -> None:
    if needed[0] > there[0] or needed[1] > there[1]:
        raise BadInput(
            f"{what} needs {_by(needed)} pixels, {key} is {_by(there)} in the twin of the rig; "
            "use a smaller grid or a larger device"
        )


def _check_same(key: str, what: str, needed: tuple[int, int], there: tuple[int, int]) -> None:
    if needed != there:
        raise BadInput(
            f"{what} covers {_by(needed)} display pixels, but {_by(there)} pass light to the sensor; "
            f"change the grid, or set {key} to [{needed[0]}, {needed[1]}] in the twin of the rig"
        )


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
