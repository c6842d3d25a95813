"""A folder of pictures: one folder per class, split by seed or as it lies, small or larger than the memory."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge
from pydantic import field_validator

from labctl.errors import BadInput
from labctl.protocol import Progress, unwatched
from protocols.data.decoding import PictureDecoding, decoded
from protocols.data.enlarged import Enlargement, enlarged
from protocols.data.image_set import ImageSet
from protocols.data.scene_store import SceneStore
from protocols.data.source import Fractions, Identities, ImageSource
from protocols.images import Crop, Encoding, UnreadablePicture, check_picture_header, check_scene_shape, expanded
from protocols.picture_tree import PictureEntry, content_of, list_pictures, stamp_of
from protocols.splits import (
    IntArray,
    SplitArray,
    require_apart,
    require_train_and_test,
    some_of,
    spread,
    stratified_split,
    well_covered,
)

HEADERS_LOOKED_AT = 100
"""Pictures whose headers `check` reads, at most one per class: a wrong folder is seen at once."""

CONTENTS_HASHED = 100
"""Pictures whose content counts besides name, size and time: unpacked archives of two versions of a set can be equal in
these, and reading a hundred thousand files would take minutes."""


@dataclass(frozen=True, eq=False)  # arrays have no truth value, and settings are compared without this
class Survey:
    """What a tree held when it was looked at: the pictures to use, and a hash that changes when one of them does.

    places: (N,) place of each in the sorted listing of the whole tree.
    """

    entries: Sequence[PictureEntry]
    places: IntArray
    stamp: bytes


@dataclass(frozen=True, eq=False)  # as above
class Arrangement:
    """Who is in each of N pictures, and which part of the split it belongs to; see `ImageSet`."""

    labels: IntArray
    split: SplitArray
    class_names: tuple[str, ...]


class Folder(ImageSource):
    """A folder of pictures: CLASS/PICTURE, split here, or train|val|test/CLASS/PICTURE, split as it lies.

    png, jpg, bmp, tif and pgm are read; hidden files and files with other suffixes are ignored. Aligned MS-Celeb-1M
    and CASIA-WebFace lie as CLASS/PICTURE; of VGG-Face2 give its train or its test folder.

    Each picture is decoded once, to 16 bit on the scene grid. A set that takes more than 64 MiB as float32 scenes is
    kept in a file of `protocols.data.scene_store.scenes_folder` and read from there batch by batch. One object looks at
    its tree once, at first use; make another one to see what changed since.
    """

    loading_version: ClassVar[int] = 2

    newer: ClassVar[frozenset[str]] = frozenset({"apart", "enlarge_test", "channels"})

    type: Literal["folder"] = "folder"

    path: Path
    """Relative to the current directory; `~` is the home directory."""

    split_seed: Annotated[int, Ge(0)] = 0
    """Decides the split of a tree that is not split yet."""

    fractions: Fractions = (0.6, 0.2, 0.2)
    """Train, val and test share of every class of a tree that is not split yet. They sum to 1; val may be 0."""

    min_per_identity: Annotated[int, Ge(1)] = 1
    """Leaves out classes with fewer pictures in all."""

    identities: Identities | None = None
    """Keeps so many classes, those with the most pictures; of equals the first by name. None keeps all."""

    encoding: Encoding = "linear"
    crop: Crop = "centre"

    sizes: Literal["same", "any"] = "same"
    """`same` refuses pictures of several sizes: in an aligned set a stray one is a mistake. `any` crops and resizes
    each to the scene."""

    channels: Literal["same", "grey"] = "same"
    """`same` takes pictures that are all grey, or all in colour, which becomes luminance, and refuses a mixture, in
    which the kind of a file may tell who is in it. `grey` turns what has colour into luminance, mixed or not."""

    corrupt: Literal["refuse", "skip"] = "refuse"
    """`skip` leaves out pictures that cannot be read and names them in `ImageSet.skipped`."""

    apart: str | None = None
    """A regular expression for paths inside the folder whose first group says who or what is in a picture, such as a
    person, a session or a clip. Of one of these, all pictures must stand on one side of the split."""

    enlarge_test: Enlargement | None = None
    """Flipped and turned copies of the test pictures."""

    @field_validator("apart")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"'{value}' is no regular expression: {error}") from error
            if not groups:
                raise ValueError(f"'{value}' has no group; put what must be kept apart into parentheses")
        return value

    @cached_property
    def survey(self) -> Survey:
        """The tree at its first look. Raises BadInput."""
        root = expanded(self.path)
        entries = list_pictures(root)
        classes = np.array([entry.class_name for entry in entries])
        places = np.flatnonzero(well_covered(classes, self.min_per_identity, self.identities, self._what))
        kept = [entries[place] for place in places]
        stamp = hashlib.sha256()
        for entry in kept:
            stamp.update(stamp_of(root, entry.name))
        for row in spread(len(kept), CONTENTS_HASHED):
            stamp.update(content_of(root, kept[row].name))
        return Survey(kept, places.astype(np.int64), stamp.digest())

    @cached_property
    def arrangement(self) -> Arrangement:
        """Labels and split of all pictures of the survey. Raises BadInput."""
        return self._arranged(self.survey.entries)

    def check(self) -> None:
        """List the tree, judge classes and split, and read the headers of a few pictures. Raises BadInput."""
        first = np.unique(self.arrangement.labels, return_index=True)[1]
        if self.corrupt == "refuse":
            looked_at = [self.survey.entries[row] for row in first[spread(len(first), HEADERS_LOOKED_AT)]]
            self._refuse(self._headless(looked_at), len(looked_at))

    def check_pixels(self, scene_shape: tuple[int, int], progress: Progress = unwatched) -> None:
        """See `ImageSource.check_pixels`: decodes every picture, unless that was done before."""
        self._usable(scene_shape, progress)

    def fingerprint(self) -> str:
        """Changes with the settings, with the name, size or modification time of any picture that is used, and with the
        content of CONTENTS_HASHED of them."""
        return self._digest([self.survey.stamp, self.survey.places.tobytes()])

    def load(self, scene_shape: tuple[int, int]) -> ImageSet:
        """The pictures of the kept classes; sample_ids are places in the sorted listing of the whole tree."""
        rows, arranged, store, skipped = self._usable(scene_shape, unwatched)
        places = self.survey.places[rows]
        data = ImageSet(
            store.pictures(rows), arranged.labels, arranged.split, arranged.class_names, places, tuple(skipped.values())
        )
        return enlarged(data, self.enlarge_test)

    @property
    def _what(self) -> str:
        return f"picture folder '{expanded(self.path)}'"

    def _usable(
        self, scene_shape: tuple[int, int], progress: Progress
    ) -> tuple[IntArray, Arrangement, SceneStore, dict[int, str]]:
        """Rows of the survey that can be read, how they are arranged, their scenes, and the names of the other rows."""
        check_scene_shape(scene_shape)
        entries, arranged = self.survey.entries, self.arrangement  # both judged before the long decoding
        names = [entry.name for entry in entries]
        store, causes = decoded(
            PictureDecoding(
                expanded(self.path), names, self.survey.stamp, scene_shape, self.crop, self.encoding, progress
            )
        )
        if self.corrupt == "refuse":
            self._refuse({names[row]: str(cause) for row, cause in causes.items()}, len(names))
        self._require_one_size(store.sizes)
        self._require_one_kind(store)
        rows = np.setdiff1d(np.arange(len(names)), list(causes)).astype(np.int64)
        if causes:
            readable = [entries[row] for row in rows]
            self._require_still_covered(entries, readable)
            arranged = self._arranged(readable)
        return rows, arranged, store, {row: names[row] for row in sorted(causes)}

    def _arranged(self, entries: Sequence[PictureEntry]) -> Arrangement:
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
        if self.apart is not None:
            require_apart(self._kept_apart(entries), split, self.apart, self._what)
        return Arrangement(labels, split, class_names)

    def _kept_apart(self, entries: Sequence[PictureEntry]) -> npt.NDArray[np.str_]:
        found = [re.search(str(self.apart), entry.name) for entry in entries]
        silent = [entry.name for entry, match in zip(entries, found, strict=True) if match is None]
        if silent:
            raise BadInput(
                f"{self._what}: apart '{self.apart}' does not fit {len(silent)} of {len(entries)} pictures, "
                f"{some_of(silent)}; it must tell of every picture who is in it"
            )
        return np.array([match.group(1) or "" for match in found if match is not None])

    def _headless(self, entries: Sequence[PictureEntry]) -> dict[str, str]:
        causes = {}
        for entry in entries:
            try:
                check_picture_header(expanded(self.path) / entry.name)
            except UnreadablePicture as error:
                causes[entry.name] = str(error)
        return causes

    def _refuse(self, unreadable: Mapping[str, str], looked_at: int) -> None:
        if unreadable:
            causes = "; ".join(f"'{name}': {cause}" for name, cause in list(unreadable.items())[:5])
            more = f"; and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
            raise BadInput(
                f"{self._what}: {len(unreadable)} of {looked_at} pictures cannot be read: {causes}{more}; "
                "repair or remove them, or set `corrupt: skip`"
            )

    def _require_one_size(self, sizes: IntArray) -> None:
        there = np.flatnonzero(sizes[:, 0])
        found, counts = np.unique(sizes[there], axis=0, return_counts=True)
        if self.sizes == "any" or len(found) <= 1:
            return
        ranked = np.argsort(-counts, kind="stable")
        shown = [f"{counts[place]} of {found[place][0]}x{found[place][1]}" for place in ranked[:5]]
        more = f" and {len(found) - 5} more sizes" if len(found) > 5 else ""
        odd = there[(sizes[there] != found[ranked[0]]).any(axis=1)]
        names = [self.survey.entries[row].name for row in odd]
        raise BadInput(
            f"{self._what} mixes {len(found)} sizes, rows x columns: {', '.join(shown)}{more}; odd are "
            f"{some_of(names)}; resize or remove these, or set `sizes: any` to crop and resize every picture"
        )

    def _require_one_kind(self, store: SceneStore) -> None:
        there = store.sizes[:, 0] > 0
        grey, coloured = np.flatnonzero(there & ~store.coloured), np.flatnonzero(there & store.coloured)
        if self.channels == "same" and len(grey) and len(coloured):
            first = [self.survey.entries[rows[0]].name for rows in (grey, coloured)]
            raise BadInput(
                f"{self._what} mixes grey and colour pictures: {len(grey)} grey, the first is '{first[0]}', and "
                f"{len(coloured)} with colour, the first is '{first[1]}'; take one kind away, or set `channels: grey` "
                "to turn colour into luminance"
            )

    def _require_still_covered(self, wanted: Sequence[PictureEntry], left: Sequence[PictureEntry]) -> None:
        counts = Counter({entry.class_name: 0 for entry in wanted})
        counts.update(entry.class_name for entry in left)
        short = [f"{name}: {count}" for name, count in sorted(counts.items()) if count < self.min_per_identity]
        if short:
            raise BadInput(
                f"{self._what}: too few readable pictures are left, {some_of(short)}; min_per_identity is "
                f"{self.min_per_identity}; repair the pictures or lower min_per_identity"
            )
