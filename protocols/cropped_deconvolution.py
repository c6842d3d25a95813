"""Undoing a convolution of which only a window was seen: the scene from its frame, or the PSF from known scenes.

Convolution commutes, so both are one problem: find x (C, *shape) from y_n = window(k_n * x) + noise for n = 1..N known
factors k_n. The window is exact: light that fell beside the sensor is unknown, neither zero nor wrapped around.
Tensors are float32 or float64 as the frames are; nothing here needs a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.errors import BadInput
from sim.optics.convolution import Pair, convolve_window, transform_shape


@dataclass(frozen=True)
class Prior:
    """What is believed of the unknown before the frames are seen. All shares have no unit and are >= 0.

    ridge: of |x|^2, as a share of the energy of the known factors, sum of k_n^2: where the factors carry less than this
    share, the solution fades to zero. sparsity (of |x|) and total_variation (of the length of the gradient): as a
    share of the largest correlation of frames and factors; at a sparsity of 1, nothing is left.
    """

    ridge: float = 0.0
    sparsity: float = 0.0
    total_variation: float = 0.0
    non_negative: bool = True


def centred(known: Pair, unknown: Pair, window: Pair) -> Pair:
    """Start of the window that lies in the middle of the full convolution; a half pixel is rounded down."""
    low, right = ((k + u - 1 - w) // 2 for k, u, w in zip(known, unknown, window, strict=True))
    return low, right


def ridge_solution(
    known: Tensor,
    frames: Tensor,
    *,
    shape: Pair,
    start: Pair,
    ridge: float,
    weight: Tensor | None = None,
    begin: Tensor | None = None,
    iterations: int = 300,
    tolerance: float = 1e-6,
) -> Tensor:
    """Least squares with ridge (see `Prior`), by conjugate gradients.

    Preconditioned as if all light had been seen, in strength by the window's share of the convolution: on real captures
    whose window is a quarter, 12 iterations then do what took 15 with all of it.

    known: (N, C, H, W). frames: (N, C, h, w), the window of that size from `start` on, as in `convolve_window`.
    weight: inverse variances, to spread over the frames; only their ratios matter. begin: (C, *shape), a first guess.
    Returns (C, *shape), where the gradient has fallen to `tolerance` of that of zero.
    """
    _check(known, frames, shape, start)
    known = _once(known)
    weight = _relative(weight, frames)
    window = Window(known, frames, shape, start)
    energy = _energy(known)
    damping = 1.0 / (window.share * window.power + ridge * energy + 1e-9 * energy)

    def smoothed(x: Tensor) -> Tensor:
        return part_of_inverse(damping * torch.fft.rfft2(x, s=window.grid), window.grid, (0, 0), shape)

    def normal(x: Tensor) -> Tensor:
        return window.adjoint(weight * window.forward(x)).add_(x, alpha=ridge * energy)

    goal = window.adjoint(weight * frames)
    x = torch.zeros_like(goal) if begin is None else begin.clone()
    rest = goal if begin is None else goal - normal(x)
    step = smoothed(rest)
    slope = _dot(rest, step)
    enough = tolerance * goal.norm()
    for _ in range(iterations):
        if rest.norm() <= enough:
            break
        image = normal(step)
        length = slope / _dot(step, image)
        x = x + length * step
        rest = rest - length * image
        better = smoothed(rest)
        slope, last = _dot(rest, better), slope
        step = better + slope / last * step
    return x


def constrained_solution(
    known: Tensor,
    frames: Tensor,
    *,
    shape: Pair,
    start: Pair,
    prior: Prior,
    weight: Tensor | None = None,
    begin: Tensor | None = None,
    iterations: int = 60,
    coupling: float = 10.0,
    relaxation: float = 1.0,
    brightest: Tensor | None = None,
) -> Tensor:
    """The most probable unknown under `prior`, by the alternating direction method of multipliers.

    Shapes as in `ridge_solution`. Each term meets its own copy of the unknown, so that every step has a closed form:
    the window and the weights per pixel, the sign and the sparsity per pixel, the rest in the Fourier domain. Plain
    gradients would need thousands of steps, since the mean of a picture outweighs its details some 10 000 times.
    `coupling` is how tightly the copies are held together, as a share of the energy of the known factors: it changes
    how fast the result is reached, and, when stopped early, how smooth it is. A `relaxation` of 1.5 to 1.8 overshoots
    every step and needs fewer of them; 1 does not. brightest: (C, 1, 1), a limit from above.
    [Boyd et al. 2011; Antipa et al. 2018]
    """
    _check(known, frames, shape, start)
    known = _once(known)
    weight = _relative(weight, frames)
    size = _pair(frames)
    grid = transform_shape(_pair(known), shape, start, size)
    spectrum = torch.fft.rfft2(known, s=grid)
    energy = _energy(known)
    hold = coupling * energy if prior.total_variation == 0 else coupling * energy / 2
    hold_slopes = hold if prior.total_variation else 0.0
    denominator = spectrum.abs().square().sum(0) + hold + prior.ridge * energy
    if hold_slopes:
        denominator = denominator + hold_slopes * _slope_power(grid, frames)

    light = torch.zeros(len(frames), frames.shape[1], *grid, dtype=frames.dtype)
    _window(light, start, size).copy_(frames)
    force = torch.fft.irfft2((spectrum.conj() * torch.fft.rfft2(light)).sum(0), s=grid)
    largest = _top_left(force, shape).abs().max()
    copy = torch.zeros_like(force)
    if begin is not None:
        _top_left(copy, shape).copy_(begin)
        light = torch.fft.irfft2(spectrum * torch.fft.rfft2(copy), s=grid)
        _window(light, start, size).copy_((weight * frames + _window(light, start, size)) / (weight + 1))
    light_error, copy_error = torch.zeros_like(light), torch.zeros_like(copy)
    slopes = torch.stack(_slopes(copy)) if hold_slopes else copy.new_zeros(2, 1, 1, 1)
    slopes_error = torch.zeros_like(slopes)

    def relaxed(now: Tensor, before: Tensor) -> Tensor:
        return now if relaxation == 1 else torch.lerp(before, now, relaxation)

    for _ in range(iterations):
        wanted = (spectrum.conj() * torch.fft.rfft2(light - light_error)).sum(0)
        wanted = wanted + torch.fft.rfft2(hold * (copy - copy_error) + hold_slopes * _divergence(slopes - slopes_error))
        unknown = wanted / denominator
        image = relaxed(torch.fft.irfft2(spectrum * unknown, s=grid), light) + light_error
        light = image.clone()
        _window(light, start, size).copy_((weight * frames + _window(image, start, size)) / (weight + 1))
        light_error = image - light
        x = torch.fft.irfft2(unknown, s=grid)
        copy, copy_error = _allowed(
            relaxed(x, copy) + copy_error, shape, prior, float(prior.sparsity * largest / hold), brightest
        )
        if hold_slopes:
            slopes, slopes_error = _shortened(
                relaxed(torch.stack(_slopes(x)), slopes) + slopes_error,
                float(prior.total_variation * largest / hold_slopes),
            )
    return _top_left(copy, shape).clone()


def within(x: Tensor, brightest: Tensor | None) -> Tensor:
    """The nearest to `x` that is neither negative nor above `brightest`, in the memory of `x`."""
    x = x.clamp_(min=0)
    return x if brightest is None else torch.minimum(x, brightest, out=x)


class Window:
    """The window from `start` on of the convolution of known factors (N, C, H, W) and an unknown (C, *shape).

    frames: (N, C, h, w), of which only the shape matters. power: (C, rows, columns) sum of the squares of the transfer
    functions, no less than what the window lets through. share: of the pixels of the full convolution, in the window.
    """

    def __init__(self, known: Tensor, frames: Tensor, shape: Pair, start: Pair) -> None:
        self.shape, self.size = shape, _pair(frames)
        self.grid = transform_shape(_pair(known), shape, start, self.size)
        full = [length + width - 1 for length, width in zip(_pair(known), shape, strict=True)]
        self.share = math.prod(self.size) / math.prod(full)
        known = _once(known)
        on_grid = F.pad(known, (0, self.grid[1] - known.shape[-1], 0, self.grid[0] - known.shape[-2]))
        # Moved so that the window begins at 0: frames need no padding on the way back.
        self.spectrum = torch.fft.rfft2(on_grid.roll((-start[0], -start[1]), dims=(-2, -1)))
        self.power = power_of(self.spectrum).sum(0)

    def forward(self, unknown: Tensor) -> Tensor:
        """Frames (N, C, h, w)."""
        spectrum = self.spectrum * torch.fft.rfft2(unknown, s=self.grid)
        return part_of_inverse(spectrum, self.grid, (0, 0), self.size)

    def adjoint(self, frames: Tensor) -> Tensor:
        """(C, *shape), the transpose of `forward`."""
        correlation = (self.spectrum.conj() * torch.fft.rfft2(frames, s=self.grid)).sum(0)
        return part_of_inverse(correlation, self.grid, (0, 0), self.shape)


def power_of(spectrum: Tensor) -> Tensor:
    """The squares of the magnitudes; `abs` would take a root for each, and four times as long."""
    return spectrum.real.square() + spectrum.imag.square()


def part_of_inverse(spectrum: Tensor, grid: Pair, start: Pair, size: Pair) -> Tensor:
    """The part from `start` on of `irfft2`; rows outside it are not transformed."""
    rows = torch.fft.ifft(spectrum, dim=-2)[..., start[0] : start[0] + size[0], :]
    image: Tensor = torch.fft.irfft(rows, n=grid[1])
    return image[..., start[1] : start[1] + size[1]]


def predicted(known: Tensor, unknown: Tensor, *, start: Pair, size: Pair) -> Tensor:
    """Frames (N, C, *size) that `unknown` (C, h, w) makes of `known` (N, C, H, W)."""
    return convolve_window(known, unknown.unsqueeze(0), start, size)


def _allowed(x: Tensor, shape: Pair, prior: Prior, threshold: float, brightest: Tensor | None) -> tuple[Tensor, Tensor]:
    """The nearest sparse value within its limits inside `shape`, and what it lacks."""
    copy = torch.zeros_like(x)
    inside = _top_left(x, shape)
    if prior.non_negative:
        kept = within(inside - threshold, brightest)
    else:
        kept = inside.sign() * (inside.abs() - threshold).clamp(min=0)
    _top_left(copy, shape).copy_(kept)
    return copy, x - copy


def _shortened(slopes: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    length = slopes.square().sum(0).sqrt().clamp(min=1e-20)
    kept = slopes * (1 - threshold / length).clamp(min=0)
    return kept, slopes - kept


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.roll(-1, -2) - x, x.roll(-1, -1) - x


def _divergence(slopes: Tensor) -> Tensor:
    """Adjoint of `_slopes`."""
    down, right = slopes[0], slopes[1]
    return down.roll(1, -2) - down + right.roll(1, -1) - right


def _slope_power(grid: Pair, like: Tensor) -> Tensor:
    """Power of the two slopes over the half spectrum of `grid`."""
    rows = 2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(grid[0], dtype=like.dtype))
    columns = 2 - 2 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(grid[1], dtype=like.dtype))
    return rows[:, None] + columns[None, :]


def _once(known: Tensor) -> Tensor:
    """Known factors (N, 1, H, W) where those of all channels are one in memory, as `expand` leaves them."""
    return known[:, :1] if known.stride(1) == 0 else known


def _energy(known: Tensor) -> float:
    """Mean over the channels of the summed squares of all known factors."""
    return float(known.square().sum(dim=(0, 2, 3)).mean())


def _relative(weight: Tensor | None, frames: Tensor) -> Tensor:
    """Weights with mean 1."""
    if weight is None:
        return torch.ones(1, 1, 1, 1, dtype=frames.dtype)
    weight = weight.to(frames.dtype).expand_as(frames)
    return weight / weight.mean()


def _window(image: Tensor, start: Pair, size: Pair) -> Tensor:
    return image[..., start[0] : start[0] + size[0], start[1] : start[1] + size[1]]


def _top_left(image: Tensor, shape: Pair) -> Tensor:
    return image[..., : shape[0], : shape[1]]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each channel, (C, 1, 1)."""
    return (a * b).sum(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(a.dtype).tiny)


def _pair(image: Tensor) -> Pair:
    return image.shape[-2], image.shape[-1]


def _check(known: Tensor, frames: Tensor, shape: Pair, start: Pair) -> None:
    if known.ndim != 4 or frames.ndim != 4 or known.shape[:2] != frames.shape[:2]:
        raise BadInput(
            f"known pictures of shape {tuple(known.shape)} meet frames of shape {tuple(frames.shape)}; both must be "
            "(N, C, rows, columns) with the same N and C"
        )
    for name, values in (("the known pictures", known), ("the frames", frames)):
        if not bool(torch.isfinite(values).all()):
            raise BadInput(f"{name} hold values that are not finite; leave those pictures out")
    if not bool((known != 0).any()):
        raise BadInput("the known pictures are black everywhere: nothing can be learned from them; give lit ones")
    for axis in (0, 1):
        whole = known.shape[2 + axis] + shape[axis] - 1
        if min(start) < 0 or start[axis] + frames.shape[2 + axis] > whole:
            raise BadInput(
                f"a window of {frames.shape[2 + axis]} pixels from {start[axis]} on leaves the convolution, which "
                f"spans {whole} pixels; give a larger PSF or another start"
            )
