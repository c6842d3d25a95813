"""Pictures as draws of a normal distribution, and the best linear estimate of one from its frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.errors import BadInput
from protocols.inversion.problem import LinearCamera

LARGEST_FRAME_PX = 6400
"""Pixels of a frame whose covariance is still held and solved whole: 330 MB in double precision."""

UNITS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class NormalPictures:
    """Mean and covariance of pictures, alike in all channels, which are independent.

    mean: (1, H, W). deviations: (K, H, W), their sum of outer products is the covariance of the sample. power: half
    spectrum (2 H, W + 1) of the covariance that only depends on the distance of two pixels, the biased estimate, which
    is never negative. All that the sample is too small to tell is taken from the second.
    """

    mean: Tensor
    deviations: Tensor
    power: Tensor

    @classmethod
    def of(cls, pictures: Tensor, rank: int) -> NormalPictures:
        """From pictures (N, C, H, W); the strongest `rank` deviations are kept."""
        whole = pictures.flatten(0, 1).double()
        mean = whole.mean(dim=0, keepdim=True)
        off = whole - mean
        rows, columns = off.shape[-2:]
        power = torch.fft.rfft2(off, s=(2 * rows, 2 * columns)).abs().square().mean(dim=0) / (rows * columns)
        off = off / max(len(off) - 1, 1) ** 0.5
        if len(off) > rank:
            flat = off.flatten(1)
            wide = len(flat) > flat.shape[1]
            values, vectors = torch.linalg.eigh(flat.T @ flat if wide else flat @ flat.T)
            best = vectors[:, -rank:]
            off = (best * values[-rank:].clamp(min=0).sqrt()).T if wide else best.T @ flat
            off = off.reshape(-1, rows, columns)
        return cls(mean.float(), off.float(), power.float())

    def spread(self, images: Tensor, share: float) -> Tensor:
        """Covariance times images (N, 1, H, W): `share` of that of the sample, the rest of that by distance."""
        rows, columns = images.shape[-2:]
        grid = (2 * rows, 2 * columns)
        smooth: Tensor = torch.fft.irfft2(self.power * torch.fft.rfft2(images, s=grid), s=grid)[..., :rows, :columns]
        return (1 - share) * smooth + share * self.sample(images)

    def sample(self, images: Tensor) -> Tensor:
        """Covariance of the sample times images (N, 1, H, W)."""
        flat = self.deviations.flatten(1)
        return ((images.flatten(1) @ flat.T) @ flat).reshape(images.shape)


class FrameCovariance:
    """Covariance of the frames of one camera, without noise, in both parts; and the estimates that follow from it."""

    def __init__(self, prior: NormalPictures, camera: LinearCamera) -> None:
        pixels = camera.frame_shape[0] * camera.frame_shape[1]
        if pixels > LARGEST_FRAME_PX:
            raise BadInput(
                f"frames of {camera.frame_shape[0]}x{camera.frame_shape[1]} pixels are too many for lmmse, which "
                f"solves for all {pixels} at once; the limit is {LARGEST_FRAME_PX}: use tikhonov, admm_tv or fista"
            )
        self.prior, self.camera = prior, camera
        self.mean = camera.forward(prior.mean.unsqueeze(0))[0]
        seen = camera.forward(prior.deviations.unsqueeze(1)).flatten(1).double()
        self.sample = seen.T @ seen
        self.smooth = torch.empty_like(self.sample)
        for first in range(0, pixels, UNITS_AT_ONCE):
            last = min(first + UNITS_AT_ONCE, pixels)
            units = torch.eye(pixels, device=seen.device)[first:last].reshape(-1, 1, *camera.frame_shape)
            image = camera.forward(prior.spread(camera.adjoint(units), 0.0))
            self.smooth[first:last] = image.flatten(1).double()
        self._solver: tuple[tuple[float, float], Tensor] | None = None

    def estimate(self, frames: Tensor, share: float, noise: float) -> Tensor:
        """Scenes (N, 1, H, W) of frames (N, 1, h, w): the mean of all that could have made them.

        noise: its standard deviation as a share of the RMS of frames, as the prior expects it.
        """
        lower = self._factor(share, noise)
        off = (frames - self.mean).flatten(1).double()
        weights = torch.cholesky_solve(off.T, lower).T.to(frames).reshape(frames.shape)
        return self.prior.mean + self.prior.spread(self.camera.adjoint(weights), share)

    def _factor(self, share: float, noise: float) -> Tensor:
        if self._solver is None or self._solver[0] != (share, noise):
            whole = (1 - share) * self.smooth + share * self.sample
            level = float(whole.diagonal().mean() + self.mean.double().square().mean())
            whole.diagonal().add_(level * noise**2)
            self._solver = ((share, noise), torch.linalg.cholesky(whole))
        return self._solver[1]
