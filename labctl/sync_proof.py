"""Whether every frame of a rig shows the pattern that was asked for, over many random patterns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labctl.devices import Display
from labctl.errors import BadInput
from labctl.exposure import Exposure, ExposurePlan, FloatArray, Frames, join_frames
from labctl.light_path import RigDevices
from labctl.metering import filling_exposure
from labctl.pattern_proof import Templates, Verdict, random_order, random_patterns
from labctl.rig import Rig

Which = Literal["mask", "scene"]

REST_S = 0.5
"""Least settling time while templates are taken. A display slower than this needs its `settle_s` in the rig file."""

REPEATS = 4
"""Template frames of each pattern."""

PART = 128
"""Exposures per plan; bounds memory."""

LONGEST_S = 0.1
"""Exposures are no longer than this, even when the frames become dim."""

FIRST_S = 1e-3
"""First trial of an exposure."""


@dataclass(frozen=True)
class Doubt:
    """A frame that does not show its pattern."""

    number: int
    """In the order of the proof."""

    frame_id: int
    asked: int
    previous: int
    verdict: Verdict


@dataclass(frozen=True)
class Proof:
    """What came of `pairs` patterns and frames."""

    which: Which
    pairs: int
    patterns: int
    settle_s: float
    exposure_s: float
    seconds: float
    """On the clock of the rig, which is virtual for a simulated one."""

    separation: float
    """Of the two most similar patterns, in standard deviations of a frame."""

    least_margin: float
    """Smallest lead of the right pattern over the next in any right frame; 0 when none is right."""

    largest_share: float
    """Largest share of the previous pattern in any right frame."""

    retakes: int
    doubts: tuple[Doubt, ...]

    @property
    def pairs_per_s(self) -> float:
        """Patterns shown and frames taken per second."""
        return self.pairs / self.seconds if self.seconds > 0 else float("inf")

    def count(self, word: str) -> int:
        """How many frames were found to be `stale`, `torn` or `wrong`."""
        return sum(doubt.verdict.word == word for doubt in self.doubts)


def measure_templates(
    rig: Rig, which: Which, patterns: FloatArray, exposure: Exposure, *, repeats: int = REPEATS
) -> Templates:
    """Templates of (P, H, W) patterns on the mask or the scene display, each given at least `REST_S` to settle.

    The other display shows what lets every pattern leave its trace: see `other_picture`. Raises BadInput when two
    patterns cannot be told apart.
    """
    shown = np.repeat(np.arange(len(patterns)), repeats)
    devices = rig.devices()
    with settling(_display(devices, which), max(REST_S, 2 * _display(devices, which).settle_s)):
        frames = join_frames([*_frames(rig, which, patterns, shown, exposure)])
    return Templates(frames.pixels.reshape(len(patterns), repeats, -1, frames.pixels.shape[-1]).astype(np.float64))


def prove(
    rig: Rig,
    which: Which = "mask",
    *,
    pairs: int = 1000,
    patterns: int = 16,
    seed: int = 0,
    settle_s: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Proof:
    """Show random patterns in random order by `Rig.stream`, and judge every frame.

    settle_s: in place of the settling time of the display; 0 shows what the waiting is good for. Raises BadInput when
    the patterns cannot be told apart on this rig.
    """
    if pairs < 1 or patterns < 2:
        raise BadInput(f"{pairs} pairs of {patterns} patterns are asked for; at least 1 of 2 is needed")
    devices = rig.devices()
    if which == "scene":
        rig.spec.require(("scene",), "a proof of scene patterns")
    display = _display(devices, which)
    rng = np.random.default_rng(seed)
    pictures = random_patterns(patterns, seen_grid(rig, which), rng)
    exposure = _exposure(rig, which, pictures)
    templates = measure_templates(rig, which, pictures, exposure)
    order = random_order(pairs, patterns, rng)
    retakes, judged, doubts = len(rig.retakes), [], []
    with settling(display, display.settle_s if settle_s is None else settle_s):
        used_s, begun_s, previous = display.settle_s, devices.clock.now(), patterns - 1
        for number, frame in enumerate(_frames(rig, which, pictures, order, exposure)):
            asked = int(order[number])
            verdict = templates.judge(frame, asked, previous)
            judged.append(verdict)
            if verdict.word != "right":
                doubts.append(Doubt(number, int(frame.frame_ids[0]), asked, previous, verdict))
            previous = asked
            progress(number + 1, pairs)
        seconds = devices.clock.now() - begun_s
    right = [verdict for verdict in judged if verdict.word == "right"]
    return Proof(
        which=which,
        pairs=len(judged),
        patterns=patterns,
        settle_s=used_s,
        exposure_s=exposure.exposure_s,
        seconds=seconds,
        separation=templates.separation,
        least_margin=min((verdict.match.margin for verdict in right), default=0.0),
        largest_share=max((verdict.previous_share for verdict in right), default=0.0),
        retakes=len(rig.retakes) - retakes,
        doubts=tuple(doubts),
    )


def seen_grid(rig: Rig, which: Which) -> tuple[int, int]:
    """(H, W) of the design or scene grid that fills what the camera sees of a display: the field stop, the view."""
    twin, roads, devices = rig.spec.twin, rig.spec.roads, rig.devices()
    if which == "mask":
        seen_px, side_px = getattr(getattr(twin, "panel", None), "stop_px", None), roads.mask.cell_px
    else:
        seen_px, side_px = getattr(getattr(twin, "monitor", None), "view_px", None), roads.scene.pixel_px
    rows, columns = seen_px or _display(devices, which).shape
    return rows // side_px, columns // side_px


def other_picture(shape: tuple[int, int]) -> FloatArray:
    """(H, W): a bright square in the middle, a quarter as wide. An even field would wash all patterns into one grey."""
    picture = np.zeros(shape)
    rows, columns = (max(side // 4, 1) for side in shape)
    top, left = (shape[0] - rows) // 2, (shape[1] - columns) // 2
    picture[top : top + rows, left : left + columns] = 1.0
    return picture


@contextlib.contextmanager
def settling(display: Display, settle_s: float) -> Iterator[None]:
    """Another settling time for a while."""
    before = display.settle_s
    display.settle_s = settle_s
    try:
        yield
    finally:
        display.settle_s = before


def _exposure(rig: Rig, which: Which, pictures: FloatArray) -> Exposure:
    low_s, high_s = rig.devices().camera.exposure_limits_s
    shape = _frame_shape(rig)

    def take(exposure_s: float) -> Frames:
        asked = Exposure(exposure_s=exposure_s, roi=shape)
        return next(_frames(rig, which, pictures, np.zeros(1, dtype=np.int64), asked))

    time_s = filling_exposure(take, (low_s, max(low_s, min(high_s, LONGEST_S))), start_s=FIRST_S)
    return rig.devices().camera.configure(Exposure(exposure_s=time_s, roi=shape))


def _frame_shape(rig: Rig) -> tuple[int, int] | None:
    """The part of the sensor that a capture would read; None, all of it, without a scene display."""
    if rig.devices().scene is None:
        return None
    rows, columns = rig.spec.twin.frame_shape(seen_grid(rig, "mask"), seen_grid(rig, "scene"))
    return rows, columns


def _frames(
    rig: Rig, which: Which, pictures: FloatArray, shown: npt.NDArray[np.int64], exposure: Exposure
) -> Iterator[Frames]:
    """Frames of `pictures[shown]`, one by one, by the ordinary road."""
    for start in range(0, len(shown), PART):
        part = pictures[shown[start : start + PART]][:, None]
        if which == "mask":
            masks, scenes = part, _other_scenes(rig, len(part))
        else:
            masks, scenes = other_picture(seen_grid(rig, "mask"))[None, None], part[:, None]
        yield from rig.stream(ExposurePlan(scenes, masks, exposure, start + np.arange(len(part))))


def _other_scenes(rig: Rig, n: int) -> FloatArray | Literal["live"]:
    if rig.devices().scene is None:
        return "live"
    scene = other_picture(seen_grid(rig, "scene"))
    return np.broadcast_to(scene, (n, 1, 1, *scene.shape))


def _display(devices: RigDevices, which: Which) -> Display:
    found = devices.mask if which == "mask" else devices.scene
    assert found is not None
    return found
