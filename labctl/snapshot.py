"""A frame taken by hand, with all that must be known to use it later, as PNG, TIFF or NPZ."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl import __version__
from labctl.devices import Levels
from labctl.durable import write_whole
from labctl.errors import BadInput, HardwareError
from labctl.exposure import Exposure, ExposurePlan, Frames, join_frames, still_plan
from labctl.knobs import Value, knobs_of
from labctl.patterns import Pattern, design_grid, scene_grid
from labctl.rig import Rig
from labctl.roads import to_device_plan

SUFFIXES = (".png", ".tif", ".tiff", ".npz")

METADATA_KEY = "labctl"
"""Name of the PNG text and of the NPZ entry that hold the metadata as JSON; in a TIFF it is the ImageDescription."""


@dataclass(frozen=True)
class Snapshot:
    """pixels: (h, w) in DN, uint16 of a single frame, float32 of the mean of several. metadata: plain JSON values."""

    pixels: npt.NDArray[Any]
    metadata: Mapping[str, Any]

    @property
    def saturation_dn(self) -> int:
        """The highest DN that the camera gives."""
        return int(self.metadata["saturation_dn"])

    @property
    def png_levels_per_dn(self) -> int:
        """By how much a PNG is brighter: the largest whole factor that fits 16 bits, so that viewers show it well."""
        return 65535 // self.saturation_dn


def take_snapshot(rig: Rig, mask: Pattern, scene: Pattern | None, exposure: Exposure, *, average: int = 1) -> Snapshot:
    """The mean of `average` frames of `scene` (None: the live one) through `mask`, both shown and settled first.

    Raises BadInput when a pattern does not fit its display, HardwareError when a device fails.
    """
    devices = rig.devices()
    plan = to_device_plan(
        pattern_plan(rig, mask, scene, exposure, average),
        rig.spec.roads, devices.mask.shape, None if devices.scene is None else devices.scene.shape,
    )  # fmt: skip
    frames = join_frames(list(rig.stream_any(plan.plan)))
    if frames.pixels.shape[1] != 1:
        raise HardwareError(f"the camera gives {frames.pixels.shape[1]} channels; grey or raw Bayer frames are needed")
    pixels = frames.pixels[0, 0] if average == 1 else frames.pixels[:, 0].mean(axis=0, dtype=np.float64)
    scene_levels = plan.scene_of(0)
    shown = {
        "mask": _identity(mask.said, plan.mask_of(0)),
        "scene": {"said": "live"} if scene is None or scene_levels is None else _identity(scene.said, scene_levels),
    }
    return Snapshot(pixels if average == 1 else pixels.astype(np.float32), {**_metadata(rig, frames), "shown": shown})


def pattern_plan(rig: Rig, mask: Pattern, scene: Pattern | None, exposure: Exposure, n: int) -> ExposurePlan:
    """`n` exposures of one scene through one mask, drawn on grids that fill the displays of an open rig."""
    devices, roads = rig.devices(), rig.spec.roads
    mask_values = mask.draw(design_grid(devices.mask.shape, roads.mask))
    if scene is None:
        return still_plan("live", mask_values, exposure, exposure_ids=np.arange(n))
    rig.spec.require(("scene",), f"the scene '{scene.said}'")
    assert devices.scene is not None
    values = scene.draw(scene_grid(devices.scene.shape, roads.scene))
    scenes = np.broadcast_to(values, (n, 1, *values.shape))
    return still_plan(scenes, mask_values, exposure, exposure_ids=np.arange(n))


def check_target(path: Path, *, replace: bool) -> None:
    """Raise BadInput when a snapshot cannot be written to `path`; `replace` allows a file that is there."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadInput(f"{path}: a snapshot is written as {', '.join(SUFFIXES)}, by the ending of its name")
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give the name of a file")
    if path.exists() and not replace:
        raise BadInput(f"{path} is there already; give another name, or --force to replace it")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise BadInput(f"{path}: the folder {path.parent} cannot be written; give another one")


def write_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write by the ending of `path`, whole or not at all. Raises BadInput when the disk refuses.

    .npz and .tif hold DN as they are; .png holds round(DN * png_levels_per_dn) in 16 bits.
    """
    encode = {".png": _png, ".npz": _npz}.get(path.suffix.lower(), _tiff)
    try:
        write_whole(path, encode(snapshot))
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}; give another name") from error


def _identity(said: str, levels: Levels) -> dict[str, str]:
    return {"said": said, "levels_sha256": hashlib.sha256(np.ascontiguousarray(levels).tobytes()).hexdigest()}


def _metadata(rig: Rig, frames: Frames) -> dict[str, Any]:
    return {
        "labctl": __version__,
        "taken": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "rig": rig.spec.name,
        "rig_hash": rig.spec.content_hash,
        "nature": rig.spec.nature,
        "camera": rig.devices().camera.describe_device(),
        "exposure_s": float(frames.exposure_s[0]),
        "gain_db": float(frames.gain_db[0]),
        "shape": list(frames.pixels.shape[-2:]),
        "averaged": len(frames),
        "frame_ids": frames.frame_ids.tolist(),
        "camera_time_s": frames.camera_time_s.tolist(),
        "host_time_s": frames.host_time_s.tolist(),
        "saturation_dn": frames.saturation_dn,
        "saturated_fraction": float(frames.saturated_fraction.mean()),
        "quantities": _quantities(rig),
    }


def _quantities(rig: Rig) -> dict[str, Value | None]:
    """What the instruments stood at; the camera says its own in the frame."""
    knobs = knobs_of(rig.devices())
    return {name: knob.read() for name, knob in knobs.items() if not name.startswith("camera.")}


def _png(snapshot: Snapshot) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    factor = snapshot.png_levels_per_dn
    text = PngInfo()
    text.add_itxt(METADATA_KEY, json.dumps({**snapshot.metadata, "png_levels_per_dn": factor}))
    levels = np.round(snapshot.pixels.astype(np.float64) * factor).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def _tiff(snapshot: Snapshot) -> bytes:
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[270] = json.dumps(snapshot.metadata)  # ImageDescription
    tags[305] = f"labctl {snapshot.metadata['labctl']}"  # Software
    file = io.BytesIO()
    Image.fromarray(snapshot.pixels).save(file, "TIFF", tiffinfo=tags)
    return file.getvalue()


def _npz(snapshot: Snapshot) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, pixels=snapshot.pixels, labctl=np.array(json.dumps(snapshot.metadata)))
    return file.getvalue()
