"""Terms that a mask is trained by besides recognition, and the opponent that is trained against it.

Forms as on the slides of [Nguyen Canh et al. 2023], see `sim.designs.losses.MaskLosses`; weights, epsilon and
normalisation are not published. All are minimised. H is the mask (H, W) 0..1, H*x the light that reaches the sensor:

| term            | slide                            | here, and why                                                  |
|-----------------|----------------------------------|----------------------------------------------------------------|
| similarity      | sum_i |H*x_i - I*x_i|^2          | **minus** that: the slide has no sign, and minimising it as    |
|                 |                                  | printed would draw the capture towards the sharp picture       |
| total variation | -|dx H|_1 - |dy H|_1             | as printed: more transitions in the mask                       |
| invertibility   | -|H|_1                           | as printed: a more open mask                                   |
| RIP             | -sum_i |H*x_i|^2/(|x_i|^2 + eps) | as printed: more energy than a near-isometry lets through      |

Sums become means: over pictures, over the pixels of each, over cells or pairs of neighbouring cells. So a term knows
neither batch nor grid, and is of order 1. I is an ideal aperture: the one open cell of `pinhole`, without what a closed
panel leaks. Both sides of the similarity are taken relative to their own white frame, else brightness would be the
distance, and divided by the contrast of the sharp pictures: 0 is the sharp picture itself, 1 about an even grey. A
shifted sharp picture is far away too: the term does not know that it can be shifted back. RIP takes H*x relative to a
white frame through the *open* mask. Light is noise-free and from the twin that is trained in. Only the mask sees these.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from labctl.errors import BadInput
from protocols.models import SmallResidual

if TYPE_CHECKING:
    from protocols.data import ImageSource
    from protocols.splits import IntArray
    from sim.designs.losses import Adversarial, MaskLosses
    from sim.twin import Twin

RIP_EPSILON = 1e-3
"""Epsilon of the RIP term, in units of a white scene squared; a black scene then counts as nothing. [not published]"""


def total_variation(mask: Tensor) -> Tensor:
    """() minus the share of transitions between neighbours along rows and along columns, -2..0, of (..., H, W) 0..1.

    Between cells that are fully open or closed |a - b| is a + b - 2ab, and the slope of that is taken: the slope of the
    first is zero between equal cells, and a binary mask would never get a new edge.
    """
    hard = bool(((mask == 0) | (mask == 1)).all())

    def changes(a: Tensor, b: Tensor) -> Tensor:
        return ((a + b - 2 * a * b) if hard else (a - b).abs()).mean()

    return -changes(mask[..., 1:, :], mask[..., :-1, :]) - changes(mask[..., :, 1:], mask[..., :, :-1])


def invertibility(mask: Tensor) -> Tensor:
    """() minus the open fraction, -1..0, of (..., H, W) 0..1."""
    return -mask.mean()


def similarity(coded: Tensor, sharp: Tensor) -> Tensor:
    """() minus the squared distance of captures from sharp pictures, over the contrast of these; 0 or less.

    coded, sharp: (N, C, h, w), each relative to its own white frame.
    """
    contrast = (sharp - sharp.mean(dim=(-2, -1), keepdim=True)).square().mean()
    return -(coded - sharp).square().mean() / contrast.clamp(min=1e-12)


def rip(light: Tensor, scenes: Tensor) -> Tensor:
    """() minus the mean over pictures of the energy of the light over that of the scene.

    light: (N, C, h, w) relative to a white frame through the open mask; scenes: (N, C, H, W) radiance 0..1.
    """
    energy = light.square().mean(dim=(1, 2, 3)) / (scenes.square().mean(dim=(1, 2, 3)) + RIP_EPSILON)
    return -energy.mean()


class Reconstructor(nn.Module):
    """Frame to picture: a sum of separable linear maps, which reach across the frame, and three convolutions.

    Any linear inverse is such a sum; 16 of them hold 32 thousand weights at 32x32. [after DeepFlatCam, ICCVW 2019]
    """

    def __init__(self, frame_shape: tuple[int, int], picture_shape: tuple[int, int], width: int) -> None:
        super().__init__()
        (h, w), (rows, columns) = frame_shape, picture_shape
        self.left = nn.Parameter(torch.eye(rows, h).repeat(width, 1, 1) + torch.randn(width, rows, h) / (4 * h))
        self.right = nn.Parameter(torch.eye(w, columns).repeat(width, 1, 1) + torch.randn(width, w, columns) / (4 * w))
        self.refine = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        )
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 1, h, w) normalised frames to (N, 1, rows, columns) pictures of mean 0 and variance about 1."""
        maps = self.left @ frames @ self.right
        return cast(Tensor, self.last(torch.cat([maps, self.refine(maps)], dim=1)))


class Opponent:
    """A network with an optimiser of its own, trained on the same frames as the mask, in turn with it.

    targets: what it shall find out, by place of a training picture; None for the sharp picture itself.
    """

    def __init__(
        self,
        settings: Adversarial,
        frame_shape: tuple[int, int],
        picture_shape: tuple[int, int],
        targets: tuple[Tensor, int] | None,
        device: torch.device,
    ) -> None:
        self.settings, self.targets = settings, targets
        network: nn.Module
        if targets is None:
            network = Reconstructor(frame_shape, picture_shape, settings.width)
        else:
            network = SmallResidual(width=settings.width).build(frame_shape, targets[1])
        self.network = network.to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=settings.rate)

    def learn(self, frames: Tensor, sharp: Tensor, indices: Tensor) -> None:
        """One turn of the opponent on normalised frames (N, 1, h, w), which stay as they are."""
        self.network.requires_grad_(True)
        self.network.train()
        for _ in range(self.settings.steps):
            self.optimiser.zero_grad(set_to_none=True)
            self._error(frames.detach(), sharp, indices).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()

    def failure(self, frames: Tensor, sharp: Tensor, indices: Tensor) -> Tensor:
        """() how far it fails on these frames: 0 not at all, 1 as without them. Slopes lead to the frames alone.

        More than 1 counts as 1: what is not known cannot be known less, and an opponent that errs loudly is no gain.
        """
        self.network.requires_grad_(False)
        return self._error(frames, sharp, indices).clamp(max=1.0)

    def _error(self, frames: Tensor, sharp: Tensor, indices: Tensor) -> Tensor:
        """() error of a reconstruction over the variance of pictures about their mean, or nats over all there are."""
        answers = self.network(frames)
        if self.targets is None:
            centred = sharp - sharp.mean(dim=0, keepdim=True)
            scale = centred.square().mean().clamp(min=1e-12)
            return cast(Tensor, (answers * scale.sqrt() - centred).square().mean() / scale)
        labels, classes = self.targets
        return functional.cross_entropy(answers, labels[indices.to(labels.device)]) / math.log(classes)


class MaskTerms:
    """All terms of one training: adds them up, trains the opponent, and keeps the means of the present epoch.

    State dict: means and opponent, so that a training that goes on ends where an uninterrupted one would have ended.
    """

    def __init__(
        self,
        losses: MaskLosses,
        twin: Twin,
        scene_shape: tuple[int, int],
        mask_shape: tuple[int, int],
        frame_shape: tuple[int, int],
        source: ImageSource,
        rows: IntArray,
        device: torch.device,
    ) -> None:
        self.losses, self.twin = losses, twin
        with torch.no_grad():
            closed, opened = (torch.full(mask_shape, value, device=device) for value in (0.0, 1.0))
            aperture = closed.clone()
            aperture[mask_shape[0] // 2, mask_shape[1] // 2] = 1.0
            dark = twin.psf(closed)  # an ideal aperture does not leak
            kernel = twin.psf(aperture) - dark
            self._ideal = kernel / twin.open_area(kernel)
            self._open_area = twin.open_area(twin.psf(opened))
        self.opponent: Opponent | None = None
        if losses.adversarial is not None:
            targets = _targets(losses.adversarial, source, rows, device)
            picture_shape = twin.frame_shape(mask_shape, scene_shape)  # a design may read out fewer pixels
            self.opponent = Opponent(losses.adversarial, frame_shape, picture_shape, targets, device)
        self._sums: dict[str, float] = {}
        self._seen = 0
        self._last: dict[str, float] = {}

    def added(self, scenes: Tensor, mask: Tensor, frames: Tensor, indices: Tensor) -> Tensor:
        """() weighted sum of all terms for one batch, after the opponent's turn.

        scenes: (N, 1, H, W) as the monitor shows them. mask: the one they were exposed through, with its slope.
        frames: (N, 1, h, w) normalised, as the classifier gets them. indices: places of the training pictures.
        """
        losses = self.losses
        terms: list[tuple[str, float, Tensor]] = []
        sharp = self._light(scenes, self._ideal) if losses.similarity or self.opponent else scenes
        if losses.similarity or losses.rip:
            psf = self.twin.psf(mask)
            light = self._light(scenes, psf)
            area = self.twin.open_area(psf).reshape(-1, 1, 1, 1)
            if losses.similarity:
                terms.append(("similarity", losses.similarity, similarity(light / area, sharp)))
            if losses.rip:
                terms.append(("rip", losses.rip, rip(light / self._open_area, scenes)))
        if losses.total_variation:
            terms.append(("total_variation", losses.total_variation, total_variation(mask)))
        if losses.invertibility:
            terms.append(("invertibility", losses.invertibility, invertibility(mask)))
        if self.opponent is not None:
            picture = sharp.mean(dim=1, keepdim=True)
            self.opponent.learn(frames, picture, indices)
            failure = self.opponent.failure(frames, picture, indices)
            terms.append(("adversarial", self.opponent.settings.weight, -failure))
        for name, _, value in terms:
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach()) * len(scenes)
        self._seen += len(scenes)
        return torch.stack([weight * value for _, weight, value in terms]).sum()

    def told(self) -> dict[str, float]:
        """Mean of every term, without its weight, of the epoch that has ended."""
        if self._seen:
            self._last = {f"term_{name}": value / self._seen for name, value in self._sums.items()}
            self._sums, self._seen = {}, 0
        return dict(self._last)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        state: dict[str, Any] = {"sums": dict(self._sums), "seen": self._seen, "last": dict(self._last)}
        if self.opponent is not None:
            state |= {"opponent": self.opponent.network.state_dict(), "optimiser": self.opponent.optimiser.state_dict()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where it was."""
        self._sums, self._seen, self._last = dict(state["sums"]), int(state["seen"]), dict(state["last"])
        if self.opponent is not None:
            self.opponent.network.load_state_dict(state["opponent"])
            self.opponent.optimiser.load_state_dict(state["optimiser"])

    def _light(self, scenes: Tensor, kernel: Tensor) -> Tensor:
        channels = 3 if self.twin.has_colour_psf else 1
        return self.twin.light(scenes, kernel.reshape(-1, channels, *kernel.shape[-2:]))


def check_losses(losses: MaskLosses, source: ImageSource) -> None:
    """Raise BadInput when the data lack what a term needs."""
    if losses.adversarial is not None and losses.adversarial.attribute is not None:
        _attribute(losses.adversarial.attribute, source)


def _attribute(name: str, source: ImageSource) -> tuple[IntArray, tuple[str, ...]]:
    values, names = source.attribute(name)
    if len(names) < 2:
        raise BadInput(f"label '{name}' of the data is always {names}; nothing can be found out about it")
    return values, names


def _targets(
    settings: Adversarial, source: ImageSource, rows: IntArray, device: torch.device
) -> tuple[Tensor, int] | None:
    if settings.attribute is None:
        return None
    values, names = _attribute(settings.attribute, source)
    return torch.from_numpy(values[rows]).to(device), len(names)
