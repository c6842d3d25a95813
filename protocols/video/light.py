"""Clips as light on the sensor: what a video camera reads out, from the twin or from captured frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from protocols.simulation import CHUNK

if TYPE_CHECKING:
    from protocols.data.clips import Clips
    from protocols.simulation import Simulation
    from protocols.splits import IntArray


class ClipExposer:
    """Takes clips through the twin of a rig, frame by frame through the same optics, and gives them as light.

    Light is 0 at black and 1 where a white scene stands, in the middle of the sensor.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    def shown(self, clips: Tensor) -> Tensor:
        """(N, T, 1, H, W) radiance as the monitor shows it."""
        return self.simulation.shown(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])

    def light(self, shown: Tensor, mask: Tensor, *, draws: Any = None) -> Tensor:
        """(N, T, 1, h, w) light of shown clips (N, T, 1, H, W) through `mask` (H, W), with gradients in the mask.

        draws: None is noise-free.
        """
        frames = self.simulation.frames(shown.flatten(0, 1), mask, draws=draws)
        return self.of_frames(frames, mask).unflatten(0, shown.shape[:2])

    def of_frames(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(n, 1, h, w) light of frames in DN that were exposed by the rule of the simulation."""
        sensor = self.simulation.twin.sensor
        region = (int(frames.shape[-2]), int(frames.shape[-1]))
        return (frames - sensor.offset_dn(region)) / self.white_dn(mask).to(frames)

    def white_dn(self, mask: Tensor) -> Tensor:
        """() what a white scene adds to black in the middle of the sensor, in DN, without a full well."""
        twin = self.simulation.twin
        psf = self.simulation.cast(mask)
        rate = twin.photons_per_s * twin.open_area(psf) * twin.settings.sensor.best_efficiency
        white: Tensor = rate * self.simulation.exposure_s(psf) * twin.sensor.gain_dn_per_e
        return white


def measured_light(exposer: ClipExposer, clips: Clips, rows: IntArray, mask: Tensor, *, draws: Any = None) -> Tensor:
    """(n, T, 1, h, w) light of these rows of a set, some at a time, without gradients."""
    at_once = max(1, CHUNK // int(clips.shape[1]))
    parts = []
    for start in range(0, max(1, len(rows)), at_once):
        with torch.no_grad():
            shown = exposer.shown(torch.from_numpy(clips[rows[start : start + at_once]]))
            parts.append(exposer.light(shown, mask, draws=draws))
    return torch.cat(parts)
