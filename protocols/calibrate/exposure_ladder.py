"""A ladder of exposures of an evenly lit sensor, up and down again: every rung summed up as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labctl.errors import HardwareError
from protocols.calibrate import emva
from protocols.calibrate.lamp_drift import Drift, drift_of

if TYPE_CHECKING:
    from protocols.calibrate.bench import Bench, Pixels

FloatArray = npt.NDArray[np.float64]

HALF = 0.5
"""Of the saturation capacity: where EMVA 1288 measures PRNU."""

PLATEAU = 3.0
"""Times the exposure that would saturate the brightest pixels: then all do, those in the corners too."""

KEPT_BYTES = 64 << 20
"""Larger ladders keep of their raw frames the first pair of every rung."""


@dataclass
class Ladder:
    """Everything that was summed up. visits: (when, number of the rung, what it says), in the order in which they came.

    half, half_frames: mean frame (h, w) of the rung nearest to half of the range, and of how many frames; 0: none.
    """

    visits: list[tuple[float, int, emva.Rung]]
    dark: emva.Rung
    plateau: emva.Rung
    half: FloatArray
    half_frames: int
    rungs: list[emva.Rung] = field(init=False)

    def __post_init__(self) -> None:
        numbers = sorted({number for _, number, _ in self.visits})
        self.rungs = []
        for number in numbers:
            mine = [rung for _, other, rung in self.visits if other == number]
            merged = mine[0]
            for rung in mine[1:]:
                merged = emva.both(merged, rung)
            self.rungs.append(merged)

    @property
    def capacity_dn(self) -> float:
        """What over-exposed pixels reach above black."""
        return self.plateau.mean_dn - self.dark.mean_dn

    @property
    def free(self) -> list[bool]:
        """Of every rung, whether it lies between dark and saturation."""
        return [
            rung.top_share <= emva.CLIPPED
            and 0 < rung.mean_dn - self.dark.mean_dn <= emva.LINEAR_SHARES[1] * self.capacity_dn
            for rung in self.rungs
        ]

    def drift(self) -> Drift | None:
        """By unsaturated rungs."""
        free = self.free
        kept = [(when, number, rung) for when, number, rung in self.visits if free[number]]
        if not kept:
            return None
        when, number, rungs = zip(*kept, strict=True)
        rate = [(rung.mean_dn - self.dark.mean_dn) / rung.exposure_s for rung in rungs]
        error = [rung.mean_error_dn / rung.exposure_s for rung in rungs]
        return drift_of(when, number, rate, error)

    def table(self) -> dict[str, FloatArray]:
        """Columns of the ladder, for pictures: of every visit, in its order."""
        rungs = [rung for _, _, rung in self.visits]
        return {
            "visit": np.arange(len(rungs), dtype=np.float64),
            "exposure_s": np.array([rung.exposure_s for rung in rungs]),
            "signal_dn": np.array([rung.mean_dn - self.dark.mean_dn for rung in rungs]),
            "variance_dn2": np.array([rung.variance_dn2 for rung in rungs]),
            "top_share": np.array([rung.top_share for rung in rungs]),
        }


def climb(
    bench: Bench, *, fills: Sequence[float], exposures_s: Sequence[float], frames: int, dark_frames: int
) -> Ladder:
    """Take the ladder of a white scene through the open mask, up and down again, a dark and an over-exposed rung.

    fills: where the rungs stand, as share of saturation reached by the brightest pixels; exposures_s are taken instead
    where there are any. frames: of each visit; dark_frames: of the dark rung; an odd number takes one more. Raises
    HardwareError when the camera allows none of these exposures.
    """
    low_s, high_s = bench.exposure_limits_s
    frames, dark_frames = frames + frames % 2, dark_frames + dark_frames % 2
    black_dn = bench.built_on["dark"].value("black_level_dn")
    top = bench.saturation_dn
    if exposures_s:
        wanted = sorted(exposures_s)
        full_s = wanted[-1]
    else:
        full_s = bench.exposure_for(bench.white(), bench.open_mask(), fills[-1], black_dn=black_dn) / fills[-1]
        wanted = [fill * full_s for fill in sorted(fills)]
    wanted = [time_s for time_s in wanted if low_s <= time_s <= high_s]
    if not wanted:
        raise HardwareError(
            f"no rung of the ladder lies within the exposures of the camera, {low_s:g}..{high_s:g} s; change the light"
        )
    keep = (2 * len(wanted) * frames + dark_frames) * 2 * bench.frame_shape[0] * bench.frame_shape[1] <= KEPT_BYTES

    def take(name: str, scene: FloatArray, mask: FloatArray, exposure_s: float, count: int) -> tuple[Pixels, float]:
        pixels = bench.frames(name, scene, mask, exposure_s, repeats=2, keep=True)[0]
        if count > 2:
            pixels = np.concatenate(
                [pixels, bench.frames(name, scene, mask, exposure_s, repeats=count - 2, keep=keep)[0]]
            )
        return pixels, float(bench.took_s.mean())

    pixels, time_s = take("dark", bench.black(), bench.closed_mask(), low_s, dark_frames)
    dark = emva.rung_of(pixels, time_s, top)
    visits: list[tuple[float, int, emva.Rung]] = []
    clock = bench.rig.devices().clock
    best, nearest, half, half_frames = np.inf, -1, np.zeros(bench.frame_shape), 0
    for number in _up_and_down(len(wanted)):
        began = clock.now()
        pixels, time_s = take("ladder", bench.white(), bench.open_mask(), wanted[number], frames)
        rung = emva.rung_of(pixels, time_s, top)
        visits.append(((began + clock.now()) / 2, number, rung))
        away = abs((rung.mean_dn - dark.mean_dn) / (top - dark.mean_dn) - HALF)
        if number == nearest:
            half, half_frames = half + pixels.sum(axis=0, dtype=np.float64), half_frames + len(pixels)
        elif away < best and len(visits) <= len(wanted):
            best, nearest, half, half_frames = away, number, pixels.sum(axis=0, dtype=np.float64), len(pixels)
    pixels, time_s = take("over", bench.white(), bench.open_mask(), min(high_s, PLATEAU * full_s), frames)
    return Ladder(visits, dark, emva.rung_of(pixels, time_s, top), half / max(1, half_frames), half_frames)


def _up_and_down(rungs: int) -> Iterator[int]:
    yield from range(rungs)
    yield from reversed(range(rungs))
