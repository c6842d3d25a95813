"""The differentiable model of one lensless rig: scene monitor, panel, mask, sensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.exposure import ExposurePlan
from labctl.roads import FULL_LEVEL, Roads
from sim.monitor import shown_scene
from sim.noise import Draws
from sim.optics.convolution import Border, convolve_window
from sim.optics.field import cos4_fall_off
from sim.optics.scene_grid import scene_on_sensor
from sim.optics.shadow import Registration
from sim.panel import panel_transmittance, shown_transmittance
from sim.sensor import Sensor
from sim.shadow_casting import cast, reach_px
from sim.twin_settings import TwinSettings
from sim.values import free_value, register_values

__all__ = ["Twin", "TwinSettings"]


class Twin(nn.Module):
    """One rig, differentiable. Nothing is normalised: photons in, DN out.

    Values, all buffers unless given as Parameters or freed by `free`: shift_px (2,), rotation_rad, scale, blur_px,
    panel_gamma, log_contrast, crosstalk, stray, photons_per_s, and of the sensor vignetting, dark_offset,
    gain_dn_per_e.
    Scenes are (N, 1, H, W) linear radiance, masks (H, W) or (N, H, W) transmittance, frames (N, 1, h, w) DN. A Bayer
    sensor also takes (N, 3, H, W) scenes, in red, green and blue; grey ones are as bright in all three. Its frames are
    raw mosaics. `steepness` of the panel's surrogate slope is a plain number that training may anneal.
    """

    shift_px: Tensor
    rotation_rad: Tensor
    scale: Tensor
    blur_px: Tensor
    panel_gamma: Tensor
    log_contrast: Tensor
    crosstalk: Tensor
    stray: Tensor
    photons_per_s: Tensor
    panel_lut: Tensor | None

    def __init__(
        self,
        settings: TwinSettings,
        roads: Roads,
        *,
        dtype: torch.dtype = torch.float32,
        values: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.roads, self.dtype = settings, roads, dtype
        nominal: dict[str, Any] = {
            "shift_px": settings.registration.shift_px,
            "rotation_rad": math.radians(settings.registration.rotation_deg),
            "scale": settings.registration.scale,
            "blur_px": settings.registration.blur_px,
            "panel_gamma": settings.panel.gamma,
            "log_contrast": math.log(settings.panel.contrast),
            "crosstalk": settings.panel.crosstalk,
            "stray": settings.light.stray,
            "photons_per_s": settings.light.photons_per_s,
        }
        given = dict(values or {})
        of_sensor: dict[str, Tensor] = {
            name: given.pop(name) for name in ("vignetting", "dark_offset", "gain_dn_per_e") if name in given
        }
        register_values(self, nominal, given, dtype)
        lut = settings.panel.lut
        self.register_buffer("panel_lut", None if lut is None else torch.tensor(lut, dtype=dtype), persistent=False)
        self.steepness = settings.panel.steepness
        self.sensor = Sensor(settings.sensor, dtype=dtype, values=of_sensor)
        stop = settings.panel.stop_px or settings.panel.shape
        self.pad = settings.optics.margin_px
        if self.pad is None:
            self.pad = math.ceil(
                reach_px(
                    settings,
                    stop,
                    cell_px=roads.mask.cell_px,
                    registration=self._registration,
                    blur_px=self.blur_px,
                )
                - 1e-6
            )

    def free(self, *names: str) -> list[nn.Parameter]:
        """Turn these values into parameters, for a fit; returns them in order. Raises BadInput for unknown names.

        Before the shadow is free to move, give it room: `optics.margin_px`.
        """
        known = {name: owner for owner in (self, self.sensor) for name, _ in owner.named_buffers(recurse=False)}
        known |= {name: owner for owner in (self, self.sensor) for name, _ in owner.named_parameters(recurse=False)}
        fixed = {"pixel_gain", "pixel_offset", "radius_squared", "filters", "panel_lut"}
        unknown = [name for name in names if name not in known or name in fixed]
        if unknown:
            there = ", ".join(sorted(set(known) - fixed))
            raise BadInput(f"the twin has no value {', '.join(unknown)}; it has {there}")
        return [free_value(known[name], name) for name in names]

    # From mask to shadow

    def psf(self, mask: Tensor) -> Tensor:
        """PSF (h, w) or (N, h, w) of `mask` (H, W) or (N, H, W), 0..1, with `pad` sensor pixels of room all round.

        (3, h, w) or (N, 3, h, w) where `has_colour_psf`. Road, panel, geometry, registration and blur included; the
        sum is the open area in sensor pixels, see `open_area`.
        """
        picture = shown_transmittance(
            mask.to(self.dtype),
            self.roads.mask,
            **self._panel_values(),
            surrogate=self.settings.panel.surrogate,
            steepness=self.steepness,
        )
        return self._cast(picture)

    def psf_from_levels(self, levels: Tensor) -> Tensor:
        """PSF of a panel picture (rows, columns) in levels 0..255, uint8 or float, cropped to the design."""
        return self._cast(panel_transmittance(levels.to(self.dtype) / FULL_LEVEL, **self._panel_values()))

    def white_psf(self, mask: Tensor) -> Tensor:
        """`psf` in white light, (h, w) or (N, h, w): of colours, the mean."""
        psf = self.psf(mask)
        return psf.mean(dim=-3) if self.has_colour_psf else psf

    def open_area(self, psf: Tensor) -> Tensor:
        """() or (N,) open area in sensor pixels behind a PSF of `psf` or one `white_psf`; of colours, the mean."""
        area = psf.sum(dim=(-2, -1))
        return area.mean(dim=-1) if self.has_colour_psf else area

    @property
    def has_colour_psf(self) -> bool:
        """Whether red, green and blue are diffracted apart."""
        return self.settings.channels > 1 and self.settings.optics.model == "fresnel"

    # From scene to photons

    def irradiance(
        self,
        scene: Tensor,
        psf: Tensor,
        *,
        border: Border | None = None,
        roi: tuple[int, int] | None = None,
    ) -> Tensor:
        """Photons per second (N, C, h, w) on the sensor, C = 3 where scene or PSF have colours, else 1.

        scene: (N, C, H, W) radiance, zero outside. psf: of `psf`, one or N.
        border: which part of the image; None takes `optics.border`. "valid" has scene - mask + 1 pixels.
        roi: (rows, columns) of the centre of the sensor instead of a border.
        Stray light adds the share `stray` of the mean irradiance: all light that passes the mask, spread evenly.
        """
        channels = 3 if self.has_colour_psf else 1
        kernel = psf.reshape(-1, channels, *psf.shape[-2:])
        scene = scene_on_sensor(scene.to(self.dtype), self.settings.scene_px)
        (rows, columns), (height, width) = scene.shape[-2:], psf.shape[-2:]
        if self.settings.optics.fall_off == "cos4":
            pitch_m, gap_m = self.settings.sensor.pitch_m, self.settings.optics.gap_m
            scene = scene * cos4_fall_off((rows, columns), pitch_m=pitch_m, distance_m=gap_m).to(scene)
        start, size = self._window((rows, columns), (height, width), border, roi)
        image = convolve_window(scene, kernel, start, size)
        mean = kernel.sum(dim=(-2, -1), keepdim=True) * scene.mean(dim=(-2, -1), keepdim=True)
        light = image + self.stray * mean
        # The transform leaves rounding errors below zero; only the value is clipped, a dark pixel keeps its slope.
        return self.photons_per_s * (light + (light.clamp(min=0) - light).detach())

    def frame_shape(self, mask_shape: tuple[int, int], scene_shape: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the frame that `measure` returns for such a mask and scene."""
        return self.settings.frame_shape(mask_shape, scene_shape)

    # From scene to frame

    def measure(
        self,
        scene: Tensor,
        mask: Tensor,
        *,
        exposure_s: float | Tensor,
        gain_db: float = 0.0,
        draws: Draws | None = None,
        roi: tuple[int, int] | None = None,
        quantise: bool = True,
    ) -> Tensor:
        """Frames (N, 1, h, w) in DN of scenes (N, C, H, W) through `mask` (H, W) or (N, H, W), with gradients.

        exposure_s: one, or (N,). draws: None is noise-free. roi: see `irradiance`. quantise: see `Sensor.expose`.
        """
        photons = self.irradiance(scene, self.psf(mask), roi=roi)
        return self.sensor.expose(photons, exposure_s=exposure_s, gain_db=gain_db, draws=draws, quantise=quantise)

    def expose(self, plan: ExposurePlan, draws: Draws | None = None) -> Tensor:
        """Frames (N, 1, h, w) in DN that this rig would measure for `plan`, monitor included. Ts = Tm = 1."""
        if isinstance(plan.scenes, str):
            raise BadInput('a twin has no world in front of it: plan.scenes is "live"; give the scenes as pictures')
        channels = sorted({1, self.settings.channels})
        if plan.scenes.shape[1] != 1 or plan.scenes.shape[2] not in channels or plan.masks.shape[1] != 1:
            raise BadInput(
                f"plan.scenes has shape {plan.scenes.shape}, plan.masks {plan.masks.shape}; this twin takes one scene "
                f"of {' or '.join(map(str, channels))} channels and one mask per exposure (Ts = Tm = 1)"
            )
        masks = torch.from_numpy(plan.masks[:, 0])
        exposure = plan.exposure
        return self.measure(
            self.through_monitor(torch.from_numpy(plan.scenes[:, 0])),
            masks[0] if masks.shape[0] == 1 else masks,
            exposure_s=exposure.exposure_s,
            gain_db=exposure.gain_db,
            draws=draws,
            roi=exposure.roi,
        )

    def through_monitor(self, scene: Tensor) -> Tensor:
        """Radiance (N, C, H, W) that the monitor really shows for `scene`: 8-bit levels, gamma, black."""
        monitor = self.settings.monitor
        return shown_scene(scene, self.roads.scene, gamma=monitor.gamma, contrast=monitor.contrast).to(self.dtype)

    def white_exposure_s(self, psf_sum: Tensor | float, fill: float = 0.9) -> Tensor:
        """Exposure () after which a white scene fills the share `fill` of the full well at the centre of the sensor.

        psf_sum: open area of the mask, `open_area(psf(mask))`. Stray light and dark current count, on a Bayer sensor
        for the pixels that fill up first. Fall-off does not count: with it, a white scene stays below `fill`.
        Clamped to the limits of the sensor; differentiable, so that a more open mask is felt to need less time.
        """
        sensor = self.settings.sensor
        area = torch.as_tensor(psf_sum, dtype=self.dtype)
        rate = self.photons_per_s * area * (1 + self.stray) * sensor.best_efficiency + sensor.dark_current_e_per_s
        low, high = sensor.exposure_limits_s
        return (fill * sensor.full_well_e / rate.clamp(min=1e-12)).clamp(low, high)

    @property
    def _room(self) -> int:
        return int(self.pad or 0)

    def _panel_values(self) -> dict[str, Any]:
        exact = float(self.crosstalk.detach()) == 0 and not self.crosstalk.requires_grad
        return {
            "gamma": self.panel_gamma,
            "lut": self.panel_lut,
            "contrast": torch.exp(self.log_contrast),
            "fill_factor": self.settings.panel.fill_factor,
            "crosstalk": 0.0 if exact else self.crosstalk,
        }

    @property
    def _registration(self) -> Registration:
        return Registration(self.shift_px, self.rotation_rad, self.scale)

    def _cast(self, picture: Tensor) -> Tensor:
        return cast(
            picture,
            self.settings,
            cell_px=self.roads.mask.cell_px,
            room_px=self._room,
            registration=self._registration,
            blur_px=self.blur_px,
        )

    def _window(
        self,
        scene: tuple[int, int],
        kernel: tuple[int, int],
        border: Border | None,
        roi: tuple[int, int] | None,
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and size of the wanted part in the full convolution, along both axes."""
        border = border or self.settings.optics.border
        sensor = self.settings.sensor.shape
        axes = []
        for axis in (0, 1):
            inner = kernel[axis] - 2 * self._room
            if roi is not None:
                start = (sensor[axis] - roi[axis]) // 2 - (sensor[axis] - (scene[axis] + kernel[axis] - 1)) // 2
                axes.append((start, roi[axis]))
            elif border == "valid":
                axes.append((inner - 1 + self._room, scene[axis] - inner + 1))
            elif border == "same":
                axes.append(((inner - 1) // 2 + self._room, scene[axis]))
            else:
                axes.append((self._room, scene[axis] + inner - 1))
        if min(size for _, size in axes) < 1:
            raise BadInput(
                f"mask larger than the scene: the mask shadow spans {kernel[0] - 2 * self._room}x"
                f"{kernel[1] - 2 * self._room} sensor pixels, the scene {scene[0]}x{scene[1]}; "
                "use fewer mask cells or a larger scene"
            )
        return (axes[0][0], axes[1][0]), (axes[0][1], axes[1][1])
