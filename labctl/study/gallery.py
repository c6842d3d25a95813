"""Reference pictures of each identity: the kept ground truth of the sets, or pictures of one's own."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.study.pictures import Encoding, Levels, scene_levels, thumbnail
from labctl.study.pool import AskedSet, Frame

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm"})

SAME = 0.98
"""Likeness of thumbnails, -1..1, from which on two pictures of one identity are taken for the same one, whatever their
size. To leave out one too many costs nothing."""

TONES: tuple[Encoding, ...] = ("linear", "srgb")
"""A scene may have been linearised or not before it was shown; it is looked for in either tone."""


class Gallery(Protocol):
    """Reference pictures by label."""

    about: str
    """Where they come from, in words."""

    @property
    def labels(self) -> frozenset[str]:
        """Identities that have any."""

    def beside(self, frame: Frame, label: str) -> Sequence[str]:
        """Names of the pictures of `label` that may stand beside `frame`: all but the very one that was captured."""

    def levels(self, reference: str) -> Levels:
        """(h, w) or (h, w, 3) of one."""

    def fingerprint(self) -> str:
        """Changes with the pictures."""


class KeptScenes:
    """The scenes that the sets kept. A reference is the beginning of the hash of its scene.

    Raises BadInput when no set kept any.
    """

    def __init__(self, sets: Sequence[AskedSet], encoding: Encoding) -> None:
        self._sets, self._encoding = sets, encoding
        self._where: dict[str, tuple[int, int]] = {}
        by_label: dict[str, list[str]] = defaultdict(list)
        for group, one in enumerate(sets):
            if one.scenes is None:
                continue
            for sample in one.scenes.sample_ids.tolist():
                label, scene = one.label_of_sample.get(sample), one.scene_of_sample.get(sample)
                if label and scene and _short(scene) not in self._where:
                    self._where[_short(scene)] = (group, sample)
                    by_label[label].append(_short(scene))
        if not self._where:
            raise BadInput(
                f"{_sets_in_words(sets)}, so there are no reference pictures; give --references FOLDER "
                "(class/picture.png), or capture with `keep_scenes: true`"
            )
        self._by_label = dict(by_label)
        self.about = f"the kept scenes of the sets ({len(self._where)} pictures)"

    @property
    def labels(self) -> frozenset[str]:
        """See `Gallery.labels`."""
        return frozenset(self._by_label)

    def beside(self, frame: Frame, label: str) -> Sequence[str]:
        """See `Gallery.beside`."""
        scenes = self._by_label.get(label, [])
        return [scene for scene in scenes if scene != _short(frame.scene)] if label == frame.label else scenes

    def levels(self, reference: str) -> Levels:
        """See `Gallery.levels`. Raises RunFailed when the scene is damaged."""
        group, sample = self._where[reference]
        scenes = self._sets[group].scenes
        assert scenes is not None  # it is where the reference was found
        return scene_levels(scenes.scene(sample), self._encoding)

    def fingerprint(self) -> str:
        """See `Gallery.fingerprint`."""
        return _digest(sorted(self._where))


@dataclass(frozen=True)
class _Own:
    name: str
    label: str
    levels: Levels


class OwnPictures:
    """Pictures of one's own: a folder class/picture.png, or an npz file. Held in memory.

    npz: `images` (N, H, W) or (N, H, W, 3), uint8 or float 0..1; `identity` (N,) numbers from 0 up or names;
    `identity_name` (K,) names the numbers. Labels that no frame has are left aside, since nobody could be
    right with them. Where the sets kept their scenes, a picture of the very scene does not stand beside its frame.
    Raises BadInput when the pictures cannot be read, or when an identity that can be asked has none.
    """

    def __init__(self, path: Path, sets: Sequence[AskedSet], frames: Sequence[Frame]) -> None:
        wanted = {frame.label for frame in frames}
        found = _from_npz(path) if path.suffix == ".npz" else _from_folder(path, wanted)
        kept = [picture for picture in found if picture.label in wanted]
        missing = sorted(wanted - {picture.label for picture in kept})
        if missing:
            there = sorted({picture.label for picture in found})
            raise BadInput(
                f"--references {path}: no picture of {', '.join(missing[:5])}"
                f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}; it has "
                f"{', '.join(there[:8]) or 'none of the labels of the frames'}; name folders like the labels of the set"
            )
        self._pictures = {picture.name: picture for picture in kept}
        self._by_label: dict[str, list[str]] = defaultdict(list)
        for picture in kept:
            self._by_label[picture.label].append(picture.name)
        self._same = self._find_same(sets, frames)
        self.can_tell_same = any(one.scenes is not None for one in sets)
        """Whether captured pictures are known, so that they can be left out."""
        self.about = f"pictures of the user ({len(kept)})"

    @property
    def labels(self) -> frozenset[str]:
        """See `Gallery.labels`."""
        return frozenset(self._by_label)

    def beside(self, frame: Frame, label: str) -> Sequence[str]:
        """See `Gallery.beside`."""
        same = self._same.get(frame.scene, frozenset())
        return [name for name in self._by_label.get(label, []) if name not in same]

    def levels(self, reference: str) -> Levels:
        """See `Gallery.levels`."""
        return self._pictures[reference].levels

    def fingerprint(self) -> str:
        """See `Gallery.fingerprint`."""
        return _digest(
            f"{name}:{hashlib.sha256(picture.levels.tobytes()).hexdigest()}"
            for name, picture in sorted(self._pictures.items())
        )

    def _find_same(self, sets: Sequence[AskedSet], frames: Sequence[Frame]) -> Mapping[str, frozenset[str]]:
        """By scene, the pictures that show it."""
        found: dict[str, frozenset[str]] = {}
        thumbnails: dict[tuple[str, tuple[int, int]], npt.NDArray[np.float64]] = {}
        for frame in frames:
            scenes = sets[frame.group].scenes
            if scenes is None or frame.scene in found or not scenes.has(frame.sample_id):
                continue
            shape = (scenes.shape[-2], scenes.shape[-1])
            scene = scenes.scene(frame.sample_id)
            owns = [thumbnail(scene_levels(scene, tone), shape) for tone in TONES]
            same = set()
            for name in self._by_label[frame.label]:
                key = (name, shape)
                if key not in thumbnails:
                    thumbnails[key] = thumbnail(self._pictures[name].levels, shape)
                if max(float((own * thumbnails[key]).sum()) for own in owns) >= SAME:
                    same.add(name)
            found[frame.scene] = frozenset(same)
        return found


def _short(scene: str) -> str:
    return scene[:16]


def _sets_in_words(sets: Sequence[AskedSet]) -> str:
    if len(sets) == 1:
        return f"{sets[0].store.where} keeps no ground-truth scenes"
    return f"none of the {len(sets)} sets keeps ground-truth scenes"


def _from_folder(path: Path, wanted: set[str]) -> list[_Own]:
    from PIL import Image, UnidentifiedImageError

    if not path.is_dir():
        raise BadInput(f"--references {path}: there is no such folder; give one of class/picture.png, or an npz")
    found = []
    for folder in sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith(".")):
        for file in sorted(folder.iterdir()) if folder.name in wanted else ():
            if file.suffix.lower() not in PICTURE_SUFFIXES or file.name.startswith("."):
                continue
            try:
                with Image.open(file) as opened:
                    if opened.mode.startswith(("I", "F")):
                        raise ValueError(f"its pixels are '{opened.mode}'; 8 bit each are needed")
                    grey = opened.mode in ("1", "L", "LA")
                    levels = np.asarray(opened.convert("L" if grey else "RGB"), dtype=np.uint8)
            except (OSError, UnidentifiedImageError, ValueError) as error:
                raise BadInput(
                    f"--references: {file} cannot be read as a picture ({error}); remove or mend it"
                ) from error
            found.append(_Own(f"{folder.name}/{file.name}", folder.name, levels))
    return found


def _from_npz(path: Path) -> list[_Own]:
    try:
        with np.load(path.expanduser(), allow_pickle=False) as file:
            arrays: dict[str, npt.NDArray[Any]] = {
                name: file[name] for name in ("images", "identity", "identity_name") if name in file
            }
    except (OSError, ValueError) as error:
        raise BadInput(f"--references {path} cannot be read: {error}; give an .npz file, or a folder") from error
    missing = [name for name in ("images", "identity") if name not in arrays]
    if missing:
        raise BadInput(f"--references {path} lacks {' and '.join(missing)}; write these too")
    images, identity = arrays["images"], arrays["identity"]
    grey_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if not grey_or_rgb or len(identity) != len(images) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise BadInput(
            f"--references {path}: images {images.dtype} {images.shape} and identity {identity.shape}; (N, H, W) or "
            "(N, H, W, 3) of uint8 or float 0..1, and (N,) are needed"
        )
    if images.dtype != np.uint8:
        if not (images.min() >= 0 and images.max() <= 1):
            raise BadInput(f"--references {path}: images span {images.min():.3g}..{images.max():.3g}; 0..1 is needed")
        images = (255 * images).round().astype(np.uint8)
    names = arrays.get("identity_name")
    if names is not None and identity.dtype.kind in "iu" and not 0 <= identity.min() <= identity.max() < len(names):
        raise BadInput(
            f"--references {path}: identity spans {identity.min()}..{identity.max()}, identity_name has {len(names)}; "
            "one name for each is needed"
        )
    labels = [str(names[one]) if names is not None and identity.dtype.kind in "iu" else str(one) for one in identity]
    return [_Own(str(row), label, image) for row, (label, image) in enumerate(zip(labels, images, strict=True))]


def _digest(parts: Any) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
