"""What the electronics of a camera for clips make of light, measured on the design, and how far it can be undone.

Whoever knows the camera knows this curve. Nothing of a design's inside is asked for: a ramp of light is read out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labctl.errors import BadInput

if TYPE_CHECKING:
    from sim.designs.video.base import Operator, VideoDesign

POINTS = 801
"""Values of light on a curve; an odd number, so that no light and no change are among them."""

SAME = 1e-6
"""Outputs that differ by less are the same step of a quantiser."""


@dataclass(frozen=True)
class TransferCurve:
    """Output (n,) for each input (n,), ascending.

    of_change: inputs are the change of light between two frames, -1..1; else light itself, 0..1. One is a white scene.
    """

    inputs: npt.NDArray[np.float64]
    outputs: npt.NDArray[np.float64]
    of_change: bool

    @property
    def steps(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(k,) different outputs, ascending, and (k,) the middle of the inputs that give each."""
        order = np.argsort(self.outputs, kind="stable")
        outputs, inputs = self.outputs[order], self.inputs[order]
        starts = np.flatnonzero(np.diff(outputs, prepend=-np.inf) > SAME)
        ends = np.append(starts[1:], len(outputs)) - 1
        low, high = np.minimum.reduceat(inputs, starts), np.maximum.reduceat(inputs, starts)
        return (outputs[starts] + outputs[ends]) / 2, (low + high) / 2

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Inputs at which the output steps, of a quantiser that is flat in between; none of a smooth curve."""
        at = np.flatnonzero(np.abs(np.diff(self.outputs)) > SAME)
        if len(at) > len(self.inputs) // 4:
            return np.empty(0)
        return (self.inputs[at] + self.inputs[at + 1]) / 2

    @property
    def monotonic(self) -> bool:
        """Whether more light never gives less, and somewhere more."""
        return bool((np.diff(self.outputs) >= -SAME).all() and self.outputs[-1] - self.outputs[0] > SAME)


def transfer_curve(design: VideoDesign, operator: Operator, light_shape: tuple[int, int]) -> TransferCurve:
    """Read a ramp of light of (h, w) pixels. A design that spans several frames sees its last one change."""
    change = design.span > 1
    inputs = np.linspace(-1.0 if change else 0.0, 1.0, POINTS)
    outputs = np.empty(POINTS)
    for start in range(0, POINTS, 100):
        values = torch.from_numpy(inputs[start : start + 100]).float()
        outputs[start : start + 100] = _middle(design, operator, _ramp(design, values, light_shape))
    return TransferCurve(inputs, outputs, change)


def reads_pixel_by_pixel(design: VideoDesign, operator: Operator, light_shape: tuple[int, int]) -> bool:
    """Whether light on one pixel changes one read pixel at most: else a curve does not say what the electronics do."""
    dark = torch.full((1, design.span, 1, *light_shape), 0.2)
    lit = dark.clone()
    lit[..., light_shape[0] // 2, light_shape[1] // 2] = 0.9
    if design.span > 1:
        lit[:, :-1] = dark[:, :-1]
    with torch.no_grad():
        moved = (design.read_clips(lit, operator) - design.read_clips(dark, operator)).abs() > SAME
    return int(moved.flatten(1).sum()) <= int(moved.shape[1] * moved.shape[2])


def undone(encoded: Tensor, curve: TransferCurve) -> Tensor:
    """(N, T', 1 or 2, h, w) light from read clips (N, T', 1, h, w), as well as the curve can be turned round.

    First channel: the middle of the interval of light, or of change, that gives each value. Where that is change,
    second channel: its sum over time, which is the clip up to its unknown first frame.
    Raises BadInput for a curve that goes up and down, which tells several inputs by one output.
    """
    if not curve.monotonic:
        raise BadInput("more light does not always give more output, so the read-out cannot be turned round")
    outputs, inputs = curve.steps
    light = torch.from_numpy(np.interp(encoded.numpy(), outputs, inputs).astype(np.float32))
    return torch.cat([light, light.cumsum(dim=1)], dim=2) if curve.of_change else light


def _ramp(design: VideoDesign, values: Tensor, light_shape: tuple[int, int]) -> Tensor:
    """(n, span, 1, h, w) uniform clips of these values, or of their changes about the middle of the range."""
    if design.span == 1:
        frames = values[:, None]
    else:
        frames = torch.cat([(0.5 - values / 2)[:, None].expand(-1, design.span - 1), (0.5 + values / 2)[:, None]], 1)
    return frames[:, :, None, None, None].expand(*frames.shape, 1, *light_shape)


def _middle(design: VideoDesign, operator: Operator, clips: Tensor) -> npt.NDArray[np.float64]:
    """(n,) read value in the middle of the last frame."""
    with torch.no_grad():
        read = design.read_clips(clips, operator)
    return np.asarray(read[:, -1, 0, read.shape[-2] // 2, read.shape[-1] // 2].double().numpy())
