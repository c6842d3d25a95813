"""The convolution of a scene with a PSF that makes the image on the sensor, by the fastest method for each size.

The scene is indexed as its image behind a pinhole stands on the sensor, so nothing is flipped here.
The method follows from the sizes of one picture alone, never from the machine, the length of the batch, or what needs a
gradient: so training, evaluation and one exposure at a time round alike.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from labctl.errors import BadInput

Border = Literal["valid", "same", "full"]
Pair = tuple[int, int]

DIRECT_NS_PER_PIXEL = 2.5
DIRECT_NS_PER_PRODUCT = 0.04
FOURIER_NS_PER_POINT = 0.21
"""Cost of one picture. Direct: the first per image pixel, the second per image pixel and PSF pixel. Fourier: the third
per grid point, log2 of the points, and transform, of which there are two. Fitted on one thread of a 2-core x86 server,
float32, 32 images of 63x63, PSFs of 1 to 13 pixels."""

DIRECT_LIMIT_PX = 13
"""Longest side of a PSF that is convolved directly: at 17, grouped conv2d was measured 25 times slower than at 13."""

DIRECT_LIMIT_AREA_PX = 128 * 128
"""Largest image that is convolved directly: conv2d works on 16 pictures at once, whether they are there or not. One to
three pictures of 480x270 were measured from 3 times faster (memory at hand) to 8 times slower than by Fourier."""

DIRECT_GRADIENT_LIMIT_PX = 3
"""Longest side of a PSF whose gradient, too, is fastest by conv2d: 2 times faster at 3, 2 to 3 times slower at 5."""


def convolve(scene: Tensor, psf: Tensor, border: Border = "valid") -> Tensor:
    """True convolution of scene and PSF, without wrap-around; the scene is zero outside.

    scene: (N, C, H, W). psf: (1 or N, h, w) for all channels, or (1 or N, 1 or C, h, w). See `convolve_window`.
    valid: (H - h + 1, W - w + 1); same: (H, W), centred as in scipy.signal; full: (H + h - 1, W + w - 1).
    Raises BadInput when a valid result would be empty.
    """
    (rows, columns), (height, width) = scene.shape[-2:], psf.shape[-2:]
    if border == "full":
        return convolve_window(scene, psf, (0, 0), (rows + height - 1, columns + width - 1))
    if border == "same":
        return convolve_window(scene, psf, ((height - 1) // 2, (width - 1) // 2), (rows, columns))
    if height > rows or width > columns:
        raise BadInput(
            f"mask larger than the scene: the mask shadow spans {height}x{width} sensor pixels, the scene "
            f"{rows}x{columns}; use fewer mask cells or a larger scene"
        )
    return convolve_window(scene, psf, (height - 1, width - 1), (rows - height + 1, columns - width + 1))


def convolve_window(scene: Tensor, psf: Tensor, start: Pair, size: Pair) -> Tensor:
    """The window `start`..`start + size` of the full convolution; zero where the window reaches beyond it.

    scene: (N, C, H, W). psf: (1 or N, h, w) or (1 or N, 1 or C, h, w). start: (row, column), may be negative.
    Computed in float32, or float64 when either is float64; lower precision and autocast end here.
    Only what reaches the window is transformed, and wrap-around may only reach what is thrown away: a valid result of
    a 63x63 scene needs a transform of 64. Gradients of any order; none is computed for what needs none.
    Raises BadInput when the shapes do not belong together.
    """
    psf = psf.unsqueeze(1) if psf.ndim == 3 else psf
    _check_shapes(scene, psf)
    kind = torch.promote_types(scene.dtype, psf.dtype)
    kind = kind if kind in (torch.float32, torch.float64) else torch.float32
    (first, last), inner, lit, dark = _reach(scene.shape[-2:], psf.shape[-2:], start, size)
    part = scene[..., first[0] : last[0], first[1] : last[1]]
    tiny = max(psf.shape[-2:]) <= DIRECT_GRADIENT_LIMIT_PX and _direct_is_faster(part.shape, psf.shape, inner, lit)
    image: Tensor = (_direct if tiny else _Convolution.apply)(part.to(kind), psf.to(kind), inner, lit)
    return F.pad(image, dark) if any(dark) else image


def transform_shape(scene: Pair, psf: Pair, start: Pair, size: Pair) -> Pair:
    """Shape of the smallest fast transform whose wrap-around stays outside the window, for factors of these shapes.

    A multiple of 4 with no prime above 11: odd lengths were measured up to 2 times slower than the next multiple of 4.
    """
    rows, columns = (
        4 * next_fast_len(math.ceil(max(length, width, length + width - 1 - first, first + count) / 4))
        for length, width, first, count in zip(scene, psf, start, size, strict=True)
    )
    return rows, columns


class _Convolution(torch.autograd.Function):
    """A window inside the full convolution of (N, C, H, W) and (N, C, h, w), where sizes of 1 spread.

    Autograd through `rfft2` and `irfft2` takes 10 to 30 % longer, since it inverts by a full complex transform. Here
    the spectra of the forward pass are kept, and those of a shared PSF are summed before the one inverse transform.
    The gradient of a directly convolved PSF also goes by Fourier: conv2d takes 2 to 10 times longer for it.
    """

    @staticmethod
    def forward(ctx: Any, scene: Tensor, psf: Tensor, start: Pair, size: Pair) -> Tensor:
        wants_scene, wants_psf = ctx.needs_input_grad[:2]
        ctx.start, ctx.size = start, size
        ctx.direct = _direct_is_faster(scene.shape, psf.shape, start, size)
        if ctx.direct:
            ctx.save_for_backward(scene, psf, None, None)
            return _direct(scene, psf, start, size)
        grid = transform_shape(scene.shape[-2:], psf.shape[-2:], start, size)
        light, shadow = torch.fft.rfft2(scene, s=grid), torch.fft.rfft2(psf, s=grid)
        ctx.save_for_backward(scene, psf, light if wants_psf else None, shadow if wants_scene else None)
        free = not wants_psf and light.shape[:2] == _pictures(scene, psf)
        return _inverse(light.mul_(shadow) if free else light * shadow, grid, start, size)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        scene, psf, light, shadow = ctx.saved_tensors
        wants_scene, wants_psf = ctx.needs_input_grad[:2]
        start, size, to_scene, to_psf = ctx.start, ctx.size, None, None
        from_psf, from_scene = _mirrored(start, psf.shape[-2:]), _mirrored(start, scene.shape[-2:])
        if torch.is_grad_enabled():  # for gradients of gradients: both adjoints are convolutions themselves
            if wants_scene:
                to_scene = convolve_window(slope, psf.flip(-2, -1), from_psf, scene.shape[-2:]).sum_to_size(scene.shape)
            if wants_psf:
                to_psf = convolve_window(slope, scene.flip(-2, -1), from_scene, psf.shape[-2:]).sum_to_size(psf.shape)
            return to_scene, to_psf, None, None
        grid = transform_shape(scene.shape[-2:], psf.shape[-2:], start, size)
        if wants_psf or not ctx.direct:
            low, right = grid[0] - start[0] - size[0], grid[1] - start[1] - size[1]
            slopes = torch.fft.rfft2(F.pad(slope, (start[1], right, start[0], low)))
        if wants_scene and ctx.direct:
            to_scene = _direct(slope, psf.flip(-2, -1), from_psf, scene.shape[-2:]).sum_to_size(scene.shape)
        elif wants_scene:
            spectrum = (slopes * shadow.conj()).sum_to_size(*scene.shape[:2], *slopes.shape[-2:])
            to_scene = _inverse(spectrum, grid, (0, 0), scene.shape[-2:])
        if wants_psf:
            light = torch.fft.rfft2(scene, s=grid) if light is None else light
            spectrum = slopes.mul_(light.conj()).sum_to_size(*psf.shape[:2], *slopes.shape[-2:])
            to_psf = _inverse(spectrum, grid, (0, 0), psf.shape[-2:])
        return to_scene, to_psf, None, None


def _direct(scene: Tensor, psf: Tensor, start: Pair, size: Pair) -> Tensor:
    """By grouped convolution, one group for each picture, also where pictures share a PSF.

    One kernel over a batch has a single input channel, which was measured 1.5 to 10 times slower. So a picture that is
    alone goes twice: one group would be slower than two, and round otherwise than in a batch.
    """
    (batch, channels), (height, width) = _pictures(scene, psf), psf.shape[-2:]
    count = (max(batch, 2) if channels == 1 else batch, channels)
    top, left = height - 1 - start[0], width - 1 - start[1]
    low, right = size[0] + start[0] - scene.shape[-2], size[1] + start[1] - scene.shape[-1]
    even = top == low >= 0 and left == right >= 0  # then conv2d pads as it reads, which saves a copy
    wide = scene if even else F.pad(scene, (left, right, top, low))
    wide = wide.expand(*count, -1, -1).reshape(1, -1, *wide.shape[-2:])
    kernel = psf.flip(-2, -1).expand(*count, -1, -1).reshape(-1, 1, height, width)
    with torch.autocast(scene.device.type, enabled=False):
        image = F.conv2d(wide, kernel, padding=(top, left) if even else 0, groups=len(kernel))
    return image.reshape(*count, *size)[:batch]


def _inverse(spectrum: Tensor, grid: Pair, start: Pair, size: Pair) -> Tensor:
    """The window of `irfft2`; rows outside it are not transformed."""
    rows = torch.fft.ifft(spectrum, dim=-2)[..., start[0] : start[0] + size[0], :]
    return torch.fft.irfft(rows, n=grid[1])[..., start[1] : start[1] + size[1]]


def _direct_is_faster(scene: torch.Size, psf: torch.Size, start: Pair, size: Pair) -> bool:
    if max(psf[-2:]) > DIRECT_LIMIT_PX or math.prod(size) > DIRECT_LIMIT_AREA_PX:
        return False
    points = math.prod(transform_shape(scene[-2:], psf[-2:], start, size))
    direct = math.prod(size) * (DIRECT_NS_PER_PIXEL + DIRECT_NS_PER_PRODUCT * math.prod(psf[-2:]))
    return direct < 2 * FOURIER_NS_PER_POINT * points * math.log2(points)


def _reach(
    scene: Pair, psf: Pair, start: Pair, size: Pair
) -> tuple[tuple[Pair, Pair], Pair, Pair, tuple[int, int, int, int]]:
    """Which part of the scene reaches the window, the lit part of the window in its convolution, and the dark rest.

    Returns (first, last) of the scene, start and size of the lit part, and the padding that adds the dark part.
    """
    axes = []
    for length, width, first, count in zip(scene, psf, start, size, strict=True):
        low, high = max(0, -first), max(0, first + count - (length + width - 1))
        if low + high >= count:
            raise BadInput(
                f"the window of {count} pixels from {first} on misses the image, which spans {length + width - 1} "
                "pixels from 0 on; choose a window that meets it"
            )
        begin, end = max(0, first - width + 1), min(length, first + count)
        axes.append((begin, end, first + low - begin, count - low - high, low, high))
    (r, c) = axes
    return ((r[0], c[0]), (r[1], c[1])), (r[2], c[2]), (r[3], c[3]), (c[4], c[5], r[4], r[5])


def _mirrored(start: Pair, shape: Pair) -> Pair:
    """Where a window begins when the other factor of that shape is flipped and the window takes its place."""
    return shape[0] - 1 - start[0], shape[1] - 1 - start[1]


def _pictures(scene: Tensor, psf: Tensor) -> Pair:
    """(N, C) of the image."""
    batch, channels = torch.broadcast_shapes(scene.shape[:2], psf.shape[:2])
    return batch, channels


def _check_shapes(scene: Tensor, psf: Tensor) -> None:
    fits = scene.ndim == psf.ndim == 4 and all(
        1 in (a, b) or a == b for a, b in zip(scene.shape[:2], psf.shape[:2], strict=True)
    )
    if not fits:
        raise BadInput(
            f"a scene of shape {tuple(scene.shape)} meets a PSF of shape {tuple(psf.shape)}; (N, C, H, W) and "
            "(1 or N, h, w) or (1 or N, 1 or C, h, w) are needed"
        )
