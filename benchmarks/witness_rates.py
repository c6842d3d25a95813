"""How many wrong frames a witness notices, and how many right ones it doubts.

    python benchmarks/witness_rates.py --rig sim --faults 500 --seed 0 [--witness twin] [--mask disc]

The scene display of an opened rig is made to show the wrong picture now and then, above its driver: it keeps the old
picture, shows the next one, parts of both, or both one after the other within the exposure. Scenes are the digits;
those from which the witness learns are not judged. After each fault comes a right frame.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

import labctl
from labctl.devices import Display, Levels
from labctl.exposure import Exposure, Frames, still_plan
from labctl.frames.witness import BlockWitness, measure_witness
from labctl.rig import Rig
from labctl.roads import FULL_LEVEL, MonitorRoad, to_device_plan
from labctl.study.analysis import wilson
from protocols.capture.exposures import white_exposure
from protocols.data import Digits
from protocols.twin_witness import twin_witness
from sim.designs.masks import Disc, Random

SCENE_PX = (63, 63)
CELLS = (32, 32)
FAULTS = ("stale", "torn", "swapped", "late", "unsettled")
CALIBRATION = {"templates": 64, "twin": 128}
PART = 256
DISTANCES = (0, 3, 10, 20, 40, 80, 160, math.inf)
SHARES = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
FIRST_IDS = {"exposure": 1 << 40, "witness": 1 << 41, "frames": 0}

MEANING = {
    "stale": "keeps the previous picture",
    "torn": "previous picture below a random row; share: of the rows",
    "swapped": "shows the next picture",
    "late": "changes during the exposure; share: of the exposure that sees the previous picture",
    "unsettled": "is not waited for; share: of the settling time that was not waited. Most of it is a reserve",
}


@dataclass
class Schedule:
    """What shall go wrong, frame by frame."""

    words: list[str]
    shares: npt.NDArray[np.float64]
    """Of the previous picture, for torn, late and unsettled frames."""

    @classmethod
    def draw(cls, faults: int, right: int, rng: np.random.Generator) -> Schedule:
        """`faults` of each kind in random order, each followed by a right frame, among `right` or more right ones."""
        kinds = rng.permutation(np.repeat(FAULTS, faults))
        spare = max(right - len(kinds), 0)
        words = rng.permutation([*kinds, *["right"] * spare])
        spread = ["right"]
        for word in words:
            spread += [str(word)] if word == "right" else [str(word), "right"]
        return cls(spread, rng.uniform(0, 1, len(spread)))


@dataclass
class FaultyShow:
    """`show` of a scene display, which does what the schedule says."""

    display: Display
    schedule: Schedule
    road: MonitorRoad
    settle_s: float
    pictures: Sequence[Levels] = ()
    """Of the part that is streamed, and the one after it."""

    first: int = 0
    _number: int = -1
    _standing: Levels | None = None

    def begin(self, first: int, pictures: Sequence[Levels]) -> None:
        """A new part, from frame `first` on."""
        self.pictures, self.first, self._number = pictures, first, -1

    def __call__(self, levels: Levels) -> float:
        """See `Display.show`. A picture that is shown again belongs to a frame that is taken again."""
        if self._number < 0 or not np.array_equal(levels, self.pictures[self._number]):
            self._number += 1
        word = self.schedule.words[self.first + self._number]
        share = float(self.schedule.shares[self.first + self._number])
        old = self._standing if self._standing is not None else levels
        if word == "stale":
            levels = old
        elif word == "swapped":
            levels = self.pictures[self._number + 1]
        elif word == "torn":
            levels = np.where(self._below(share), old, levels)
        elif word == "late":
            levels = mixed_light(levels, old, share, self.road)
        self._standing = levels
        self.display.settle_s = self.settle_s * (1 - share if word == "unsettled" else 1)
        return type(self.display).show(self.display, levels)

    def _below(self, share: float) -> npt.NDArray[np.bool_]:
        """(rows, 1) the last `share` of the rows of the scene, and all below."""
        rows, seen = self.display.shape[0], SCENE_PX[0] * self.road.pixel_px
        return np.arange(rows)[:, None] >= (rows + seen) / 2 - round(share * seen)


def mixed_light(new: Levels, old: Levels, share: float, road: MonitorRoad) -> Levels:
    """Levels of the light that an exposure gathers whose first `share` sees `old` and whose rest sees `new`."""
    light = (1 - share) * (new / FULL_LEVEL) ** road.gamma + share * (old / FULL_LEVEL) ** road.gamma
    return road.model_copy(update={"pixel_px": 1}).levels(light)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", default="sim")
    parser.add_argument("--faults", type=int, default=500, help="of each kind")
    parser.add_argument("--right", type=int, default=2000, help="right frames, at least")
    parser.add_argument("--witness", choices=sorted(CALIBRATION), default="templates")
    parser.add_argument("--mask", default="random", help="random, disc, or an npy file of 32x32 transmittances")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="of the rig, such as twin.monitor.response_s=0.004")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    mask = _mask(given.mask)
    images = np.asarray(Digits(type="digits").load(SCENE_PX).images)
    order = rng.permutation(len(images))
    known, unknown = np.split(order, [CALIBRATION[given.witness]])
    schedule = Schedule.draw(given.faults, given.right, rng)
    chosen = _never_twice(unknown, len(schedule.words) + 1, rng)
    with labctl.open_rig(given.rig, set=given.set) as rig:
        roi = rig.spec.twin.frame_shape(CELLS, SCENE_PX)
        time_s = white_exposure(rig, mask, SCENE_PX, roi, 0.9, first_id=FIRST_IDS["exposure"])
        exposure = Exposure(exposure_s=time_s, roi=roi)
        begun = time.perf_counter()
        witness = _witness(given.witness, rig, mask, exposure, images[known])
        measured_s = time.perf_counter() - begun
        begun = time.perf_counter()
        told, judging_s = [], 0.0
        for index, frame in enumerate(_frames(rig, mask, exposure, images[chosen], schedule)):
            before = time.perf_counter()
            previous = images[chosen[index - 1]] if index else None
            told.append(witness.judge(frame, images[chosen[index]], previous).word)
            judging_s += time.perf_counter() - before
        seconds = time.perf_counter() - begun
        retakes = len(rig.retakes)
    alike = sum(not witness.tells_apart(images[a], images[b]) for a, b in zip(chosen[1:], chosen[:-1], strict=True))
    limits = witness.thresholds
    lines = [
        f"rig {' '.join([given.rig, *given.set])}, mask {Path(given.mask).stem}; exposure {time_s:.4g} s",
        f"witness by {given.witness} and {len(known)} calibration scenes, in {measured_s:.1f} s",
        f"{len(told)} frames, {seconds:.0f} s, judging {1e3 * judging_s / len(told):.2f} ms each; {retakes} retakes",
        f"{len(witness.features.basis)} features; limits {limits.mismatch:.0f} (mismatch), {limits.sigmas:.1f} sigma"
        f" (mixtures); calibration scenes told apart: {witness.told_apart:.1%}",
        f"neighbouring scenes too alike to be told apart: {alike} of {len(chosen) - 1}",
        "",
        *_rates(schedule, told),
        "",
        *_severity("share", ("torn", "late", "unsettled"), schedule, told, schedule.shares, SHARES),
        "",
        *_severity(
            "distance", ("torn", "late"), schedule, told, _distances(witness, schedule, images[chosen]), DISTANCES
        ),
        "",
        *(f"{word}: {meaning}" for word, meaning in MEANING.items()),
        "distance: from a right frame, in standard deviations of a frame's noise; at 0 there is nothing to be seen",
    ]
    print("\n".join(lines))  # noqa: T201


def _mask(name: str) -> npt.NDArray[np.float32]:
    designs = {"random": Random(type="random"), "disc": Disc(type="disc")}
    mask = designs[name].build(CELLS, 0).mask().numpy() if name in designs else np.load(name)
    return np.asarray(mask, dtype=np.float32)


def _witness(
    kind: str, rig: Rig, mask: npt.NDArray[np.float32], exposure: Exposure, scenes: npt.NDArray[np.float32]
) -> BlockWitness:
    first_id = FIRST_IDS["witness"]
    if kind == "templates":
        return measure_witness(rig, mask, SCENE_PX, exposure, first_id=first_id, calibration_scenes=scenes)
    twin = rig.spec.twin.build(rig.spec.roads)
    return twin_witness(rig, twin, mask, SCENE_PX, exposure, first_id=first_id, calibration_scenes=scenes)


def _frames(
    rig: Rig,
    mask: npt.NDArray[np.float32],
    exposure: Exposure,
    scenes: npt.NDArray[np.float32],
    schedule: Schedule,
) -> Iterator[Frames]:
    devices = rig.devices()
    display = devices.scene
    assert display is not None
    faulty = FaultyShow(display, schedule, rig.spec.roads.scene, display.settle_s)
    display.show = faulty  # type: ignore[method-assign]
    total = len(schedule.words)
    for first in range(0, total, PART):
        last = min(first + PART, total)
        ids = FIRST_IDS["frames"] + np.arange(first, last + 1)
        plan = still_plan(scenes[first : last + 1], mask, exposure, exposure_ids=ids)
        shown = to_device_plan(plan, rig.spec.roads, devices.mask.shape, display.shape)
        faulty.begin(first, [levels[0] for index in range(len(plan)) if (levels := shown.scene_of(index)) is not None])
        yield from rig.stream(plan.part(0, last - first))


def _never_twice(pool: npt.NDArray[np.int64], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """`count` of `pool` in random order, no scene within five places of itself."""
    rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
    chosen = np.concatenate(rounds)[:count]
    for index in range(1, count):
        if chosen[index] in chosen[max(0, index - 5) : index]:
            chosen[index] = rng.choice(np.setdiff1d(pool, chosen[max(0, index - 5) : index + 6]))
    return chosen


def _rates(schedule: Schedule, told: Sequence[str]) -> list[str]:
    lines = ["| shown | frames | doubted | rate | 95 % interval (Wilson) | called |", "|---|---|---|---|---|---|"]
    for word in ("right", *FAULTS):
        called = Counter(said for asked, said in zip(schedule.words, told, strict=True) if asked == word)
        count, doubted = called.total(), called.total() - called["right"]
        low, high = wilson(doubted, count) if count else (0.0, 1.0)
        names = ", ".join(f"{name} {number}" for name, number in called.most_common())
        lines.append(
            f"| {word} | {count} | {doubted} | {doubted / max(count, 1):.4f} | {low:.4f}..{high:.4f} | {names} |"
        )
    return lines


def _severity(
    what: str,
    words: Sequence[str],
    schedule: Schedule,
    told: Sequence[str],
    values: npt.NDArray[np.float64],
    edges: Sequence[float],
) -> list[str]:
    bins = list(pairwise(edges))
    heads = " | ".join(f"{low:g}..{high:g}" for low, high in bins)
    lines = [f"Doubted, by {what}:", "", f"| shown | {heads} |", f"|---|{'---|' * len(bins)}"]
    for word in words:
        cells = []
        for low, high in bins:
            inside = [
                said != "right"
                for asked, said, value in zip(schedule.words, told, values, strict=True)
                if asked == word and low <= value < high
            ]
            cells.append(f"{sum(inside)}/{len(inside)}")
        lines.append(f"| {word} | {' | '.join(cells)} |")
    return lines


def _distances(witness: BlockWitness, schedule: Schedule, scenes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How far torn and late frames lie from right ones without noise, in standard deviations of a frame's noise."""
    responses = witness.responses
    light = responses.light_dn / witness.features.sigma_dn
    found = np.zeros(len(schedule.words))
    for index, (word, share) in enumerate(zip(schedule.words, schedule.shares, strict=True)):
        own, old = scenes[index, 0], scenes[index - 1, 0]
        if word == "torn":
            share = np.arange(SCENE_PX[0])[:, None] >= SCENE_PX[0] * (1 - share)
        if word in ("torn", "late"):
            found[index] = np.linalg.norm(responses.grid.means((share * (old - own))[None]) @ light)
    return found


if __name__ == "__main__":
    main()
