"""All methods of inversion, told apart by `method`, and what they have learned as a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from labctl.errors import RunFailed
from protocols.inversion.fista import Fista
from protocols.inversion.learned import UNet, Unrolled
from protocols.inversion.lmmse import Lmmse
from protocols.inversion.method import FitRecord
from protocols.inversion.regression import Regression
from protocols.inversion.separable import SeparableTikhonov
from protocols.inversion.variational import AdmmTv, Tikhonov
from protocols.inversion.wiener import Wiener

if TYPE_CHECKING:
    from protocols.inversion.method import FittedInversion, LearnedInversion

ClosedMethod = Annotated[Wiener | Tikhonov | SeparableTikhonov | AdmmTv | Fista, Field(discriminator="method")]
"""Any method that needs nothing but frames and camera: `invert(frames, camera)`."""

LearnedMethod = Annotated[Lmmse | Regression | Unrolled | UNet, Field(discriminator="method")]
"""Any method that learns from pairs: `fit(training, validation, ...)`, and then `invert` of what that returns."""

Method = Annotated[
    Wiener | Tikhonov | SeparableTikhonov | AdmmTv | Fista | Lmmse | Regression | Unrolled | UNet,
    Field(discriminator="method"),
]

SCHEMA = "labctl.inversion/1"


def save_fitted(path: Path, settings: LearnedInversion, fitted: FittedInversion) -> None:
    """Write what was learned; tensors and plain values only, so that loading runs no code."""
    from protocols.model_file import write_tensors

    saved = {"schema": SCHEMA, "settings": settings.model_dump(mode="json"), "record": asdict(fitted.record)}
    write_tensors(path, {**saved, "state": fitted.state()})


def load_fitted(path: Path, settings: LearnedInversion) -> FittedInversion:
    """What `save_fitted` wrote, by the same settings. Raises RunFailed for a file of other settings, or of none."""
    import torch

    saved = torch.load(path, weights_only=True, map_location="cpu")
    if saved.get("schema") != SCHEMA or saved.get("settings") != settings.model_dump(mode="json"):
        raise RunFailed(f"{path} holds another inversion than {settings.method} with these settings; fit it again")
    record = saved["record"]
    curve = tuple((int(step), float(mse)) for step, mse in record["curve"])
    return settings.restore(saved["state"], FitRecord(**{**record, "curve": curve}))
