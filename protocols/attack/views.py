"""What an attacker is given to look at: sharp pictures, simulated frames, captured frames, pictures from frames.

A view gives pictures by place. With a generator they are changed and exposed anew, as for training; without one they
are as they were measured, the same every time, as for judging.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from protocols.augmentation import Augmentation, augment, shift_and_flip
from protocols.keys import stream_seed
from sim.noise import TorchDraws

if TYPE_CHECKING:
    from protocols.data import ImageSet
    from protocols.simulation import Simulation
    from sim.designs.base import CameraDesign

Region = Literal["field", "centre"]
"""`field`: the whole scene. `centre`: as much of its middle as a frame is large, which is what a small hole sees."""

PART = 128
"""Pictures that are made at a time where all are wanted."""

SOFT_KERNEL = (0.25, 0.5, 0.25)
"""Blur of softened pictures along rows and columns."""

SOFT_NOISE = 0.02
"""Noise of softened pictures, as a share of white."""


class View(Protocol):
    """Pictures of the samples of a set, as somebody sees them."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a picture."""

    def __len__(self) -> int: ...

    def pictures(self, places: Tensor, generator: torch.Generator | None) -> Tensor:
        """(n, 1, h, w) of these places; see the module."""


class SharpView:
    """The scenes themselves: no camera at all. `region` of them; softened at random for training if `soften`.

    soften: half of the training pictures are slightly blurred and noisy, so that whoever learns from them can also read
    a reconstruction.
    """

    def __init__(
        self, data: ImageSet, rows: np.ndarray, region: tuple[int, int], augmentation: Augmentation, *, soften: bool
    ) -> None:
        self._data, self._rows, self.shape = data, np.asarray(rows), region
        self._augmentation, self._soften = augmentation, soften

    def __len__(self) -> int:
        return len(self._rows)

    def pictures(self, places: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `View`."""
        scenes = torch.from_numpy(np.asarray(self._data.images[self._rows[places.numpy()]]))
        if generator is not None:
            scenes = augment(scenes, self._augmentation, generator)
            scenes = softened(scenes, generator) if self._soften else scenes
        return cut(scenes, self.shape)


class SimulatedView:
    """Frames that the twin makes of the scenes through a trained camera, read out by its design.

    A design whose mask is drawn anew for every frame is exposed through a fresh draw each: an attacker cannot hold it.
    """

    def __init__(
        self,
        simulation: Simulation,
        design: CameraDesign,
        data: ImageSet,
        rows: np.ndarray,
        augmentation: Augmentation,
        *,
        seed: int,
    ) -> None:
        from protocols.simulation import ShownScenes

        self._simulation, self._design, self._augmentation, self._seed = simulation, design, augmentation, seed
        self._scenes = ShownScenes(simulation, data.images, np.asarray(rows))
        first = self.pictures(torch.arange(1), None)
        self.shape = (int(first.shape[-2]), int(first.shape[-1]))

    def __len__(self) -> int:
        return len(self._scenes)

    @torch.no_grad()
    def pictures(self, places: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `View`."""
        shown = self._scenes[places]
        if generator is not None:
            shown = augment(shown, self._augmentation, generator)
        return exposed(self._simulation, self._design, shown, generator or self._fixed(places))

    @torch.no_grad()
    def patterns(self, places: Tensor) -> Tensor:
        """(n, H, W) what `all_of` these places was taken through, of a design that draws its masks."""
        return torch.cat([self._design.patterns(self._fixed(p))(len(p)).detach() for p in places.split(PART)])

    def _fixed(self, places: Tensor) -> torch.Generator:
        """The same for the same places, so that frames to judge by are the same every time."""
        first = int(places[0]) if len(places) else 0
        return torch.Generator().manual_seed(stream_seed(self._seed, "attacked", first, len(places)))


class FixedView:
    """Pictures that are there already: captured frames, or reconstructions. Only shifted and mirrored for training."""

    def __init__(self, pictures: Tensor, *, shift_px: int, flip: bool = False) -> None:
        self._pictures, self._shift_px, self._flip = pictures, shift_px, flip
        self.shape = (int(pictures.shape[-2]), int(pictures.shape[-1]))

    def __len__(self) -> int:
        return len(self._pictures)

    def pictures(self, places: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `View`."""
        chosen = self._pictures[places]
        if generator is None:
            return chosen
        return shift_and_flip(chosen, self._shift_px, flip=self._flip, generator=generator)


class SomeOf:
    """A view of some places of another."""

    def __init__(self, view: View, places: np.ndarray) -> None:
        self._view, self._places, self.shape = view, torch.from_numpy(np.asarray(places)), view.shape

    def __len__(self) -> int:
        return len(self._places)

    def pictures(self, places: Tensor, generator: torch.Generator | None) -> Tensor:
        """See `View`."""
        return self._view.pictures(self._places[places], generator)


def all_of(view: View, generator: torch.Generator | None = None) -> Tensor:
    """(N, 1, h, w) all pictures of a view."""
    return torch.cat([view.pictures(places, generator) for places in torch.arange(len(view)).split(PART)])


def exposed(simulation: Simulation, design: CameraDesign, shown: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 1, h, w) what the design reads of (n, 1, H, W) shown scenes in the twin, noise included."""
    masks = design.patterns(generator)(len(shown))
    return design.readout(simulation.frames(shown, masks, draws=TorchDraws(generator)))


def cut(pictures: Tensor, shape: tuple[int, int]) -> Tensor:
    """(..., h, w) the middle of (..., H, W); of an odd rest, the half pixel falls to the end."""
    top, left = ((whole - part) // 2 for whole, part in zip(pictures.shape[-2:], shape, strict=True))
    return pictures[..., top : top + shape[0], left : left + shape[1]]


def softened(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 1, H, W) pictures, each with chance 1/2 blurred over three pixels each way and with noise of `SOFT_NOISE`."""
    kernel = torch.tensor(SOFT_KERNEL, dtype=pictures.dtype)
    padded = torch.nn.functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
    blurred = torch.nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    blurred = blurred + SOFT_NOISE * torch.randn(blurred.shape, generator=generator, dtype=pictures.dtype)
    soft = torch.rand(len(pictures), generator=generator) < 0.5
    return torch.where(soft[:, None, None, None], blurred, pictures)
