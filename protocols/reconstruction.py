"""The picture back from a lensless frame, through the camera's PSF, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from labctl.errors import BadInput
from labctl.frozen import Frozen

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.twin_fit.free_form import FreeFormTwin


class Tikhonov(Frozen):
    """Least squares with a ridge: a Wiener filter with a flat ratio of noise to signal, but the exact window."""

    method: Literal["tikhonov"] = "tikhonov"
    ridge: Annotated[float, Ge(0)] = 1e-2
    """As a share of the energy of the PSF, see `Prior.ridge`."""

    iterations: Annotated[int, Ge(1), Le(5000)] = 100


class NonNegative(Frozen):
    """Least squares under no negative light and little total variation, by alternating directions."""

    method: Literal["non_negative"] = "non_negative"
    total_variation: Annotated[float, Ge(0), Le(1)] = 1e-4
    """See `Prior.total_variation`."""

    ridge: Annotated[float, Ge(0)] = 0.0
    iterations: Annotated[int, Ge(1), Le(5000)] = 50
    """Few: stopping early smooths too, as in other work on such frames."""


@dataclass(frozen=True)
class Quality:
    """Of a reconstruction against the true picture, both within 0..1.

    psnr_db: of all channels together. ssim: mean over the channels, Gaussian window of sigma 1.5. [Wang et al. 2004]
    """

    psnr_db: float
    ssim: float


def reconstruct(frame: Tensor, twin: FreeFormTwin, method: Tikhonov | NonNegative) -> Tensor:
    """Picture (C, H, W) of the size that the twin knows, clipped to 0..1, from one frame (C, h, w).

    Nothing is aligned or scaled: the twin knows where the picture is and how bright.
    Raises BadInput when the frame is not the twin's.
    """
    from protocols.cropped_deconvolution import Prior, constrained_solution, ridge_solution

    if tuple(frame.shape) != (len(twin.psf), *twin.frame_shape):
        raise BadInput(
            f"a frame of shape {tuple(frame.shape)} for a twin of {(len(twin.psf), *twin.frame_shape)}; give the frame "
            "of the camera that the twin was fitted to"
        )
    field = twin.response.field
    shape = field.shape[-2], field.shape[-1]
    lit = (frame - twin.background[:, None, None]).unsqueeze(0).to(twin.psf.dtype)
    known = twin.psf.unsqueeze(0)
    if isinstance(method, Tikhonov):
        light = ridge_solution(
            known, lit, shape=shape, start=twin.start, ridge=method.ridge, iterations=method.iterations
        )
    else:
        prior = Prior(ridge=method.ridge, total_variation=method.total_variation)
        light = constrained_solution(
            known, lit, shape=shape, start=twin.start, prior=prior, iterations=method.iterations
        )
    return twin.response.picture(light).clamp(0, 1)


def quality(picture: Tensor, truth: Tensor) -> Quality:
    """Of a picture (C, H, W) against the truth of the same shape; both are clipped to 0..1, nothing is fitted."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    if picture.shape != truth.shape:
        raise BadInput(f"a picture of shape {tuple(picture.shape)} cannot be judged by one of {tuple(truth.shape)}")
    seen, true = (image.detach().clamp(0, 1).double().numpy() for image in (picture, truth))
    return Quality(
        psnr_db=float(peak_signal_noise_ratio(true, seen, data_range=1.0)),
        ssim=float(
            structural_similarity(
                true,
                seen,
                data_range=1.0,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        ),
    )


def best_method(
    candidates: Sequence[Tikhonov | NonNegative], pairs: Sequence[tuple[Tensor, Tensor, FreeFormTwin]]
) -> tuple[Tikhonov | NonNegative, list[float]]:
    """The candidate with the highest mean PSNR, and that of each, over (picture, frame, twin).

    Each twin should not have seen its pair: else the method is chosen for a PSF that is better than it will be.
    """
    means = [
        float(np.mean([quality(reconstruct(frame, twin, method), picture).psnr_db for picture, frame, twin in pairs]))
        for method in candidates
    ]
    return candidates[int(np.argmax(means))], means
