"""The PSF as a free form: estimated from pictures that were known and the frames that they made, with no point source.

`ridge_psf` is the plain estimate, linear in the frames. `fit_free_form` knows that light is not negative, that the
camera which gave the known pictures has a response of its own, and how noisy each pixel is. Frames are what light
made: dark frame subtracted, any unit, linear in the light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from annotated_types import Ge, Gt, Le

from labctl.errors import BadInput
from labctl.frozen import Frozen

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple[int, int]
Setting = TypeVar("Setting")

FIELD_TIGHTNESS = 1e-3
"""How firmly the response of the scene camera is held at linear and even, as a share of the energy of the frames."""

ROUND_ITERATIONS = 15
"""Steps on the PSF between two fits of the response."""


class FreeForm(Frozen):
    """How free the form is."""

    field_order: Annotated[int, Ge(0), Le(8)] = 4
    """Total order of the polynomial of light per picture value over the field (vignetting); 0: even."""

    curved: bool = True
    """Light may also grow with the square of the picture value: the scene camera need not be linear."""

    background: bool = False
    """A light that is the same in every pixel and every frame, such as an ambient light."""

    noise_weighted: bool = False
    """Pixels count by their noise. Of use only where noise, not the model, limits the fit."""

    ridge: Annotated[float, Ge(0)] = 0.0
    """See `Prior.ridge`."""

    sparsity: Annotated[float, Ge(0), Le(1)] = 0.0
    """See `Prior.sparsity`."""

    total_variation: Annotated[float, Ge(0), Le(1)] = 0.0
    """See `Prior.total_variation`."""

    rounds: Annotated[int, Ge(0), Le(20)] = 3
    """How often the response is fitted anew."""

    iterations: Annotated[int, Ge(1), Le(2000)] = 40
    """Steps on the PSF after the last fit of the response."""

    coupling: Annotated[float, Gt(0), Le(1e4)] = 10.0
    """See `constrained_solution`. At 10 few steps leave a smooth PSF, which suits captures whose error is in the model;
    at 0.1 a hundred steps reach the end, which suits captures whose error is noise."""


@dataclass(frozen=True)
class SceneResponse:
    """Light that a picture value stands for: field(place) * value + curve * value^2.

    field: (H, W), relative to an even one. Known up to a factor, which the PSF takes.
    """

    field: Tensor
    curve: float = 0.0

    def light(self, scenes: Tensor) -> Tensor:
        """Of pictures (N, C, H, W)."""
        return self.field * scenes + self.curve * scenes.square()

    def picture(self, light: Tensor) -> Tensor:
        """The picture (N, C, H, W) of that light. Where no value gives it, the value nearest to giving it."""
        field = self.field.clamp(min=1e-3)
        root = (field.square() + 4 * self.curve * light).clamp(min=0).sqrt()
        return 2 * light / (field + root).clamp(min=1e-3)


@dataclass(frozen=True)
class FreeFormTwin:
    """A camera as PSF, response of the scene camera, and background.

    psf: (C, h, w), frame units for each picture value. start: where the frame begins in the full convolution.
    background: (C,) in frame units.
    """

    psf: Tensor
    start: Pair
    frame_shape: Pair
    response: SceneResponse
    background: Tensor

    def predict(self, scenes: Tensor) -> Tensor:
        """Frames (N, C, h, w) of pictures (N, C, H, W)."""
        from protocols.cropped_deconvolution import predicted

        light = predicted(self.response.light(scenes), self.psf, start=self.start, size=self.frame_shape)
        return light + self.background[:, None, None]


def ridge_psf(
    scenes: Any,
    frames: Any,
    *,
    psf_shape: Pair | None = None,
    ridge: float,
    start: Pair | None = None,
    weight: Tensor | None = None,
    iterations: int = 300,
) -> Tensor:
    """PSF (C, h, w) with the least squared error of the frames plus `ridge` times its own square.

    scenes: (N, C, H, W). frames: (N, C, h, w). Arrays or tensors; the result is float64 where the frames are.
    psf_shape: as the frame where None. start: of the frame within the full convolution; None: in the middle, which is
    `same` for a frame of the scene's size and `valid` for a frame of H - psf + 1. ridge: as a share of the energy of
    the scenes, see `choose`. weight: inverse variances of the frames.
    Raises BadInput where shapes do not belong together, values are not finite, or ridge is negative.
    """
    from protocols.cropped_deconvolution import ridge_solution

    scenes, frames = _tensors(scenes, frames)
    psf_shape, start = _geometry(scenes, frames, psf_shape, start)
    if not ridge >= 0:
        raise BadInput(f"ridge = {ridge} must be at least 0; 0.001 to 1 of the scenes' energy is usual")
    return ridge_solution(
        scenes, frames, shape=psf_shape, start=start, ridge=ridge, weight=weight, iterations=iterations
    )


def ridge_twin(scenes: Any, frames: Any, *, ridge: float, **geometry: Any) -> FreeFormTwin:
    """`ridge_psf` as a camera whose pictures are light already. geometry: psf_shape, start, weight, iterations."""
    import torch

    scenes, frames = _tensors(scenes, frames)
    shape, start = _geometry(scenes, frames, geometry.pop("psf_shape", None), geometry.pop("start", None))
    psf = ridge_psf(scenes, frames, psf_shape=shape, ridge=ridge, start=start, **geometry)
    even = SceneResponse(torch.ones(scenes.shape[-2:], dtype=psf.dtype))
    return FreeFormTwin(psf, start, _size(frames), even, torch.zeros(len(psf), dtype=psf.dtype))


def fit_free_form(
    scenes: Any,
    frames: Any,
    settings: FreeForm,
    *,
    psf_shape: Pair | None = None,
    start: Pair | None = None,
    begin: Tensor | None = None,
) -> FreeFormTwin:
    """Camera that explains the frames, with a PSF that is nowhere negative.

    Arguments as in `ridge_psf`. begin: a PSF (C, h, w) to start from, such as the ridge estimate, or from nothing.
    The PSF and the response are fitted in turn: each alone is a convex problem with one solution; together they are
    not, and the even, linear response is where it starts from.
    """
    import torch

    from protocols.cropped_deconvolution import Prior, constrained_solution

    scenes, frames = _tensors(scenes, frames)
    shape, start = _geometry(scenes, frames, psf_shape, start)
    prior = Prior(settings.ridge, settings.sparsity, settings.total_variation)
    weight = 1 / noise_variance(frames) if settings.noise_weighted else None
    field = _field_terms(settings.field_order, scenes)
    response = SceneResponse(torch.ones_like(field[0]))
    background = torch.zeros(frames.shape[1], dtype=frames.dtype)
    rounds = settings.rounds if settings.field_order or settings.curved or settings.background else 0
    twin = FreeFormTwin(torch.empty(0), start, _size(frames), response, background)
    for number in range(rounds + 1):
        psf = constrained_solution(
            twin.response.light(scenes),
            frames - twin.background[:, None, None],
            shape=shape,
            start=start,
            prior=prior,
            weight=weight,
            begin=None if begin is None else begin.clamp(min=0).to(frames.dtype),
            iterations=settings.iterations if number == rounds else ROUND_ITERATIONS,
            coupling=settings.coupling,
        )
        twin = replace(twin, psf=psf)
        if number < rounds:
            twin = _with_response(twin, scenes, frames, field, settings, weight)
    return twin


def choose(
    candidates: Sequence[Setting],
    fit: Callable[[Tensor, Tensor, Setting], FreeFormTwin],
    scenes: Any,
    frames: Any,
) -> tuple[Setting, list[float]]:
    """The candidate that predicts best, leaving out one pair at a time, and the mean `normalised_error` of each.

    Raises BadInput with fewer than two pairs: there is then nothing to test on.
    """
    scenes, frames = _tensors(scenes, frames)
    if len(frames) < 2:
        raise BadInput(f"{len(frames)} pair of scene and frame; choosing a setting needs at least 2: capture more")
    errors = []
    for candidate in candidates:
        found = []
        for left_out in range(len(frames)):
            kept = [number for number in range(len(frames)) if number != left_out]
            twin = fit(scenes[kept], frames[kept], candidate)
            found.append(normalised_error(twin.predict(scenes[left_out : left_out + 1])[0], frames[left_out]))
        errors.append(float(np.mean(found)))
    return candidates[int(np.argmin(errors))], errors


def normalised_error(predicted: Tensor, frame: Tensor) -> float:
    """RMS error over the standard deviation of the frame, all channels together: 1 is no better than its mean."""
    return float((predicted - frame).square().mean().sqrt() / frame.std(correction=0))


def noise_variance(frames: Tensor) -> Tensor:
    """Variance of the noise of each pixel, (N, C, h, w): a constant and a part that grows with the signal, by channel.

    From second differences along both axes, which smooth frames do not have. What the frame itself has of the finest
    detail counts as noise, so this is an upper limit. [Immerkaer 1996]
    """
    import torch
    from scipy.optimize import nnls

    inner = frames[..., 1:-1, 1:-1]
    corners = frames[..., :-2, :-2] + frames[..., :-2, 2:] + frames[..., 2:, :-2] + frames[..., 2:, 2:]
    edges = frames[..., :-2, 1:-1] + frames[..., 2:, 1:-1] + frames[..., 1:-1, :-2] + frames[..., 1:-1, 2:]
    squares = (corners - 2 * edges + 4 * inner).square() / 36
    variance = torch.empty_like(frames)
    for channel in range(frames.shape[1]):
        signal, square = inner[:, channel].flatten().double().numpy(), squares[:, channel].flatten().double().numpy()
        order = np.argsort(signal)
        groups = [group for group in np.array_split(order, 32) if len(group)]
        means = np.array([signal[group].clip(min=0).mean() for group in groups])
        found = np.array([square[group].mean() for group in groups]).clip(min=1e-12 * square.max(initial=0) + 1e-30)
        # Relative errors of all groups are alike, since each is a mean of equally many squares.
        (constant, slope), _ = nnls(np.stack([1 / found, means / found], axis=1), np.ones(len(groups)))
        line = constant + slope * frames[:, channel].clamp(min=0)
        variance[:, channel] = line.clamp(min=float(found.min()))
    return variance


def _with_response(
    twin: FreeFormTwin, scenes: Tensor, frames: Tensor, field: Tensor, settings: FreeForm, weight: Tensor | None
) -> FreeFormTwin:
    """Response and background that suit this PSF best: the frame is linear in their coefficients."""
    import torch

    from protocols.cropped_deconvolution import predicted

    terms = [scenes * term for term in field] + ([scenes.square()] if settings.curved else [])
    images = [predicted(term, twin.psf, start=twin.start, size=twin.frame_shape) for term in terms]
    level = frames.square().mean().sqrt()
    if settings.background:
        for channel in range(frames.shape[1]):
            flat = torch.zeros_like(frames)
            flat[:, channel] = level
            images.append(flat)
    columns = torch.stack([image.flatten() for image in images], dim=1).double()
    goal = frames.flatten().double()
    if weight is not None:
        root = (weight / weight.mean()).sqrt().flatten().double()
        columns, goal = columns * root[:, None], goal * root
    power = columns.T @ columns
    tightness = FIELD_TIGHTNESS * power[0, 0]
    believed = torch.zeros(len(power), dtype=power.dtype)
    believed[0] = 1.0
    kept = torch.eye(len(power), dtype=power.dtype) * tightness
    found = torch.linalg.solve(power + kept, columns.T @ goal + tightness * believed).to(frames.dtype)
    shape = torch.einsum("khw,k->hw", field, found[: len(field)])
    curve = float(found[len(field)]) if settings.curved else 0.0
    background = found[-frames.shape[1] :] * level if settings.background else twin.background
    return replace(twin, response=SceneResponse(shape, curve), background=background)


def _field_terms(order: int, scenes: Tensor) -> Tensor:
    """Products of Legendre polynomials over the picture, (terms, H, W); the first is 1."""
    import torch
    from numpy.polynomial.legendre import legvander

    rows = torch.as_tensor(legvander(np.linspace(-1, 1, scenes.shape[-2]), order), dtype=scenes.dtype)
    columns = torch.as_tensor(legvander(np.linspace(-1, 1, scenes.shape[-1]), order), dtype=scenes.dtype)
    powers = [(down, right) for down in range(order + 1) for right in range(order + 1 - down)]
    return torch.stack([rows[:, down, None] * columns[None, :, right] for down, right in powers])


def _tensors(scenes: Any, frames: Any) -> tuple[Tensor, Tensor]:
    import torch

    scenes, frames = torch.as_tensor(scenes).detach(), torch.as_tensor(frames).detach()
    if scenes.ndim != 4 or frames.ndim != 4:
        raise BadInput(
            f"scenes of shape {tuple(scenes.shape)} and frames of shape {tuple(frames.shape)}; both must be "
            "(N, C, H, W)"
        )
    kind = torch.float64 if frames.dtype == torch.float64 else torch.float32
    return scenes.to(kind), frames.to(kind)


def _geometry(scenes: Tensor, frames: Tensor, psf_shape: Pair | None, start: Pair | None) -> tuple[Pair, Pair]:
    from protocols.cropped_deconvolution import centred

    shape = _size(frames) if psf_shape is None else psf_shape
    return shape, centred(_size(scenes), shape, _size(frames)) if start is None else start


def _size(images: Tensor) -> Pair:
    return images.shape[-2], images.shape[-1]
