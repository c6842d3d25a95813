"""Reading a captured set, from a folder or from any address that fsspec knows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from labctl.errors import BadInput, RunFailed
from labctl.frames.header import SetHeader, parse_header
from labctl.frames.layout import FINISHED, GROUP, HEADER, LEDGER, MARKS, SPLITS, SPOOL
from labctl.frames.ledger import Ledger, parse_ledger
from labctl.frames.marks import Mark, marked
from labctl.frames.record import FrameRecord, Kind
from labctl.frames.shards import ARRAY, CHECKSUM_BYTES, checksum_bytes, crc32c, decode_frame, shard_name
from labctl.frames.source import FolderSource, Source, open_source

if TYPE_CHECKING:
    import zarr

    from labctl.frames.torch_data import FrameDataset

IntArray = npt.NDArray[np.int64]

PART_BYTES = 64 * 2**20
"""Of pixels that are held in memory at a time."""


class FrameStore:
    """A captured set, read only; also while somebody writes it, up to what is acknowledged.

    Every frame that is read is held against its checksum. `problems` says what is wrong with the ledger; the frames
    whose lines hold can still be read. Make one by `FrameStore.open`.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        text = source.read(HEADER)
        if text is None:
            raise BadInput(
                f"{source.where} is no captured set (it has no {HEADER}); give the folder of one, such as "
                "RUN/artifacts/capture/learned/seed0/frames"
            )
        self.header: SetHeader = parse_header(text, source.where)
        self._ledger: Ledger = parse_ledger(source.read(LEDGER) or b"")
        self.problems = self._ledger.problems
        self._columns: dict[str, npt.NDArray[Any]] = {}

    @classmethod
    def open(cls, where: str | Path, **options: Any) -> Self:
        """A folder, or an address such as `s3://bucket/set`. options: what fsspec needs to reach it.

        Raises BadInput when there is no set, or one of another schema.
        """
        return cls(open_source(where, **options))

    def __len__(self) -> int:
        return len(self._ledger)

    @property
    def where(self) -> str:
        """Folder or address."""
        return self.source.where

    @property
    def folder(self) -> Path:
        """The folder of a set on this machine. Raises BadInput for one behind an address."""
        if not isinstance(self.source, FolderSource):
            raise BadInput(f"{self.where} is not a folder on this machine; copy the set here first")
        return self.source.path

    @property
    def finished(self) -> bool:
        """Whether the writer said that no frame will follow."""
        return self.source.read(FINISHED) is not None

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        """What was found out about frames later."""
        lines = (self.source.read(MARKS) or b"").split(b"\n")[:-1]
        try:
            return tuple(Mark.model_validate_json(line) for line in lines if line.strip())
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise RunFailed(
                f"{self.where}: {MARKS} is damaged ({said}); restore it from a copy; see `labctl dataset verify`"
            ) from error

    @property
    def marked(self) -> npt.NDArray[np.bool_]:
        """(N,) True for frames that are in doubt."""
        return marked(self.marks, int(self._ledger.indices.max(initial=-1)) + 1)[self._ledger.indices]

    @property
    def records(self) -> Sequence[FrameRecord]:
        """What is known of every frame, in order; read from the ledger when asked for."""
        return _Records(self._ledger)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Value `name` of every record: float with NaN, int with -1, or text (as objects) with '' where it is unknown.

        A reading of an instrument is asked for as `instruments.lamp.power`.
        Raises BadInput for a name that is none of a number or a word.
        """
        stored = {"index": self._ledger.indices, "nbytes": self._ledger.sizes, "crc32c": self._ledger.checksums}
        if name in stored:
            return stored[name]
        if name not in self._columns:
            # To read through the ledger is what costs: what is usually asked for next is taken along.
            names = [name, *(other for other in self._usual() if other not in self._columns and other != name)]
            self._columns |= dict(zip(names, _columns(names, self._ledger), strict=True))
        return self._columns[name]

    def select(
        self,
        *,
        kind: Kind | None = "scene",
        split: int | str | None = None,
        splitting: str | None = None,
        label: str | None = None,
        marked: bool | None = False,
    ) -> IntArray:
        """Places (0..N-1) of frames, in order; None takes all.

        split: 0/train, 1/val, 2/test. splitting: name of a later split (`labctl dataset split`) that goes before the
        one of the capture. marked: False leaves doubtful frames out.
        """
        wanted = np.ones(len(self), dtype=np.bool_)
        if kind is not None:
            wanted &= self.column("kind") == kind
        if label is not None:
            wanted &= self.column("label_name") == label
        if marked is not None:
            wanted &= self.marked == marked
        if split is not None:
            wanted &= self.splits(splitting) == split_number(split)
        return np.flatnonzero(wanted)

    def splits(self, splitting: str | None = None) -> IntArray:
        """(N,) split of every frame: 0 train, 1 val, 2 test, -1 none; of the capture, or as split later."""
        if splitting is None:
            return np.asarray(self.column("split"), dtype=np.int64)
        text = self.source.read(f"{SPLITS}/{splitting}.json")
        if text is None:
            raise BadInput(f"{self.where} has no split '{splitting}'; make it with `labctl dataset split`")
        try:
            by_sample = parse_splits(text)
        except ValueError as error:
            raise RunFailed(
                f"{self.where}: {SPLITS}/{splitting}.json is damaged ({error}); make the split anew with "
                "`labctl dataset split --replace`"
            ) from error
        return np.array([by_sample.get(int(sample), -1) for sample in self.column("sample_id")], dtype=np.int64)

    def read(self, places: Sequence[int] | IntArray) -> npt.NDArray[np.uint16]:
        """(n, C, h, w) DN of some frames, in the order asked for. Raises RunFailed when one is damaged or gone."""
        places = np.asarray(places, dtype=np.int64)
        frames = np.empty((len(places), *self.header.frame_shape), dtype=np.uint16)
        for number, place in enumerate(places):
            frames[number] = self.frame(int(place))
        return frames

    def frame(self, place: int) -> npt.NDArray[np.uint16]:
        """(C, h, w) DN of one frame; see `read`."""
        if not 0 <= place < len(self):
            raise BadInput(f"frame {place} of {self.where} is asked for; it has 0 to {len(self) - 1}")
        index, size = int(self._ledger.indices[place]), int(self._ledger.sizes[place])
        data = self._stored(index, size)
        chunk, end = np.frombuffer(data, dtype=np.uint8)[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        checksum = int(self._ledger.checksums[place])
        if len(data) != size or end != checksum_bytes(checksum) or crc32c(chunk) != checksum:
            raise RunFailed(
                f"{self.where}: frame {index} does not match its checksum; the file was changed or is damaged; see "
                f"`labctl dataset verify`"
            )
        return decode_frame(chunk, self.header)

    def parts(self, places: Sequence[int] | IntArray) -> Iterator[npt.NDArray[np.uint16]]:
        """`read` in parts of at most `PART_BYTES`, one frame at least: a set need not fit in memory."""
        part = max(1, PART_BYTES // self.header.frame_bytes)
        for start in range(0, len(places), part):
            yield self.read(places[start : start + part])

    def check_whole(self) -> None:
        """Raise RunFailed unless every planned frame is there and the ledger holds. Pixels are proved when read."""
        planned = self.header.planned
        self.check_ledger()
        if planned is not None and len(self) != planned:
            raise RunFailed(f"{self.where}: {len(self)} of {planned} frames captured; `labctl resume` the run first")

    def check_ledger(self) -> None:
        """Raise RunFailed when the ledger has lost lines; a set that is still being captured may well be short."""
        problem = self.problems[0] if self.problems else None
        text = self.source.read(FINISHED)
        if problem is None and text is not None:
            try:
                promised = int(json.loads(text)["frames"])
            except (ValueError, TypeError, KeyError):
                promised = len(self)
                problem = f"{FINISHED} is damaged"
            if promised != len(self):
                problem = f"the set was finished with {promised} frames, the ledger has {len(self)}"
        if problem is not None:
            raise RunFailed(f"{self.where}: {problem}; see `labctl dataset verify {self.where}`")

    def dataset(
        self,
        *,
        kind: Kind | None = "scene",
        split: int | str | None = None,
        splitting: str | None = None,
        label: str | None = None,
        marked: bool | None = False,
        dark: bool = False,
        background: bool = False,
        closed: bool = False,
        flat: str | Path | None = None,
        rungs: Literal["merge", "separate"] = "merge",
        average: bool = False,
        class_names: Sequence[str] | None = None,
        scenes: bool = False,
    ) -> FrameDataset:
        """Samples for PyTorch; see `labctl.frames.torch_data`, which also has a loader of many processes."""
        from labctl.frames.torch_data import frame_dataset

        return frame_dataset(
            self, kind=kind, split=split, splitting=splitting, label=label, marked=marked, dark=dark,
            background=background, closed=closed, flat=flat, rungs=rungs, average=average, class_names=class_names,
            scenes=scenes,
        )  # fmt: skip

    def zarr(self) -> zarr.Array[Any]:
        """The array of all complete shards, as the zarr library sees it, for analysis."""
        import zarr

        return zarr.open_array(f"{self.where}/{GROUP}/{ARRAY}", mode="r")

    def _usual(self) -> tuple[str, ...]:
        readings = self._ledger.values(0).get("instruments", {}) if len(self) else {}
        return (*_USUAL, *(f"instruments.{name}" for name in readings))

    @cached_property
    def _offsets(self) -> dict[int, int]:
        """Where every frame begins in its shard or spool, by index."""
        found: dict[int, int] = {}
        offset, expected = 0, 0
        for index, size in zip(self._ledger.indices.tolist(), self._ledger.sizes.tolist(), strict=True):
            if index % self.header.shard_frames == 0:
                offset = 0
            elif index != expected:
                offset = -1  # a line is missing: only frames of one known size can be found behind it
            if offset < 0 and self.header.compression == "none":
                offset = (index % self.header.shard_frames) * size
            found[index] = offset
            expected = index + 1
            offset = offset + size if offset >= 0 else -1
        return found

    def _stored(self, index: int, size: int) -> bytes:
        offset, shard = self._offsets[index], index // self.header.shard_frames
        if offset < 0:
            raise RunFailed(f"{self.where}: frame {index} cannot be found: a line before it is missing in the ledger")
        names = (f"{GROUP}/{ARRAY}/{shard_name(shard)}", f"{SPOOL}/{shard}.raw")
        for name in (*names, names[0]):  # a writer may complete the shard between two looks
            data = self.source.read_range(name, offset, offset + size)
            if data is not None:
                return data
        raise RunFailed(f"{self.where}: {names[0]} is missing, and with it frame {index}; see `labctl dataset verify`")


class _Records(Sequence[FrameRecord]):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __len__(self) -> int:
        return len(self._ledger)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        values = self._ledger.values(place % len(self))
        return FrameRecord.model_validate({key: value for key, value in values.items() if key not in _STORAGE})


_STORAGE = ("index", "nbytes", "crc32c")
_USUAL = (
    "kind", "sample_id", "label", "label_name", "split", "repeat", "rung", "privacy", "exposure_s", "gain_db",
    "black_level_dn", "saturation_dn", "saturated_fraction", "mask_hash", "unix_time_s",
)  # fmt: skip


def _columns(names: Sequence[str], ledger: Ledger) -> list[npt.NDArray[Any]]:
    heads = [name.partition(".") for name in names]
    for name, (head, _, _) in zip(names, heads, strict=True):
        if head not in FrameRecord.model_fields:
            raise BadInput(f"frames have no '{name}'; they have {', '.join(FrameRecord.model_fields)}")
    values: list[list[Any]] = [[] for _ in names]
    there: set[str] = set()
    for place in range(len(ledger) if names else 0):
        said = ledger.values(place)
        for column, (head, _, rest) in zip(values, heads, strict=True):
            value = said.get(head)
            if rest and isinstance(value, dict):
                there |= {f"{head}.{key}" for key in value}
                value = value.get(rest)
            column.append(value)
    for name, (head, dot, _) in zip(names, heads, strict=True):
        if dot and len(ledger) and name not in there:
            known = sorted(other for other in there if other.startswith(head))
            raise BadInput(f"no frame has '{name}'; there is {', '.join(known) or f'nothing in {head}'}")
    return [_array(name, column) for name, column in zip(names, values, strict=True)]


def _array(name: str, values: list[Any]) -> npt.NDArray[Any]:
    head, _, rest = name.partition(".")
    text = str(FrameRecord.model_fields[head].annotation)
    if rest and any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values], dtype=object)
    if rest or ("float" in text and "dict" not in text):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if "int" in text and "str" not in text:
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)
    if any(isinstance(value, dict | list) for value in values):
        raise BadInput(f"'{name}' is not one value per frame; read it from `records`")
    # Objects, not fixed-width text: one label of 100 kB would make every entry as long.
    return np.array(["" if value is None else value for value in values], dtype=object)


def parse_splits(text: str | bytes) -> dict[int, int]:
    """Split by sample id, of the text of a `splits/NAME.json`. Raises ValueError when it is damaged."""
    try:
        return {int(sample): int(split) for sample, split in json.loads(text)["split_of_sample"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def split_number(split: int | str) -> int:
    """0 train, 1 val, 2 test. Raises BadInput for any other."""
    names = {"train": 0, "val": 1, "test": 2, 0: 0, 1: 1, 2: 2}
    if split not in names:
        raise BadInput(f"split {split!r} does not exist; use train (0), val (1) or test (2)")
    return names[split]
