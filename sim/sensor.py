"""The image sensor: from photons per second to DN, in the order in which silicon does it.

photons -> colour filters -> electrons (pixel gain, vignetting, dark current) -> shot noise -> full well -> read noise
-> gain -> offsets -> ADC. Every stage is a small function; noise and rounding let gradients through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import field_validator, model_validator
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.frozen import Frozen
from sim.noise import Draws
from sim.optics.colour import BayerPattern, bayer_filters, pattern_from
from sim.values import register_values

Count = Annotated[int, Gt(0), Le(16384)]
Share = Annotated[float, Gt(0), Le(1)]
Wavelength = Annotated[float, Gt(1e-7), Lt(2e-5)]


MAPS = ("flat_map", "dark_map_dn", "dark_rate_map_e_per_s")
"""What may be measured pixel by pixel and given to a `Sensor`."""


class SensorSettings(Frozen):
    """One image sensor."""

    shape: tuple[Count, Count]
    """(rows, columns) of the whole sensor."""

    pitch_m: Annotated[float, Gt(0), Lt(1e-2)]
    quantum_efficiency: Annotated[float, Gt(0), Le(1)] = 0.6
    full_well_e: Annotated[float, Gt(0), Le(1e7)] = 10_000.0
    read_noise_e: Annotated[float, Ge(0), Le(1e4)] = 3.0
    dark_current_e_per_s: Annotated[float, Ge(0), Le(1e6)] = 0.0
    black_level_dn: Annotated[float, Ge(0)] = 0.0
    bits: Annotated[int, Ge(1), Le(16)] = 10

    conversion_gain_dn_per_e: Annotated[float, Gt(0)] | None = None
    """DN per electron at 0 dB; None maps the full well to the top of the ADC."""

    exposure_limits_s: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0), Le(60)]] = (1e-5, 10.0)

    prnu: Annotated[float, Ge(0), Le(0.2)] = 0.0
    """Standard deviation of the pixel gain, relative."""

    dsnu: Annotated[float, Ge(0), Le(0.2)] = 0.0
    """Standard deviation of the pixel offset, as a share of full scale."""

    column_offset: Annotated[float, Ge(0), Le(0.2)] = 0.0
    """Standard deviation of the column offset, as a share of full scale."""

    vignetting: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of light lost at the corner of the whole sensor; grows with the square of the radius."""

    dark_offset: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """What is added to the black level, as a share of full scale."""

    map_seed: Annotated[int, Ge(0)] = 0
    """Draws the fixed pattern, for the whole sensor."""

    colour: Literal["none", BayerPattern] = "none"
    """Colour filters over the top left 2x2 pixels, row by row; `none` is a grey sensor. Frames stay raw mosaics."""

    channel_response: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    """Quantum efficiency under the red, green and blue filter, relative to `quantum_efficiency`."""

    channel_wavelength_m: tuple[Wavelength, Wavelength, Wavelength] = (600e-9, 530e-9, 460e-9)
    """One wavelength for each of red, green and blue, where diffraction asks for it."""

    @property
    def top_dn(self) -> int:
        """The largest DN, at which a pixel is saturated."""
        return (1 << self.bits) - 1

    @property
    def best_efficiency(self) -> float:
        """Quantum efficiency of the pixels that fill up first in white light."""
        return self.quantum_efficiency * (1.0 if self.colour == "none" else max(self.channel_response))

    def pattern_of(self, region: tuple[int, int]) -> BayerPattern | None:
        """Bayer pattern of the centred h x w region; None on a grey sensor."""
        if self.colour == "none":
            return None
        return pattern_from(self.colour, (self.shape[0] - region[0]) // 2, (self.shape[1] - region[1]) // 2)

    @property
    def gain_dn_per_e(self) -> float:
        """DN per electron at 0 dB, given or derived."""
        return self.conversion_gain_dn_per_e or (self.top_dn - self.black_level_dn) / self.full_well_e

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.black_level_dn >= self.top_dn:
            raise ValueError(f"black_level_dn is {self.black_level_dn}; it must lie below {self.top_dn}")
        return self

    @field_validator("exposure_limits_s")
    @classmethod
    def _limits_are_in_order(cls, limits_s: tuple[float, float]) -> tuple[float, float]:
        if limits_s[0] >= limits_s[1]:
            raise ValueError(f"[{limits_s[0]:g}, {limits_s[1]:g}] is out of order; the first must be the smaller one")
        return limits_s


class Sensor(nn.Module):
    """A sensor with its fixed pattern.

    Values, all buffers or parameters: vignetting, dark_offset, gain_dn_per_e, read_noise_e, dark_current_e_per_s.
    Maps that may be given, each (h, w) of the centred region that frames hold, None where not: `flat_map`, measured
    relative response in place of vignetting and pixel gain; `dark_map_dn`, measured frame without light at 0 s, in
    place of black level and offsets; `dark_rate_map_e_per_s`, in place of the dark current.
    """

    vignetting: Tensor
    dark_offset: Tensor
    gain_dn_per_e: Tensor
    read_noise_e: Tensor
    dark_current_e_per_s: Tensor
    flat_map: Tensor | None
    dark_map_dn: Tensor | None
    dark_rate_map_e_per_s: Tensor | None
    pixel_gain: Tensor
    pixel_offset: Tensor
    radius_squared: Tensor
    filters: Tensor | None

    def __init__(
        self,
        settings: SensorSettings,
        *,
        dtype: torch.dtype = torch.float32,
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        nominal = {
            "vignetting": settings.vignetting,
            "dark_offset": settings.dark_offset,
            "gain_dn_per_e": settings.gain_dn_per_e,
            "read_noise_e": settings.read_noise_e,
            "dark_current_e_per_s": settings.dark_current_e_per_s,
        }
        given = dict(values or {})
        for name in MAPS:
            self.register_buffer(name, _checked_map(name, given.pop(name, None), settings, dtype), persistent=False)
        register_values(self, nominal, given, dtype)
        for name, values_of_map in fixed_pattern(settings).items():
            self.register_buffer(name, torch.from_numpy(values_of_map).to(dtype), persistent=False)
        filters = None
        if settings.colour != "none":
            response = torch.tensor(settings.channel_response, dtype=dtype).reshape(3, 1, 1)
            filters = bayer_filters(settings.colour, settings.shape).to(dtype) * response
        self.register_buffer("filters", filters, persistent=False)

    def expose(
        self,
        photons_per_s: Tensor,
        *,
        exposure_s: float | Tensor,
        gain_db: float = 0.0,
        draws: Draws | None = None,
        quantise: bool = True,
    ) -> Tensor:
        """Frames (N, 1, h, w) in DN, as float, of the centred h x w pixels.

        photons_per_s: (N, 1, h, w) at each pixel; a Bayer sensor also takes (N, 3, h, w), in red, green and blue,
        and one channel stands for all three. exposure_s: one for all, or (N,). draws: None gives the expectation.
        quantise: False leaves the analogue value, neither rounded nor clipped, as a perfect ADC would read it.
        Raises BadInput when h x w exceeds the sensor, and for colour on a grey sensor.
        """
        settings = self.settings
        region = tuple(photons_per_s.shape[-2:])
        photons_per_s = self._filtered(photons_per_s, region)
        time_s = _per_frame(exposure_s, photons_per_s)
        electrons = photons_per_s * time_s * settings.quantum_efficiency * self.flat(region)
        electrons = electrons + self._dark_current(region) * time_s
        if draws is not None:
            electrons = shot_noise(electrons, draws)
        electrons = electrons.clamp(max=settings.full_well_e)
        if draws is not None and float(self.read_noise_e.detach()) > 0:
            electrons = electrons + self.read_noise_e * draws.normal(electrons)
        value_dn = electrons * (self.gain_dn_per_e * 10 ** (gain_db / 20)) + self.offset_dn(region)
        return convert(value_dn, settings.top_dn) if quantise else value_dn

    def flat(self, region: tuple[int, ...]) -> Tensor:
        """(h, w) relative response of the centred region: as measured, or pixel gain times vignetting."""
        if self.flat_map is not None:
            return self._cut_map("flat_map", self.flat_map, region)
        return self._cut(self.pixel_gain, region) * (1 - self.vignetting * self._cut(self.radius_squared, region))

    def offset_dn(self, region: tuple[int, ...]) -> Tensor:
        """(h, w) DN that the centred region shows without light at 0 s, noise-free."""
        if self.dark_map_dn is not None:
            return self._cut_map("dark_map_dn", self.dark_map_dn, region)
        full_scale = self.settings.top_dn
        offset: Tensor = full_scale * (self.dark_offset + self._cut(self.pixel_offset, region))
        return offset + self.settings.black_level_dn

    def _dark_current(self, region: tuple[int, ...]) -> Tensor:
        if self.dark_rate_map_e_per_s is not None:
            return self._cut_map("dark_rate_map_e_per_s", self.dark_rate_map_e_per_s, region)
        return self.dark_current_e_per_s

    def _cut_map(self, name: str, measured: Tensor, region: tuple[int, ...]) -> Tensor:
        """The centred region of a map that is itself centred on the sensor."""
        (rows, columns), (height, width) = self.settings.shape, measured.shape
        top = (rows - region[0]) // 2 - (rows - height) // 2
        left = (columns - region[1]) // 2 - (columns - width) // 2
        if min(top, left) < 0 or top + region[0] > height or left + region[1] > width:
            raise BadInput(
                f"the frame needs {region[0]}x{region[1]} pixels, {name} was measured on {height}x{width}; "
                "calibrate with the grids of this protocol"
            )
        return measured[top : top + region[0], left : left + region[1]]

    def _filtered(self, photons_per_s: Tensor, region: tuple[int, ...]) -> Tensor:
        """Photons (N, 1, h, w) that pass the colour filters."""
        if self.filters is not None:
            return (photons_per_s * self._cut(self.filters, region)).sum(dim=1, keepdim=True)
        if photons_per_s.shape[1] != 1:
            raise BadInput(
                f"the light has {photons_per_s.shape[1]} channels, a grey sensor takes 1; "
                "make the scenes grey, or set sensor.colour to a Bayer pattern"
            )
        return photons_per_s

    def _cut(self, whole: Tensor, region: tuple[int, ...]) -> Tensor:
        rows, columns = self.settings.shape
        if region[0] > rows or region[1] > columns:
            raise BadInput(
                f"the frame needs {region[0]}x{region[1]} pixels, the sensor has {rows}x{columns}; "
                "use a smaller scene or a larger sensor"
            )
        top, left = (rows - region[0]) // 2, (columns - region[1]) // 2
        return whole[..., top : top + region[0], left : left + region[1]]


def shot_noise(electrons: Tensor, draws: Draws) -> Tensor:
    """Poisson counts k with mean `electrons`, and the slope of k = mean + sqrt(mean) eps at the eps that was drawn.

    Below one electron the noise part of the slope no longer grows: there it would drown the mean.
    """
    mean = electrons.clamp(min=0)
    count = draws.poisson(mean)
    if not mean.requires_grad:
        return count
    slope = 1 + (count - mean.detach()) / (2 * mean.detach().clamp(min=1))
    return count + (mean - mean.detach()) * slope


def convert(value_dn: Tensor, top_dn: int) -> Tensor:
    """Round and clip to 0..top_dn; the slope is 1 inside and 0 where the ADC clips."""
    inside = value_dn.clamp(0, top_dn)
    return inside + (torch.round(inside) - inside).detach()


def fixed_pattern(settings: SensorSettings) -> dict[str, np.ndarray]:
    """Maps (rows, columns) of the whole sensor: pixel_gain, pixel_offset (share of full scale), radius_squared.

    radius_squared is 1 at the corner of the sensor and 0 at its centre.
    """
    rows, columns = settings.shape
    gain_stream, pixel_stream, column_stream = (
        np.random.Generator(np.random.Philox(np.random.SeedSequence((settings.map_seed, part)))) for part in range(3)
    )
    offset = settings.dsnu * pixel_stream.standard_normal((rows, columns))
    offset += settings.column_offset * column_stream.standard_normal(columns)
    y, x = np.ogrid[:rows, :columns]
    radius = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2
    return {
        "pixel_gain": np.maximum(0.0, 1 + settings.prnu * gain_stream.standard_normal((rows, columns))),
        "pixel_offset": offset,
        "radius_squared": radius / max(float(radius.max()), 1e-12),
    }


def _checked_map(name: str, values: Tensor | None, settings: SensorSettings, dtype: torch.dtype) -> Tensor | None:
    if values is None:
        return None
    if values.ndim != 2 or values.shape[0] > settings.shape[0] or values.shape[1] > settings.shape[1]:
        rows, columns = settings.shape
        raise BadInput(
            f"{name} has shape {tuple(values.shape)}; (h, w) within the sensor of {rows}x{columns} is needed"
        )
    if not bool(torch.isfinite(values).all()):
        raise BadInput(f"{name} holds values that are not finite; calibrate anew")
    return values.detach().to(dtype).clone()


def _per_frame(exposure_s: float | Tensor, like: Tensor) -> Tensor:
    """Exposure times that broadcast over (N, 1, h, w)."""
    time_s = torch.as_tensor(exposure_s, dtype=like.dtype, device=like.device)
    if time_s.ndim > 1 or (time_s.ndim == 1 and time_s.shape[0] not in (1, like.shape[0])):
        raise BadInput(f"exposure_s has shape {tuple(time_s.shape)}; give one time, or one for each of {like.shape[0]}")
    return time_s.reshape(-1, 1, 1, 1)
