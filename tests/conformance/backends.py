"""Whatever must keep the promises of `labctl.devices` and `labctl.light_path`, as rigs to be opened.

A new driver joins here with a rig. LABCTL_RIG adds a rig of yours by name or file, tested with the light path that it
names; the tests move everything such a rig has, so nobody else may hold it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIGHT_PATHS = ("simulated", "sequenced")
SLMPY_MODULE = "slmcontrol.slm"
"""Has slmPy's class, and can be installed from the package index, which slmPy itself cannot."""


@dataclass(frozen=True)
class Backend:
    """A rig, and what is known of it before it is opened."""

    name: str
    rig: str
    """Shipped rig, or the name or file of another one."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    real_time: bool = False
    """Opening it takes seconds; it is kept open from test to test, and made safe in between."""

    needs_lab: bool = False
    sees_displays: bool = True
    """Whether the frames of its camera depend on what its displays show."""

    replayed: bool = False
    """Every test is recorded, then run again on the recording."""


def simulated() -> list[Backend]:
    """The simulated rigs, on both light paths."""
    return [Backend(f"{rig}-{path}", rig, {"light_path": path}) for rig in ("sim", "as-built") for path in LIGHT_PATHS]


REPLAY = Backend("replay", "as-built", {"light_path": "sequenced"}, replayed=True)
VIRTUAL = Backend("virtual", "virtual", real_time=True, needs_lab=True)
SLMPY = Backend(
    "virtual-slmpy",
    "virtual",
    {name: {"type": "slmpy", "module": SLMPY_MODULE, "monitor": monitor, "shape": [480, 640], "settle_s": 0.1}
     for name, monitor in (("mask", "DUMMY1"), ("scene", "DUMMY0"))},
    real_time=True,
    needs_lab=True,
)  # fmt: skip


def viky() -> Backend:
    """A camera of a producer that is not ours. It shows a pattern of its own, and has no exposure, gain or trigger."""
    found = find_spec("genicam")
    producer = "" if found is None or found.origin is None else str(Path(found.origin).parent / "viky.cti")
    camera = {
        "type": "genicam", "producer": producer, "serial": "1", "pixel_format": "Mono8", "trigger": "free-run",
        "fixed_exposure_s": 0.01, "features": {"AcquisitionFrameRate": 50.0},
    }  # fmt: skip
    return Backend("viky", "virtual", {"camera": camera}, real_time=True, needs_lab=True, sees_displays=False)


def backends(module: str) -> list[Backend]:
    """What the tests of a module of this folder run on."""
    found = [*simulated(), REPLAY, VIRTUAL]
    if module == "test_display":
        found.append(SLMPY)
    if module == "test_camera":
        found.append(viky())
    named = os.environ.get("LABCTL_RIG")
    if named:
        found.append(Backend(f"LABCTL_RIG-{Path(named).stem}", named, real_time=True))
    return found
