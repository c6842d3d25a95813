"""A linear inverse learned from pairs alone, by somebody who knows nothing of the camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from labctl.errors import BadInput
from protocols.inversion.examples import Pairs, all_pairs, check_examples
from protocols.inversion.method import FitRecord, FitRun, LearnedInversion

if TYPE_CHECKING:
    from torch import Tensor

    from protocols.inversion.examples import Examples
    from protocols.inversion.problem import LinearCamera

LARGEST_FRAME_PX = 6400


class Regression(LearnedInversion):
    """Ridge regression from frame pixels to picture pixels, alike for all channels: the known-plaintext attack.

    There are no steps for the budget to limit; the ridge is the one that does best on the validation pairs. Of a camera
    that changes from frame to frame it learns what all its patterns have in common.
    """

    method: Literal["regression"] = "regression"
    ridges: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1)] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    """To choose from, as shares of the total variance of the frames."""

    copies: Annotated[int, Ge(1), Le(1000)] = 4
    """How often each picture is exposed where that is done anew for every draw."""

    def fit(self, training: Examples, validation: Examples, run: FitRun) -> FittedRegression:
        """See `LearnedInversion.fit`."""
        import torch

        check_examples(training, validation)
        judged = all_pairs(validation, run.generator)
        copies = 1 if isinstance(training, Pairs) else self.copies
        drawn = [all_pairs(training, run.generator) for _ in range(copies)]
        frames = torch.cat([pairs.frames for pairs in drawn]).flatten(0, 1).flatten(1).double()
        pictures = torch.cat([pairs.pictures for pairs in drawn]).flatten(0, 1)
        if frames.shape[1] > LARGEST_FRAME_PX:
            raise BadInput(
                f"frames of {frames.shape[1]} pixels are too many for regression; at most {LARGEST_FRAME_PX}"
            )
        mean_frame, mean_picture = frames.mean(dim=0), pictures.flatten(1).double().mean(dim=0)
        off = frames - mean_frame
        power, cross = off.T @ off, off.T @ (pictures.flatten(1).double() - mean_picture)
        values, vectors = torch.linalg.eigh(power)
        turned = vectors.T @ cross
        best: FittedRegression | None = None
        for ridge in self.ridges:
            matrix = vectors @ (turned / (values.clamp(min=0) + ridge * values.sum())[:, None])
            shape = pictures.shape[-2], pictures.shape[-1]
            found = LinearMap(matrix.float(), mean_frame.float(), mean_picture.float().reshape(shape))
            error = float((found(judged.frames).clamp(0, 1) - judged.pictures).square().mean())
            if best is None or error < best.record.validation_mse:
                best = FittedRegression(found, FitRecord("chosen", 0, 0, error, chosen={"ridge": ridge}))
        assert best is not None
        return best

    def restore(self, state: dict[str, Tensor], record: FitRecord) -> FittedRegression:
        """See `LearnedInversion.restore`."""
        return FittedRegression(LinearMap(**state), record)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Pictures (N, C, H, W) of frames (N, C, h, w). matrix: (h w, H W), mean_frame: (h w,), mean_picture: (H, W)."""

    matrix: Tensor
    mean_frame: Tensor
    mean_picture: Tensor

    def __call__(self, frames: Tensor) -> Tensor:
        """Not limited to 0..1. Raises BadInput for frames of another size."""
        if frames[0, 0].numel() != len(self.mean_frame):
            raise BadInput(
                f"frames of {tuple(frames.shape[-2:])} pixels, the regression was fitted to {len(self.mean_frame)}; "
                "give frames of the camera that it was fitted to"
            )
        off = frames.flatten(2) - self.mean_frame.to(frames)
        flat = off @ self.matrix.to(frames)
        return flat.reshape(*frames.shape[:2], *self.mean_picture.shape) + self.mean_picture.to(frames)


class FittedRegression:
    """See `Regression`."""

    def __init__(self, found: LinearMap, record: FitRecord) -> None:
        self.map, self.record = found, record

    def invert(self, frames: Tensor, camera: LinearCamera | None = None) -> Tensor:
        """See `Inverter.invert`; the camera is not looked at."""
        return self.map(frames).clamp(0, 1)

    def state(self) -> dict[str, Tensor]:
        """See `FittedInversion.state`."""
        return vars(self.map)
