"""Samples of a set as learning sees them: which frames make one, what is done to them, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.frames.alike import Offsets, check_alike
from labctl.frames.closed import closed_places
from labctl.frames.corrections import Merged, clipped, divide, flat_response, mean_frame, merge_rungs, subtract
from labctl.frames.fetching import fetch_all
from labctl.frames.record import Kind
from labctl.frames.store import PART_BYTES, FrameStore
from labctl.frozen import Frozen

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Words = npt.NDArray[np.str_]


class Choice(Frozen):
    """Which frames of a set; see `FrameStore.select`."""

    kind: Kind | None = "scene"
    split: int | str | None = None
    splitting: str | None = None
    label: str | None = None
    marked: bool | None = False


class Treatment(Frozen):
    """What is done to frames before they are learned from. Without any of it they are as they were measured."""

    dark: bool = False
    """Subtract the mean dark frame of the set, taken at the same exposure and gain."""

    background: bool = False
    """Subtract the mean background of the set, taken through the same mask too. It holds the dark signal already."""

    closed: bool = False
    """Subtract the frame of the same sample through the closed mask: light that leaks through the panel, and the dark
    signal. Samples without one are left out. Noise grows, up to the square root of 2."""

    flat: str | None = None
    """Divide by an even light: a `.npy` file of (h, w) or (C, h, w) DN above dark, or a captured set of one."""

    rungs: Literal["merge", "separate"] = "merge"
    """Exposures of a ladder: one sample, in DN of the first, left out where that one is; or each for itself."""

    average: bool = False
    """Repeats of a scene: one sample, their mean; else each for itself. Where a repeat clips, a mean is too low."""


class Rows(Protocol):
    """Samples by row, from wherever they are kept."""

    sample_ids: IntArray
    """(n,) place of the scene in its data source, -1 where there is none."""

    label_names: Words
    """(n,) '' where nobody knows."""

    splits: IntArray
    """(n,) 0 train, 1 val, 2 test, -1 none."""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""

    def fill(self, frames: npt.NDArray[Any], rows: Sequence[int] | IntArray) -> None:
        """Read the samples `rows` into frames, (len(rows), C, h, w), whose dtype must hold them."""


class Samples:
    """Samples of a set, read from its shards when asked for. Goes to worker processes as its address.

    Samples stand in the order of their first frame. Raises BadInput when the set has not what `treatment` needs, and
    when frames that shall become one sample were not taken alike (see `check_alike`).
    """

    clipped_pixels: int
    """Of what `fill` has made since this was opened: pixels that are lower bounds, since a frame clipped there that
    no shorter exposure makes up for. Frames as they were measured are not looked at."""

    def __init__(self, store: FrameStore, choice: Choice | None = None, treatment: Treatment | None = None) -> None:
        self.choice, self.treatment = choice or Choice(), treatment or Treatment()
        self.clipped_pixels = 0
        self._source, self._store = store.source, store
        store.check_ledger()
        chosen = store.select(**dict(self.choice))
        if self.treatment.closed:
            chosen = _with_closed(store, chosen)
        ladder = len(store.header.ladder) if self.treatment.rungs == "merge" else 1
        self._places, self._starts = _grouped(store, chosen, ladder, self.treatment)
        first = self._places[self._starts[:-1]]
        self.sample_ids: IntArray = store.column("sample_id")[first]
        self.label_names: Words = store.column("label_name")[first]
        self.splits: IntArray = store.splits(self.choice.splitting)[first]
        self._rungs: IntArray = store.column("rung")[self._places] if ladder > 1 else np.empty(0, dtype=np.int64)
        self._offsets = _offsets(store, self._places, self.treatment)
        self._closed = closed_places(store, self._places) if self.treatment.closed else None
        self._response = None if self.treatment.flat is None else read_flat(self.treatment.flat, self.frame_shape)
        self._levels = None if self.as_measured else _Levels(store, self._places)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.store.header.frame_shape

    @property
    def as_measured(self) -> bool:
        """Whether every sample is one frame that nothing is done to: uint16 then, else float32."""
        alone = len(self._places) == len(self)
        return alone and self._offsets is None and self._closed is None and self._response is None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest that holds the samples."""
        return np.dtype(np.uint16 if self.as_measured else np.float32)

    @property
    def store(self) -> FrameStore:
        """The set, opened once per process."""
        if self._store is None:
            self._store = FrameStore(self._source)
        return self._store

    def fill(self, frames: npt.NDArray[Any], rows: Sequence[int] | IntArray) -> None:
        """See `Rows.fill`; the frames are read in the order in which they lie on the disk.

        Raises RunFailed when one is damaged or gone.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if self.as_measured:
            self._fetch(frames, self._places[rows])
            return
        stops = np.cumsum(self._starts[rows + 1] - self._starts[rows])
        members = [np.arange(self._starts[row], self._starts[row + 1]) for row in rows]
        read = np.empty((int(stops[-1]) if len(rows) else 0, *self.frame_shape), dtype=np.uint16)
        closed = None if self._closed is None else np.empty_like(read)
        if len(rows):
            self._fetch(read, self._places[np.concatenate(members)])
            if closed is not None and self._closed is not None:
                self._fetch(closed, self._closed[np.concatenate(members)])
        for number, (own, stop) in enumerate(zip(members, stops, strict=True)):
            part = slice(stop - len(own), stop)
            frames[number] = self._measurement(read[part], own, None if closed is None else closed[part])

    def _measurement(
        self, frames: npt.NDArray[np.uint16], members: IntArray, closed: npt.NDArray[np.uint16] | None
    ) -> FloatArray:
        """(C, h, w) of the raw frames (k, C, h, w) of one sample. members: where they stand in `_places`."""
        levels = self._levels
        assert levels is not None  # frames as they were measured do not come here
        offsets = None if closed is None else closed.astype(np.float32)
        if self._offsets is not None:
            offsets = self._offsets.frames[self._offsets.which[members]]
        lights: npt.NDArray[Any] = frames
        if len(self._rungs) and len(members) > 1:
            begins = np.flatnonzero(self._rungs[members] == 0)
            ladders = [slice(*ends) for ends in pairwise([*begins.tolist(), len(members)])]
            merged = [
                levels.merge(frames[ladder], members[ladder], None if offsets is None else offsets[ladder])
                for ladder in ladders
            ]
            lights, lost = (np.stack(part) for part in zip(*merged, strict=True))
            offsets = None if offsets is None else offsets[begins]
        else:
            lost = levels.clipped(frames, members)
        self.clipped_pixels += int(np.count_nonzero(lost.any(axis=0)))
        if offsets is not None:
            lights = subtract(lights, offsets)
        measured = lights[0] if len(lights) == 1 else lights.mean(axis=0, dtype=np.float64).astype(np.float32)
        return measured if self._response is None else divide(measured, self._response)

    def _fetch(self, frames: npt.NDArray[Any], places: IntArray) -> None:
        store = self.store

        def fetch(number: int) -> None:
            frames[number] = store.frame(int(places[number]))

        fetch_all(fetch, np.argsort(places, kind="stable").tolist(), self._source)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}


def read_flat(where: str | Path, frame_shape: tuple[int, int, int]) -> FloatArray:
    """(C, h, w) `flat_response` of a `.npy` file (DN above dark), or of a captured set, whose dark frames are used.

    Raises BadInput when it cannot be read or does not fit the frames.
    """
    if str(where).endswith(".npy"):
        try:
            light = np.asarray(np.load(where, allow_pickle=False), dtype=np.float32)
        except (OSError, ValueError) as error:
            raise BadInput(f"the flat field {where} cannot be read: {error}; give another file") from error
    else:
        store = FrameStore.open(where)
        samples = Samples(store, treatment=Treatment(dark=True, rungs="separate"))
        light = mean_frame(_parts(samples))
    if light.shape not in (frame_shape, frame_shape[1:]):
        raise BadInput(f"the flat field {where} is {light.shape}, frames are {frame_shape}; give one of their size")
    return flat_response(np.broadcast_to(light, frame_shape))


def label_numbers(names: Words, class_names: Sequence[str], where: str) -> IntArray:
    """(n,) place of every name in `class_names`, -1 where the name is ''.

    Sources of data number their labels on their own; the name is what they share. Raises BadInput for one that is none
    of the classes.
    """
    number = {name: place for place, name in enumerate(class_names)}
    number.setdefault("", -1)
    found, back = np.unique(names, return_inverse=True)
    unknown = [str(name) for name in found if name not in number]
    if unknown:
        raise BadInput(
            f"{where} holds frames labelled {', '.join(unknown[:5])}; the classes are {', '.join(class_names[:10])}: "
            "choose frames by `label`, or name these classes too"
        )
    return np.array([number[name] for name in found.tolist()], dtype=np.int64)[back.reshape(-1)]


def class_names_of(store: FrameStore, names: Words) -> tuple[str, ...]:
    """The classes of a set: those of its header, then others that stand in its frames, sorted."""
    known = store.header.class_names
    return (*known, *sorted({str(name) for name in np.unique(names)} - {*known, ""}))


class _Levels:
    """What the records say of exposure, black and saturation of the frames `places`."""

    def __init__(self, store: FrameStore, places: IntArray) -> None:
        names = ("exposure_s", "black_level_dn", "saturation_dn")
        self._exposures, self._black, self._saturation = (store.column(name)[places] for name in names)

    def merge(self, frames: npt.NDArray[np.uint16], members: IntArray, offsets: FloatArray | None) -> Merged:
        """The rungs of one ladder as one frame."""
        black: Any = offsets
        if black is None:
            black = self._black[members[0]]
            if np.isnan(black):
                raise BadInput(
                    "the black level of these frames is not known, and their rungs cannot be merged without; ask for "
                    "`dark` or for separate rungs"
                )
        return merge_rungs(frames, self._exposures[members], black, float(self._saturation[members[0]]))

    def clipped(self, frames: npt.NDArray[np.uint16], members: IntArray) -> npt.NDArray[np.bool_]:
        """(k, C, h, w) where frames clip."""
        black, saturation = (column[members][:, None, None, None] for column in (self._black, self._saturation))
        return clipped(frames, black, saturation)


def _offsets(store: FrameStore, places: IntArray, treatment: Treatment) -> Offsets | None:
    asked = [name for name in ("dark", "background", "closed") if getattr(treatment, name)]
    if asked == ["dark", "background"]:
        raise BadInput("dark and background are both asked for; a background holds the dark signal: ask for one")
    if len(asked) > 1:
        raise BadInput(f"{' and '.join(asked)} are asked for; each holds the dark signal: ask for one")
    if not asked and treatment.flat is not None:
        text = "a flat field divides light, not the black level; ask for `dark` or `background` too, or `closed`"
        raise BadInput(text)
    if not treatment.dark and not treatment.background:
        return None
    return Offsets.of(store, places, "dark" if treatment.dark else "background")


def _with_closed(store: FrameStore, places: IntArray) -> IntArray:
    kept = places[closed_places(store, places) >= 0]
    if len(places) and not len(kept):
        raise BadInput(
            f"{store.where} has no frames through the closed mask; capture with `closed_mask: subtract`, or do without"
        )
    return kept


def _grouped(store: FrameStore, places: IntArray, ladder: int, treatment: Treatment) -> tuple[IntArray, IntArray]:
    """Frames in the order of their samples, repeats and rungs; and where every sample begins, with the end."""
    if not treatment.average and ladder == 1:
        return places, np.arange(len(places) + 1)
    sample, repeat, rung = (store.column(name)[places] for name in ("sample_id", "repeat", "rung"))
    alone = (store.column("kind")[places] != "scene") | (sample < 0)
    sample[alone] = -2 - places[alone]  # a sample of its own
    if ladder > 1:
        _, which = np.unique(np.stack([sample, repeat], axis=1), axis=0, return_inverse=True)
        begun = np.zeros(len(places), dtype=np.bool_)
        begun[which.reshape(-1)[rung == 0]] = True  # by ladder
        kept = alone | begun[which.reshape(-1)]
        places, sample, repeat, rung = (column[kept] for column in (places, sample, repeat, rung))
    key = [sample]
    if not treatment.average:
        key.append(repeat)
    if ladder == 1:
        key.append(rung)
    _, first, group = np.unique(np.stack(key, axis=1), axis=0, return_index=True, return_inverse=True)
    rank = first[group.reshape(-1)]
    order = np.lexsort((rung, repeat, rank))
    begins = np.flatnonzero(np.diff(rank[order], prepend=-1))
    places, starts = places[order], np.append(begins, len(places))
    check_alike(store, places, starts)
    return places, starts


def _parts(samples: Samples) -> Any:
    part = max(1, PART_BYTES // (2 * samples.store.header.frame_bytes))
    for start in range(0, len(samples), part):
        rows = np.arange(start, min(start + part, len(samples)))
        frames = np.empty((len(rows), *samples.frame_shape), dtype=np.float32)
        samples.fill(frames, rows)
        yield frames
