"""A copy of a set for training: one file of frames that is mapped into memory, and what belongs to every sample.

A pack is made of a set and can be made again: it is no place to keep data. It knows the state of the set that it was
made of and is refused once frames, marks or splits have changed. It never holds scenes.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge
from pydantic import ValidationError

from labctl import __version__
from labctl.durable import sync_folder, sync_tree, write_json
from labctl.errors import BadInput, RunFailed
from labctl.frames.header import parse_header
from labctl.frames.layout import HEADER, LEDGER, MARKS, SPLITS, is_set
from labctl.frames.record import Privacy
from labctl.frames.samples import Choice, Samples, Treatment, class_names_of, label_numbers
from labctl.frames.source import Source, open_source
from labctl.frames.store import PART_BYTES, FrameStore, split_number
from labctl.frozen import Frozen

if TYPE_CHECKING:
    from labctl.frames.samples import IntArray, Words
    from labctl.frames.torch_data import FrameDataset

PACK = "pack"
"""Where the pack of a set lies unless another place is named."""

ABOUT, FRAMES = "pack.json", "frames.npy"
COLUMNS = ("sample_ids", "labels", "splits")

Dtype = Literal["uint16", "float32"]


class SetState(Frozen):
    """What a pack was made of: it is stale as soon as any of this has changed. Hashes are sha256."""

    set_id: str
    frames: Annotated[int, Ge(0)]
    ledger: str
    marks: str
    splitting: str


class AboutPack(Frozen):
    """`pack.json`: what a pack holds, made of what, by which treatment."""

    format: Literal["labctl.pack/1"] = "labctl.pack/1"
    made_of: str
    """Where the set lay when the pack was made; `..` for a pack inside of its set."""

    state: SetState
    choice: Choice
    treatment: Treatment
    samples: Annotated[int, Ge(0)]
    frame_shape: tuple[int, int, int]
    dtype: Dtype
    class_names: tuple[str, ...]
    """What the numbers in `labels.npy` stand for; -1 is none of them."""

    clipped_pixels: Annotated[int, Ge(0)] | None = None
    """How many are lower bounds, see `Samples.clipped_pixels`; None for frames as they were measured."""

    privacy: Privacy
    """Of the set: raw frames of an `after-readout` design identify in a pack as well."""

    created: str
    labctl: str
    sha256: dict[str, str]
    """Of every file."""


def write_pack(
    store: FrameStore,
    out: Path | None = None,
    *,
    choice: Choice | None = None,
    treatment: Treatment | None = None,
    dtype: Dtype | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pack:
    """Make the pack of a set in `out`, whole or not at all; a pack that is there is replaced.

    out: `pack` in the folder of the set unless given. dtype: uint16 where frames are kept as they were measured, else
    float32, unless given. progress: takes how many of how many samples are written. Raises BadInput when nothing is
    chosen, when uint16 cannot hold what is asked for or when something else lies in `out`; RunFailed when a frame is
    damaged or the disk refuses.
    """
    folder = _place(store, out)
    state = set_state(store.source, choice.splitting if choice else None)
    samples = Samples(FrameStore(store.source), choice, treatment)  # as it is now, not older than `state`
    if len(samples) == 0:
        raise BadInput(f"{store.where}: no frame is chosen; look at `labctl dataset info` for what is there")
    kind: Dtype = dtype or ("uint16" if samples.as_measured else "float32")
    if kind == "uint16" and not samples.as_measured:
        raise BadInput("uint16 holds frames as they were measured; corrected or averaged ones need float32")
    classes = class_names_of(store, samples.label_names)
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a writer that was killed
    try:
        new.mkdir(parents=True)
        _check_room(new, samples, kind)
        hashes = {FRAMES: _write_frames(new / FRAMES, samples, np.dtype(kind), progress)}
        values = (samples.sample_ids, label_numbers(samples.label_names, classes, store.where), samples.splits)
        for name, column in zip(COLUMNS, values, strict=True):
            np.save(new / f"{name}.npy", column)
            hashes[f"{name}.npy"] = _sha256(new / f"{name}.npy")
        about = AboutPack(
            made_of=".." if folder.absolute().parent == Path(store.where) else store.where,
            state=state,
            choice=samples.choice,
            treatment=samples.treatment,
            samples=len(samples),
            frame_shape=samples.frame_shape,
            dtype=kind,
            class_names=classes,
            clipped_pixels=None if samples.as_measured else samples.clipped_pixels,
            privacy=store.header.privacy,
            created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            labctl=__version__,
            sha256=hashes,
        )
        write_json(new / ABOUT, about.model_dump(mode="json"))
        sync_tree(new)
        _put(new, folder)
    except OSError as error:
        raise RunFailed(
            f"the pack cannot be written to {folder}: {error.strerror or error}; free some space, or give another "
            "folder with --out"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return Pack.open(folder)


def set_state(source: Source, splitting: str | None) -> SetState:
    """The present state of a set, as packs see it. Raises BadInput when there is no set."""
    header = source.read(HEADER)
    if header is None:
        raise BadInput(f"{source.where} is no captured set (it has no {HEADER}); give the set that the pack is of")
    ledger = source.read(LEDGER) or b""
    whole = ledger[: ledger.rfind(b"\n") + 1]  # what a crash tore is no frame
    split = b"" if splitting is None else source.read(f"{SPLITS}/{splitting}.json") or b""
    return SetState(
        set_id=parse_header(header, source.where).set_id,
        frames=whole.count(b"\n"),
        ledger=hashlib.sha256(whole).hexdigest(),
        marks=hashlib.sha256(source.read(MARKS) or b"").hexdigest(),
        splitting=hashlib.sha256(split).hexdigest(),
    )


class Pack:
    """Samples that are mapped into memory, as `labctl.frames.samples.Rows`. Make one by `Pack.open` or `write_pack`.

    Goes to worker processes as its folder.
    """

    def __init__(self, folder: Path, made_of: str, options: dict[str, Any]) -> None:
        self.folder, self.made_of, self._options = folder, made_of, options
        self.about = _read_about(folder)
        self.sample_ids, labels, self.splits = (_column(folder, name, self.about) for name in COLUMNS)
        names = np.array([*self.about.class_names, ""], dtype=object)  # fixed-width text takes the longest for all
        self.label_names: Words = names[labels]
        self._frames = _mapped(folder / FRAMES, self.about)

    @classmethod
    def open(cls, folder: str | Path, of: str | Path | None = None, **options: Any) -> Pack:
        """The pack in `folder`. of: the set that it was made of, by folder or address (options: what fsspec needs).

        Without `of`, the set that the pack lies in is looked at, or the one where it was made, if that is still there.
        Raises BadInput when there is no pack, or when it is stale: its set has changed. Raises RunFailed when the pack
        is damaged.
        """
        folder = Path(folder).expanduser().absolute()
        about = _read_about(folder)
        if of is None:
            made_of = folder.parent if is_set(folder.parent) else folder / about.made_of
            if is_set(made_of):
                _refuse_stale(folder, about, open_source(made_of))
            return cls(folder, about.made_of if "://" in about.made_of else str(made_of), options)
        source = open_source(of, **options)
        _refuse_stale(folder, about, source)
        return cls(folder, source.where, options)

    def __len__(self) -> int:
        return self.about.samples

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.about.frame_shape

    def select(self, *, split: int | str | None = None, label: str | None = None) -> IntArray:
        """Rows of samples, in order; None takes all. split: 0/train, 1/val, 2/test, as when the pack was made."""
        wanted = np.ones(len(self), dtype=np.bool_)
        if label is not None:
            wanted &= self.label_names == label
        if split is not None:
            wanted &= self.splits == split_number(split)
        return np.flatnonzero(wanted)

    def fill(self, frames: npt.NDArray[Any], rows: Sequence[int] | IntArray) -> None:
        """See `Rows.fill`; the samples are read in the order in which they lie on the disk."""
        rows = np.asarray(rows, dtype=np.int64)
        for number in np.argsort(rows, kind="stable").tolist():
            frames[number] = self._frames[rows[number]]

    def read(self, rows: Sequence[int] | IntArray) -> npt.NDArray[Any]:
        """(n, C, h, w) DN of some samples, in the dtype of the pack."""
        frames = np.empty((len(rows), *self.frame_shape), dtype=self.about.dtype)
        self.fill(frames, rows)
        return frames

    def dataset(
        self,
        *,
        split: int | str | None = None,
        label: str | None = None,
        class_names: Sequence[str] | None = None,
        scenes: bool = False,
    ) -> FrameDataset:
        """Samples for PyTorch; see `labctl.frames.torch_data.FrameDataset`. Scenes are those that the set keeps."""
        from labctl.frames.torch_data import FrameDataset, kept_scenes

        rows = self.select(split=split, label=label)
        classes = self.about.class_names if class_names is None else tuple(class_names)
        kept = kept_scenes(self.made_of, **self._options) if scenes else None
        return FrameDataset(self, rows, class_names=classes, scenes=kept, where=str(self.folder))

    def check_whole(self) -> None:
        """Read all files and hold them against their hashes. Raises RunFailed that names the first damaged one."""
        for name, hashed in self.about.sha256.items():
            if _sha256(self.folder / name) != hashed:
                raise RunFailed(_damaged(self.folder / name, "it does not match its hash"))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "made_of": self.made_of, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _place(store: FrameStore, out: Path | None) -> Path:
    if out is None:
        if "://" in store.where:
            raise BadInput(f"{store.where} is no folder on this machine; say with --out where its pack shall lie")
        return store.folder / PACK
    folder = out.expanduser().absolute()
    if folder.exists() and not (folder / ABOUT).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadInput(f"{folder} is there and is no pack; give another folder with --out")
    return folder


def _check_room(folder: Path, samples: Samples, dtype: Dtype) -> None:
    needed = len(samples) * int(np.prod(samples.frame_shape)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BadInput(
            f"the pack needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {folder.parent}; free some space, "
            "choose fewer frames, or give another folder with --out"
        )


def _write_frames(path: Path, samples: Samples, dtype: np.dtype[Any], progress: Callable[[int, int], None]) -> str:
    """Written, not mapped: a full disk is an error here and would be a signal there. Returns the sha256."""
    shape = (len(samples), *samples.frame_shape)
    part = max(1, PART_BYTES // (int(np.prod(samples.frame_shape)) * dtype.itemsize))
    hashed = hashlib.sha256()
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        )
        file.flush()
        hashed.update(path.read_bytes())
        for start in range(0, shape[0], part):
            rows = np.arange(start, min(start + part, shape[0]))
            frames = np.empty((len(rows), *shape[1:]), dtype=dtype)
            samples.fill(frames, rows)
            file.write(frames.data)
            hashed.update(frames.data)
            progress(int(rows[-1]) + 1, shape[0])
    return hashed.hexdigest()


def _put(new: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _read_about(folder: Path) -> AboutPack:
    try:
        return AboutPack.model_validate_json((folder / ABOUT).read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{folder} is no pack (it has no {ABOUT}); make one with `labctl dataset pack`") from None
    except OSError as error:
        raise RunFailed(f"{folder / ABOUT} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise RunFailed(_damaged(folder / ABOUT, f"it does not hold to its schema: {error}")) from error


def _refuse_stale(folder: Path, about: AboutPack, source: Source) -> None:
    now, then = set_state(source, about.choice.splitting), about.state
    again = f"make it anew with `labctl dataset pack {source.where} --out {folder}`"
    if now.set_id != then.set_id:
        raise BadInput(f"the pack {folder} is not of {source.where}, which is another capture; {again}")
    if now != then:
        changed = [name for name in ("ledger", "marks", "splitting") if getattr(now, name) != getattr(then, name)]
        raise BadInput(
            f"the pack {folder} is stale: {' and '.join(changed)} of {source.where} have changed since it was made "
            f"({then.frames} frames then, {now.frames} now); {again}"
        )


def _column(folder: Path, name: str, about: AboutPack) -> IntArray:
    path = folder / f"{name}.npy"
    if _sha256(path) != about.sha256.get(path.name):
        raise RunFailed(_damaged(path, "it does not match its hash"))
    column: IntArray = np.load(path)
    return column


def _mapped(path: Path, about: AboutPack) -> npt.NDArray[Any]:
    try:
        frames: npt.NDArray[Any] = np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError) as error:
        raise RunFailed(_damaged(path, str(error))) from error
    if frames.shape != (about.samples, *about.frame_shape) or frames.dtype != about.dtype:
        raise RunFailed(_damaged(path, f"it holds {frames.dtype} {frames.shape}"))
    return frames


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunFailed(_damaged(path, str(error.strerror))) from error


def _damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}); make the pack anew with `labctl dataset pack`"
