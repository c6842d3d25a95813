"""How long the estimator of registration takes on a large sensor, where the time goes, and next to what floor.

    python benchmarks/registration_time.py [--frames 8] [--shape 1200 1920] [--dots 12 20] [--spacing 80] [--rounds 3]

Synthetic frames of a grid of dots of known places, with photon and read noise, as `registration` gets them after dark,
closed mask and flat are taken off. Timed: width of the dots (once), places of all dots of all frames, geometry. The
floor is `scipy.ndimage.center_of_mass` on the same windows, round the same brightest pixels, which knows neither noise,
neighbours nor background; what it finds is scored beside. Frames are made before the clock starts.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protocols.calibrate.dot_geometry import Geometry, Plane, fit_geometry
from protocols.calibrate.dots import Spot, brightest_near, fit_dots, fit_sigma

Array = npt.NDArray[np.float64]

SHIFT, TURN, SCALE, SIGMA = np.array([1.37, -0.83]), 0.011, 1.007, 1.9
CELL_PX, LIGHT_DN, GROUND_DN, READ_DN = 6.0, 40_000.0, 30.0, 2.0
PLANE = Plane(distance_px=60_000.0, gap_px=2_400.0, radius_px=1_100.0)


@dataclass(frozen=True)
class Case:
    """Frames (n, h, w), where the dots nominally are (k, 2) and truly are (n, k, 2), and the source (n, 2)."""

    frames: Array
    nominal: Array
    true: Array
    source: Array


def made(frames: int, shape: tuple[int, int], dots: tuple[int, int], spacing: float, seed: int = 1) -> Case:
    """Synthetic frames; the source moves from frame to frame."""
    stream = np.random.default_rng(seed)
    rows, columns = ((np.arange(n) - (n - 1) / 2) * spacing for n in dots)
    nominal = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    source = np.concatenate([np.zeros((1, 2)), stream.integers(-4, 5, (frames - 1, 2))]).astype(float)
    turn = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
    true = SHIFT + SCALE * nominal @ turn.T + source[:, None, :]
    spot = Spot(CELL_PX, SIGMA)
    reach = spot.reach_px + 4
    images = np.empty((frames, *shape))
    for image, places in zip(images, true, strict=True):
        image[:] = GROUND_DN
        for place in places + (np.array(shape) - 1) / 2:
            corner = np.round(place).astype(int) - reach
            at = [corner[axis] + np.arange(2 * reach + 1) for axis in (0, 1)]
            shapes = [spot.profile(at[axis] - place[axis])[0] for axis in (0, 1)]
            image[at[0][0] : at[0][-1] + 1, at[1][0] : at[1][-1] + 1] += LIGHT_DN * np.outer(*shapes)
        image += stream.normal(0, 1, shape) * np.sqrt(0.4 * image + READ_DN**2)
    return Case(images, nominal, true, source)


def estimate(case: Case) -> tuple[Geometry, Array]:
    """What `registration` does with these frames: (geometry, places (n, k, 2))."""
    spot = Spot(CELL_PX, 1.0)
    nominal, source, seen, error, places = [], [], [], [], []
    for number, (frame, place) in enumerate(zip(case.frames, case.source, strict=True)):
        guesses = brightest_near(frame, case.nominal + place, search_px=25, sigma_px=CELL_PX / 2)
        variance = 0.4 * frame.clip(0) + READ_DN**2
        if number == 0:
            spot, _ = fit_sigma(frame, variance, guesses, spot)
        dots = fit_dots(frame, variance, guesses, spot)
        nominal.append(case.nominal[dots.seen])
        source.append(np.broadcast_to(place, nominal[-1].shape))
        seen.append(dots.place[dots.seen])
        error.append(dots.error[dots.seen])
        places.append(dots.place)
    joined = [np.concatenate(parts) for parts in (nominal, source, seen, error)]
    return fit_geometry(*joined, source_pitch_px=1.0, plane=PLANE), np.stack(places)


def floor(case: Case) -> Array:
    """(n, k, 2) centres of mass of the same windows, the median of the frame taken off."""
    from scipy.ndimage import center_of_mass

    reach = Spot(CELL_PX, SIGMA).reach_px
    places = np.empty_like(case.true)
    middle = (np.array(case.frames.shape[1:]) - 1) / 2
    for frame, place, out in zip(case.frames, case.source, places, strict=True):
        start = brightest_near(frame, case.nominal + place, search_px=25, sigma_px=CELL_PX / 2)
        for number, guess in enumerate(start + middle):
            top, left = np.round(guess).astype(int) - reach
            window = frame[top : top + 2 * reach + 1, left : left + 2 * reach + 1] - GROUND_DN
            out[number] = np.array(center_of_mass(window)) + np.array([top, left]) - middle
    return places


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--shape", type=int, nargs=2, default=(1200, 1920))
    parser.add_argument("--dots", type=int, nargs=2, default=(12, 20))
    parser.add_argument("--spacing", type=float, default=80.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    case = made(asked.frames, tuple(asked.shape), tuple(asked.dots), asked.spacing)
    estimate(case), floor(case)  # imports and caches
    ours, theirs = [], []
    for _ in range(asked.rounds):
        began = time.perf_counter()
        geometry, places = estimate(case)
        between = time.perf_counter()
        masses = floor(case)
        ours.append(between - began)
        theirs.append(time.perf_counter() - between)
    size = f"{asked.frames} frames of {asked.shape[1]}x{asked.shape[0]}, {asked.dots[1]}x{asked.dots[0]} dots each"
    lines = [
        f"{size}; best of {asked.rounds}",
        f"estimator       {min(ours):7.3f} s   RMS error of a dot {_rms(places - case.true):.4f} px",
        f"center_of_mass  {min(theirs):7.3f} s   RMS error of a dot {_rms(masses - case.true):.4f} px",
        f"times the floor {min(ours) / min(theirs):7.1f}",
        f"shift off by {np.abs(geometry.shift_px - SHIFT).max():.5f} px, rotation by "
        f"{geometry.rotation_rad - TURN:+.1e} rad, scale by {geometry.scale - SCALE:+.1e}; "
        f"{int(geometry.used.sum())} dots, kept: {geometry.kept or 'none'}",
        "",
        _profile(case),
    ]
    print("\n".join(lines))  # noqa: T201


def _rms(off: Array) -> float:
    return float(np.sqrt((off**2).mean()))


def _profile(case: Case) -> str:
    profile = cProfile.Profile()
    profile.runcall(estimate, case)
    text = io.StringIO()
    stats = pstats.Stats(profile, stream=text).strip_dirs()
    stats.sort_stats("tottime").print_stats(12)
    return text.getvalue().split("\n\n", 2)[-1].strip()


if __name__ == "__main__":
    main()
