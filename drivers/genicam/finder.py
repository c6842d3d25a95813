"""Which producers and cameras this computer has. Every producer is asked in a process of its own, with a time limit."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from drivers.genicam.camera_process import CameraProcess
from drivers.genicam.producers import find_producers
from labctl.errors import HardwareError
from labctl.findings import Check, Finding
from labctl.state import state_folder

ASK_S = 6.0
"""What a producer may take to list its cameras."""


def find_cameras(environment: Mapping[str, str]) -> list[Finding]:
    """Every producer of GENICAM_GENTL64_PATH, and every camera behind it that a rig file can name."""
    found: list[Finding] = []
    for path, answer in _ask_all(environment):
        cameras = [] if isinstance(answer, str) else answer
        details = {"error": answer} if isinstance(answer, str) else {"cameras": len(answer)}
        found.append(Finding("producer", path.name, f"producer: {path}", details))
        for camera in cameras:
            same = [other for other in cameras if other["serial"] == camera["serial"]]
            where = f"{{type: genicam, producer: {path}, serial: '{camera['serial']}'"
            where += "}" if len(same) == 1 else f", index: {same.index(camera)}}}"
            found.append(Finding("camera", f"{camera['vendor']} {camera['model']}", where, camera))
    return found


def check_producers(environment: Mapping[str, str]) -> list[Check]:
    """Whether the libraries are there, and whether every producer loads and finds a camera."""
    lacking = [name for name in ("harvesters", "genicam") if importlib.util.find_spec(name) is None]
    if lacking:
        text = f"{' and '.join(lacking)} not installed"
        return [Check("GenICam", "skipped", text, "pip install 'labctl[genicam]' when the rig has such a camera")]
    try:
        find_producers(None, environment)
    except HardwareError as error:
        return [Check("GenICam producers", "skipped", str(error))]
    return [_check(path, answer) for path, answer in _ask_all(environment)]


def _check(path: Path, answer: list[dict[str, Any]] | str) -> Check:
    name = f"producer {path.name}"
    if isinstance(answer, str):
        return Check(name, "problem", answer, f"reinstall it, or take {path.parent} out of GENICAM_GENTL64_PATH")
    if not answer:
        return Check(name, "warning", "loads, but finds no camera", "check power, cable and network of the camera")
    serials = [camera["serial"] for camera in answer]
    text = f"finds {len(answer)}: " + ", ".join(f"{camera['model']} {camera['serial']}" for camera in answer)
    if len(set(serials)) < len(serials):
        return Check(
            name, "warning", f"{text}; serial numbers repeat", "choose by `index` or `user_id` in the rig file"
        )
    return Check(name, "ok", text)


def _ask_all(environment: Mapping[str, str]) -> list[tuple[Path, list[dict[str, Any]] | str]]:
    """Cameras of every producer, or what went wrong with it."""
    try:
        paths = find_producers(None, environment)
    except HardwareError:
        return []
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(zip(paths, pool.map(lambda path: _ask(path, environment), paths), strict=True))


def _ask(path: Path, environment: Mapping[str, str]) -> list[dict[str, Any]] | str:
    process = CameraProcess(path.name, state_folder() / "devices" / "genicam-producers.log", environment)
    try:
        cameras: list[dict[str, Any]] = process.ask("enumerate", ASK_S, producers=[str(path)])["cameras"]
    except HardwareError as error:
        process.kill()
        return str(error).removeprefix(f"{path.name}: ")
    process.end()
    return cameras
