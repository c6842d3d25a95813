"""Trees of pictures: which files are pictures, to whom they belong, and how the tree is split."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import BadInput
from protocols.splits import Split, some_of

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm"})

HASHED_BYTES = 2**16
"""Of a picture whose content is compared: a whole picture of a face set."""


@dataclass(frozen=True, slots=True)
class PictureEntry:
    """One picture of a class tree. `name` is its path inside the tree with forward slashes; `split` None: not split."""

    name: str
    class_name: str
    split: Split | None


def list_pictures(root: Path) -> list[PictureEntry]:
    """Pictures of the tree CLASS/PICTURE, or train|val|test/CLASS/PICTURE, sorted by name. Opens no picture.

    Hidden files are ignored, and so are files that have no picture suffix. Raises BadInput with the folder's name when
    it does not exist, holds no classes, mixes both kinds of tree, has an empty class or a picture in a wrong place, or
    when train and test hold different people.
    """
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise BadInput(f"picture folder '{root}' {kind}; give a folder that holds one folder per class")
    top = _class_folders(root, "")
    names = set(top)
    parts = names & {"train", "val", "test"}
    if not ({"train", "test"} <= names or names == parts):
        return _sorted(_class_pictures(root, "", top, None))
    if names != parts:
        raise BadInput(
            f"picture folder '{root}' has train and test beside {some_of(sorted(names - parts))}; "
            "move these into train, val or test, or rename train and test if they are classes"
        )
    if not {"train", "test"} <= names:
        raise BadInput(f"picture folder '{root}' has only {some_of(sorted(parts))}; a split tree needs train and test")
    classes = {part: _class_folders(root, f"{part}/") for part in top}
    _require_the_same_people(root, classes)
    return _sorted(
        [entry for part in top for entry in _class_pictures(root, f"{part}/", classes[part], Split.of(part))]
    )


def stamp_of(root: Path, name: str) -> bytes:
    """What tells that a file of a tree changed: its name, size and time of modification."""
    try:
        status = os.stat(f"{root}/{name}")  # noqa: PTH116 - a hundred thousand Path objects take a second
    except OSError as error:
        return f"{name}\0{error.strerror}\n".encode(errors="surrogateescape")
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape")


def content_of(root: Path, name: str) -> bytes:
    """sha256 of the first HASHED_BYTES of a file of a tree; empty when it cannot be read."""
    try:
        with (root / name).open("rb") as file:
            return hashlib.sha256(file.read(HASHED_BYTES)).digest()
    except OSError:
        return b""


def _sorted(entries: list[PictureEntry]) -> list[PictureEntry]:
    return sorted(entries, key=lambda entry: entry.name)


def _require_the_same_people(root: Path, classes: dict[str, list[str]]) -> None:
    train, test = classes["train"], classes["test"]
    if not set(train) & set(test):
        raise BadInput(
            f"picture folder '{root}': train and test hold different people ({len(train)} and {len(test)}, none in "
            "both), as VGG-Face2 lies; such a set asks whether two pictures show the same person, and who it is cannot "
            f"be learned from train; give one of the two as path, '{root / 'train'}' or '{root / 'test'}', which is "
            "then split by seed"
        )


def _class_folders(root: Path, inside: str) -> list[str]:
    folders, files = visible(root, inside)
    stray = [name for name in files if _is_picture(name)]
    where = root / inside
    if stray:
        raise BadInput(f"folder '{where}' has pictures outside any class: {some_of(stray)}; move each into its class")
    if not folders:
        raise BadInput(f"folder '{where}' holds no class folders; put each class into a folder of its own")
    return folders


def _class_pictures(root: Path, inside: str, classes: list[str], split: Split | None) -> list[PictureEntry]:
    entries = []
    for class_name in classes:
        nested, files = visible(root, f"{inside}{class_name}")
        where = root / inside / class_name
        if nested:
            raise BadInput(f"class '{where}' holds folders: {some_of(nested)}; put pictures in the class itself")
        pictures = [name for name in files if _is_picture(name)]
        if not pictures:
            raise BadInput(
                f"class folder '{where}' holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}); "
                "add some or remove the folder"
            )
        entries += [PictureEntry(f"{inside}{class_name}/{name}", class_name, split) for name in pictures]
    return entries


def visible(root: Path, inside: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files of one folder, hidden ones left out, each sorted."""
    folder = root / inside
    names: tuple[list[str], list[str]] = ([], [])
    try:
        with os.scandir(folder) as found:
            for item in found:
                if not item.name.startswith("."):
                    names[0 if item.is_dir() else 1].append(item.name)
    except OSError as error:
        raise BadInput(f"folder '{folder}' cannot be listed: {error.strerror}; check its permissions") from error
    return sorted(names[0]), sorted(names[1])


def _is_picture(name: str) -> bool:
    return name[name.rfind(".") :].lower() in PICTURE_SUFFIXES
