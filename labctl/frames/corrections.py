"""From raw frames to a measurement: dark, background, flat field, exposures of a ladder merged. Pure functions.

Frames are DN with any leading dimensions, (..., C, h, w); what is subtracted or divided by is (C, h, w). Results are
float32 and are never clipped: noise about zero must keep its mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput

FloatArray = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint16] | npt.NDArray[np.float32]

LINEAR = 0.95
"""Share of saturation up to which pixels are believed: a full well with read noise stands just below it."""

LEAST_RESPONSE = 0.05
"""A pixel that sees less than this share of the mean light of a flat field has no signal worth scaling up."""


def mean_frame(parts: Iterable[Pixels]) -> FloatArray:
    """(C, h, w) mean over all frames of `parts`, each (n, C, h, w); summed in float64. Raises BadInput without any."""
    total: npt.NDArray[np.float64] | None = None
    count = 0
    for part in parts:
        if len(part):
            own = part.sum(axis=0, dtype=np.float64)
            total = own if total is None else total + own
            count += len(part)
    if total is None:
        raise BadInput("the mean of no frames is asked for; capture some")
    return (total / count).astype(np.float32)


def subtract(frames: Pixels, offset: npt.NDArray[np.float32]) -> FloatArray:
    """Frames without what is there anyway: a mean dark frame, or a mean background, which holds the dark signal too.

    offset: (C, h, w) DN, taken at the exposure and gain of the frames. Results may be negative. A saturated pixel comes
    out below full scale and cannot be told any more: look for it before.
    """
    difference: FloatArray = np.subtract(frames, offset, dtype=np.float32)
    return difference


def flat_response(flat: FloatArray) -> FloatArray:
    """(C, h, w) response of every pixel relative to the mean, from frames of an even light, already without dark.

    Infinite, so that frames divided by it are 0 there, where a pixel sees less than 5 % of the mean: no light, or dead.
    Raises BadInput when the light itself is missing.
    """
    mean = float(flat.mean(dtype=np.float64))
    if not mean > 0:
        raise BadInput(f"the flat field has a mean of {mean:g} DN above dark; it needs light")
    response = (flat / mean).astype(np.float32)
    response[~(response >= LEAST_RESPONSE)] = np.inf
    return response


def divide(frames: FloatArray, response: FloatArray) -> FloatArray:
    """Frames as an even sensor would give them: DN above dark over `flat_response`."""
    even: FloatArray = np.divide(frames, response, dtype=np.float32)
    return even


def clipped(frames: Pixels, black_dn: npt.ArrayLike, saturation_dn: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Where a raw value says no more than "at least so much light", of the shape of `frames`.

    black_dn, saturation_dn: numbers, or arrays that go with `frames`. Values count as linear up to `LINEAR` of the way
    from black to saturation. A pixel clips where its well is full: full well times gain plus black, to which its own
    offset and read noise are added after the well. So clipped pixels are spread about a level that may lie somewhat
    below the largest DN; only where the converter clips first do they all read it. A well that is full far below the
    range of the converter cannot be told from one frame: then `saturation_dn` has to be the level of the full well.
    An unknown black level (NaN) is taken for 0, which leaves the smaller margin.
    """
    black = np.nan_to_num(np.asarray(black_dn, dtype=np.float32), nan=0.0)
    saturation = np.asarray(saturation_dn, dtype=np.float32)
    return np.asarray(frames >= black + np.float32(LINEAR) * (saturation - black))


class Merged(NamedTuple):
    """light: (C, h, w) DN of the first rung. clipped: (C, h, w) where it is a lower bound: every rung was clipped."""

    light: FloatArray
    clipped: npt.NDArray[np.bool_]


def merge_rungs(
    frames: Pixels,
    exposures_s: npt.ArrayLike,
    black_dn: npt.ArrayLike,
    saturation_dn: float,
) -> Merged:
    """One frame of the exposures of a ladder, (C, h, w) in DN of the first rung, its black level included.

    frames: (R, C, h, w), all at one gain; exposures_s: (R,). black_dn: level of no light, one number or an array that
    goes with `frames`, as the mean dark frame of every rung. saturation_dn: see `clipped`.

    The light of a pixel is the sum of its linear values above black over the sum of their exposures: the likeliest
    value where photon noise rules, since counts of photons add up. Where every rung is clipped the shortest one is
    taken, as a lower bound: it is the best there is. So a ladder of one rung gives its frame back, and results pass
    full scale where the first rung is clipped and a shorter one is not. Raises BadInput for exposures that do not fit.
    """
    times = np.asarray(exposures_s, dtype=np.float64)
    if times.shape != (len(frames),) or len(times) == 0 or not (times > 0).all():
        raise BadInput(f"{len(frames)} rungs come with exposures {times.tolist()} s; one above 0 s is needed for each")
    black = np.broadcast_to(np.asarray(black_dn, dtype=np.float32), frames.shape)
    light = np.zeros(frames.shape[1:], dtype=np.float32)
    time_s = np.zeros(frames.shape[1:], dtype=np.float32)
    for rung, exposure_s in enumerate(times):
        good = ~clipped(frames[rung], black[rung], saturation_dn)
        light += np.where(good, frames[rung] - black[rung], 0)
        time_s += np.where(good, np.float32(exposure_s), 0)
    shortest = int(times.argmin())
    lost = time_s == 0
    light[lost] = (frames[shortest] - black[shortest])[lost]
    time_s[lost] = times[shortest]
    return Merged((light * (np.float32(times[0]) / time_s) + black[0]).astype(np.float32), lost)
