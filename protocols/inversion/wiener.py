"""The Wiener filter: one division in the Fourier domain, as if the frame held all light."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from protocols.inversion.method import ClosedInversion, check_frames

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.inversion.problem import LinearCamera, Pair


class Wiener(ClosedInversion):
    """Fast and blind to the window: what the sensor did not see is guessed, see `room`."""

    method: Literal["wiener"] = "wiener"

    noise_to_signal: Annotated[float, Gt(0), Le(1e6)] = 1e-2
    """Power of the noise over that of the scene, as a share of the energy of the PSF: see `Prior.ridge`."""

    prior: Literal["flat", "falling"] = "falling"
    """Power of scenes over frequency: the same for all, or 1 / f^2 as in natural pictures. [Field 1987]"""

    room: Annotated[float, Ge(0), Le(1)] | None = None
    """How much the grid is larger than scene, frame and PSF, as a share of what the full convolution needs. What the
    sensor did not see then blends from one rim into the opposite one; none wraps around. Less is faster, and not always
    worse: of real captures, 0.2 gave better pictures than 0.5. None: all of it, and the light fades to dark."""

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """See `ClosedInversion.solve`."""
        import torch
        from scipy.fft import next_fast_len

        from protocols.cropped_deconvolution import part_of_inverse, power_of

        check_frames(frames, camera)
        psf = camera.psf.to(frames)
        full = [a + b - 1 for a, b in zip(camera.scene_shape, psf.shape[-2:], strict=True)]
        if self.room is None:
            seen = continued(frames, camera.start, (full[0], full[1]))
        else:
            least = map(max, camera.scene_shape, camera.frame_shape, psf.shape[-2:])
            full = [length + math.ceil(self.room * (most - length)) for length, most in zip(least, full, strict=True)]
        rows, columns = (4 * next_fast_len(math.ceil(length / 4)) for length in full)
        grid = (rows, columns)
        if self.room is not None:
            seen = blended(frames, grid).roll(camera.start, dims=(-2, -1))
        spectrum = torch.fft.rfft2(psf, s=grid)
        energy = psf.square().sum(dim=(-2, -1), keepdim=True).mean(dim=1, keepdim=True)
        noise = self.noise_to_signal * energy
        if self.prior == "falling":
            noise = noise / falling_power(grid, camera.scene_shape).to(frames)
        gain = spectrum.conj() * (1 / (power_of(spectrum) + noise))
        return camera.radiance(part_of_inverse(gain * torch.fft.rfft2(seen, s=grid), grid, (0, 0), camera.scene_shape))


def falling_power(grid: Pair, scene: Pair) -> Tensor:
    """(rows, columns // 2 + 1) power 1 / f^2 of natural pictures of `scene` pixels on `grid`, with mean 1 over all.

    Below one period in the longer side of the scene it no longer grows.
    """
    import torch

    rows = torch.fft.fftfreq(grid[0], dtype=torch.float64)
    columns = torch.fft.rfftfreq(grid[1], dtype=torch.float64)
    half: Tensor = 1 / (rows[:, None].square() + columns.square() + 1 / max(scene) ** 2)
    mirrored = half[:, 1 : (grid[1] + 1) // 2]
    return half * (grid[0] * grid[1] / (half.sum() + mirrored.sum()))


def blended(frames: Tensor, grid: Pair) -> Tensor:
    """Frames (N, C, *grid) from 0 on, and beyond them a blend of the last row or column into the first."""
    import torch
    import torch.nn.functional as F

    (height, width), (rows, columns) = frames.shape[-2:], grid
    wide = F.pad(frames, (0, columns - width, 0, rows - height), mode="replicate")
    down, right = (
        (0.5 - 0.5 * torch.cos(math.pi * torch.arange(1, count + 1, device=frames.device) / (count + 1))).to(frames)
        for count in (rows - height, columns - width)
    )
    wide[..., height:, :].lerp_(wide[..., :1, :], down[:, None])
    wide[..., width:].lerp_(wide[..., :1], right)
    return wide


def continued(frames: Tensor, start: Pair, full: Pair) -> Tensor:
    """Frames (N, C, *full): the window from `start` on, and round it its rim, fading to dark by a raised cosine."""
    import torch
    import torch.nn.functional as F

    fades, rims = [], []
    for first, whole, size in zip(start, full, frames.shape[-2:], strict=True):
        last = whole - first - size
        place = torch.arange(whole, device=frames.device) - first
        beyond = torch.where(place < 0, -place / (first + 1), (place - size + 1) / (last + 1))
        fades.append((0.5 + 0.5 * torch.cos(math.pi * beyond.clamp(min=0))).to(frames))
        rims.append((first, last))
    wide = F.pad(frames, (*rims[1], *rims[0]), mode="replicate")
    return wide.mul_(fades[0][:, None] * fades[1])
