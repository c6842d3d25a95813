"""Captures on the virtual rig with faults in the middle, against the same capture left alone.

The bench of these tests is without noise and the displays get the time to settle, so frames of one exposure are equal
to the last DN. A frame of another pattern, a torn, stale or dim one differs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import labctl
from labctl.errors import HardwareError
from labctl.exposure import Exposure, ExposurePlan, Frames, join_frames
from labctl.rig import Rig
from sim.virtual_lab.lab import VirtualLab
from tests.faults.table import Row, keep

FRAMES = 12
EXPOSURE = Exposure(exposure_s=2e-3, roi=(32, 32))

QUICK: Mapping[str, Any] = {
    "world.noise": False,
    "mask.settle_s": 0.06,
    "scene.settle_s": 0.06,
    "camera.frame_limit_s": 1.0,
    "camera.answer_limit_s": 2.0,
    "interlocks": [],
}
"""The virtual rig for these tests. The limits are shortened so that what waits for them is over sooner. Without
interlocks no frame is held back, and it is known which one is under way when a fault comes."""

LAMP_WATCHED = [{"quantity": "lamp.emission", "within": 0.05, "of": "lamp.power", "every_s": 0.05}]
"""An interlock on the light itself: what the lamp was told and what it gives must agree."""

Kind = Literal["scenes", "live"]
Fault = Callable[[], object]


def plan_of(kind: Kind) -> ExposurePlan:
    """FRAMES scenes through one mask, or FRAMES masks of different openness before the live scene, lit by the lamp."""
    rng = np.random.default_rng(5)
    open_share = rng.permutation(np.linspace(0.3, 1.0, FRAMES)).reshape(-1, 1, 1, 1)
    masks = open_share * rng.integers(0, 2, (1, 1, 8, 8)).repeat(4, 2).repeat(4, 3)
    scenes = rng.random((FRAMES, 1, 1, 9, 9), dtype=np.float32).repeat(7, 3).repeat(7, 4)
    ids = np.arange(FRAMES, dtype=np.int64)
    if kind == "live":
        return ExposurePlan("live", masks, EXPOSURE, ids)
    return ExposurePlan(scenes, masks[:1], EXPOSURE, ids)


@dataclass
class Taken:
    """What a capture delivered before it ended, and how."""

    frames: list[Frames]
    error: Exception | None
    retakes: Sequence[str]
    camera: Mapping[str, Any]
    safe_errors: Sequence[str]
    seconds: float
    """From the first exposure on."""


@dataclass
class FaultyLab:
    """A virtual lab, the rig that stands in it, and what its captures must give."""

    lab: VirtualLab
    whole: Mapping[Kind, npt.NDArray[np.uint16]] = field(default_factory=dict)
    """(FRAMES, 1, h, w) DN of captures that nobody disturbed."""

    def open(self, **changes: Any) -> Rig:
        """The virtual rig; `__` in a name stands for a dot, and a device that is None is left out."""
        given = {name.replace("__", "."): value for name, value in changes.items()}
        left_out = tuple(f"{name}." for name, value in given.items() if value is None)
        quick = {name: value for name, value in QUICK.items() if not name.startswith(left_out)}
        return labctl.open_rig("virtual", set={**quick, **given})

    def capture(
        self, kind: Kind = "scenes", start: int = 0, faults: Mapping[int, Fault] | None = None, **changes: Any
    ) -> Taken:
        """Capture from frame `start` on; before frame k is asked for, `faults[k]()` does its harm."""
        frames: list[Frames] = []
        error: Exception | None = None
        with self.open(**changes) as rig:
            if kind == "live":
                rig.devices().instruments["lamp"].set_quantity("power", 1.0)
                rig.devices().instruments["shutter"].set_quantity("open", 1.0)
            elif "interlocks" in changes:
                rig.devices().instruments["lamp"].set_quantity("power", 1.0)
            begun_s = time.monotonic()
            waiting = dict(faults or {})
            try:
                with contextlib.closing(rig.stream(plan_of(kind).part(start, FRAMES))) as stream:  # type: ignore[type-var]
                    while True:
                        waiting.pop(start + len(frames), _nothing)()
                        frame = next(stream, None)
                        if frame is None:
                            break
                        frames.append(frame)
            except HardwareError as failed:
                error = failed
            seconds = time.monotonic() - begun_s
            retakes = [retake.reason for retake in rig.retakes]
            camera = rig.devices().camera.describe_device()
        return Taken(frames, error, retakes, camera, rig.safe_errors, seconds)

    def lost(self, *taken: Taken, kind: Kind = "scenes") -> int:
        """How many frames of the plan are missing in these captures, one after the other.

        Asserts that every frame that was delivered is right to the last DN, once, and in order.
        """
        frames = [frame for part in taken for frame in part.frames]
        if not frames:
            return FRAMES
        joined = join_frames(frames)
        assert np.array_equal(joined.exposure_ids, np.arange(len(frames))), "not in order, or not once"
        difference = np.abs(joined.pixels.astype(int) - self.whole[kind][: len(frames)])
        assert difference.max() == 0, f"frames {np.flatnonzero(difference.max(axis=(1, 2, 3)))} are wrong"
        return FRAMES - len(frames)

    def recovered(self, fault: str, injected: str, taken: Taken, *, retakes: int, kind: Kind = "scenes") -> None:
        """Assert that the capture went on by itself and is whole, with so many exposures taken twice; keep the row."""
        assert taken.error is None
        assert len(taken.retakes) == retakes, taken.retakes
        assert taken.safe_errors == []
        lost = self.lost(taken, kind=kind)
        assert lost == 0
        saw = taken.retakes[0] if taken.retakes else "nothing: the frames came later"
        keep(Row(fault, injected, saw, "recovered by itself", retakes, lost, taken.seconds))

    def resumed(self, fault: str, injected: str, taken: Taken, again: Taken, *, kind: Kind = "scenes") -> None:
        """Assert that the capture ended with an error, and that one begun where it ended completes it; keep the row."""
        assert taken.error is not None
        assert again.error is None
        assert again.safe_errors == []
        lost = self.lost(taken, again, kind=kind)
        assert lost == 0
        ended = f"{type(taken.error).__name__}; capture resumed"
        retakes = len(taken.retakes) + len(again.retakes)
        keep(Row(fault, injected, str(taken.error), ended, retakes, lost, taken.seconds + again.seconds))

    def refused(
        self, fault: str, injected: str, error: Exception, seconds: float, then: str = "nothing exposed"
    ) -> None:
        """Keep the row of what ended before anything was exposed."""
        keep(Row(fault, injected, str(error), f"{type(error).__name__}; {then}", 0, 0, seconds))


def _nothing() -> None:
    pass
