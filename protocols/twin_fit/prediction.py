"""Frames that a twin foretells for captures, and their slopes in what is fitted.

The slopes follow the way of the light. A PSF depends on registration and panel through interpolation, which torch
differentiates only backwards, so its slopes are differences in float64; there are few masks, so that is cheap. From
there on, frames are linear in the PSF, and one convolution for each slope makes them exact.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from protocols.twin_fit.captures import Captures
from protocols.twin_fit.fitted import twin_from
from protocols.twin_fit.priors import LEAK, Parameter, as_twin_values, values_by_name
from sim.optics.shadow import Registration
from sim.shadow_casting import reach_px

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec
    from labctl.roads import Roads
    from sim.twin import Twin

SHAPES_PSF = frozenset(
    {"shift_px", "rotation_rad", "scale", "blur_px", "tilt_rad", "gap_error", "panel_gamma", LEAK, "crosstalk"}
)
MOVES_IMAGE = {"gap_error": (None,), "tilt_rad": (0, 1)}
"""Those that also move the image of the scene: see `Twin.light_slopes`."""

STEPS = {
    "shift_px": 0.06, "rotation_rad": 4e-3, "scale": 4e-3, "blur_px": 1e-3, "tilt_rad": 1e-2, "gap_error": 1e-2,
    "panel_gamma": 1e-3, LEAK: 1e-4, "crosstalk": 1e-3, "monitor_gamma": 1e-3,
}  # fmt: skip
"""Of the differences. Sampled shadows have kinks a quarter of a pixel apart: the registration steps over them."""

CENTRAL = frozenset({"shift_px", "rotation_rad", "scale"})
"""Differences that go to both sides."""


class Predictor:
    """Foretells the frames of `captures` by `twin`, for any numbers in place of `parameters`; it moves the twin.

    shown: (N, C, H, W) radiance of the scenes where it is known, else the monitor of the twin shows them.
    """

    def __init__(
        self, twin: Twin, captures: Captures, parameters: tuple[Parameter, ...], *, shown: Tensor | None = None
    ) -> None:
        self.twin, self.captures, self.parameters = twin, captures, parameters
        like = twin.shift_px
        self._scenes = shown if shown is not None else torch.from_numpy(captures.scenes)[:, None].to(like)
        self._is_shown = shown is not None
        self._masks = torch.from_numpy(captures.masks).to(like)
        self._mask_of = torch.from_numpy(captures.mask_of).to(like.device)
        self._exposure_s = torch.from_numpy(captures.exposure_s).to(like)
        self._roi = (captures.frames.shape[1], captures.frames.shape[2])

    @classmethod
    def of_rig(
        cls,
        spec: RigSpec,
        roads: Roads,
        captures: Captures,
        parameters: tuple[Parameter, ...],
        fixed: Mapping[str, Any],
    ) -> Predictor:
        """With the twin of `spec` in float64, these further values and maps, and room for the limits of all numbers."""
        start = as_twin_values(values_by_name(parameters, [p.mean for p in parameters]))
        margin_px = margin_for(spec, roads, parameters, fixed, captures.masks.shape[1:])
        twin = twin_from(spec, {**fixed, **start}, roads=roads, dtype=torch.float64, margin_px=margin_px)
        return cls(twin, captures, parameters)

    def frames(self, numbers: np.ndarray) -> np.ndarray:
        """(N, h, w) DN, not rounded."""
        with torch.no_grad():
            self._put(numbers)
            light = self._light(self._shown(), self._kernels())
            return self._dn(self.twin.photons_per_s * light)[:, 0].double().cpu().numpy()

    def frames_and_slopes(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, h, w) DN, and (P, N, h, w) their slopes in each number."""
        self._put(numbers)
        with torch.no_grad():
            shown, kernels = self._shown(), self._kernels()
            light = self._light(shown, kernels)
            rate = self.twin.photons_per_s * light
            rate_slopes = self._rate_slopes(numbers, shown, kernels, light)
        rate.requires_grad_(True)
        dn = self._dn(rate)
        (per_photon,) = torch.autograd.grad(dn.sum(), rate)
        with torch.no_grad():
            slopes = [
                per_photon * rate_slopes[place] if place in rate_slopes else self._pixel_slope(parameter, rate, numbers)
                for place, parameter in enumerate(self.parameters)
            ]
            found = torch.stack(slopes)[:, :, 0].double().cpu().numpy()
        return dn.detach()[:, 0].double().cpu().numpy(), found

    # Parts of the way of the light

    def _shown(self) -> Tensor:
        return self._scenes if self._is_shown else self.twin.through_monitor(self._scenes)

    def _kernels(self) -> Tensor:
        """(M, C, h, w) PSFs."""
        psf = self.twin.psf(self._masks)
        return psf if psf.ndim == 4 else psf[:, None]

    def _light(self, shown: Tensor, kernels: Tensor) -> Tensor:
        """(N, C, h, w) light of every capture; kernels (M, C, h, w)."""
        return self._by_mask(kernels, lambda places, kernel: self.twin.light(shown[places], kernel, roi=self._roi))

    def _by_mask(self, kernels: Tensor, made: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """(N, K, h, w): what `made` returns for the captures of each mask and its kernel (1, C, h, w)."""
        whole: Tensor | None = None
        for mask in range(len(kernels)):
            places = torch.nonzero(self._mask_of == mask)[:, 0]
            if len(places) == 0:
                continue
            part = made(places, kernels[mask : mask + 1])
            if whole is None:
                whole = part.new_zeros((len(self._mask_of), *part.shape[1:]))
            whole[places] = part
        assert whole is not None
        return whole

    def _dn(self, rate: Tensor) -> Tensor:
        return self.twin.sensor.expose(rate, exposure_s=self._exposure_s, quantise=False)

    # Slopes

    def _rate_slopes(self, numbers: np.ndarray, shown: Tensor, kernels: Tensor, light: Tensor) -> dict[int, Tensor]:
        scaled: dict[int, Tensor] = {}
        of_psf = {
            place: self._difference(place, numbers, kernels, self._kernels)
            for place, parameter in enumerate(self.parameters)
            if parameter.name in SHAPES_PSF
        }
        if of_psf:
            scaled |= dict(zip(of_psf, self._light_of_slopes(shown, list(of_psf.values())), strict=True))
        moved = self._light_when_moved(shown, kernels)
        for place, parameter in enumerate(self.parameters):
            if parameter.name in MOVES_IMAGE:
                channel = 0 if parameter.index is None else 1 + parameter.index
                scaled[place] = scaled[place] + moved(channel)
            elif parameter.name == "monitor_gamma":
                brighter = self._difference(place, numbers, shown, self._shown)
                scaled[place] = self._light(brighter, kernels)
            elif parameter.name == "stray":
                veil = kernels.sum(dim=(-2, -1), keepdim=True)[self._mask_of] * shown.mean(dim=(-2, -1), keepdim=True)
                scaled[place] = veil.expand_as(light)
        found = {place: self.twin.photons_per_s * slope for place, slope in scaled.items()}
        for place, parameter in enumerate(self.parameters):
            if parameter.name == "photons_per_s":
                found[place] = light
        return found

    def _light_when_moved(self, shown: Tensor, kernels: Tensor) -> Any:
        """A function of 0, 1, 2 that returns the slope of the image in the gap and in both tilts."""
        wanted = any(parameter.name in MOVES_IMAGE for parameter in self.parameters)
        if not wanted:
            return None
        channels = [
            self._by_mask(
                kernels[:, [colour]],
                lambda places, kernel, colour=colour: self.twin.light_slopes(
                    shown[places][:, [min(colour, shown.shape[1] - 1)]], kernel, roi=self._roi
                ),
            )
            for colour in range(kernels.shape[1])
        ]
        return lambda which: torch.cat([slopes[:, [which]] for slopes in channels], dim=1)

    def _light_of_slopes(self, shown: Tensor, slopes: list[Tensor]) -> list[Tensor]:
        """Light that each slope of the PSFs makes; of grey rigs all at once, as channels."""
        if slopes[0].shape[1] == 1:
            together = self._light(shown, torch.cat(slopes, dim=1))
            return [together[:, place : place + 1] for place in range(len(slopes))]
        return [self._light(shown, slope) for slope in slopes]

    def _difference(self, place: int, numbers: np.ndarray, here: Tensor, made: Callable[[], Tensor]) -> Tensor:
        """Slope in number `place` of what `made` returns, which is `here` now; downwards at its upper limit."""
        parameter = self.parameters[place]
        step = STEPS[parameter.name]
        step = step if numbers[place] + step <= parameter.high else -step
        with self._instead(place, numbers, numbers[place] + step):
            beyond = made()
        if parameter.name not in CENTRAL or not parameter.low <= numbers[place] - step <= parameter.high:
            return (beyond - here) / step
        with self._instead(place, numbers, numbers[place] - step):
            return (beyond - made()) / (2 * step)

    def _pixel_slope(self, parameter: Parameter, rate: Tensor, numbers: np.ndarray) -> Tensor:
        """Frames are linear in the values of the pixels, so a difference is exact."""
        place = self.parameters.index(parameter)
        step = 1e-3
        ends = []
        for value in (numbers[place] + step, numbers[place] - step):
            with self._instead(place, numbers, value):
                ends.append(self._dn(rate.detach()))
        return (ends[0] - ends[1]) / (2 * step)

    @contextlib.contextmanager
    def _instead(self, place: int, numbers: np.ndarray, value: float) -> Iterator[None]:
        moved = numbers.copy()
        moved[place] = value
        self._put(moved)
        try:
            yield
        finally:
            self._put(numbers)

    def _put(self, numbers: np.ndarray) -> None:
        put_values(self.twin, self.parameters, numbers)


def put_values(twin: Twin, parameters: tuple[Parameter, ...], numbers: np.ndarray) -> None:
    """Set the values of `twin` in place."""
    with torch.no_grad():
        for name, value in as_twin_values(values_by_name(parameters, numbers)).items():
            owner = twin if hasattr(twin, name) else twin.sensor
            getattr(owner, name).copy_(torch.as_tensor(value, dtype=torch.float64))


def margin_for(
    spec: RigSpec,
    roads: Roads,
    parameters: tuple[Parameter, ...],
    fixed: Mapping[str, Any],
    mask_shape: tuple[int, ...],
) -> int:
    """Room round the shadow, in sensor pixels, for all that the limits of the parameters allow."""
    near = spec.twin.registration
    held: dict[str, Any] = {
        "shift_px": near.shift_px, "rotation_rad": math.radians(near.rotation_deg), "scale": near.scale,
        "blur_px": near.blur_px, "tilt_rad": (0.0, 0.0), "gap_error": 0.0,
    }  # fmt: skip
    held |= {name: value for name, value in fixed.items() if name in held}
    most = values_by_name(parameters, [p.high if abs(p.high) > abs(p.low) else p.low for p in parameters])
    held |= {name: value for name, value in most.items() if name in held}
    as_tensor = {name: torch.as_tensor(np.asarray(value), dtype=torch.float64) for name, value in held.items()}
    blur_px = as_tensor.pop("blur_px")
    cell_px = roads.mask.cell_px
    panel_px = (mask_shape[0] * cell_px, mask_shape[1] * cell_px)
    tilted = spec.twin.optics.model == "shadow"
    registration = Registration(**{**as_tensor, "tilt_rad": as_tensor["tilt_rad"] if tilted else None})
    return math.ceil(reach_px(spec.twin, panel_px, cell_px=cell_px, registration=registration, blur_px=blur_px))
