"""A rig on paper: which devices stand behind a protocol, and in which order they are made safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints

from labctl import plugins
from labctl.config import Checked, ConfigError, Problem, content_hash, load_config
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.interlocks import Interlock
from labctl.roads import MonitorRoad, PanelRoad, Roads
from labctl.suggest import NAME_PATTERN, one_of

if TYPE_CHECKING:
    from labctl.devices import DeviceSettings
    from labctl.yaml_source import KeyPath, Located

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

ROLES = ("mask", "scene", "camera")

Nature = Literal["simulated", "emulated", "replayed", "real"]
"""Of a rig: computed; real drivers on virtual hardware; the recording of a session; or a bench."""

NATURE_WORDS: Mapping[Nature, str] = {
    "simulated": "simulated",
    "emulated": "virtual lab, real drivers",
    "replayed": "replay of a recording",
    "real": "REAL HARDWARE",
}


class RoadSettings(Frozen):
    """Roads from the design grids to display levels."""

    mask: PanelRoad = PanelRoad()
    scene: MonitorRoad = MonitorRoad()


class RigFile(Frozen):
    """A rig, as its YAML file says it."""

    version: Literal[1]
    """Version of this file format."""

    name: Name
    """Name of the set-up. The lock goes by it: two files of one name are one rig."""

    description: str = ""

    light_path: str = "sequenced"
    """How exposures happen: `sequenced` (show, settle, trigger, fetch) or, on simulated devices, `simulated`."""

    twin: dict[str, Any]
    """What is known about the set-up, as a model to train in: data-sheet values, or fitted ones."""

    world: dict[str, Any] | None = None
    """The truth in which simulated devices stand. Absent on a real rig."""

    mask: dict[str, Any] | None = None
    """The display that carries the mask: the SLM."""

    scene: dict[str, Any] | None = None
    """The monitor that plays the scene. Without it an operator presents live scenes."""

    camera: dict[str, Any] | None = None

    instruments: dict[Name, dict[str, Any]] = {}

    interlocks: tuple[Interlock, ...] = ()
    """Conditions on quantities of the instruments that pause or abort exposures."""

    roads: RoadSettings = RoadSettings()

    safe_order: tuple[str, ...] | None = None
    """Device names in the order in which they are made safe; by default instruments, mask, scene, camera."""

    safe_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long one device may take to reach its safe state."""

    record: str | None = None
    """Folder in which every opening of the rig is recorded, to be played back later; see `labctl/recording`."""


@dataclass(frozen=True)
class RigSpec:
    """A rig file, read and checked. Nothing is opened yet."""

    file: RigFile
    twin: Any
    world: Any
    devices: Mapping[str, DeviceSettings]
    located: Located = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the rig."""
        return self.file.name

    @property
    def roads(self) -> Roads:
        """Both roads of the rig."""
        return Roads(self.file.roads.mask, self.file.roads.scene)

    @property
    def simulated(self) -> bool:
        """Whether nothing real would move."""
        return all(device.simulated for device in self.devices.values())

    @property
    def nature(self) -> Nature:
        """What a number from this rig is worth. A world may say it itself; see `Nature`."""
        said: Nature | None = getattr(self.world, "nature", None)
        return said or ("simulated" if self.simulated else "real")

    @property
    def nature_in_words(self) -> str:
        """`nature`, loud where something would move."""
        return NATURE_WORDS[self.nature]

    @property
    def safe_order(self) -> tuple[str, ...]:
        """Names of all devices, first to be made safe first."""
        if self.file.safe_order is not None:
            return self.file.safe_order
        instruments = tuple(name for name in self.devices if name not in ROLES)
        return instruments + tuple(role for role in ROLES if role in self.devices)

    @cached_property
    def twin_hash(self) -> str:
        """Content hash of all that decides a simulation: the twin and the roads."""
        return content_hash(
            {"twin": self.twin.model_dump(mode="json"), "roads": self.file.roads.model_dump(mode="json")}
        )

    @cached_property
    def content_hash(self) -> str:
        """Content hash of the whole rig. A recording is no other rig, and a replay stands for the rig recorded.

        Settings of the world that came later leave it as it was where they are not given.
        """
        if isinstance(stands_for := getattr(self.world, "rig_hash", None), str):
            return stands_for
        data = {key: value for key, value in self.resolved().items() if key != "record"}
        for name in getattr(self.world, "newer", ()):
            if data["world"].get(name) is None:
                del data["world"][name]
        return content_hash(data)

    def resolved(self) -> dict[str, Any]:
        """The rig with every default filled in, as it is written to the run folder."""
        data = self.file.model_dump(mode="json")
        data["twin"] = self.twin.model_dump(mode="json")
        data["world"] = None if self.world is None else self.world.model_dump(mode="json")
        for role in ROLES:
            data[role] = self.devices[role].model_dump(mode="json") if role in self.devices else None
        data["instruments"] = {
            name: device.model_dump(mode="json") for name, device in self.devices.items() if name not in ROLES
        }
        return {key: value for key, value in data.items() if value is not None}

    def require(self, roles: Sequence[str], who: str) -> None:
        """Raise BadInput unless the rig has the devices `roles`."""
        missing = [role for role in roles if role not in self.devices]
        if missing:
            has = ", ".join(self.devices) or "none"
            raise BadInput(
                f"{who} needs the device{'s' if len(missing) > 1 else ''} {', '.join(missing)}, "
                f"which rig '{self.name}' does not have; "
                f"its devices are {has}; add it or use another rig"
            )


def load_rig(path: Path, *, overrides: Sequence[str] = (), prefix: str = "") -> RigSpec:
    """Read and check a rig file. Raises ConfigError with all problems at once.

    prefix: first key that `overrides` carry before those of the file; see `load_config`.
    """
    return parse_rig(load_config(path, overrides=overrides, prefix=prefix))


def parse_rig(located: Located) -> RigSpec:
    """Check a rig that was read already."""
    if isinstance(located.data, dict) and "steps" in located.data and "twin" not in located.data:
        raise ConfigError([located.problem((), "this is a protocol, a rig file is needed; run it with `labctl run`")])
    checked = Checked(located)
    problems, typed = checked.problems, checked.typed
    file = checked.model(RigFile)
    data = located.data if isinstance(located.data, dict) else {}
    twin = typed("labctl.twins", "twin") if isinstance(data.get("twin"), dict) else None
    world = typed("labctl.worlds", "world") if isinstance(data.get("world"), dict) else None
    places = [(role,) for role in ROLES if isinstance(data.get(role), dict)]
    instruments = data.get("instruments")
    if isinstance(instruments, dict):
        places += [("instruments", str(name)) for name in instruments]  # type: ignore[misc]
    devices = {at[-1]: typed("labctl.devices", *at) for at in places}
    if problems or file is None:
        raise ConfigError(problems)
    _check_whole(file, world, devices, located, problems)
    if problems:
        raise ConfigError(problems)
    return RigSpec(file, twin, world, devices, located)


def find_rig(name: str, *, beside: Path | None = None) -> Path:
    """The file of a rig given as a path or as a bare name.

    A bare name is looked for in `rigs/` beside the folder of the protocol, in `configs/rigs/` here, and among the
    rigs that ship with labctl. Raises BadInput when there is none.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            where = "" if Path(name).is_absolute() else f" in {Path.cwd()}"
            raise BadInput(f"there is no rig file '{name}'{where}; give the path of a rig file or the name of a rig")
        return Path(name)
    folders = [Path("configs/rigs"), *(folder / "rigs" for folder in shipped_configs())]
    if beside is not None:
        folders.insert(0, beside.parent.parent / "rigs")
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")})
    raise BadInput(f"there is no rig '{name}'; {one_of(name, known)}, or the path of a .yaml file")


def shipped_configs() -> list[Path]:
    """Folders in which an installed or a checked-out labctl keeps its configs."""
    package = Path(__file__).parent
    return [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()]


def _check_whole(
    file: RigFile, world: Any, devices: Mapping[str, Any], located: Located, problems: list[Problem]
) -> None:
    kinds = {"mask": "display", "scene": "display", "camera": "camera"}
    for name, device in devices.items():
        at = (name,) if name in ROLES else ("instruments", name)
        wanted = kinds.get(name, "instrument")
        if device.kind != wanted:
            problems.append(
                located.problem((*at, "type"), f"'{device.type}' is a {device.kind}; a {wanted} is needed here")
            )
        if device.needs_world and world is None:
            text = f"'{device.type}' is simulated and needs a `world:` to stand in; add `world: {{type: nominal}}`"
            problems.append(located.problem((*at, "type"), text))
    if file.light_path not in plugins.names("labctl.light_paths"):
        text = f"'{file.light_path}' is unknown; {one_of(file.light_path, plugins.names('labctl.light_paths'))}"
        problems.append(located.problem(("light_path",), text))
    elif file.light_path == "simulated" and not all(device.simulated for device in devices.values()):
        real = ", ".join(name for name, device in devices.items() if not device.simulated)
        text = f"'simulated' needs simulated devices throughout, {real} is real; use `sequenced`"
        problems.append(located.problem(("light_path",), text))
    elif file.record is not None and file.light_path != "sequenced":
        text = f"'{file.light_path}' asks the devices nothing that could be recorded; use `light_path: sequenced`"
        problems.append(located.problem(("record",), text))
    if file.safe_order is not None and sorted(file.safe_order) != sorted(devices):
        problems.append(located.problem(("safe_order",), _wrong_order(file.safe_order, tuple(devices))))
    problems += [located.problem(*wrong) for wrong in _wrong_interlocks(file.interlocks, devices)]


def _wrong_interlocks(interlocks: Sequence[Interlock], devices: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    instruments = [name for name in devices if name not in ROLES]
    for index, interlock in enumerate(interlocks):
        for key in ("quantity", "of"):
            place = getattr(interlock, key)
            name, _, quantity = (place or "").partition(".")
            if place is not None and name not in instruments:
                yield ("interlocks", index, key), f"there is no instrument '{name}'; {one_of(name, instruments)}"
            elif place is not None and (known := devices[name].declared_quantities()) and quantity not in known:
                yield (
                    ("interlocks", index, key),
                    f"'{name}' has no quantity '{quantity}'; {one_of(quantity, list(known))}",
                )


def _wrong_order(order: Sequence[str], devices: Sequence[str]) -> str:
    wrong = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("lacks", [name for name in devices if name not in order]),
            ("names the unknown", [name for name in dict.fromkeys(order) if name not in devices]),
            ("repeats", [name for name in dict.fromkeys(order) if order.count(name) > 1]),
        )
        if names
    ]
    return f"{' and '.join(wrong)}; name every device once: {', '.join(devices)}"
