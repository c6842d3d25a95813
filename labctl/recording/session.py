"""One recorded opening of a rig: a folder with a tape per device, and the rig file that plays it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.clock import Clock
from labctl.config import dump_yaml
from labctl.durable import write_whole
from labctl.recording.recorder import recorded

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

RIG_FILE = "rig.yaml"


class RecordingSession:
    """The next free numbered folder in `record` of the rig file. Nothing recorded earlier is ever overwritten."""

    def __init__(self, spec: RigSpec, record: str, clock: Clock) -> None:
        self.folder = _next_folder(Path(record).resolve())
        self._spec, self._clock = spec, clock
        write_whole(self.folder / RIG_FILE, dump_yaml(replaying_rig(spec, self.folder)))

    def wrap(self, name: str, device: Any) -> Any:
        """`device`, recorded."""
        return recorded(device, self._spec.devices[name].kind, self.folder / name, self._clock)


def replaying_rig(spec: RigSpec, folder: Path) -> dict[str, Any]:
    """The rig file that opens the recording in `folder` in place of the devices of `spec`."""
    data = spec.resolved()
    data.pop("record", None)
    data["name"] = f"{spec.name}-replay"
    data["world"] = {"type": "replay", "folder": str(folder), "rig_hash": spec.content_hash}
    for name, settings in spec.devices.items():
        place = data["instruments"] if name in data["instruments"] else data
        place[name] = {"type": f"replay.{settings.kind}"}
    return data


def _next_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0)
    folder = parent / f"{number:04d}"
    folder.mkdir()
    return folder
