"""Inverses that learn from pairs: an unrolled iteration that knows the camera, and a U-Net on top of any estimate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Field

from protocols.inversion.examples import Pairs, all_pairs, check_examples
from protocols.inversion.fista import Fista
from protocols.inversion.lmmse import Lmmse
from protocols.inversion.method import (
    ClosedInversion,
    FitRecord,
    FitRun,
    FittedInversion,
    Inverter,
    LearnedInversion,
    check_frames,
    needed,
)
from protocols.inversion.regression import Regression
from protocols.inversion.separable import SeparableTikhonov
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from protocols.inversion.examples import Examples
    from protocols.inversion.networks import UNetwork, UnrolledNetwork
    from protocols.inversion.problem import LinearCamera

AT_ONCE = 64
"""Frames that a network inverts in one call."""

Rate = Annotated[float, Gt(0), Le(1)]


class Unrolled(LearnedInversion):
    """A few gradient steps with the exact window, learned step sizes and a small learned network after each.

    It is given the camera of every frame, so one network serves cameras that change. Channels are inverted alike.
    """

    method: Literal["unrolled"] = "unrolled"
    steps: Annotated[int, Ge(1), Le(50)] = 5
    width: Annotated[int, Ge(4), Le(256)] = 12
    """Channels of the first level of the networks between the steps."""

    rate: Rate = 1e-3

    def fit(self, training: Examples, validation: Examples, run: FitRun) -> FittedUnrolled:
        """See `LearnedInversion.fit`. Raises BadInput where nothing is known of the camera."""
        from protocols.inversion.fitting import fit_network

        check_examples(training, validation)
        judged = all_pairs(validation, run.generator)
        check_frames(judged.frames, needed(judged.camera))
        network = self._network(run.generator, training.pictures.flatten(0, 1).mean(dim=0))

        def loss(places: Tensor, generator: Generator) -> Tensor:
            pairs = training.draw(places, generator)
            found = _each_channel(network, pairs.frames, needed(pairs.camera))
            return (found - pairs.pictures).square().mean()

        def validation_mse() -> float:
            found = _in_parts(network, judged.frames, needed(judged.camera))
            return float((found - judged.pictures).square().mean())

        record = fit_network(network, loss, validation_mse, run, items=len(training), rate=self.rate)
        return FittedUnrolled(network, record)

    def restore(self, state: dict[str, Tensor], record: FitRecord) -> FittedUnrolled:
        """See `LearnedInversion.restore`."""
        import torch

        network = self._network(torch.Generator(), state["mean_picture"])
        network.load_state_dict(state)
        return FittedUnrolled(network.eval(), record)

    def _network(self, generator: Generator, mean_picture: Tensor) -> UnrolledNetwork:
        from protocols.inversion.networks import UnrolledNetwork

        with seeded(generator):
            return UnrolledNetwork(self.steps, self.width, mean_picture).to(mean_picture.device)


class FittedUnrolled:
    """See `Unrolled`."""

    def __init__(self, network: UnrolledNetwork, record: FitRecord) -> None:
        self.network, self.record = network, record

    def invert(self, frames: Tensor, camera: LinearCamera | None) -> Tensor:
        """See `Inverter.invert`."""
        import torch

        camera = needed(camera)
        check_frames(frames, camera)
        with torch.no_grad():
            return _in_parts(self.network, frames, camera)

    def state(self) -> dict[str, Tensor]:
        """See `FittedInversion.state`."""
        return self.network.state_dict()


Start = Annotated[
    Wiener | Tikhonov | SeparableTikhonov | AdmmTv | Fista | Lmmse | Regression, Field(discriminator="method")
]

Started = ClosedInversion | FittedInversion
"""A start that is ready to invert."""


class UNet(LearnedInversion):
    """A U-shaped network that refines an estimate, and sees the frame beside it.

    With `start: {method: regression}` nothing need be known of the camera: the raw frame is turned into a picture.
    A start that learns is fitted to all training pairs in the end; those that the network learns from are estimated by
    starts that were fitted to the other half, since an estimate of a known picture would look better than it is.
    """

    method: Literal["unet"] = "unet"
    start: Start = Lmmse()
    width: Annotated[int, Ge(4), Le(256)] = 16
    """Channels of the first level; every level below has twice as many."""

    levels: Annotated[int, Ge(1), Le(6)] = 3
    rate: Rate = 1e-3
    copies: Annotated[int, Ge(1), Le(1000)] = 4
    """How often each picture is exposed where that is done anew for every draw."""

    def fit(self, training: Examples, validation: Examples, run: FitRun) -> FittedUNet:
        """See `LearnedInversion.fit`."""
        import torch

        from protocols.inversion.fitting import fit_network

        check_examples(training, validation)
        judged = all_pairs(validation, run.generator)
        start, inputs, pictures = self._estimated(training, judged, run)
        judged_inputs = self._inputs(start, judged)
        network = self._network(run.generator).to(inputs.device)

        def loss(places: Tensor, generator: Generator) -> Tensor:
            error: Tensor = network(inputs[places]) - pictures[places]
            return error.square().mean()

        truth = judged.pictures.flatten(0, 1).unsqueeze(1)

        def validation_mse() -> float:
            found = torch.cat([network(part) for part in torch.split(judged_inputs, AT_ONCE)])
            return float((found.clamp(0, 1) - truth).square().mean())

        record = fit_network(network, loss, validation_mse, run, items=len(inputs), rate=self.rate)
        return FittedUNet(self, start, network, record)

    def restore(self, state: dict[str, Tensor], record: FitRecord) -> FittedUNet:
        """See `LearnedInversion.restore`."""
        import torch

        network = self._network(torch.Generator())
        network.load_state_dict(_under("network.", state))
        start: Started = (
            self.start
            if isinstance(self.start, ClosedInversion)
            else self.start.restore(_under("start.", state), record)
        )
        return FittedUNet(self, start, network.eval(), record)

    def _estimated(self, training: Examples, judged: Pairs, run: FitRun) -> tuple[Started, Tensor, Tensor]:
        """The start, and what the network learns from: inputs (M, 2, H, W) and pictures (M, 1, H, W)."""
        import torch

        copies = 1 if isinstance(training, Pairs) else self.copies
        order = torch.randperm(len(training), generator=run.generator)
        halves = [order[::2], order[1::2]]
        parts = [[training.draw(half, run.generator) for _ in range(copies)] for half in halves]
        if isinstance(self.start, ClosedInversion):
            start: Started = self.start
            starts: list[Started] = [start, start]
        else:
            alone = FitRun(run.budget, run.generator)
            start = self.start.fit(training, judged, alone)
            starts = [self.start.fit(_Some(training, half), judged, alone) for half in reversed(halves)]
        inputs = [self._inputs(one, pairs) for one, part in zip(starts, parts, strict=True) for pairs in part]
        pictures = [pairs.pictures.flatten(0, 1).unsqueeze(1) for part in parts for pairs in part]
        return start, torch.cat(inputs), torch.cat(pictures)

    def _inputs(self, start: Inverter, pairs: Pairs) -> Tensor:
        return network_inputs(start, pairs.frames, pairs.camera)

    def _network(self, generator: Generator) -> UNetwork:
        from protocols.inversion.networks import UNetwork

        with seeded(generator):
            return UNetwork(2, self.width, self.levels)


class FittedUNet:
    """See `UNet`."""

    def __init__(self, settings: UNet, start: Started, network: UNetwork, record: FitRecord) -> None:
        self.settings, self.start, self.network, self.record = settings, start, network, record

    def invert(self, frames: Tensor, camera: LinearCamera | None) -> Tensor:
        """See `Inverter.invert`."""
        import torch

        with torch.no_grad():
            inputs = network_inputs(self.start, frames, camera)
            found = torch.cat([self.network(part) for part in torch.split(inputs, AT_ONCE)])
        return found.reshape(*frames.shape[:2], *found.shape[-2:]).clamp(0, 1)

    def state(self) -> dict[str, Tensor]:
        """See `FittedInversion.state`."""
        start = {} if isinstance(self.start, ClosedInversion) else self.start.state()
        named = {f"start.{name}": value for name, value in start.items()}
        return named | {f"network.{name}": value for name, value in self.network.state_dict().items()}


def network_inputs(start: Inverter, frames: Tensor, camera: LinearCamera | None) -> Tensor:
    """(N C, 2, H, W): estimates of frames (N, C, h, w), and the frames themselves, stretched and with an RMS of 1."""
    import torch
    import torch.nn.functional as F

    estimate = start.invert(frames, camera).flatten(0, 1).unsqueeze(1)
    level = frames.square().mean(dim=(-2, -1), keepdim=True).sqrt().clamp(min=1e-12)
    seen = (frames / level).flatten(0, 1).unsqueeze(1)
    seen = F.interpolate(seen, size=estimate.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat((estimate, seen), dim=1)


@contextmanager
def seeded(generator: Generator) -> Iterator[None]:
    """First weights inside come from `generator`; the global generator of torch stays as it was."""
    import torch

    seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@dataclass(frozen=True)
class _Some:
    """Some of the examples."""

    whole: Examples
    places: Tensor

    @property
    def pictures(self) -> Tensor:
        return self.whole.pictures[self.places]

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, places: Tensor, generator: Generator) -> Pairs:
        return self.whole.draw(self.places[places], generator)


def _each_channel(network: UnrolledNetwork, frames: Tensor, camera: LinearCamera) -> Tensor:
    """Pictures (N, C, H, W) of frames (N, C, h, w), every channel as a frame of its own."""
    batch, channels = frames.shape[:2]
    psf = camera.psf
    if psf.shape[:2] != (1, 1):
        psf = psf.expand(batch, channels, -1, -1).flatten(0, 1).unsqueeze(1)
    alone = replace(camera, psf=psf.to(frames))
    found: Tensor = network(frames.flatten(0, 1).unsqueeze(1), alone)
    return found.reshape(batch, channels, *found.shape[-2:])


def _in_parts(network: UnrolledNetwork, frames: Tensor, camera: LinearCamera) -> Tensor:
    import torch

    parts = [slice(first, first + AT_ONCE) for first in range(0, len(frames), AT_ONCE)]
    found = [_each_channel(network, frames[part], camera.some(part)) for part in parts]
    return torch.cat(found).clamp(0, 1)


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
