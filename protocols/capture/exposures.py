"""The exposure of a whole set, found from a few pilot frames: one time for all, never one per frame."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl.durable import write_json
from labctl.errors import BadInput, HardwareError, RunFailed
from labctl.exposure import Exposure, FloatArray, still_plan
from protocols.exposure_search import Pilot, search_exposure
from protocols.keys import EXPOSURES_PER_STEP, first_exposure_id
from protocols.splits import IntArray, spread

if TYPE_CHECKING:
    from labctl.rig import Rig
    from labctl.steps import StepContext
    from protocols.capture.step import Capture
    from protocols.data import ImageSet

PILOT_IDS = EXPOSURES_PER_STEP // 2
"""Pilots take exposure ids from here on, captured frames from 0."""

BLACK_IDS = PILOT_IDS + 2**16
"""Frames of the black level take exposure ids from here on."""

BLACK_FRAMES = 4

LIGHT_IDS = PILOT_IDS + 2**17
"""Frames by which light is looked for take exposure ids from here on."""

LIGHT_FRAMES = 8
"""Of each, white and black."""

LIGHT_SURE = 5.0
"""Light is there when it stands so many standard errors above none: 1 in 10 000 dead benches passes."""

WANTED_IDS = LIGHT_IDS + 2**10
"""Frames that tell wanted light from that which leaks take exposure ids from here on."""

EXPOSURE_FILE = "exposure.json"
"""Beside the frames of a capture: what was found before the first one."""

WITNESS_IDS = PILOT_IDS + EXPOSURES_PER_STEP // 4
CHECK_IDS = WITNESS_IDS + EXPOSURES_PER_STEP // 8
"""Sentinels beside the plan."""

HOT_SHARE = 0.002
"""Share of pixels that may stand at the top whatever the light: stuck ones must not shorten every exposure."""

TOLERANCE = 0.01
"""Relative error of an exposure time that is as good as right: noise moves the brightest pixels by as much."""

REFINEMENTS = 16
"""How often all pilot scenes are looked at, at most."""


@dataclass(frozen=True)
class SceneExposure:
    """What the pilot scenes gave: the exposure, where the brightest scene stands, and what still saturates."""

    exposure_s: float
    brightest_fill: float
    """Its brightest pixels but for HOT_SHARE, between black (0) and full scale (1)."""

    saturated_fraction: float
    """Share of the pixels of all pilot frames."""


def found_exposure(
    step: Capture, context: StepContext, mask: FloatArray, data: ImageSet, rows: IntArray, shape: tuple[int, int]
) -> tuple[Exposure, float]:
    """Exposure and black level (DN) of a capture of these rows, found once and kept in a file for when it is resumed.

    Of frames that the closed mask is taken off, the file also has what white gives without what leaks.
    """
    path, rig = context.folder / EXPOSURE_FILE, context.rig
    if path.exists():
        kept = json.loads(path.read_text())
        return Exposure(exposure_s=kept["exposure_s"], roi=shape), kept["black_level_dn"]
    first_id = first_exposure_id(context.content_hash)
    scene_px = (data.images.shape[-2], data.images.shape[-1])
    found: dict[str, Any] = {"how": str(step.exposure_s)}
    if step.exposure_s != "auto":
        exposure_s = step.exposure_s
    elif step.pilot == "white":
        exposure_s = white_exposure(rig, mask, scene_px, shape, step.fill, first_id=first_id + PILOT_IDS)
    else:
        scenes = np.asarray(data.images[rows[spread(len(rows), step.pilot_scenes)]], dtype=np.float32)
        pilot = scene_exposure(rig, mask, scenes, shape, step.fill, first_id=first_id + PILOT_IDS)
        exposure_s = pilot.exposure_s
        found |= {"brightest_fill": pilot.brightest_fill, "saturated_fraction": pilot.saturated_fraction}
        context.log(
            f"exposure {exposure_s:.4g} s from {len(scenes)} scenes: the brightest fills "
            f"{pilot.brightest_fill:.2f} of the sensor, {pilot.saturated_fraction:.3%} of all pixels saturate"
        )
    if step.exposure_s == "auto" and step.closed_mask == "subtract":
        ids, white_s = first_id + WANTED_IDS, exposure_s
        if step.pilot == "scenes":  # at which white would saturate
            white_s = white_exposure(rig, mask, scene_px, shape, step.fill, first_id=ids + 2 * LIGHT_FRAMES)
        found["wanted_white_dn_per_s"] = wanted_white(rig, mask, scene_px, shape, white_s, first_id=ids)
    black_dn = black_level(rig, mask.shape, scene_px, shape, first_id=first_id + BLACK_IDS)
    taken = rig.devices().camera.configure(Exposure(exposure_s=exposure_s, roi=shape))
    write_json(path, {"exposure_s": taken.exposure_s, "black_level_dn": black_dn, **found, "time": time.time()})
    return taken, black_dn


def black_level(
    rig: Rig, cells: tuple[int, ...], scene_px: tuple[int, int] | None, roi: tuple[int, int], *, first_id: int
) -> float:
    """Mean DN without light: mask of (H, W) `cells` closed, scene black, at the shortest exposure of the camera.

    scene_px: None for a live scene, which a closed mask hides. What a data sheet says of black is a wish: everything
    that is counted as light is counted from here.
    """
    exposure = Exposure(exposure_s=rig.devices().camera.exposure_limits_s[0], roi=roi)
    closed = np.zeros(cells, dtype=np.float32)
    ids = range(first_id, first_id + BLACK_FRAMES)
    scenes = None if scene_px is None else np.zeros((BLACK_FRAMES, 1, *scene_px), dtype=np.float32)
    plan = still_plan("live" if scenes is None else scenes, closed, exposure, exposure_ids=ids)
    return float(rig.expose(plan).pixels.mean())


def check_light(rig: Rig, mask: FloatArray, scene_px: tuple[int, int], exposure: Exposure, *, first_id: int) -> None:
    """Raise RunFailed when a white scene (H, W) through `mask` gives no more light than a black one.

    Mean DN over the frame, its error from how LIGHT_FRAMES frames of each scatter.
    """
    scenes = np.zeros((2 * LIGHT_FRAMES, 1, *scene_px), dtype=np.float32)
    scenes[:LIGHT_FRAMES] = 1.0
    plan = still_plan(scenes, mask, exposure, exposure_ids=range(first_id, first_id + len(scenes)))
    white, black = rig.expose(plan).pixels.mean(axis=(1, 2, 3), dtype=np.float64).reshape(2, LIGHT_FRAMES)
    light_dn = white.mean() - black.mean()
    error_dn = math.sqrt((white.var(ddof=1) + black.var(ddof=1)) / LIGHT_FRAMES)
    if light_dn <= LIGHT_SURE * error_dn:
        raise RunFailed(
            f"no light reaches the camera: at {exposure.exposure_s:.3g} s a white scene gives {light_dn:+.2g} DN more "
            f"than a black one, with an error of {error_dn:.2g}; look at the lamp, the lens cap, the scene display and "
            "the mask, then `labctl resume`; frames as dark as this need a run with `witness: none`"
        )


def white_exposure(
    rig: Rig, mask: FloatArray, scene_px: tuple[int, int], roi: tuple[int, int], fill: float, *, first_id: int
) -> float:
    """Exposure time at which a white scene through `mask` stands at `fill` between black and full scale.

    The level is the mean of the middle of the frame: a peak would grow with noise and hot pixels, and give another
    exposure than the twin would.
    """
    pilots = _Pilots(rig, mask, roi, first_id)
    white = np.ones((1, 1, *scene_px), dtype=np.float32)

    def pilot(exposure_s: float) -> Pilot:
        pixels = pilots.frames(white, exposure_s)[0]
        return Pilot(float(_middle(pixels).mean()), float(np.quantile(pixels, 1 - HOT_SHARE)))

    return pilots.search(pilot, pilots.dark_dn(scene_px), fill)


def wanted_white(
    rig: Rig, mask: FloatArray, scene_px: tuple[int, int], roi: tuple[int, int], exposure_s: float, *, first_id: int
) -> float:
    """DN per second that white gives through `mask`, less the same through the closed mask: middle of the frame.

    exposure_s: at which white does not saturate. Raises RunFailed when the mask lets through no more than it leaks.
    """
    white = np.ones((LIGHT_FRAMES, 1, *scene_px), dtype=np.float32)
    exposure, levels = Exposure(exposure_s=exposure_s, roi=roi), []
    for place, shown in enumerate((mask, np.zeros_like(mask))):
        ids = range(first_id + place * LIGHT_FRAMES, first_id + (place + 1) * LIGHT_FRAMES)
        taken = rig.expose(still_plan(white, shown, exposure, exposure_ids=ids))
        levels.append(_middle(taken.pixels[:, 0]).mean(axis=(1, 2), dtype=np.float64))
    wanted_dn = levels[0].mean() - levels[1].mean()
    error_dn = math.sqrt((levels[0].var(ddof=1) + levels[1].var(ddof=1)) / LIGHT_FRAMES)
    if wanted_dn <= LIGHT_SURE * error_dn:
        raise RunFailed(
            f"white through the mask gives {wanted_dn:+.2g} DN more than through the closed mask, with an error of "
            f"{error_dn:.2g}; {LIGHT_SURE:g} errors are needed: the panel does not modulate, or the mask is closed; "
            "look at its cable, polarisers and `labctl show`"
        )
    return float(wanted_dn / taken.exposure_s[0])


def exposure_beside(frames: Path) -> dict[str, Any]:
    """What the capture of the set `frames` found before its first frame; empty for a set that lies alone."""
    path = frames.parent / EXPOSURE_FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def scene_exposure(
    rig: Rig, mask: FloatArray, scenes: FloatArray, roi: tuple[int, int], fill: float, *, first_id: int
) -> SceneExposure:
    """Exposure time at which the brightest of `scenes` (N, 1, H, W) stands at `fill` between black and full scale.

    A scene stands where its brightest pixels do, but for HOT_SHARE of them. Searched with the scene that sends out the
    most light, then held against all: through a mask another one may be the brightest on the sensor. Raises
    HardwareError when that does not come to rest.
    """
    pilots = _Pilots(rig, mask, roi, first_id)
    dark_dn, top_dn = pilots.dark_dn(scenes.shape[-2:]), rig.devices().camera.saturation_dn
    target_dn = dark_dn + fill * (top_dn - dark_dn)
    low_s, high_s = rig.devices().camera.exposure_limits_s
    most_light = scenes[[int(scenes.mean(axis=(1, 2, 3)).argmax())]]

    def pilot(exposure_s: float) -> Pilot:
        top = float(np.quantile(pilots.frames(most_light, exposure_s), 1 - HOT_SHARE))
        return Pilot(top, top)

    exposure_s = pilots.search(pilot, dark_dn, fill)
    for _ in range(REFINEMENTS):
        frames = pilots.frames(scenes, exposure_s)
        brightest_dn = float(np.quantile(frames, 1 - HOT_SHARE, axis=(1, 2)).max())
        wanted_s = exposure_s * (0.5 if brightest_dn >= top_dn else (target_dn - dark_dn) / (brightest_dn - dark_dn))
        wanted_s = min(max(wanted_s, low_s), high_s)
        if abs(wanted_s / exposure_s - 1) <= TOLERANCE:
            saturated = float((frames >= top_dn).mean())
            return SceneExposure(exposure_s, (brightest_dn - dark_dn) / (top_dn - dark_dn), saturated)
        exposure_s = wanted_s
    raise HardwareError(f"no exposure found that holds for {len(scenes)} pilot scenes; is the light steady?")


def check_ladder(
    exposure_s: float, ladder: Sequence[float], limits_s: tuple[float, float], camera: str
) -> tuple[float, ...]:
    """Exposure times of all rungs in seconds. Raises BadInput when one is beyond the limits of the camera."""
    times = tuple(exposure_s * rung for rung in ladder)
    for rung, time_s in zip(ladder, times, strict=True):
        if not limits_s[0] <= time_s <= limits_s[1]:
            raise BadInput(
                f"rung {rung:g} of the ladder is an exposure of {time_s:.4g} s, {camera} allows "
                f"{limits_s[0]:g}..{limits_s[1]:g} s; take it away, or change exposure_s, fill or the light"
            )
    return times


def _middle(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Central quarter of frames (..., h, w)."""
    rows, columns = pixels.shape[-2:]
    return pixels[..., rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]


class _Pilots:
    """Frames of a search; every exposure has an id of its own, so that each has noise of its own."""

    def __init__(self, rig: Rig, mask: FloatArray, roi: tuple[int, int], first_id: int) -> None:
        self._rig, self._mask, self._roi = rig, mask, roi
        self._used = count(first_id)

    def frames(self, scenes: FloatArray, exposure_s: float) -> npt.NDArray[np.uint16]:
        """(n, h, w) DN of scenes (n, 1, H, W)."""
        ids = [next(self._used) for _ in range(len(scenes))]
        exposure = Exposure(exposure_s=exposure_s, roi=self._roi)
        return self._rig.expose(still_plan(scenes, self._mask, exposure, exposure_ids=ids)).pixels[:, 0]

    def dark_dn(self, scene_px: tuple[int, ...]) -> float:
        """Mean of a black scene at the shortest exposure."""
        black = np.zeros((1, 1, *scene_px), dtype=np.float32)
        return float(self.frames(black, self._rig.devices().camera.exposure_limits_s[0]).mean())

    def search(self, pilot: Callable[[float], Pilot], dark_dn: float, fill: float) -> float:
        """See `search_exposure`."""
        camera = self._rig.devices().camera
        return search_exposure(
            pilot,
            target_dn=dark_dn + fill * (camera.saturation_dn - dark_dn),
            dark_dn=dark_dn,
            top_dn=camera.saturation_dn,
            limits_s=camera.exposure_limits_s,
        )
