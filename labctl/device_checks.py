"""Does a device of a rig answer, and can it do what a protocol will ask of it? One line per device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from labctl.devices import Camera, Device, Display, Instrument
from labctl.exposure import Exposure, FrameTag
from labctl.findings import Check
from labctl.knobs import HasFeatures, usual_exposure_s
from labctl.light_path import FETCH_MARGIN_S

IDENTITY = ("vendor", "model", "serial", "identity", "firmware", "monitor", "resource")
"""Which words of a device about itself are shown, as far as it has them."""

Shape = tuple[int, int]


def look_at_device(device: Device, *, needs_px: Shape | None = None) -> Check:
    """What an open device says and does: a display tells its size, a camera takes a frame, an instrument reads all.

    needs_px: (rows, columns) of a display that the protocol will fill. Raises what the device raises.
    """
    if isinstance(device, Camera):
        text = _one_frame(device)
    elif isinstance(device, Display):
        text = f"{device.shape[0]}x{device.shape[1]} px, settles in {1e3 * device.settle_s:.3g} ms"
        if needs_px is not None and (needs_px[0] > device.shape[0] or needs_px[1] > device.shape[1]):
            todo = "use a smaller grid, fewer display pixels per cell in `roads`, or another monitor"
            return _check(device, "problem", f"{text}; the protocol needs {needs_px[0]}x{needs_px[1]}", todo)
    else:
        assert isinstance(device, Instrument)
        text = ", ".join(_reading(device, name) for name in device.quantities)
    return _check(device, "ok", text)


def _check(device: Device, status: Any, text: str, todo: str = "") -> Check:
    said = _identity(device.describe_device())
    return Check(device.name, status, f"{said}: {text}" if said else text, todo)


def _identity(said: Mapping[str, Any]) -> str:
    """The words of a device about who it is, also those in groups, each once."""
    words: list[str] = []
    for key in IDENTITY:
        group = said.get(key)
        inner = [group.get(key) for key in (*IDENTITY, "name")] if isinstance(group, Mapping) else [group]
        words += [str(word) for word in inner if word and str(word) not in words]
    return ", ".join(words)


def _one_frame(camera: Camera) -> str:
    taken = camera.configure(Exposure(exposure_s=usual_exposure_s(camera)))
    camera.arm(1)
    began = time.monotonic()
    camera.trigger(FrameTag(0))
    frame = camera.fetch(taken.exposure_s + FETCH_MARGIN_S)
    took_s = time.monotonic() - began
    camera.disarm()
    low, high = camera.exposure_limits_s
    features = f", {len(camera.features())} features" if isinstance(camera, HasFeatures) else ""
    return (
        f"{frame.pixels.shape[-2]}x{frame.pixels.shape[-1]} px, exposes {low:.3g}..{high:.3g} s{features}; "
        f"took a frame of {1e3 * taken.exposure_s:.3g} ms within {1e3 * took_s:.0f} ms"
    )


def _reading(instrument: Instrument, name: str) -> str:
    unit = instrument.quantities[name].unit
    return f"{name} {instrument.read_quantity(name):.4g}{'' if unit == '1' else f' {unit}'}"
