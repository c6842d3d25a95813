"""Exposures with gradients: the value is what the bench measured, the slope is that of a rule that the YAML names.

The rig never hands out gradients, so a simulated bench cannot leak the truth it stands in. It is asked once for one
forward pass; the backward pass happens in a twin alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.exposure import Exposure, ExposurePlan, Frames, still_plan

if TYPE_CHECKING:
    from labctl.rig import Rig
    from labctl.rig_proxy import RigProxy
    from protocols.loop_plan import GradientRule
    from protocols.measurement import Measurement
    from protocols.twin_fit.refit import TwinRefit
    from sim.sensor import Sensor
    from sim.twin import Twin


@dataclass
class LoopCamera:
    """The bench as a training asks it: stills of one mask for one time, counted.

    roi: (rows, columns) of the centre that is read. exposures, mask_changes: asked for so far; a mask counts as changed
    when other levels stand on the panel.
    """

    rig: Rig | RigProxy
    roi: tuple[int, int]
    exposures: int = 0
    mask_changes: int = 0
    _levels: bytes = field(default=b"", repr=False)

    def take(self, scenes: Tensor, mask: Tensor, exposure_s: float, exposure_ids: Sequence[int]) -> Frames:
        """Frames of scenes (N, 1, H, W), radiance 0..1, through `mask` (H, W), 0..1. Raises what the rig raises."""
        shown = mask.detach().cpu().numpy().astype(np.float64)
        levels = self.rig.roads.mask.levels(shown).tobytes()
        self.mask_changes += levels != self._levels
        self._levels = levels
        pictures = scenes.detach().cpu().numpy().astype(np.float32)
        exposure = Exposure(exposure_s=exposure_s, roi=self.roi)
        return self.expose(still_plan(pictures, shown, exposure, exposure_ids=exposure_ids))

    def expose(self, plan: ExposurePlan) -> Frames:
        """As `Rig.expose`, counted."""
        frames = self.rig.expose(plan)
        self.exposures += len(frames)
        return frames

    def devices(self) -> Any:
        """As `Rig.devices`."""
        return self.rig.devices()

    @property
    def saturation_dn(self) -> int:
        """DN at which a pixel is saturated."""
        return int(self.rig.devices().camera.saturation_dn)

    def state_dict(self) -> dict[str, Any]:
        """What was asked for so far, for a checkpoint."""
        return {"exposures": self.exposures, "mask_changes": self.mask_changes, "levels": self._levels.hex()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.exposures, self.mask_changes = state["exposures"], state["mask_changes"]
        self._levels = bytes.fromhex(state["levels"])


@dataclass(frozen=True)
class LoopExposure:
    """How long a mask is exposed: a given time, or the time found on the bench for the start mask, scaled.

    start_s: seconds for the start mask. fill: None keeps that time for every mask; else it is scaled as the twin says
    that a white scene fills the sensor to this share, so that a more open mask is exposed shorter. limits_s: of the
    camera. start_mask: (H, W).
    """

    start_s: float
    start_mask: Tensor
    limits_s: tuple[float, float]
    fill: float | None

    def time_s(self, twin: Twin, psf: Tensor) -> Tensor:
        """() seconds for a mask with this PSF in `twin`; differentiable where it follows the mask."""
        start_s = torch.as_tensor(self.start_s, dtype=twin.dtype, device=psf.device)
        if self.fill is None:
            return start_s
        with torch.no_grad():
            at_start = twin.white_exposure_s(twin.open_area(twin.psf(self.start_mask.to(psf.device))), self.fill)
        now = twin.white_exposure_s(twin.open_area(psf), self.fill)
        time_s: Tensor = (start_s * now / at_start).clamp(*self.limits_s)
        return time_s


class HardwareExposer:
    """Takes scenes and a mask, gives frames in DN of the nominal twin: measured in value, with the slope of `rule`.

    nominal: twin of the rig file, the slope of `straight_through`. fitted: twin of this very bench, the slope of
    `physics_aware`; that of `refit`, which changes it in place, for `learned_twin`. measurement: what measured frames
    pass before they are looked at, and with them the frames of the fitted twin, so that value and slope are of one
    scale; None leaves both in DN of the bench. Raises BadInput where a rule lacks its twin.
    """

    def __init__(
        self,
        camera: LoopCamera,
        rule: GradientRule,
        exposure: LoopExposure,
        *,
        nominal: Twin,
        fitted: Twin | None = None,
        measurement: Measurement | None = None,
        refit: TwinRefit | None = None,
    ) -> None:
        self.camera, self.rule, self.exposure = camera, rule, exposure
        self.measurement, self.refit = measurement, refit
        self.twin: Twin = nominal if rule == "straight_through" else _needed(fitted, rule)
        if rule == "learned_twin" and refit is None:
            raise BadInput("the rule learned_twin needs a refit of its twin; give one")
        self.last: Frames | None = None
        """What was measured last."""

    def __call__(self, scenes: Tensor, mask: Tensor, exposure_ids: Sequence[int]) -> Tensor:
        """(N, 1, h, w) frames of scenes (N, 1, H, W), radiance 0..1, through mask (H, W), 0..1. Exposes once."""
        with torch.no_grad():
            wanted_s = float(self.exposure.time_s(self.twin, self.twin.psf(mask.detach())))
        frames = self.camera.take(scenes, mask, wanted_s, exposure_ids)
        self.last = frames
        raw = torch.from_numpy(frames.pixels.astype(np.float32)).to(mask.device)
        taken_s = torch.from_numpy(frames.exposure_s).to(raw)
        value = self.corrected(raw, taken_s)
        if not (torch.is_grad_enabled() and mask.requires_grad):
            return value
        if self.refit is not None:  # before the slope is asked for: it shall know these frames too
            self.refit.update(self.twin.through_monitor(scenes), mask.detach(), taken_s, raw)
        return valued(value, self._model(scenes, mask, raw, taken_s))

    def corrected(self, raw: Tensor, exposure_s: Tensor) -> Tensor:
        """Frames (N, 1, h, w) in DN of the bench, taken for (N,) seconds, in DN of the nominal twin."""
        return raw if self.measurement is None else self.measurement.correct(raw, exposure_s)

    def _model(self, scenes: Tensor, mask: Tensor, raw: Tensor, taken_s: Tensor) -> Tensor:
        """(N, 1, h, w) frames whose slope is taken; their value does not matter."""
        twin = self.twin
        psf = twin.psf(mask)
        photons = twin.irradiance(twin.through_monitor(scenes).to(mask.device), psf)
        time_s = self.exposure.time_s(twin, psf)
        if self.rule == "straight_through":
            return twin.sensor.expose(photons, exposure_s=time_s)
        # The time that was really taken, with the slope that the rule of the exposure gives it.
        time_s = taken_s.to(twin.dtype) * (time_s / time_s.detach())
        light = unclipped(twin.sensor).expose(photons, exposure_s=time_s, quantise=False)
        clipped = (raw >= self.camera.saturation_dn) | (raw <= 0)
        return self.corrected(torch.where(clipped, light.detach(), light), time_s)


def valued(value: Tensor, model: Tensor) -> Tensor:
    """`value` to the last bit, with the slope of `model`."""
    return value.detach() + (model - model.detach()).to(value.dtype)


def unclipped(sensor: Sensor) -> Sensor:
    """The same sensor, whose pixels never fill up: what is full is known from the measured frame."""
    endless: Sensor = copy.copy(sensor)
    endless.settings = sensor.settings.model_copy(update={"full_well_e": math.inf})
    return endless


class RunningNormalisation:
    """Mean frame and scale of a `Normalisation`, kept up to date with measured frames; nothing is exposed for it.

    While the mask moves, frames of the last WINDOW batches or so count; once it stands still, all since then too.
    """

    WINDOW = 8

    def __init__(self, normalisation: nn.Module) -> None:
        self.normalisation: Any = normalisation
        self.batches = 0
        self.mean: Tensor | None = None
        self.square: Tensor | None = None

    @torch.no_grad()
    def see(self, frames: Tensor, *, moving: bool) -> None:
        """Take in a batch of read-out frames (N, 1, h, w). Raises BadInput when they do not differ at all."""
        values = frames.detach().to(torch.float64)
        mean, square = values.mean(dim=0), values.square().mean(dim=0)
        if self.mean is None or self.square is None:
            self.mean, self.square = mean, square
        else:
            share = 1 / (self.batches + 1)
            self.mean, self.square = self.mean.lerp(mean, share), self.square.lerp(square, share)
        self.batches = min(self.batches + 1, self.WINDOW) if moving else self.batches + 1
        variance = (self.square - self.mean.square()).mean()
        level = float(values.abs().max())
        if not float(variance) > (1e-6 * level) ** 2:
            raise BadInput(
                "all measured frames are the same, so there is no scale; look at the lamp, the lens cap, the displays "
                "and the exposure (`labctl snap`)"
            )
        self.normalisation.mean_frame.copy_(self.mean[0])
        self.normalisation.std.copy_(variance.sqrt())
        self.normalisation.fitted.fill_(True)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"batches": self.batches, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where it was."""
        self.batches, self.mean, self.square = state["batches"], state["mean"], state["square"]


def _needed(fitted: Twin | None, rule: str) -> Twin:
    if fitted is None:
        raise BadInput(f"the rule {rule} needs a twin of this bench; fit one with a `fit_twin` step and give `twin:`")
    return fitted
