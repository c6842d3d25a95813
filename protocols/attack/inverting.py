"""A method of inversion as an attacker uses it: tuned or fitted on pictures that it knows, then shown to work."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from labctl.durable import write_whole
from protocols.attack.likeness import ssim_of
from protocols.attack.views import cut
from protocols.inversion.examples import Examples, Exposed, Pairs, through
from protocols.inversion.method import ClosedInversion, FitBudget, FitRun, Inverter, LearnedInversion
from protocols.inversion.problem import LinearCamera
from protocols.keys import stream_seed

STRENGTHS = {
    "wiener": "noise_to_signal",
    "tikhonov": "ridge",
    "separable_tikhonov": "ridge",
    "admm_tv": "total_variation",
    "fista": "strength",
}
"""The setting of each method without examples that says how much the frame is trusted."""

FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""It is tried at so many times what the protocol says."""

CONTROL_NOISE = 0.01
"""Noise of the undegraded picture over its RMS."""

AT_ONCE = 256
"""Frames that are inverted in one call."""


@dataclass(frozen=True)
class Fitted:
    """A method ready for use. val_ssim: on validation pictures, as it will be judged; converged: as of its training.

    The strength of a prior is chosen by that and not by the squared error: over a whole scene, of which a frame tells
    little at the rim, the smallest error has hardly any prior, and pictures full of noise.
    """

    inverter: Inverter
    val_ssim: float
    converged: bool
    words: str


def fitted(
    method: ClosedInversion | LearnedInversion,
    training: Examples,
    validation: Pairs,
    budget: FitBudget,
    *,
    regions: Sequence[tuple[int, int]],
    seed: int,
    checkpoint: Path | None = None,
) -> Fitted:
    """Tune `method` on `validation`, or fit it to `training`. Raises BadInput where it does not apply to the camera.

    regions: (rows, columns) of the middle of the scene that pictures are judged in.
    """
    if isinstance(method, LearnedInversion):
        generator = torch.Generator().manual_seed(stream_seed(seed, "inversion", method.model_dump_json()))
        found = method.fit(training, validation, FitRun(budget, generator, checkpoint))
        record = found.record
        chosen = ", ".join(f"{name} {value:.3g}" for name, value in record.chosen.items())
        ssim = _likeness(inverted(found, validation), validation, regions)
        return Fitted(found, ssim, record.ended_by != "budget", chosen or f"{record.steps} steps")
    if validation.camera is None:
        raise TypeError("a method without examples needs a camera")
    scored = [(_likeness(inverted(one, validation), validation, regions), words, one) for words, one in _tried(method)]
    ssim, words, best = max(scored, key=lambda tried: tried[0])
    return Fitted(best, ssim, True, words)


def undegraded(
    folder: Path,
    method: ClosedInversion | LearnedInversion,
    scenes: tuple[Tensor, Tensor, Tensor],
    budget: FitBudget,
    fingerprint: str,
    *,
    seed: int,
) -> npt.NDArray[np.float64]:
    """(n,) SSIM of the test pictures that the method makes of undegraded ones with a little noise; kept in `folder`.

    scenes: training, validation and test pictures (n, 1, h, w), of the size of a frame: then the undegraded picture is
    what a camera without any coding would give. The method is tuned or fitted as against a camera.
    """
    key = [method.model_dump(mode="json"), budget.model_dump(mode="json"), fingerprint, seed, CONTROL_NOISE]
    sizes = [list(part.shape) for part in scenes]
    digest = hashlib.sha256(json.dumps([key, sizes], sort_keys=True).encode())
    path = folder / f"inverse-{digest.hexdigest()[:32]}.npz"
    if not path.exists():
        train, val, test = scenes
        shape = (int(test.shape[-2]), int(test.shape[-1]))
        camera = LinearCamera(torch.ones(1, 1, 1), (0, 0), shape, shape)
        expose = through(camera, CONTROL_NOISE)
        generator = torch.Generator().manual_seed(stream_seed(seed, "undegraded"))
        judged = Pairs(val, *expose(val, generator))
        ready = fitted(method, Exposed(train, expose), judged, budget, regions=[shape], seed=seed)
        found = ssim_of(ready.inverter.invert(expose(test, generator)[0], camera), test)
        content = io.BytesIO()
        np.savez_compressed(content, ssim=found)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file["ssim"])


def inverted(inverter: Inverter, pairs: Pairs) -> Tensor:
    """(n, 1, H, W) pictures of the frames of pairs, some at a time, by what is believed of the camera, if anything."""
    parts = [slice(first, first + AT_ONCE) for first in range(0, len(pairs), AT_ONCE)]
    cameras = [None if pairs.camera is None else pairs.camera.some(part) for part in parts]
    with torch.no_grad():
        return torch.cat([inverter.invert(pairs.frames[part], one) for part, one in zip(parts, cameras, strict=True)])


def _tried(method: ClosedInversion) -> list[tuple[str, ClosedInversion]]:
    """The method at several strengths, those that its limits allow."""
    field = STRENGTHS.get(method.method)
    if field is None:
        return [("", method)]
    given: dict[str, Any] = method.model_dump()
    found = []
    for factor in FACTORS:
        try:
            one = type(method).model_validate({**given, field: given[field] * factor})
        except ValidationError:
            continue
        found.append((f"{field} {given[field] * factor:.1g}", one))
    return found or [("", method)]


def _likeness(made: Tensor, judged: Pairs, regions: Sequence[tuple[int, int]]) -> float:
    """Mean SSIM over the regions."""
    return float(np.mean([ssim_of(cut(made, shape), cut(judged.pictures, shape)).mean() for shape in regions]))
