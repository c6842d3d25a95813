"""Mistakes in what `data:` names, and the data sets to make them with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_input.lab import Case

NPZ = "data: {type: npz, path: d.npz}"
FOLDER = "data: {type: folder, path: pics}"


def pictures(folder: Path, corrupt: int) -> None:
    """Two classes of twelve pictures each below `pics`, the first `corrupt` of class `a` cut short."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / "pics" / label).mkdir(parents=True)
        for index in range(12):
            path = folder / "pics" / label / f"{index:02}.png"
            Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(path)
            if label == "a" and index < corrupt:
                path.write_bytes(path.read_bytes()[:90])


def npz(folder: Path, **changes: object) -> None:
    """`d.npz` of twenty pictures, two people, three splits; a change of None leaves a key out."""
    rng = np.random.default_rng(0)
    arrays: dict[str, object] = {
        "images": rng.integers(0, 255, (20, 16, 16), dtype=np.uint8),
        "identity": np.arange(20) % 2,
        "split": np.repeat([0, 1, 2, 0, 2], 4),
    }
    chosen = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    np.savez(folder / "d.npz", **chosen)  # type: ignore[arg-type]


def stray_size(folder: Path) -> None:
    """`pics` with one picture of another size."""
    pictures(folder, 0)
    Image.fromarray(np.zeros((9, 30), dtype=np.uint8)).save(folder / "pics" / "b" / "03.png")


def two_kinds(folder: Path) -> None:
    """`pics` with class `b` in colour."""
    pictures(folder, 0)
    for path in (folder / "pics" / "b").iterdir():
        Image.open(path).convert("RGB").save(path)


def lone_picture(folder: Path) -> None:
    """`pics` with a third class of one picture."""
    pictures(folder, 0)
    (folder / "pics" / "c").mkdir()
    (folder / "pics" / "b" / "00.png").rename(folder / "pics" / "c" / "00.png")


def one_person(folder: Path) -> None:
    """`pics` with a single class."""
    pictures(folder, 0)
    shutil.rmtree(folder / "pics" / "b")


def different_people(folder: Path) -> None:
    """`pics` with train and test, as VGG-Face2 lies: nobody is in both."""
    pictures(folder, 0)
    for part, label in (("train", "a"), ("test", "b")):
        (folder / "pics" / part).mkdir()
        (folder / "pics" / label).rename(folder / "pics" / part / label)


DATA_CASES = [
    # --- data
    Case(
        "data file missing",
        "p.yaml:2:25: data.path: npz file 'd.npz' does not exist; give the path of an npz file",
        NPZ,
    ),
    Case(
        "data is no npz",
        "p.yaml:2:25: data.path: 'd.npz' is no npz file, or damaged (File is not a zip file); write it with",
        NPZ,
        make=lambda folder: (folder / "d.npz").write_text("hello") and None,
    ),
    Case(
        "npz without keys",
        "p.yaml:2:25: data.path: npz file 'd.npz' lacks 'identity', 'split'; found 'images'; write these too",
        NPZ,
        make=lambda folder: npz(folder, identity=None, split=None),
    ),
    Case(
        "npz without test split",
        "p.yaml:2:25: data.path: npz file 'd.npz' has no test picture of '0', '1'; every identity needs at",
        NPZ,
        make=lambda folder: npz(folder, split=np.repeat([0, 1], 10)),
    ),
    Case(
        "npz out of range",
        "p.yaml:2:25: data.path: npz file 'd.npz': picture 0 spans 255..255; 0..1 is allowed for float",
        NPZ,
        make=lambda folder: npz(folder, images=np.full((20, 16, 16), 255.0)),
    ),
    Case(
        "picture folder missing",
        "p.yaml:2:28: data.path: picture folder 'pics' does not exist; give a folder that holds one folder",
        FOLDER,
    ),
    Case(
        "picture folder without classes",
        "p.yaml:2:28: data.path: folder 'pics' holds no class folders; put each class into a folder of its",
        FOLDER,
        make=lambda folder: (folder / "pics").mkdir(),
    ),
    Case(
        "corrupt pictures",
        "p.yaml:2:28: data.path: picture folder 'pics': 2 of 24 pictures cannot be read: 'a/00.png': image",
        FOLDER,
        make=lambda folder: pictures(folder, 2),
    ),
    Case(
        "corrupt pictures skipped until a class is empty",
        "p.yaml:2:28: data.path: picture folder 'pics': too few readable pictures are left, 'a: 0';",
        "data: {type: folder, path: pics, corrupt: skip}",
        make=lambda folder: pictures(folder, 12),
    ),
    Case(
        "too many asked of each person",
        "p.yaml:2:25: data.path: npz file 'd.npz' has 0 of 2 identities with min_per_identity = 11 or more;",
        "data: {type: npz, path: d.npz, min_per_identity: 11}",
        make=npz,
    ),
    Case(
        "pictures of several sizes",
        "p.yaml:2:28: data.path: picture folder 'pics' mixes 2 sizes, rows x columns: 23 of 16x16, 1 of 9x30; odd are "
        "'b/03.png'; resize or remove these, or set `sizes: any`",
        FOLDER,
        make=lambda folder: stray_size(folder),
    ),
    Case(
        "grey and colour pictures",
        "p.yaml:2:28: data.path: picture folder 'pics' mixes grey and colour pictures: 12 grey, the first is "
        "'a/00.png', and 12 with colour, the first is 'b/00.png'; take one kind away, or set `channels: grey` to turn",
        FOLDER,
        make=lambda folder: two_kinds(folder),
    ),
    Case(
        "a kind of channels that there is not",
        "p.yaml:2:44: data.channels: 'gray' is not allowed; did you mean `grey`? allowed: same, grey",
        "data: {type: folder, path: pics, channels: gray}",
        make=lambda folder: two_kinds(folder),
    ),
    Case(
        "a person with one picture",
        "p.yaml:2:28: data.path: class 'c' has 1 sample for 3 parts with fractions (0.6, 0.2, 0.2); at least 3 are",
        FOLDER,
        make=lambda folder: lone_picture(folder),
    ),
    Case(
        "train and test of different people",
        "p.yaml:2:28: data.path: picture folder 'pics': train and test hold different people (1 and 1, none in both)",
        FOLDER,
        make=lambda folder: different_people(folder),
    ),
    Case(
        "more people asked for than there are",
        "p.yaml:2:28: data.path: picture folder 'pics' has 2 of 2 identities with min_per_identity = 1 or more;",
        "data: {type: folder, path: pics, identities: 3}",
        make=lambda folder: pictures(folder, 0),
    ),
    Case(
        "too few people asked for",
        "p.yaml:2:46: data.identities: 1 is out of range",
        "data: {type: folder, path: pics, identities: 1}",
        make=lambda folder: pictures(folder, 0),
    ),
    Case(
        "a folder with one person",
        "p.yaml:2:28: data.path: picture folder 'pics' has 1 of 1 identities with min_per_identity = 1 or more; "
        "at least 2 identities are needed",
        FOLDER,
        make=lambda folder: one_person(folder),
    ),
    Case(
        "pictures with colour channels in an npz file",
        "p.yaml:2:25: data.path: npz file 'd.npz': images have shape (20, 16, 16, 3), type uint8; (N, H, W) uint8 or",
        NPZ,
        make=lambda folder: npz(folder, images=np.zeros((20, 16, 16, 3), dtype=np.uint8)),
    ),
    Case(
        "a session in train and test, to be kept apart",
        "p.yaml:2:25: data.path: npz file 'd.npz': 5 of 5 values of 'session' stand on several sides of the split",
        "data: {type: npz, path: d.npz, apart: [session]}",
        make=lambda folder: npz(folder, session=np.arange(20) % 5),
    ),
]
