"""The best linear estimate, by somebody who has seen pictures of that kind before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from protocols.inversion.examples import all_pairs, check_examples
from protocols.inversion.method import FitRecord, FitRun, LearnedInversion, check_frames, needed

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.inversion.examples import Examples, Pairs
    from protocols.inversion.gaussian import FrameCovariance, NormalPictures
    from protocols.inversion.problem import LinearCamera

Share = Annotated[float, Ge(0), Le(1)]
Noise = Annotated[float, Gt(0), Le(10)]

CAMERAS_TO_JUDGE = 12
"""Validation frames that settings are compared on where each has a camera of its own, which is slow."""


class Lmmse(LearnedInversion):
    """Linear least mean squared error with mean and covariance of a set of pictures, and the exact window.

    The covariance is that of the sample mixed with one that only depends on distance, as far as the sample is too small
    to tell. Mixture and noise are those that do best on the validation pairs; there are no steps for the budget to
    limit. One frame pattern is solved for at once: a set with a PSF for each frame takes about that much longer.
    """

    method: Literal["lmmse"] = "lmmse"
    shares: Annotated[tuple[Share, ...], MinLen(1)] = (0.0, 0.5, 0.8, 0.95)
    """Shares of the covariance of the sample to choose from; 0 is the one that only depends on distance."""

    noises: Annotated[tuple[Noise, ...], MinLen(1)] = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)
    """Standard deviations of the noise to choose from, as shares of the RMS of the frame."""

    rank: Annotated[int, Ge(1), Le(8192)] = 1024
    """Deviations from the mean picture that are kept, the strongest."""

    def fit(self, training: Examples, validation: Examples, run: FitRun) -> FittedLmmse:
        """See `LearnedInversion.fit`. Raises BadInput where nothing is known of the camera."""
        import torch

        from protocols.inversion.gaussian import NormalPictures

        check_examples(training, validation)
        with torch.no_grad():
            prior = NormalPictures.of(training.pictures, self.rank)
            judged = all_pairs(validation, run.generator)
            errors = self._errors(prior, judged)
        share, noise = min(errors, key=lambda setting: errors[setting])
        record = FitRecord("chosen", 0, 0, errors[share, noise], chosen={"share": share, "noise": noise})
        return FittedLmmse(prior, share, noise, record)

    def restore(self, state: dict[str, Tensor], record: FitRecord) -> FittedLmmse:
        """See `LearnedInversion.restore`."""
        from protocols.inversion.gaussian import NormalPictures

        prior = NormalPictures(state["mean"], state["deviations"], state["power"])
        return FittedLmmse(prior, float(state["share"]), float(state["noise"]), record)

    def _errors(self, prior: NormalPictures, pairs: Pairs) -> dict[tuple[float, float], float]:
        """Mean squared error of the validation pictures by (share, noise)."""
        from protocols.inversion.gaussian import FrameCovariance

        camera = needed(pairs.camera)
        check_frames(pairs.frames, camera)
        count = len(pairs) if len(camera.psf) == 1 else min(len(pairs), CAMERAS_TO_JUDGE)
        sums = {(share, noise): 0.0 for share in self.shares for noise in self.noises}
        for which, channel, alone in single_cameras(camera, count, pairs.frames.shape[1]):
            covariance = FrameCovariance(prior, alone)
            frames, truth = (x[which, channel : channel + 1].float() for x in (pairs.frames, pairs.pictures))
            for setting in sums:
                found = covariance.estimate(frames, *setting).clamp(0, 1)
                sums[setting] += float((found - truth).square().sum())
        total = pairs.pictures[:count].numel()
        return {setting: value / total for setting, value in sums.items()}


class FittedLmmse:
    """See `Lmmse`."""

    def __init__(self, prior: NormalPictures, share: float, noise: float, record: FitRecord) -> None:
        self.prior, self.share, self.noise, self.record = prior, share, noise, record
        self._last: tuple[LinearCamera, list[FrameCovariance]] | None = None

    def invert(self, frames: Tensor, camera: LinearCamera | None) -> Tensor:
        """See `Inverter.invert`."""
        import torch

        camera = needed(camera)
        check_frames(frames, camera)
        found = torch.empty(*frames.shape[:2], *camera.scene_shape, device=frames.device)
        with torch.no_grad():
            for number, (which, channel, alone) in enumerate(single_cameras(camera, len(frames), frames.shape[1])):
                covariance = self._covariance(camera, number, alone)
                light = covariance.estimate(frames[which, channel : channel + 1].float(), self.share, self.noise)
                found[which, channel : channel + 1] = light
        return found.clamp(0, 1).to(frames)

    def state(self) -> dict[str, Tensor]:
        """See `FittedInversion.state`."""
        import torch

        prior = self.prior
        chosen = {"share": self.share, "noise": self.noise}
        settings = {name: torch.tensor(value, dtype=torch.float64) for name, value in chosen.items()}
        return {"mean": prior.mean, "deviations": prior.deviations, "power": prior.power, **settings}

    def _covariance(self, camera: LinearCamera, number: int, alone: LinearCamera) -> FrameCovariance:
        """That of one camera for all frames is kept for the next call."""
        from protocols.inversion.gaussian import FrameCovariance

        if len(camera.psf) > 1:
            return FrameCovariance(self.prior, alone)
        if self._last is None or self._last[0] is not camera:
            self._last = (camera, [])
        if number == len(self._last[1]):
            self._last[1].append(FrameCovariance(self.prior, alone))
        return self._last[1][number]


def single_cameras(camera: LinearCamera, count: int, channels: int) -> list[tuple[slice, int, LinearCamera]]:
    """(frames, channel, their camera of one frame and one channel) that cover `count` frames."""
    from dataclasses import replace

    frames = [slice(0, count)] if len(camera.psf) == 1 else [slice(n, n + 1) for n in range(count)]
    found = []
    for which in frames:
        for channel in range(channels):
            at = channel if camera.psf.shape[1] > 1 else 0
            psf = camera.psf[which.start : which.start + 1, at : at + 1].float()
            found.append((which, channel, replace(camera, psf=psf)))
    return found
