"""A tree of folders SPLIT/LABEL/INDEX.png, which people can look through and most training code can read."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from labctl.frames.export.choice import Choice, Item
from labctl.frames.export.records import RecordFile
from labctl.frames.export.safe_names import safe_names

LABELS, SCENES, UNLABELLED = "labels.csv", "scenes", "unlabelled"
METADATA_KEY = "labctl"
"""Name of the PNG text that holds the record as JSON."""


def write_tree(choice: Choice, folder: Path, advance: Callable[[], None]) -> None:
    """Grey PNG of 16 bits that hold DN as they are: SPLIT/LABEL/INDEX.png, and KIND/INDEX.png for other frames.

    A frame of several channels gives INDEX-c0.png, INDEX-c1.png ... Names are safe on any file system; labels.csv
    says which folder stands for which label. scenes/SAMPLE.npy holds float32 radiance 0..1.
    """
    names = safe_names([*_names_of_labels(choice), UNLABELLED])
    counts: Counter[tuple[str, int | None, str | None]] = Counter()
    with RecordFile(folder) as records:
        for item in choice.items():
            place = folder / item.group
            if item.record.kind == "scene":
                label = _label(item)
                place /= names[UNLABELLED if label is None else label]
                counts[place.name, item.record.label, item.record.label_name] += 1
            place.mkdir(parents=True, exist_ok=True)
            for name, pixels in _pictures(item):
                _write_png(place / name, pixels, item.values())
                records.add((place / name).relative_to(folder).as_posix(), item)
            advance()
    _write_labels(folder / LABELS, counts)
    for sample in choice.scene_ids():
        assert choice.scenes is not None
        (folder / SCENES).mkdir(exist_ok=True)
        np.save(folder / SCENES / f"{sample:08d}.npy", choice.scenes.scene(sample), allow_pickle=False)


def _names_of_labels(choice: Choice) -> set[str]:
    """Every label of a chosen scene: its name, or its number where it has none."""
    scenes = choice.places[choice.store.column("kind")[choice.places] == "scene"]
    names, numbers = choice.store.column("label_name")[scenes], choice.store.column("label")[scenes]
    found = set(zip(names.tolist(), numbers.tolist(), strict=True))
    return {str(name) if name else str(number) for name, number in found if name or number >= 0}


def _label(item: Item) -> str | None:
    record = item.record
    return record.label_name or (None if record.label is None else str(record.label))


def _pictures(item: Item) -> list[tuple[str, npt.NDArray[np.uint16]]]:
    if len(item.pixels) == 1:
        return [(f"{item.index:08d}.png", item.pixels[0])]
    return [(f"{item.index:08d}-c{number}.png", channel) for number, channel in enumerate(item.pixels)]


def _write_png(path: Path, pixels: npt.NDArray[np.uint16], values: dict[str, Any]) -> None:
    text = PngInfo()
    text.add_itxt(METADATA_KEY, json.dumps(values, allow_nan=False))
    Image.fromarray(pixels).save(path, "PNG", pnginfo=text, compress_level=1)


def _write_labels(path: Path, counts: Counter[tuple[str, int | None, str | None]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("folder", "label", "label_name", "frames"))
        rows.writerows((*key, count) for key, count in sorted(counts.items(), key=str))
