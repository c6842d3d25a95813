"""The picture back from a lensless frame, through the camera's PSF, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labctl.errors import BadInput
from protocols.inversion.fista import Fista
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.twin_fit.free_form import FreeFormTwin

Method = Wiener | Tikhonov | AdmmTv | Fista
Pair = tuple[int, int]


@dataclass(frozen=True)
class Quality:
    """Of a reconstruction against the true picture, both within 0..1.

    psnr_db: of all channels together. ssim: mean over the channels, Gaussian window of sigma 1.5. [Wang et al. 2004]
    """

    psnr_db: float
    ssim: float


def reconstruct(frame: Tensor, twin: FreeFormTwin, method: Method) -> Tensor:
    """Picture (C, H, W) of the size that the twin knows, clipped to 0..1, from one frame (C, h, w).

    Nothing is aligned or scaled: the twin knows where the picture is and how bright. Light of such a twin has no upper
    limit of 1: give methods that have one `brightest: null`.
    Raises BadInput when the frame is not the twin's.
    """
    from protocols.inversion.problem import LinearCamera

    if tuple(frame.shape) != (len(twin.psf), *twin.frame_shape):
        raise BadInput(
            f"a frame of shape {tuple(frame.shape)} for a twin of {(len(twin.psf), *twin.frame_shape)}; give the frame "
            "of the camera that the twin was fitted to"
        )
    field = twin.response.field
    camera = LinearCamera(twin.psf, twin.start, twin.frame_shape, (field.shape[-2], field.shape[-1]))
    lit = (frame - twin.background[:, None, None]).unsqueeze(0).to(twin.psf.dtype)
    return twin.response.picture(method.solve(lit, camera)[0]).clamp(0, 1)


def quality(picture: Tensor, truth: Tensor) -> Quality:
    """Of a picture (C, H, W) against the truth of the same shape; both are clipped to 0..1, nothing is fitted."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    if picture.shape != truth.shape:
        raise BadInput(f"a picture of shape {tuple(picture.shape)} cannot be judged by one of {tuple(truth.shape)}")
    # A perfect picture has an infinite PSNR, which is no accident worth a warning.
    seen, true = (image.detach().clamp(0, 1).double().cpu().numpy() for image in (picture, truth))
    with np.errstate(divide="ignore"):
        psnr_db = float(peak_signal_noise_ratio(true, seen, data_range=1.0))
    return Quality(
        psnr_db=psnr_db,
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


def qualities(pictures: Tensor, truths: Tensor, *, centre: Pair | None = None) -> list[Quality]:
    """`quality` of each of (N, C, H, W); with `centre`, of the (rows, columns) in the middle alone.

    A small mask sees only the middle of the scene: of the whole field its pictures look worse than what they give away.
    Raises BadInput for other shapes, and for a centre that is larger than the pictures.
    """
    if pictures.shape != truths.shape or pictures.ndim != 4:
        raise BadInput(f"pictures of shape {tuple(pictures.shape)} cannot be judged by those of {tuple(truths.shape)}")
    if centre is not None:
        pictures, truths = middle(pictures, centre), middle(truths, centre)
    return [quality(picture, truth) for picture, truth in zip(pictures, truths, strict=True)]


def middle(images: Tensor, size: Pair) -> Tensor:
    """The (rows, columns) in the middle of (..., H, W); of an odd rest, one pixel more stays below and to the right."""
    top, left = (images.shape[-2] - size[0]) // 2, (images.shape[-1] - size[1]) // 2
    if min(*size) < 1 or min(top, left) < 0:
        raise BadInput(
            f"a centre of {size[0]}x{size[1]} pixels in pictures of {tuple(images.shape[-2:])}; ask for less"
        )
    return images[..., top : top + size[0], left : left + size[1]]


def best_method(
    candidates: Sequence[Method], pairs: Sequence[tuple[Tensor, Tensor, FreeFormTwin]]
) -> tuple[Method, list[float]]:
    """The candidate with the highest mean PSNR, and that of each, over (picture, frame, twin).

    Each twin should not have seen its pair: else the method is chosen for a PSF that is better than it will be.
    """
    means = [
        float(np.mean([quality(reconstruct(frame, twin, method), picture).psnr_db for picture, frame, twin in pairs]))
        for method in candidates
    ]
    return candidates[int(np.argmax(means))], means
