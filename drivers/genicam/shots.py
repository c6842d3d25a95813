"""Whose frame is it? What is known of a frame that came, against the exposure that was asked for. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from labctl.exposure import FrameTag

FRAMES_IN_FLIGHT = 2
"""Frames that may still arrive in free run although their exposure began before they were asked for."""

DRIFT_NS = 1_000_000
"""What two clocks may drift apart until they are compared again; 200 ppm in 5 s."""

EXPOSURE_TOLERANCE = 1e-6
"""Relative difference of two exposure times that are the same: cameras tell some of them as float32."""


class CameraClock(NamedTuple):
    """The camera's clock is ours plus `offset_ns`, known to `within_ns`."""

    offset_ns: int
    within_ns: int


@dataclass(frozen=True)
class Settled:
    """What a settled frame says of itself; None where the camera does not tell."""

    exposure_us: float | None
    gain: float | None


@dataclass(frozen=True)
class Received:
    """A whole frame. pixels: (h, w) DN; camera_ns: time stamp of the camera's clock, 0 where not known.

    Most cameras stamp the start of the exposure, some its end; GenTL leaves it open. previous_id: camera_id of the
    frame before it, None for the first of an acquisition. frame_id: camera_id, moved up so that it never comes twice.
    """

    pixels: npt.NDArray[np.uint16]
    camera_id: int
    previous_id: int | None
    frame_id: int
    camera_ns: int
    host_ns: int
    exposure_us: float
    gain: float
    repeated: bool


@dataclass
class Shot:
    """An exposure that was asked for. started_ns: our clock just before; due_from_ns: since when its frame is due;
    incomplete_before: incomplete frames until then; passed: frames since, not its own; why_passed: the last of them."""

    tag: FrameTag
    started_ns: int
    due_from_ns: int
    incomplete_before: int
    passed: int = 0
    why_passed: str = ""
    frame: Received | None = None

    @property
    def refused(self) -> str:
        """How many frames came that were not its own, in words; nothing when there were none."""
        return f" but {self.passed} refused as foreign (the last one {self.why_passed})" if self.passed else ""


class Verdict(NamedTuple):
    """`own`: the frame of this shot. `foreign`: of none, thrown away. `spoilt`: its frame is lost, for `why`."""

    kind: Literal["own", "foreign", "spoilt"]
    why: str = ""


def has_settled(frame: Received, settled: Settled) -> bool | None:
    """Whether the frame was exposed as set, by its own word; None when it does not tell."""
    if math.isnan(frame.exposure_us) or settled.exposure_us is None:
        return None
    same = math.isclose(frame.exposure_us, settled.exposure_us, rel_tol=EXPOSURE_TOLERANCE, abs_tol=1e-3)
    if not math.isnan(frame.gain) and settled.gain is not None:
        same = same and math.isclose(frame.gain, settled.gain, rel_tol=EXPOSURE_TOLERANCE, abs_tol=1e-4)
    return same


def judge_triggered(frame: Received, shot: Shot, clock: CameraClock | None, settled: Settled) -> Verdict:
    """One trigger, one frame: the next id, begun after the trigger, exposed as set."""
    if frame.repeated:
        return Verdict("foreign", f"repeats frame id {frame.camera_id}")
    if clock is not None and frame.camera_ns and _start_ns(frame, clock) < shot.started_ns - _doubt_ns(clock):
        return Verdict("foreign", "began before the trigger")
    if frame.previous_id is not None and frame.camera_id != frame.previous_id + 1:
        return Verdict("spoilt", f"frame id {frame.camera_id} came where {frame.previous_id + 1} was due")
    if has_settled(frame, settled) is False:
        return Verdict("spoilt", f"it was exposed for {frame.exposure_us:g} us instead of {settled.exposure_us:g} us")
    return Verdict("own")


def judge_free(frame: Received, shot: Shot, clock: CameraClock | None, settled: Settled, exposure_s: float) -> Verdict:
    """The first frame that surely began after it was asked for, exposed as set: for `exposure_s`.

    Its time stamp may stand for the end of the exposure. For a camera that stamps the start, that costs up to a frame.
    """
    if frame.repeated:
        return Verdict("foreign", f"repeats frame id {frame.camera_id}")
    if clock is not None and frame.camera_ns:
        if _start_ns(frame, clock) - round(exposure_s * 1e9) < shot.started_ns + _doubt_ns(clock):
            return Verdict("foreign", "may have begun before it was asked for")
    elif shot.passed < FRAMES_IN_FLIGHT:
        return Verdict("foreign", "may have begun before it was asked for")
    if has_settled(frame, settled) is False:
        return Verdict("foreign", "has not settled")
    return Verdict("own")


def _start_ns(frame: Received, clock: CameraClock) -> int:
    return frame.camera_ns - clock.offset_ns


def _doubt_ns(clock: CameraClock) -> int:
    return clock.within_ns + DRIFT_NS
