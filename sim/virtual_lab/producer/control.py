"""Makes a virtual camera fail, from any process: lines for the control file that LABCTL_PRODUCER_FAULTS names."""

from __future__ import annotations

import fcntl
from pathlib import Path

from labctl.errors import BadInput
from sim.virtual_lab.producer.camera_features import FEATURES

FAULTS = tuple(feature.name for feature in FEATURES if feature.category == "FaultInjection")
"""Names of the faults; what each does stands in the docstring of the package."""


def inject_fault(control_file: Path, serial: str, fault: str, value: float) -> None:
    """Adds one fault for the camera `serial`. It acts at the camera's next exposure or node access.

    Raises BadInput when `fault` is none of FAULTS.
    """
    if fault not in FAULTS:
        raise BadInput(f"no fault of the virtual camera is called {fault!r}; there are {', '.join(FAULTS)}")
    with control_file.open("a", encoding="utf-8") as lines:
        fcntl.flock(lines, fcntl.LOCK_EX)
        lines.write(f"{serial} {fault} {value:.15g}\n")


def pending_faults(control_file: Path) -> list[tuple[str, str, float]]:
    """What has not acted yet, or holds: (serial, fault, value). A missing file holds nothing."""
    if not control_file.exists():
        return []
    with control_file.open(encoding="utf-8") as lines:
        fcntl.flock(lines, fcntl.LOCK_SH)
        words = [line.split() for line in lines]
    return [(serial, fault, float(value)) for serial, fault, value in words]
