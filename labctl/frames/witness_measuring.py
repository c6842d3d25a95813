"""The exposures from which a witness learns: dark, noise, the response to every block, and calibration scenes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self, cast

import numpy as np

from labctl.errors import BadInput
from labctl.exposure import Exposure, FloatArray, Frames, join_frames, still_plan
from labctl.frames.witness_blocks import Bins, BlockGrid, BlockResponses, Dark, Noise
from labctl.rig import Rig
from labctl.sync_proof import settling

PART = 64
"""Exposures per plan; bounds memory."""

DARKS = 4
"""Dark frames at each of two exposure times."""

GREYS = 6
"""Frames of an even grey scene: how much they differ is the noise."""

GREY = 0.5
"""Its radiance: half of white, which an exposure search let stand just below saturation."""

LONGEST_FACTOR = 8.0
"""Blocks are dim: each is exposed so many times longer than a scene, unless it comes near saturation."""

LONGEST_S = 0.25
"""... and unless that were longer than so."""

BRIGHT = 0.6
"""Share of saturation that the middle block may reach: others may be brighter."""

HOT_SHARE = 0.002
"""Share of pixels that may be hot whatever the light."""


class Bench:
    """A rig with one mask, as a context in which its displays get at least `rest_s` to settle."""

    def __init__(
        self,
        rig: Rig,
        mask: FloatArray,
        exposure: Exposure,
        first_id: int,
        rest_s: float,
        planned: int,
        progress: Callable[[int, int], None],
    ) -> None:
        rig.spec.require(("mask", "scene", "camera"), "a witness")
        self.rig, self.mask, self.rest_s, self.planned = rig, mask, rest_s, planned
        self.exposure = rig.devices().camera.configure(exposure)
        rows, columns = self.exposure.roi or rig.devices().camera.shape
        self.bins = Bins((1, rows, columns))
        self.taken = 0
        self._next_id, self._progress = first_id, progress
        self._settled = contextlib.ExitStack()

    def take(self, scenes: FloatArray, exposure_s: float | None = None) -> Frames:
        """Frames of (N, 1, H, W) scenes in order, by the ordinary road."""
        exposure = self.exposure
        if exposure_s is not None:
            exposure = exposure.model_copy(update={"exposure_s": exposure_s})
        frames = []
        for start in range(0, len(scenes), PART):
            part = scenes[start : start + PART]
            ids = np.arange(self._next_id, self._next_id + len(part))
            self._next_id += len(part)
            plan = still_plan(part, self.mask, exposure, exposure_ids=ids)
            with contextlib.closing(cast("Generator[Frames]", self.rig.stream(plan))) as stream:
                for frame in stream:
                    frames.append(frame)
                    self.taken += 1
                    self._progress(self.taken, self.planned)
        return join_frames(frames)

    def __enter__(self) -> Self:
        devices = self.rig.devices()
        for display in (devices.mask, devices.scene):
            if display is not None:
                self._settled.enter_context(settling(display, max(self.rest_s, 2 * display.settle_s)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settled.close()


def settled_exposures(calibration_scenes: int) -> int:
    """Exposures of `measure_dark` and of so many calibration scenes."""
    return 2 * DARKS + GREYS + 1 + calibration_scenes


def measure_dark(bench: Bench, scene_shape: tuple[int, int]) -> tuple[Dark, Noise, float]:
    """Dark and noise of the bins, and a good exposure time for single blocks in seconds.

    Raises BadInput when the grey scene saturates.
    """
    block_s = _block_exposure(bench, scene_shape)
    low_s = bench.rig.devices().camera.exposure_limits_s[0]
    black = np.zeros((DARKS, 1, *scene_shape), dtype=np.float32)
    short, long = bench.take(black, low_s), bench.take(black, block_s)
    short_dn, long_dn = (bench.bins.values(frames)[0] for frames in (short, long))
    times_s = float(short.exposure_s[0]), float(long.exposure_s[0])
    rate = (long_dn.mean(axis=0) - short_dn.mean(axis=0)) / max(times_s[1] - times_s[0], 1e-9)
    dark = Dark(short_dn.mean(axis=0) - rate * times_s[0], rate)
    greys = bench.take(np.full((GREYS, 1, *scene_shape), GREY, dtype=np.float32))
    grey_dn, usable = bench.bins.values(greys)
    inside = usable.all(axis=0)
    if inside.mean() < 0.5:
        raise BadInput(
            f"half of the frame is saturated by a grey scene of radiance {GREY} at {bench.exposure.exposure_s:.3g} s; "
            "expose less"
        )
    pixels_per_bin = np.prod(bench.bins.frame_shape) / grey_dn.shape[1]
    rounding = 1 / 12 / float(pixels_per_bin)
    floor = max(float(short_dn.var(axis=0, ddof=1).mean()), rounding)
    light = (grey_dn.mean(axis=0) - dark.at(float(greys.exposure_s[0])))[inside]
    variance = float(grey_dn.var(axis=0, ddof=1)[inside].mean())
    return dark, Noise(floor, max(variance - floor, 0.0) / max(float(light.mean()), 1.0)), block_s


def measure_responses(bench: Bench, grid: BlockGrid, dark: Dark, block_s: float) -> BlockResponses:
    """Every block by itself, exposed for `block_s`. Raises BadInput when one saturates."""
    frames = bench.take(grid.patterns()[:, None], block_s)
    if float(frames.saturated_fraction.max()) > HOT_SHARE:
        raise BadInput(
            f"block {int(frames.saturated_fraction.argmax())} of the scene saturates "
            f"{float(frames.saturated_fraction.max()):.1%} of the frame by itself; expose less"
        )
    taken_s = float(frames.exposure_s[0])
    light = (bench.bins.values(frames)[0] - dark.at(taken_s)) * (bench.exposure.exposure_s / taken_s)
    return BlockResponses(grid, light, bench.exposure.exposure_s, bench.exposure.gain_db)


def _block_exposure(bench: Bench, scene_shape: tuple[int, int]) -> float:
    """From a frame of the middle ninth of the scene: longer is better for all that is dimmer."""
    rows, columns = scene_shape
    middle = np.zeros((1, 1, *scene_shape), dtype=np.float32)
    middle[..., rows // 3 : rows - rows // 3, columns // 3 : columns - columns // 3] = 1.0
    frame = bench.take(middle)
    bright = float(np.quantile(frame.pixels, 1 - HOT_SHARE))
    fits = BRIGHT * frame.saturation_dn / max(bright, 1.0)
    time_s = float(frame.exposure_s[0])
    limit_s = max(time_s, min(LONGEST_S, bench.rig.devices().camera.exposure_limits_s[1]))
    return min(max(time_s, time_s * min(fits, LONGEST_FACTOR)), limit_s)
