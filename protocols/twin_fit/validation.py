"""Is the fitted twin good? By frames that it was not fitted to, against the noise that no twin can foretell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from protocols.twin_fit.captures import Captures
from protocols.twin_fit.fit import Fit
from protocols.twin_fit.fitted import twin_from
from protocols.twin_fit.noise import variance_of

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec
    from labctl.roads import Roads
    from sim.twin import Twin

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """How held-out frames compare with what twins foretell of them.

    before, after: root mean square of (foretold - captured) over the standard deviation of the noise of each pixel, for
    the twin of the rig file and for the fitted one; 1 is a perfect twin. floor_dn, before_dn, after_dn: the same as
    root mean squares in DN, of the noise and of both errors. foretold: (N, h, w) DN of the fitted twin. deviation:
    (N, h, w) its error in standard deviations, 0 where a pixel is saturated. saturated_share: of the pixels.
    """

    before: float
    after: float
    floor_dn: float
    before_dn: float
    after_dn: float
    foretold: FloatArray
    deviation: FloatArray
    saturated_share: float


def held_out_error(spec: RigSpec, fit: Fit, captures: Captures, *, roads: Roads | None = None) -> HeldOut:
    """Judge `fit` by `captures` that it has not seen."""
    fitted = twin_from(spec, fit.values, roads=roads, dtype=torch.float64, margin_px=fit.margin_px)
    nominal = spec.twin.build(roads or spec.roads, dtype=torch.float64)
    foretold, believed = foretold_by(fitted, captures), foretold_by(nominal, captures)
    sigma = np.sqrt(variance_of(foretold, fitted.sensor))
    usable = captures.usable
    after, before = (frames - captures.frames for frames in (foretold, believed))
    return HeldOut(
        before=_rms((before / sigma)[usable]),
        after=_rms((after / sigma)[usable]),
        floor_dn=_rms(sigma[usable]),
        before_dn=_rms(before[usable]),
        after_dn=_rms(after[usable]),
        foretold=foretold,
        deviation=np.where(usable, after / sigma, 0.0),
        saturated_share=captures.saturated_share,
    )


def foretold_by(twin: Twin, captures: Captures) -> FloatArray:
    """(N, h, w) DN that `twin` foretells for `captures`, neither rounded nor noisy."""
    roi = (captures.frames.shape[1], captures.frames.shape[2])
    frames = np.empty(captures.frames.shape)
    with torch.no_grad():
        for place, mask in enumerate(captures.masks):
            index = np.flatnonzero(captures.mask_of == place)
            if len(index) == 0:
                continue
            shown = twin.through_monitor(torch.from_numpy(captures.scenes[index])[:, None].to(twin.dtype))
            photons = twin.irradiance(shown, twin.psf(torch.from_numpy(mask).to(twin.dtype)), roi=roi)
            exposure_s = torch.from_numpy(captures.exposure_s[index])
            frames[index] = twin.sensor.expose(photons, exposure_s=exposure_s, quantise=False)[:, 0].numpy()
    return frames


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else float("nan")
