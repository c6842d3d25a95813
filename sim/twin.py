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
from sim.optics.magnify import growth_slope, magnified
from sim.optics.scene_grid import scene_on_sensor
from sim.optics.shadow import Registration
from sim.panel import cells_on_panel, panel_transmittance, shown_transmittance
from sim.sensor import MAPS, Sensor
from sim.shadow_casting import cast, reach_px, residual_on
from sim.twin_settings import TwinSettings
from sim.values import free_value, moves, register_values

__all__ = ["Twin", "TwinSettings"]

OF_SENSOR = ("vignetting", "dark_offset", "gain_dn_per_e", "read_noise_e", "dark_current_e_per_s", *MAPS)
"""Values that are the sensor's."""

SCENE_ROOM_PX = 2
"""Pixels round the scene that a wrong gap may move light into, besides what it grows by."""


class Twin(nn.Module):
    """One rig, differentiable. Nothing is normalised: photons in, DN out.

    Values, all buffers unless given as Parameters or freed by `free`: shift_px (2,), rotation_rad, scale, blur_px,
    tilt_rad (2,), gap_error, panel_gamma, log_contrast, crosstalk, monitor_gamma, stray, photons_per_s, and of the
    sensor vignetting, dark_offset, gain_dn_per_e, read_noise_e, dark_current_e_per_s.
    May be given too: panel_lut (n,), the measured response in place of panel_gamma; psf_residual (h, w), added to the
    middle of every PSF in shares of its sum; and the maps of `sim.sensor.Sensor`.
    tilt_rad and gap_error move the shadow, and the image of the scene with it, since that image stands at the gap. The
    image through a tilted mask is enlarged by another gap for every cell; this is followed to first order, which holds
    while it moves light at the corners by less than about a pixel.
    Scenes are (N, 1, H, W) linear radiance, masks (H, W) or (N, H, W) transmittance, frames (N, 1, h, w) DN. A Bayer
    sensor also takes (N, 3, H, W) scenes, in red, green and blue; grey ones are as bright in all three. Its frames are
    raw mosaics. `steepness` of the panel's surrogate slope is a plain number that training may anneal.
    """

    shift_px: Tensor
    rotation_rad: Tensor
    scale: Tensor
    blur_px: Tensor
    tilt_rad: Tensor
    gap_error: Tensor
    panel_gamma: Tensor
    log_contrast: Tensor
    crosstalk: Tensor
    monitor_gamma: Tensor
    stray: Tensor
    photons_per_s: Tensor
    panel_lut: Tensor | None
    psf_residual: Tensor | None

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
            "tilt_rad": (0.0, 0.0),
            "gap_error": 0.0,
            "panel_gamma": settings.panel.gamma,
            "log_contrast": math.log(settings.panel.contrast),
            "crosstalk": settings.panel.crosstalk,
            "monitor_gamma": settings.monitor.gamma,
            "stray": settings.light.stray,
            "photons_per_s": settings.light.photons_per_s,
        }
        given = dict(values or {})
        of_sensor: dict[str, Tensor] = {name: given.pop(name) for name in OF_SENSOR if name in given}
        lut = given.pop("panel_lut", settings.panel.lut)
        residual = given.pop("psf_residual", None)
        register_values(self, nominal, given, dtype)
        self.register_buffer("panel_lut", None if lut is None else torch.as_tensor(lut, dtype=dtype), persistent=False)
        residual = None if residual is None else torch.as_tensor(residual, dtype=dtype)
        self.register_buffer("psf_residual", residual, persistent=False)
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
        fixed = {"pixel_gain", "pixel_offset", "radius_squared", "filters", "panel_lut", "psf_residual", *MAPS}
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
        return self._residual(self._cast(picture, self.settings))

    def psf_of_weights(self, weights: Tensor) -> Tensor:
        """The same of optics that no panel shows: weights (H, W) or (N, H, W) >= 0 in units of one fully open cell.

        Such is a lens, which gathers the light of many cells in one. Geometry, registration and blur are those of a
        mask in that place. There are no levels, no leak, no fill factor, no diffraction of cells, and no
        `psf_residual`, which was measured through the panel.
        """
        psf = self._cast(cells_on_panel(weights.to(self.dtype), self.roads.mask.cell_px), self.settings.geometric())
        return psf[..., None, :, :].expand(*psf.shape[:-2], 3, *psf.shape[-2:]) if self.has_colour_psf else psf

    def psf_from_levels(self, levels: Tensor) -> Tensor:
        """PSF of a panel picture (rows, columns) in levels 0..255, uint8 or float, cropped to the design."""
        picture = panel_transmittance(levels.to(self.dtype) / FULL_LEVEL, **self._panel_values())
        return self._residual(self._cast(picture, self.settings))

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
        light = self.light(scene, psf.reshape(-1, channels, *psf.shape[-2:]), border=border, roi=roi)
        # The transform leaves rounding errors below zero; only the value is clipped, a dark pixel keeps its slope.
        return self.photons_per_s * (light + (light.clamp(min=0) - light).detach())

    def light(
        self,
        scene: Tensor,
        kernel: Tensor,
        *,
        border: Border | None = None,
        roi: tuple[int, int] | None = None,
    ) -> Tensor:
        """`irradiance` in units of photons_per_s, (N, C, h, w), linear in scene and in kernel (1 or N, 1 or C, h, w).

        Not clipped: a kernel may also be a slope of a PSF, and its channels any number of them.
        """
        scene = self._on_sensor(scene)
        start, size = self._window(
            (scene.shape[-2], scene.shape[-1]), (kernel.shape[-2], kernel.shape[-1]), border, roi
        )
        return self._image(scene, kernel, start, size) + self._veil(scene, kernel)

    def light_slopes(self, scene: Tensor, kernel: Tensor, *, roi: tuple[int, int] | None = None) -> Tensor:
        """(N, 3, h, w) slopes of the image of `light` in gap_error and in both tilts, at a fixed kernel (1, 1, h, w).

        Of grey rigs. To first order in the tilt, as the image itself.
        """
        scene = self._on_sensor(scene)
        start, size = self._window((scene.shape[-2], scene.shape[-1]), (kernel.shape[-2], kernel.shape[-1]), None, roi)
        secant = 1 / torch.cos(self.tilt_rad) ** 2
        along = [kernel * self._gap_share(kernel, axis * secant) for axis in torch.eye(2).to(secant)]
        return self._growing(scene, torch.cat((kernel, *along), dim=1), start, size)

    def _on_sensor(self, scene: Tensor) -> Tensor:
        """(N, C, h, w) image of a scene as it stands behind a pinhole, with its fall-off."""
        scene = scene_on_sensor(scene.to(self.dtype), self.settings.scene_px)
        if self.settings.optics.fall_off == "cos4":
            pitch_m, gap_m = self.settings.sensor.pitch_m, self.settings.optics.gap_m
            shape = (scene.shape[-2], scene.shape[-1])
            scene = scene * cos4_fall_off(shape, pitch_m=pitch_m, distance_m=gap_m).to(scene)
        return scene

    def _image(self, scene: Tensor, kernel: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(N, C, h, w) the window of scene * kernel, with the scene enlarged by the gap that each cell stands at."""
        tilted = moves(self.tilt_rad)
        if not tilted and not moves(self.gap_error):
            return convolve_window(scene, kernel, start, size)
        room = self._scene_room(scene)
        there = (start[0] + room, start[1] + room)
        image = convolve_window(magnified(scene, 1 + self.gap_error, room), kernel, there, size)
        return (
            image + self._growing(scene, kernel * self._gap_share(kernel, torch.tan(self.tilt_rad)), start, size)
            if tilted
            else image
        )

    def _growing(self, scene: Tensor, kernel: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(N, C, h, w) slope of the image in the share by which the gap grows, for the light that `kernel` lets in."""
        room = self._scene_room(scene)
        slope = growth_slope(scene, 1 + self.gap_error, room)
        return convolve_window(slope, kernel, (start[0] + room, start[1] + room), size)

    def _scene_room(self, scene: Tensor) -> int:
        return SCENE_ROOM_PX + math.ceil(abs(float(self.gap_error.detach())) * max(scene.shape[-2:]) / 2)

    def _gap_share(self, kernel: Tensor, tangent: Tensor) -> Tensor:
        """(h, w) share by which the gap grows from the middle of the mask to where each pixel of a PSF comes from."""
        optics = self.settings.optics
        mask_px = self.settings.sensor.pitch_m / (1 + optics.gap_m / optics.scene_distance_m)
        y, x = (
            (torch.arange(n, dtype=self.dtype, device=kernel.device) - (n - 1) / 2 - shift) / self.scale
            for n, shift in zip(kernel.shape[-2:], self.shift_px, strict=True)
        )
        cos, sin = torch.cos(self.rotation_rad), torch.sin(self.rotation_rad)
        along_rows, along_columns = cos * y[:, None] + sin * x, cos * x - sin * y[:, None]
        return (along_rows * tangent[0] + along_columns * tangent[1]) * (mask_px / optics.gap_m)

    def _veil(self, scene: Tensor, kernel: Tensor) -> Tensor:
        """(N, C, 1, 1) stray light."""
        mean = kernel.sum(dim=(-2, -1), keepdim=True) * scene.mean(dim=(-2, -1), keepdim=True)
        return self.stray * mean

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
        monitor, gamma = self.settings.monitor, float(self.monitor_gamma.detach())
        if gamma == float(torch.tensor(monitor.gamma, dtype=self.dtype)):
            gamma = monitor.gamma  # in the digits of the file, not in those of the dtype of the twin
        shown = shown_scene(scene, self.roads.scene, gamma=gamma, contrast=monitor.contrast).to(self.dtype)
        if not self.monitor_gamma.requires_grad:
            return shown
        black = 1 / monitor.contrast
        response = ((shown.detach() - black) / (1 - black)).clamp(min=1e-30)
        slope = (1 - black) * response * torch.log(response) / gamma
        return shown + slope * (self.monitor_gamma - self.monitor_gamma.detach())

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
        tilt_rad = self.tilt_rad if moves(self.tilt_rad) else None
        gap_error = self.gap_error if moves(self.gap_error) else None
        return Registration(self.shift_px, self.rotation_rad, self.scale, tilt_rad, gap_error)

    def _cast(self, picture: Tensor, settings: TwinSettings) -> Tensor:
        return cast(
            picture,
            settings,
            cell_px=self.roads.mask.cell_px,
            room_px=self._room,
            registration=self._registration,
            blur_px=self.blur_px,
        )

    def _residual(self, psf: Tensor) -> Tensor:
        return psf if self.psf_residual is None else psf + residual_on(psf, self.psf_residual)

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
