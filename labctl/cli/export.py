"""`labctl export-mask`: the files from which a mask is printed, of a run or of an array."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labctl import plugins
from labctl.config import parse_override, validate_model
from labctl.errors import BadInput
from labctl.rig_file import find_rig, load_rig
from labctl.store import RunFolder
from labctl.yaml_source import Located, Place

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

MASK_FILE = "mask.npy"
EXPORTER = "mask"
"""Name of the plug-in of `labctl.exporters` that this command uses."""


def export_mask_files(
    source: Path, *, out: Path, pitch_m: float | None, rig: str | None, overrides: list[str]
) -> dict[str, Any]:
    """Export the mask of `source`, a .npy file or the folder of a step, into `out`; returns what was written.

    rig: name or file; None takes the rig of the run that `source` lies in. overrides: settings as KEY=VALUE.
    Raises BadInput before anything is written.
    """
    settings = _settings(overrides)
    file = source / MASK_FILE if source.is_dir() else source
    mask = _read(file)
    told: dict[str, Any] = settings.export(mask, out, pitch_m=pitch_m, rig=_rig_of(rig, file))
    return told


def _settings(overrides: list[str]) -> Any:
    data: dict[str, Any] = {}
    places: dict[tuple[str | int, ...], Place] = {(): Place("--set")}
    for text in overrides:
        override = parse_override(text)
        if len(override.path) != 1:
            raise BadInput(f"{override.place}: one key is needed, such as polarity=closed")
        data[override.path[0]] = override.value
        places[override.path] = override.place
    return validate_model(plugins.load("labctl.exporters", EXPORTER), Located(data, places, places))


def _read(file: Path) -> npt.NDArray[Any]:
    if not file.is_file():
        raise BadInput(
            f"there is no mask '{file}'; give a .npy file, or the folder of a step that made {MASK_FILE}, "
            "such as RUN/artifacts/train/learned/seed0"
        )
    try:
        mask: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"mask file '{file}' cannot be read: {error}; write it with numpy.save") from error
    return mask


def _rig_of(name: str | None, file: Path) -> RigSpec | None:
    if name is not None:
        return load_rig(find_rig(name))
    for folder in file.absolute().parents:
        run = RunFolder(folder)
        if run.summary_file.is_file() and run.rig_file.is_file():
            return run.rig()
    return None
