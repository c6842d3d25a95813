"""The closed form of a separable camera: Y = P X Q^T, inverted by the SVDs of two small matrices. [Asif et al. 2017]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt, Le

from labctl.errors import BadInput
from protocols.inversion.method import ClosedInversion, check_frames

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.inversion.problem import LinearCamera


class SeparableTikhonov(ClosedInversion):
    """Least squares with a ridge and the exact window, in closed form, for masks that are outer products.

    A mask of transmittance 0..1 that stands for an outer product of +1 and -1 is not one itself: half of it is open.
    Where every sensor pixel sees all of the mask and the scene, what is open goes with the row and column means of the
    frame, and they are taken off. [FlatCam]
    """

    method: Literal["separable_tikhonov"] = "separable_tikhonov"
    ridge: Annotated[float, Gt(0)] = 1e-2
    """As a share of the energy of the PSF, see `Prior.ridge`."""

    tolerance: Annotated[float, Gt(0), Le(1)] = 0.02
    """How far the camera may be from a separable one, see `Separated.distance`, before it is refused."""

    def solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """See `ClosedInversion.solve`. Raises BadInput for a camera that is not separable."""
        import torch

        check_frames(frames, camera)
        believed = camera.to(frames)
        if len(believed.psf) == 1:
            return camera.radiance(self._solve(frames, believed))
        light = [self._solve(frames[n : n + 1], believed.some(slice(n, n + 1))) for n in range(len(frames))]
        return camera.radiance(torch.cat(light))

    def _solve(self, frames: Tensor, camera: LinearCamera) -> Tensor:
        """Light (N, C, H, W) of frames through one PSF (1, 1 or C, h, w)."""
        import torch

        from sim.optics.separable import remove_row_column_means, tikhonov

        weight = self.ridge * float(camera.psf.square().sum(dim=(-2, -1)).mean())
        found = []
        for channel in range(frames.shape[1]):
            seen = frames[:, channel : channel + 1]
            psf = camera.psf[0, min(channel, camera.psf.shape[1] - 1)]
            parts = nearest_separable(psf, camera, self.tolerance)
            seen = remove_row_column_means(seen) if parts.without_means else seen
            found.append(tikhonov(seen, parts.left, parts.right, weight))
        return torch.cat(found, dim=1)


@dataclass(frozen=True, eq=False)
class Separated:
    """P (h, H) and Q (w, W) with frames P X Q^T, after the row and column means were taken off where `without_means`.

    distance: RMS of what the camera does besides, as a share of all that it does: 0 is separable.
    """

    left: Tensor
    right: Tensor
    without_means: bool
    distance: float


def nearest_separable(psf: Tensor, camera: LinearCamera, tolerance: float) -> Separated:
    """The separable camera nearest to that with the PSF (h, w) and the window of `camera`.

    As the frame comes or, if only that is within `tolerance`, without its row and column means. Raises BadInput if
    neither is.
    """
    distances = []
    for without_means in (False, True):
        parts = _nearest(psf, camera, without_means)
        if parts.distance <= tolerance:
            return parts
        distances.append(parts.distance)
    raise BadInput(
        f"the PSF is not separable: the nearest outer product is off by {100 * distances[0]:.3g} % (RMS), by "
        f"{100 * distances[1]:.3g} % without row and column means, and {100 * tolerance:.3g} % is the limit; use "
        " tikhonov, which has the same prior and takes any PSF, or raise the tolerance"
    )


def _nearest(psf: Tensor, camera: LinearCamera, without_means: bool) -> Separated:
    """By the nearest Kronecker product of the whole operator, in double precision. [Van Loan and Pitsianis 1993]"""
    import torch

    from sim.optics.separable import toeplitz_matrix

    u, values, v = torch.linalg.svd(psf.double(), full_matrices=False)
    kept = int((values > 1e-9 * values[0]).sum())
    sides = []
    for axis, vectors in ((0, u.T), (1, v)):
        matrices = torch.stack(
            [
                toeplitz_matrix(
                    vector, camera.scene_shape[axis], start=camera.start[axis], size=camera.frame_shape[axis]
                )
                for vector in vectors[:kept] * values[:kept, None].sqrt()
            ]
        )
        if without_means:
            matrices = matrices - matrices.mean(dim=1, keepdim=True)
        sides.append(matrices)
    # The operator is the sum of the products of both sides; as such a sum, its singular values are of a small core.
    (left_basis, left_core), (right_basis, right_core) = (torch.linalg.qr(side.flatten(1).T) for side in sides)
    turn, strengths, other = torch.linalg.svd(left_core @ right_core.T)
    total = float(strengths.square().sum().sqrt())
    rest = float(strengths[1:].square().sum().sqrt())
    root = strengths[0].sqrt()
    left = root * (left_basis @ turn[:, 0]).reshape(sides[0].shape[1:])
    right = root * (right_basis @ other[0]).reshape(sides[1].shape[1:])
    return Separated(left.to(psf), right.to(psf), without_means, rest / total if total > 0 else 1.0)
