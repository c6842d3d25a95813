"""TIFF, one file per frame: opens in ImageJ, napari, MATLAB and tifffile, each file with all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tifffile

from labctl import __version__
from labctl.frames.export.choice import Choice
from labctl.frames.export.records import RecordFile

FRAMES, SCENES = "frames", "scenes"


def write_tiff(choice: Choice, folder: Path, advance: Callable[[], None]) -> None:
    """frames/INDEX.tif as uint16 DN (channels as pages), scenes/SAMPLE.tif as float32 radiance 0..1.

    The ImageDescription of a frame holds its record as JSON, and so does its line of metadata.jsonl.
    """
    (folder / FRAMES).mkdir()
    with RecordFile(folder) as records:
        for item in choice.items():
            name = f"{FRAMES}/{item.index:08d}.tif"
            _write(folder / name, item.pixels, item.values())
            records.add(name, item)
            advance()
    for sample in choice.scene_ids():
        assert choice.scenes is not None
        (folder / SCENES).mkdir(exist_ok=True)
        _write(folder / SCENES / f"{sample:08d}.tif", choice.scenes.scene(sample), {"sample_id": sample})


def _write(path: Path, pixels: npt.NDArray[Any], values: dict[str, Any]) -> None:
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        description=json.dumps(values, allow_nan=False),
        metadata=None,
        software=f"labctl {__version__}",
    )
