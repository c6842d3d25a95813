"""Frames that were taken alike: only those may be averaged, merged, or subtracted from one another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.frames.corrections import mean_frame
from labctl.frames.store import FrameStore

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

SAME = {
    "mask_hash": "masks",
    "gain_db": "gains (dB)",
    "black_level_dn": "black levels (DN)",
    "saturation_dn": "saturation levels (DN)",
}
"""What all frames that become one have in common, and how it is called. The exposure is that of the rung."""


BLACK_TREMBLES_DN = 1.0
"""By how much the black level may differ between frames that count as alike: it is measured anew for every capture."""


def alike(name: str, values: Iterable[Any]) -> bool:
    """Whether values of the record column `name` count as one."""
    known = set(values)
    if name == "black_level_dn" and None not in known and not any(np.isnan(value) for value in known):
        return bool(max(known) - min(known) <= BLACK_TREMBLES_DN)
    return len(known) <= 1 or all(value != value for value in known)


def exposure_key(exposure_s: float) -> float:
    """Exposure to 4 digits: what a camera reads back may tremble."""
    return float(f"{exposure_s:.4g}")


def exposure_keys(store: FrameStore) -> npt.NDArray[np.float64]:
    """(N,) `exposure_key` of every frame."""
    values, which = np.unique(store.column("exposure_s"), return_inverse=True)
    keys: npt.NDArray[np.float64] = np.array([exposure_key(value) for value in values], dtype=np.float64)[which]
    return keys


def check_alike(store: FrameStore, places: IntArray, starts: IntArray) -> None:
    """Raise BadInput where frames that shall become one were not taken alike.

    places: frames, group after group; starts: (G + 1,) where each group begins in `places`, with the end. In a group
    all of `SAME` is equal, and so is the exposure within each rung: to average over anything else, or to scale it by
    exposure, gives a light that no pixel saw.
    """
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    rung = store.column("rung")[places]
    order = np.lexsort((rung, group))
    neighbours = np.diff(group[order]) == 0
    columns = {said: store.column(name)[places] for name, said in SAME.items()}
    columns[SAME["black_level_dn"]] = _steady(columns[SAME["black_level_dn"]])
    for said, values in (*columns.items(), ("exposures (s)", exposure_keys(store)[places])):
        _, codes = np.unique(values, return_inverse=True)
        differ = neighbours & (np.diff(codes.reshape(-1)[order]) != 0)
        if said == "exposures (s)":
            differ &= np.diff(rung[order]) == 0
        if differ.any():
            at = int(np.flatnonzero(differ)[0])
            one, other = values[order[at]], values[order[at + 1]]
            sample = int(store.column("sample_id")[places[order[at]]])
            raise BadInput(
                f"{store.where}: the frames of sample {sample} have different {said}, {_short(one)} and "
                f"{_short(other)}; only frames taken alike can become one: take them apart (separate rungs, no "
                "average), or learn from the sets that they came from"
            )


def _steady(black_dn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Black levels that lie within `BLACK_TREMBLES_DN` of the next one, all put to the lowest of them."""
    levels, which = np.unique(black_dn, return_inverse=True)
    first = np.concatenate([[True], ~(np.diff(levels) <= BLACK_TREMBLES_DN)]) if len(levels) else np.empty(0, bool)
    return np.asarray(levels[np.maximum.accumulate(np.where(first, np.arange(len(levels)), 0))][which.reshape(-1)])


class Offsets:
    """frames: (K, C, h, w) mean frames to subtract; which: (n,) which of them belongs to every frame."""

    def __init__(self, frames: FloatArray, which: IntArray) -> None:
        self.frames, self.which = frames, which

    @classmethod
    def of(cls, store: FrameStore, places: IntArray, kind: Literal["dark", "background"]) -> Offsets:
        """Means of the dark frames, or backgrounds, that were taken like each of the frames `places`.

        At the same exposure and gain, a background through the same mask too. Raises BadInput where there are none.
        """
        keys, taken = _keys(store, kind), _taken(store, kind)
        number: dict[tuple[Any, ...], int] = {}
        for key in dict.fromkeys(keys[place] for place in places.tolist()):
            if key not in taken:
                through = f" through mask {key[2][:12]}" if kind == "background" else ""
                raise BadInput(
                    f"{store.where} has no {kind} frame at {key[0]:g} s and {key[1]:g} dB{through}; capture some "
                    f"({kind}_every), or do without"
                )
            number[key] = len(number)
        means = [mean_frame(store.parts(taken[key])) for key in number]
        which = np.array([number[keys[place]] for place in places.tolist()], dtype=np.int64)
        return cls(np.stack(means) if means else np.empty((0, *store.header.frame_shape), np.float32), which)


def has_darks(store: FrameStore, places: IntArray) -> bool:
    """Whether the set has a dark frame at the exposure and gain of every one of the frames `places`."""
    keys = _keys(store, "dark")
    return {keys[place] for place in places.tolist()} <= set(_taken(store, "dark"))


def _keys(store: FrameStore, kind: Literal["dark", "background"]) -> list[tuple[Any, ...]]:
    columns = [exposure_keys(store).tolist(), store.column("gain_db").tolist()]
    if kind == "background":
        columns.append(store.column("mask_hash").tolist())
    return list(zip(*columns, strict=True))


def _taken(store: FrameStore, kind: Literal["dark", "background"]) -> dict[tuple[Any, ...], list[int]]:
    keys = _keys(store, kind)
    taken: dict[tuple[Any, ...], list[int]] = {}
    for place in store.select(kind=kind).tolist():
        taken.setdefault(keys[place], []).append(place)
    return taken


def _short(value: Any) -> str:
    return (value[:12] or "unknown") if isinstance(value, str) else f"{value:g}"
