"""The Wiener filter: one division in the Fourier domain, as if the frame held all light."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt, Le

from protocols.inversion.method import ClosedInversion, check_frames

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.inversion.problem import LinearCamera, Pair


class Wiener(ClosedInversion):
    """Fast and blind to the window: what the sensor did not see is continued from its rim, fading to dark."""

    method: Literal["wiener"] = "wiener"

    noise_to_signal: Annotated[float, Gt(0), Le(1e6)] = 1e-2
    """Power of the noise over that of the scene, as a share of the energy of the PSF: see `Prior.ridge`."""

    prior: Literal["flat", "falling"] = "falling"
    """Power of scenes over frequency: the same for all, or 1 / f^2 as in natural pictures. [Field 1987]"""

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """See `ClosedInversion.solve`."""
        from scipy.fft import next_fast_len

        from protocols.cropped_deconvolution import part_of_inverse, spectrum_of

        check_frames(frames, camera)
        psf = camera.psf.to(frames)
        full = [a + b - 1 for a, b in zip(camera.scene_shape, psf.shape[-2:], strict=True)]
        rows, columns = (4 * next_fast_len(math.ceil(length / 4)) for length in full)
        grid = (rows, columns)
        spectrum = spectrum_of(psf, grid)
        energy = psf.square().sum(dim=(-2, -1), keepdim=True).mean(dim=1, keepdim=True)
        power = 1.0 if self.prior == "flat" else falling_power(grid, camera.scene_shape).to(frames)
        gain = spectrum.conj() / (spectrum.abs().square() + self.noise_to_signal * energy / power)
        seen = continued(frames, camera.start, (full[0], full[1]))
        return camera.radiance(part_of_inverse(gain * spectrum_of(seen, grid), grid, (0, 0), camera.scene_shape))


def falling_power(grid: Pair, scene: Pair) -> Tensor:
    """(rows, columns // 2 + 1) power 1 / f^2 of natural pictures of `scene` pixels on `grid`, with mean 1 over all.

    Below one period in the longer side of the scene it no longer grows.
    """
    import torch

    rows = torch.fft.fftfreq(grid[0], dtype=torch.float64)
    columns = torch.fft.fftfreq(grid[1], dtype=torch.float64)
    whole: Tensor = 1 / (rows[:, None].square() + columns.square() + 1 / max(scene) ** 2)
    return (whole / whole.mean())[:, : grid[1] // 2 + 1]


def continued(frames: Tensor, start: Pair, full: Pair) -> Tensor:
    """Frames (N, C, *full): the window from `start` on, and round it its rim, fading to dark by a raised cosine."""
    import torch

    for axis in (0, 1):
        dim = axis - 2
        size = frames.shape[dim]
        place = torch.arange(full[axis], device=frames.device) - start[axis]
        beyond = torch.where(
            place < 0, -place / (start[axis] + 1), (place - size + 1) / (full[axis] - start[axis] - size + 1)
        )
        fade = (0.5 + 0.5 * torch.cos(math.pi * beyond.clamp(min=0))).to(frames)
        frames = frames.index_select(dim, place.clamp(0, size - 1))
        frames = frames * (fade[:, None] if axis == 0 else fade)
    return frames
