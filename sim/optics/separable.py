"""The separable mask camera: a mask that is an outer product measures Y = P X Q^T. [Asif et al. 2017]

Two small matrices stand for one huge one, so that calibration and inversion scale to whole pictures.
"""

from __future__ import annotations

import torch
from scipy.signal import max_len_seq
from torch import Tensor

from labctl.errors import BadInput


def maximum_length_sequence(order: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """(2^order - 1,) values of +1 and -1, one +1 more than -1, whose spectrum is flat except at frequency 0.

    order: number of bits of the shift register, 2..24. Raises BadInput outside.
    """
    if not 2 <= order <= 24:
        raise BadInput(f"order is {order}; a maximum-length sequence has 2 to 24 bits")
    return torch.from_numpy(max_len_seq(order)[0]).to(dtype) * 2 - 1


def separable_mask(rows: Tensor, columns: Tensor) -> Tensor:
    """Transmittance (h, w), 0..1, of a mask that stands for the outer product of codes (h,) and (w,) in -1..1.

    Light cannot be negative, so half of it is an open mask: see `remove_row_column_means`.
    """
    return (rows[:, None] * columns[None, :] + 1) / 2


def toeplitz_matrix(code: Tensor, scene_px: int, *, start: int, size: int) -> Tensor:
    """(size, scene_px) matrix that convolves along one axis with `code` (k,).

    Gives the window `start`..`start + size` of the full convolution, as `convolve_window` does: start = k - 1 and
    size = scene_px - k + 1 is the valid part, start = scene_px - 1 and size = k - scene_px + 1 is where the mask is so
    large that every sensor pixel sees the whole scene.
    """
    place = start + torch.arange(size, device=code.device)[:, None] - torch.arange(scene_px, device=code.device)
    inside = (place >= 0) & (place < len(code))
    return torch.where(inside, code[place.clamp(0, len(code) - 1)], 0.0)


def circulant_matrix(code: Tensor, scene_px: int) -> Tensor:
    """(n, scene_px) matrix of a mask that repeats `code` (n,), seen by n sensor pixels, cut to the scene.

    Raises BadInput when the scene is longer than one period: two scene pixels would look alike.
    """
    period = len(code)
    if scene_px > period:
        raise BadInput(
            f"the scene spans {scene_px} pixels, one period of the code {period}; use a longer code or a smaller scene"
        )
    place = torch.arange(period, device=code.device)[:, None] - torch.arange(scene_px, device=code.device)
    return code[place % period]


def measure_separable(scene: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Y = P X Q^T: frames (N, C, h, w) of scenes (N, C, H, W) with `left` P (h, H) and `right` Q (w, W)."""
    return left @ scene @ right.mT


def remove_row_column_means(frames: Tensor) -> Tensor:
    """Frames (..., h, w) without their row and column means; the total mean, removed twice, is added back once.

    What an open mask adds to every pixel alike goes with them. So where every sensor pixel sees the whole scene, the
    0/1 mask of `separable_mask` leaves exactly half of what the +1/-1 mask leaves. On Y = P X Q^T this is the same as
    removing the mean from every column of P and Q: invert with those. A projection: linear, its own adjoint.
    """
    rows, columns = frames.mean(dim=-1, keepdim=True), frames.mean(dim=-2, keepdim=True)
    return frames - rows - columns + frames.mean(dim=(-2, -1), keepdim=True)


def tikhonov(frames: Tensor, left: Tensor, right: Tensor, weight: Tensor | float) -> Tensor:
    """Scenes (N, C, H, W) that minimise |P X Q^T - Y|^2 + weight |X|^2, in closed form by the SVDs of P and Q.

    frames: Y (N, C, h, w). left: P (h, H). right: Q (w, W). weight: () > 0, in the units of P^2 Q^2.
    Differentiable once in all four, also where singular values coincide, as those of a maximum-length sequence do and
    where the slope of the SVD itself is infinite. Raises BadInput when weight is not above 0.
    """
    strict = float(torch.as_tensor(weight).detach())
    if not strict > 0:
        raise BadInput(f"the weight of the regulariser is {strict}; more than 0 is needed")
    with torch.no_grad():
        (left_basis, left_power), (right_basis, right_power) = _principal_axes(left), _principal_axes(right)
        strength = left_power[:, None] * right_power + weight

    def solve(normal: Tensor) -> Tensor:
        return left_basis @ ((left_basis.mT @ normal @ right_basis) / strength) @ right_basis.mT

    with torch.no_grad():
        scene = solve(left.mT @ frames @ right)
    # The residual of the normal equations is 0 in value; its slope through `solve` is that of the solution.
    misfit = left.mT @ (frames - left @ scene @ right.mT) @ right - weight * scene
    return scene + solve(misfit)


def _principal_axes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """All right singular vectors, as columns, and the squares of their singular values, 0 where there is none."""
    _, values, vectors = torch.linalg.svd(matrix, full_matrices=True)
    power = matrix.new_zeros(matrix.shape[-1])
    power[: len(values)] = values**2
    return vectors.mT, power
