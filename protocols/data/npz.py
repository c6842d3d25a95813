"""Pictures in one npz file that says who is in them and how they are split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge

from labctl.errors import BadInput
from labctl.protocol import Progress, unwatched
from labctl.suggest import one_of
from protocols.data.enlarged import Enlargement, enlarged, enlarged_rows
from protocols.data.image_set import ImageSet
from protocols.data.source import Identities, ImageSource
from protocols.images import (
    Crop,
    Encoding,
    check_scene_shape,
    existing_file,
    expanded,
    linear_radiance,
    npz_array,
    npz_hash,
    npz_headers,
    resized,
)
from protocols.splits import IntArray, SplitArray, require_apart, require_train_and_test, some_of, well_covered


class Npz(ImageSource):
    """An npz file with `images` (N, H, W) uint8 or float 0..1, `identity` (N,) from 0 up, `split` (N,) 0/1/2.

    `identity_name`, if the file has it, names identity k in its place k. Other keys are ignored. No pickles are read.
    """

    newer: ClassVar[frozenset[str]] = frozenset({"split_key", "apart", "enlarge_test"})

    type: Literal["npz"] = "npz"

    path: Path
    """Relative to the current directory; `~` is the home directory."""

    min_per_identity: Annotated[int, Ge(1)] = 1
    """Leaves out identities with fewer pictures in all; the others are numbered anew in their old order."""

    identities: Identities | None = None
    """Keeps so many identities, those with the most pictures; of equals the lower number. None keeps all."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    split_key: str = "split"
    """The array that holds the split, where a file has several."""

    apart: tuple[str, ...] = ()
    """Arrays of the file with one value for each image, such as a person, a session or a group of duplicates. None of
    their values may stand on two sides of the split."""

    enlarge_test: Enlargement | None = None
    """Flipped and turned copies of the test pictures."""

    def check(self) -> None:
        """Read headers, `identity` and `split`, and judge them; no pixels. Raises BadInput."""
        self._index()

    def check_pixels(self, scene_shape: tuple[int, int], progress: Progress = unwatched) -> None:
        """See `ImageSource.check_pixels`: float pictures must span 0..1."""
        rows = self._index()[0]
        path = expanded(self.path)
        if npz_headers(path)["images"][1].kind == "f":
            values = npz_array(path, "images")
            for row in rows:
                self._require_unit_range(values[row], row)

    def fingerprint(self) -> str:
        """Changes with the settings and with any byte of the file."""
        return self._digest([npz_hash(existing_file(self.path))])

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
        return enlarged(ImageSet(images, labels, split, names, kept), self.enlarge_test)

    def attribute(self, name: str) -> tuple[IntArray, tuple[str, ...]]:
        """See `ImageSource.attribute`: any array of the file with one whole number or text for each image."""
        headers = npz_headers(existing_file(self.path))
        images = headers["images"][0][0] if "images" in headers else -1
        fitting = [
            key
            for key, (shape, kind) in headers.items()
            if shape == (images,) and kind.kind in "iubU" and key not in ("identity", "split")
        ]
        if name not in fitting:
            raise BadInput(f"{self._what} has no labels '{name}', one for each image; {one_of(name, fitting)}")
        kept, _, split, _ = self._index()
        values, labels = np.unique(npz_array(expanded(self.path), name)[kept], return_inverse=True)
        labels = labels.reshape(-1)[enlarged_rows(split, self.enlarge_test)[0]]
        return labels.astype(np.int64), tuple(str(value) for value in values)

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
        missing = [key for key in ("images", "identity", self.split_key, *self.apart) if key not in headers]
        if missing:
            found = some_of(sorted(headers), 12) or "no arrays"
            raise BadInput(f"{self._what} lacks {some_of(missing)}; found {found}; write these too")
        shape, dtype = headers["images"]
        if len(shape) != 3 or 0 in shape or not (dtype == np.uint8 or dtype.kind == "f"):
            raise BadInput(f"{self._what}: images have shape {shape}, type {dtype}; (N, H, W) uint8 or float is needed")
        for key in ("identity", self.split_key):
            if headers[key][0] != shape[:1] or headers[key][1].kind not in "iu":
                raise BadInput(
                    f"{self._what}: {key} has shape {headers[key][0]}, type {headers[key][1]} for {shape[0]} images; "
                    "one whole number per image is needed"
                )
        identity, split = npz_array(path, "identity"), npz_array(path, self.split_key)
        wrong = np.setdiff1d(split, [0, 1, 2])
        if wrong.size:
            raise BadInput(
                f"{self._what}: {self.split_key} holds {some_of([str(v) for v in wrong])}; 0 train, 1 val, 2 test only"
            )
        if identity.min() < 0:
            raise BadInput(f"{self._what}: identity goes down to {identity.min()}; whole numbers from 0 are needed")
        rows = np.flatnonzero(well_covered(identity, self.min_per_identity, self.identities, self._what)).astype(
            np.int64
        )
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
        for key in self.apart:
            if headers[key][0] != shape[:1]:
                raise BadInput(f"{self._what}: {key} has shape {headers[key][0]}; one value per image is needed")
            require_apart(npz_array(path, key)[rows], part, key, self._what)
        return rows, labels, part, names
