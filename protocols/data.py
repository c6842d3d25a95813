"""Data sets as linear radiance on the scene grid: bundled digits, an npz file, a folder of pictures.

Registered under the entry-point group `labctl.datasets`; a lab adds its own by another `ImageSource`.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Lt
from pydantic import field_validator

from labctl.errors import BadInput
from labctl.frozen import Frozen
from protocols.images import (
    Crop,
    Encoding,
    PictureEntry,
    Radiance,
    UnreadablePicture,
    check_picture_header,
    check_scene_shape,
    existing_file,
    expanded,
    linear_radiance,
    list_pictures,
    npz_array,
    npz_headers,
    read_picture,
    resized,
    undecodable_pictures,
    unreadable_pictures,
)
from protocols.splits import (
    IntArray,
    Split,
    SplitArray,
    require_train_and_test,
    some_of,
    stratified_split,
    well_covered,
)

__all__ = ["Digits", "Folder", "ImageSet", "ImageSource", "Npz", "Split"]


@dataclass(frozen=True)
class ImageSet:
    """Labelled pictures with their split.

    images: (N, 1, H, W) float32 linear radiance 0..1 on the scene grid. labels: (N,) int64, 0..K-1.
    split: (N,) uint8 `Split` values. class_names: K names. sample_ids: (N,) int64 place in the source.
    skipped: names of the pictures that were left out because they cannot be read.
    """

    images: Radiance
    labels: IntArray
    split: SplitArray
    class_names: tuple[str, ...]
    sample_ids: IntArray
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 1:
            raise BadInput(f"images have shape {self.images.shape}; (N, 1, H, W) is needed")
        for name in ("labels", "split", "sample_ids"):
            if getattr(self, name).shape != (len(self),):
                raise BadInput(f"{name} has shape {getattr(self, name).shape}; ({len(self)},) is needed")
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
            raise BadInput(
                f"labels span {self.labels.min()}..{self.labels.max()} with {len(self.class_names)} class names; "
                f"0..{len(self.class_names) - 1} is allowed"
            )

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def part(self, split: Split | int | str) -> IntArray:
        """Indices of the samples of one split, in order. Raises BadInput for a split that does not exist."""
        return np.flatnonzero(self.split == Split.of(split)).astype(np.int64)


class ImageSource(Frozen):
    """Settings that say where labelled pictures come from. `load` depends on settings and source alone."""

    loading_version: ClassVar[int] = 1
    """Raise it when the same settings and source give other pixels or another split."""

    type: str

    @abstractmethod
    def check(self) -> None:
        """Raise BadInput when `load` cannot work, as far as that can be seen without reading all pixels."""

    def check_pixels(self) -> None:
        """Raise BadInput when pixels would stop `load`, all of them looked at. Sources without any need not say so."""

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 in hex of all that decides what `load` returns, but for the scene shape. The path does not count."""

    @abstractmethod
    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """All samples at `scene_shape` (rows, columns). Raises BadInput with the cause."""

    def _digest(self, content: Iterable[bytes]) -> str:
        settings = {**self.model_dump(mode="json", exclude={"path"}), "loading_version": self.loading_version}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for piece in content:
            digest.update(len(piece).to_bytes(8, "big") + piece)
        return digest.hexdigest()


class Digits(ImageSource):
    """The 1797 handwritten digits of 8x8 px that scikit-learn brings: works anywhere, without a download.

    The file does not say who wrote what, so a writer can stand in training and test: good for trying a rig, not for
    claims about new writers.
    """

    type: Literal["digits"] = "digits"

    split_seed: Annotated[int, Ge(0)] = 0
    """Decides the 60/20/20 split, the same share of every digit."""

    margin: Annotated[float, Ge(0), Lt(0.5)] = 0.05
    """Dark border on each side, as a share of the shorter side of the scene."""

    def check(self) -> None:
        """Always passes: the pictures come with scikit-learn."""

    def fingerprint(self) -> str:
        """Changes with the settings and with the version of scikit-learn."""
        return self._digest([version("scikit-learn").encode()])

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """Each digit centred on a dark scene. Raises BadInput when the margin leaves no pixel."""
        from sklearn.datasets import load_digits

        check_scene_shape(scene_shape)
        side = round(min(scene_shape) * (1 - 2 * self.margin))
        if side < 1:
            raise BadInput(f"margin {self.margin} leaves no pixel of a scene of {scene_shape}; use a smaller margin")
        values, labels = load_digits(return_X_y=True)
        images = np.zeros((len(labels), 1, *scene_shape), dtype=np.float32)
        top, left = (scene_shape[0] - side) // 2, (scene_shape[1] - side) // 2
        for image, digit in zip(images, values.reshape(-1, 8, 8), strict=True):
            small = (digit / 16).astype(np.float32)
            image[0, top : top + side, left : left + side] = resized(small, (side, side), "centre")
        names = [str(index) for index in range(len(labels))]
        split = stratified_split(
            [str(label) for label in labels], names, fractions=(0.6, 0.2, 0.2), seed=self.split_seed
        )
        sample_ids = np.arange(len(labels), dtype=np.int64)
        return ImageSet(images, labels.astype(np.int64), split, tuple(str(digit) for digit in range(10)), sample_ids)


class Npz(ImageSource):
    """An npz file with `images` (N, H, W) uint8 or float 0..1, `identity` (N,) from 0 up, `split` (N,) 0/1/2.

    `identity_name`, if the file has it, names identity k in its place k. Other keys are ignored. No pickles are read.
    """

    type: Literal["npz"] = "npz"

    path: Path
    """Relative to the current directory; `~` is the home directory."""

    min_per_identity: Annotated[int, Ge(1)] = 1
    """Leaves out identities with fewer pictures in all; the others are numbered anew in their old order."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    def check(self) -> None:
        """Read headers, `identity` and `split`, and judge them; no pixels. Raises BadInput."""
        self._index()

    def check_pixels(self) -> None:
        """See `ImageSource.check_pixels`: float pictures must span 0..1."""
        rows = self._index()[0]
        path = expanded(self.path)
        if npz_headers(path)["images"][1].kind == "f":
            values = npz_array(path, "images")
            for row in rows:
                self._require_unit_range(values[row], row)

    def fingerprint(self) -> str:
        """Changes with the settings and with any byte of the file."""
        path = existing_file(self.path)
        try:
            with path.open("rb") as file:
                return self._digest([hashlib.file_digest(file, "sha256").digest()])
        except OSError as error:
            raise BadInput(f"npz file '{path}' cannot be read: {error.strerror}; check its permissions") from error

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """The pictures of the kept identities; sample_ids are rows of the file."""
        check_scene_shape(scene_shape)
        kept, labels, split, names = self._index()
        values = npz_array(expanded(self.path), "images")
        images = np.empty((len(kept), 1, *scene_shape), dtype=np.float32)
        for image, row in zip(images, kept, strict=True):
            share = values[row] / np.float32(255) if values.dtype == np.uint8 else values[row]
            self._require_unit_range(share, row)
            image[0] = resized(linear_radiance(share, self.encoding), scene_shape, self.crop)
        return ImageSet(images, labels, split, names, kept)

    @property
    def _what(self) -> str:
        return f"npz file '{expanded(self.path)}'"

    def _require_unit_range(self, share: npt.NDArray[np.floating], row: int) -> None:
        if not (share.min() >= 0 and share.max() <= 1):
            raise BadInput(
                f"{self._what}: picture {row} spans {share.min():.3g}..{share.max():.3g}; 0..1 is allowed for "
                "float images; divide them by their full scale, or store uint8"
            )

    def _index(self) -> tuple[IntArray, IntArray, SplitArray, tuple[str, ...]]:
        """Kept rows, their labels from 0, their split, and the class names, after all checks."""
        path = existing_file(self.path)
        headers = npz_headers(path)
        missing = [key for key in ("images", "identity", "split") if key not in headers]
        if missing:
            found = some_of(sorted(headers), 12) or "no arrays"
            raise BadInput(f"{self._what} lacks {some_of(missing)}; found {found}; write these too")
        shape, dtype = headers["images"]
        if len(shape) != 3 or 0 in shape or not (dtype == np.uint8 or dtype.kind == "f"):
            raise BadInput(f"{self._what}: images have shape {shape}, type {dtype}; (N, H, W) uint8 or float is needed")
        for key in ("identity", "split"):
            if headers[key][0] != shape[:1] or headers[key][1].kind not in "iu":
                raise BadInput(
                    f"{self._what}: {key} has shape {headers[key][0]}, type {headers[key][1]} for {shape[0]} images; "
                    "one whole number per image is needed"
                )
        identity, split = npz_array(path, "identity"), npz_array(path, "split")
        wrong = np.setdiff1d(split, [0, 1, 2])
        if wrong.size:
            raise BadInput(f"{self._what}: split holds {some_of([str(v) for v in wrong])}; 0 train, 1 val, 2 test only")
        if identity.min() < 0:
            raise BadInput(f"{self._what}: identity goes down to {identity.min()}; whole numbers from 0 are needed")
        rows = np.flatnonzero(well_covered(identity, self.min_per_identity, self._what)).astype(np.int64)
        values, labels = np.unique(identity[rows], return_inverse=True)
        names = tuple(str(v) for v in values)
        if "identity_name" in headers:
            known = npz_array(path, "identity_name")
            if known.shape != (int(identity.max()) + 1,) or known.dtype.kind != "U":
                raise BadInput(
                    f"{self._what}: identity_name has shape {known.shape}, type {known.dtype}; "
                    f"one text for each of the {int(identity.max()) + 1} identities is needed"
                )
            names = tuple(str(known[v]) for v in values)
        labels, part = labels.reshape(-1).astype(np.int64), split[rows].astype(np.uint8)
        require_train_and_test(labels, part, names, self._what)
        return rows, labels, part, names


class Folder(ImageSource):
    """A folder of pictures: CLASS/PICTURE, split here, or train|val|test/CLASS/PICTURE, split as it lies.

    png, jpg, bmp, tif and pgm are read; hidden files and files with other suffixes are ignored.
    """

    type: Literal["folder"] = "folder"

    path: Path
    """Relative to the current directory; `~` is the home directory."""

    split_seed: Annotated[int, Ge(0)] = 0
    """Decides the split of a tree that is not split yet."""

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Train, val and test share of every class of a tree that is not split yet. They sum to 1; val may be 0."""

    min_per_identity: Annotated[int, Ge(1)] = 1
    """Leaves out classes with fewer pictures in all."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    corrupt: Literal["refuse", "skip"] = "refuse"
    """`skip` leaves out pictures that cannot be read and names them in `ImageSet.skipped`."""

    @field_validator("fractions")
    @classmethod
    def _fractions_fill_one(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0 or fractions[0] == 0 or fractions[2] == 0:
            raise ValueError(f"fractions are {fractions}; train and test above 0, val 0 or more, sum 1 are needed")
        return fractions

    def check(self) -> None:
        """List the tree, judge classes and split, and read the header of one picture per class. Raises BadInput."""
        entries = [entry for _, entry in self._listed()]
        self._arranged(entries)
        if self.corrupt == "refuse":
            first = {entry.class_name: entry for entry in reversed(entries)}
            self._refuse(unreadable_pictures(first.values(), check_picture_header), len(first))

    def check_pixels(self) -> None:
        """See `ImageSource.check_pixels`: decodes every picture, once per process."""
        entries = [entry for _, entry in self._listed()]
        causes = undecodable_pictures(tuple(entries), self.encoding, self.fingerprint())
        if self.corrupt == "refuse":
            self._refuse(causes, len(entries))
        readable = [entry for entry in entries if entry.name not in causes]
        self._require_still_covered({entry.class_name for entry in entries}, readable)
        self._arranged(readable)

    def fingerprint(self) -> str:
        """Changes with the settings and with the name, size or modification time of any picture."""
        return self._digest(_identity_on_disk(entry) for entry in list_pictures(expanded(self.path)))

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """Decode every picture of the kept classes; sample_ids are places in the sorted listing of the whole tree."""
        check_scene_shape(scene_shape)
        listed = self._listed()
        readable, images = [], []
        unreadable: dict[str, str] = {}
        for place, entry in listed:
            try:
                picture = read_picture(entry.path, self.encoding)
            except UnreadablePicture as error:
                unreadable[entry.name] = str(error)
                continue
            images.append(resized(picture, scene_shape, self.crop))
            readable.append((place, entry))
        if self.corrupt == "refuse":
            self._refuse(unreadable, len(listed))
        entries = [entry for _, entry in readable]
        self._require_still_covered({entry.class_name for _, entry in listed}, entries)
        labels, split, names = self._arranged(entries)
        places = np.array([place for place, _ in readable], dtype=np.int64)
        return ImageSet(np.stack(images)[:, None], labels, split, names, places, tuple(unreadable))

    @property
    def _what(self) -> str:
        return f"picture folder '{expanded(self.path)}'"

    def _listed(self) -> list[tuple[int, PictureEntry]]:
        entries = list_pictures(expanded(self.path))
        classes = np.array([entry.class_name for entry in entries])
        kept = well_covered(classes, self.min_per_identity, self._what)
        return [(place, entry) for place, entry in enumerate(entries) if kept[place]]

    def _arranged(self, entries: list[PictureEntry]) -> tuple[IntArray, SplitArray, tuple[str, ...]]:
        classes = [entry.class_name for entry in entries]
        names, labels = np.unique(np.array(classes), return_inverse=True)
        given = [entry.split for entry in entries if entry.split is not None]
        if given:
            split = np.array(given, dtype=np.uint8)
        else:
            files = [entry.name for entry in entries]
            split = stratified_split(classes, files, fractions=self.fractions, seed=self.split_seed)
        class_names = tuple(str(name) for name in names)
        labels = labels.reshape(-1).astype(np.int64)
        require_train_and_test(labels, split, class_names, self._what)
        return labels, split, class_names

    def _refuse(self, unreadable: dict[str, str], looked_at: int) -> None:
        if unreadable:
            causes = "; ".join(f"'{name}': {cause}" for name, cause in list(unreadable.items())[:5])
            more = f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
            raise BadInput(
                f"{self._what}: {len(unreadable)} of {looked_at} pictures cannot be read: {causes}{more}; "
                "repair or remove them, or set `corrupt: skip`"
            )

    def _require_still_covered(self, wanted: set[str], entries: list[PictureEntry]) -> None:
        counts = {name: sum(entry.class_name == name for entry in entries) for name in sorted(wanted)}
        short = [f"{name}: {count}" for name, count in counts.items() if count < self.min_per_identity]
        if short:
            raise BadInput(
                f"{self._what}: too few readable pictures are left, {some_of(short)}; min_per_identity is "
                f"{self.min_per_identity}; repair the pictures or lower min_per_identity"
            )


def _identity_on_disk(entry: PictureEntry) -> bytes:
    try:
        status = entry.path.stat()
    except OSError as error:
        return f"{entry.name}\0{error.strerror}".encode(errors="surrogateescape")
    return f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
