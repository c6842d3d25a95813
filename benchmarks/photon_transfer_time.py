"""How long photon transfer takes on ladders of a large sensor, with a profile, beside the floor, in one run.

    python benchmarks/photon_transfer_time.py [--shape 1200 1920] [--rungs 12] [--frames 4]

The ladder is made of a sensor with known gain, rung by rung, and both are timed on the very same frames: the sums of
the estimator, and numpy's mean and variance over each stack, which is the least that one would write. Making the frames
is not counted. The peak memory that each allocates is told, too.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from protocols.calibrate.emva import BLOCK, Rung, linearity, photon_transfer, rung_of

Pixels = npt.NDArray[np.uint16]

GAIN, READ_NOISE_E, FULL_WELL_E, BLACK_DN, TOP_DN = 0.4, 3.0, 10_000.0, 150.0, 4095
PRNU = 0.01
RATE_E = FULL_WELL_E
"""Electrons per second: a ladder of one second."""


def ladder(shape: tuple[int, int], rungs: int, frames: int, seed: int = 0) -> Iterator[tuple[str, float, Pixels]]:
    """(name, exposure, frames (n, h, w)) of a dark rung, of `rungs` rungs, and of an over-exposed one."""
    rng = np.random.default_rng(seed)
    response = 1 + PRNU * rng.standard_normal(shape, dtype=np.float32)
    fills = np.linspace(0.03, 0.9, rungs)
    for name, exposure_s in [("dark", 0.0), *(("rung", float(fill)) for fill in fills), ("over", 3.0)]:
        yield name, exposure_s, np.stack([_frame(response, exposure_s, rng) for _ in range(frames)])


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, default=(1200, 1920))
    parser.add_argument("--rungs", type=int, default=12)
    parser.add_argument("--frames", type=int, default=4)
    asked = parser.parse_args()
    shape = (asked.shape[0], asked.shape[1])
    profile = cProfile.Profile()
    spent = {"estimator": 0.0, "floor": 0.0}
    found: dict[str, list[Rung]] = {"dark": [], "rung": [], "over": []}
    peaks: dict[str, float] = {}
    for number, (name, exposure_s, frames) in enumerate(ladder(shape, asked.rungs, asked.frames)):
        if number == 1:  # the first rung is measured for memory only: tracing slows everything down
            peaks = {
                "estimator": _peak(lambda f=frames: rung_of(f, 1.0, TOP_DN)),
                "floor": _peak(lambda f=frames: _floor(f)),
            }
        order = ("estimator", "floor") if number % 2 else ("floor", "estimator")
        for which in order:
            began = time.perf_counter()
            if which == "floor":
                _floor(frames)
            else:
                profile.enable()
                found[name].append(rung_of(frames, exposure_s, TOP_DN))
                profile.disable()
            spent[which] += time.perf_counter() - began
    began = time.perf_counter()
    profile.enable()
    dark, over = found["dark"][0], found["over"][0]
    transfer = photon_transfer(found["rung"], dark, over)
    signal = np.array([rung.mean_dn - dark.mean_dn for rung in found["rung"]])
    line = linearity(
        [rung.exposure_s for rung in found["rung"]],
        signal,
        [rung.mean_error_dn for rung in found["rung"]],
        signal < 0.95 * transfer.full_well_dn,
    )
    profile.disable()
    spent["estimator"] += time.perf_counter() - began
    pixels = (asked.rungs + 2) * asked.frames * shape[0] * shape[1]
    megabytes = 2 * pixels / 2**20
    _say(f"{asked.rungs + 2} rungs of {asked.frames} frames of {shape[1]}x{shape[0]} px: {megabytes:.0f} MiB of frames")
    for which, seconds in spent.items():
        _say(
            f"{which:10s} {seconds:7.3f} s  {1e9 * seconds / pixels:6.2f} ns per pixel  "
            f"peak memory beside one stack {peaks[which]:8.1f} MiB"
        )
    _say(f"estimator / floor: {spent['estimator'] / spent['floor']:.2f}; blocks of {BLOCK} pixels")
    _say(
        f"gain {transfer.gain_dn_per_e:.5f} ± {transfer.gain_error:.5f} DN/e- (true {GAIN}), read noise "
        f"{transfer.read_noise_e:.4f} ± {transfer.read_noise_e_error:.4f} e- (true {READ_NOISE_E}), linearity error "
        f"{'none' if line is None else f'{line.error:.1e}'}"
    )
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(10)
    _say("\nwhere the estimator's time goes:")
    _say("\n".join(row for row in text.getvalue().splitlines() if row.strip())[:2500])


def _frame(response: npt.NDArray[np.float32], exposure_s: float, rng: np.random.Generator) -> Pixels:
    """Shot noise as a normal number: at a million pixels a second no other is made in time, and nobody can tell."""
    electrons = response * np.float32(RATE_E * exposure_s)
    noise = np.sqrt(electrons, dtype=np.float32) * rng.standard_normal(response.shape, dtype=np.float32)
    electrons = np.minimum(electrons + noise, np.float32(FULL_WELL_E))
    electrons += np.float32(READ_NOISE_E) * rng.standard_normal(response.shape, dtype=np.float32)
    return np.clip(np.rint(GAIN * electrons + BLACK_DN), 0, TOP_DN).astype(np.uint16)


def _floor(frames: Pixels) -> tuple[float, float]:
    return float(frames.mean(axis=0).mean()), float(frames.var(axis=0, ddof=1).mean())


def _peak(work: object) -> float:
    """MiB that numpy allocates at most while `work` runs."""
    tracemalloc.start()
    try:
        work()  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
