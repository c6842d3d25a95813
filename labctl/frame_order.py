"""Whether a frame is the one of its trigger: by its tag, its number, and what two clocks say about it."""

from __future__ import annotations

import math

from labctl.errors import HardwareError
from labctl.exposure import Frames, FrameTag

DRIFT = 2e-4
"""How far the clocks of camera and computer may run apart, in seconds per second. Crystals stay below half of it."""

CLOCK_ERROR_S = 1e-3
"""Rounding of time stamps and of exposure times."""


class FrameOrder:
    """Checks the frames of one camera, one trigger at a time.

    Nobody knows the offset between the camera's clock and the computer's, but each frame bounds it: the exposure began
    after its trigger, and was over before its frame arrived. A frame whose bounds leave no room for those of the
    frames before it belongs to another trigger. The bounds widen with time as the clocks may drift. A camera that
    stamps frames on arrival passes this test always; then its frame numbers have to tell.
    """

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self.restart()

    def restart(self) -> None:
        """Forget everything: the camera was armed anew, and its clock may begin again."""
        self._last_id: int | None = None
        self._low_s, self._high_s = -math.inf, math.inf
        self._checked_s: float | None = None

    def check(self, frame: Frames, tag: FrameTag, triggered_s: float, arrived_s: float) -> None:
        """Raises HardwareError unless `frame` is the one exposure `tag` that was triggered at `triggered_s`.

        triggered_s: host time just before the trigger; arrived_s: host time when the frame was in hand.
        """
        self._check_identity(frame, tag)
        exposure_s, camera_s = float(frame.exposure_s[0]), float(frame.camera_time_s[0])
        if arrived_s - triggered_s < exposure_s - CLOCK_ERROR_S:
            raise HardwareError(
                f"{self._camera}: the frame of exposure {tag.exposure_id} came {arrived_s - triggered_s:.4g} s after "
                f"its trigger and says that it was exposed for {exposure_s:.4g} s; it belongs to an earlier trigger"
            )
        widened = 0.0 if self._checked_s is None else DRIFT * (arrived_s - self._checked_s)
        low_s = max(self._low_s - widened, triggered_s - camera_s)
        high_s = min(self._high_s + widened, arrived_s - exposure_s - camera_s)
        if low_s > high_s + CLOCK_ERROR_S:
            raise HardwareError(
                f"{self._camera}: the frame of exposure {tag.exposure_id} is {low_s - high_s:.4g} s out of step with "
                "its trigger by the camera's clock; it belongs to another trigger"
            )
        self._low_s, self._high_s, self._checked_s = low_s, max(low_s, high_s), arrived_s
        self._last_id = int(frame.frame_ids[0])

    def _check_identity(self, frame: Frames, tag: FrameTag) -> None:
        got = FrameTag(int(frame.exposure_ids[0]), frame.attempt)
        if len(frame) != 1 or got != tag:
            raise HardwareError(f"{self._camera}: {len(frame)} frame(s) came under {got}; one under {tag} was wanted")
        frame_id = int(frame.frame_ids[0])
        if self._last_id is not None and frame_id != self._last_id + 1:
            raise HardwareError(
                f"{self._camera}: frame {frame_id} came after frame {self._last_id}; {self._last_id + 1} was wanted, "
                "one trigger gives one frame"
            )
