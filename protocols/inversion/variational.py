"""Least squares with the exact window: a ridge by conjugate gradients; no negatives and total variation by ADMM."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from protocols.inversion.method import ClosedInversion, check_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from protocols.inversion.problem import LinearCamera


class Tikhonov(ClosedInversion):
    """Least squares with a ridge: a Wiener filter with a flat ratio of noise to signal, but the exact window."""

    method: Literal["tikhonov"] = "tikhonov"
    ridge: Annotated[float, Ge(0)] = 1e-2
    """As a share of the energy of the PSF, see `Prior.ridge`."""

    iterations: Annotated[int, Ge(1), Le(5000)] = 100

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """See `ClosedInversion.solve`."""
        from protocols.cropped_deconvolution import ridge_solution

        def ridge(known: Tensor, seen: Tensor, unit: Tensor) -> Tensor:
            return ridge_solution(
                known,
                seen,
                shape=camera.scene_shape,
                start=camera.start,
                ridge=self.ridge,
                iterations=self.iterations,
            )

        return camera.radiance(each_scaled(frames, camera, ridge))


class AdmmTv(ClosedInversion):
    """Least squares under no negative light and little total variation, by alternating directions.

    See `constrained_solution`. [Boyd et al. 2011; Antipa et al. 2018]
    """

    method: Literal["admm_tv"] = "admm_tv"
    total_variation: Annotated[float, Ge(0), Le(1)] = 1e-4
    """See `Prior.total_variation`."""

    ridge: Annotated[float, Ge(0)] = 0.0
    iterations: Annotated[int, Ge(1), Le(5000)] = 50
    """Few: stopping early smooths too, as in other work on such frames."""

    coupling: Annotated[float, Gt(0), Le(1e4)] = 10.0
    """See `constrained_solution`."""

    relaxation: Annotated[float, Ge(1), Lt(2)] = 1.7
    """See `constrained_solution`."""

    brightest: Annotated[float, Gt(0), Le(1e6)] | None = 1.0
    """The most light that any place of the scene is believed to give; None: no limit."""

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """See `ClosedInversion.solve`."""
        from protocols.cropped_deconvolution import Prior, constrained_solution

        prior = Prior(ridge=self.ridge, total_variation=self.total_variation)

        def constrained(known: Tensor, seen: Tensor, unit: Tensor) -> Tensor:
            return constrained_solution(
                known,
                seen,
                shape=camera.scene_shape,
                start=camera.start,
                prior=prior,
                iterations=self.iterations,
                coupling=self.coupling,
                relaxation=self.relaxation,
                brightest=None if self.brightest is None else unit * self.brightest,
            )

        return camera.radiance(each_scaled(frames, camera, constrained))


def each_scaled(frames: Tensor, camera: LinearCamera, solve: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Light (N, C, H, W) of frames (N, C, h, w), all solved at once, each as if it were alone.

    solve(known (1, N C, h, w), frames (1, N C, h, w), unit (N C, 1, 1)) counts what it believes against the energy of
    the PSF and the largest correlation of frame and PSF, of all together. So both are made 1 for every frame, and
    undone. unit: what light of 1 is then.
    """
    check_frames(frames, camera)
    psf = camera.psf.to(frames)
    strength = psf.square().sum(dim=(-2, -1), keepdim=True).mean(dim=1, keepdim=True).sqrt()
    believed = replace(camera, psf=psf / strength, fall_off=None)
    largest = believed.adjoint(frames).abs().amax(dim=(1, 2, 3), keepdim=True)
    largest = largest.where(largest > 0, largest.new_ones(()))
    batch, channels = frames.shape[:2]
    known = psf / strength
    if known.shape[:2] == (1, 1):
        known = known.expand(1, batch * channels, -1, -1)
    else:
        known = known.expand(batch, channels, -1, -1).reshape(1, batch * channels, *psf.shape[-2:])
    scale = largest / strength
    unit = (1 / scale).expand(batch, channels, 1, 1).reshape(batch * channels, 1, 1)
    light = solve(known, (frames / largest).reshape(1, batch * channels, *frames.shape[-2:]), unit)
    return light.reshape(batch, channels, *light.shape[-2:]) * scale
