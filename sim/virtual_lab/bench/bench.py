"""The bench: displays with their histories, the light, the chips of the cameras, and faults on demand."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.exposure import Illumination, mean_photons_per_s
from sim.virtual_lab.bench.frame_link import ExposureRequest
from sim.virtual_lab.bench.screen_history import KEPT_S, ScreenHistory, Unseen
from sim.virtual_lab.bench.screen_watch import Box, ScreenGone, ScreenWatch
from sim.virtual_lab.bench.settings import Monitor, Panel, Places, Truth, truth_from
from sim.virtual_lab.bench.shadow import ShadowCaster
from sim.virtual_lab.bench.silicon import Chip

DisplayName = Literal["mask", "scene"]


class Bench:
    """Everything between the screens and the pixels."""

    def __init__(self, truth: Truth, places: Places) -> None:
        self._places = places
        self._watch = ScreenWatch(places.display)
        self._instruments = _mapped(places.instruments)
        self._lock = threading.Lock()
        self.counters = {"frames": 0, "failed": 0, "unseen": 0}
        self._fail_next = 0
        self._stalled_until_s = 0.0
        self._set_up(truth)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the sensor."""
        return self._truth.silicon.shape

    def frame(self, request: ExposureRequest) -> npt.NDArray[np.uint16] | None:
        """Wait for the end of the exposure and return its pixels (rows, columns) in DN; None when there is no frame."""
        end_ns = request.start_ns + request.exposure_ns
        light = self._light()
        _sleep_until(end_ns / 1e9)
        _sleep_until(self._stalled_until_s)
        try:
            pixels = self._develop(request, end_ns, light)
        except Exception:  # noqa: BLE001 - a camera gets an incomplete frame, and the log of the lab the reason
            traceback.print_exc()
            pixels = None
        self.counters["frames" if pixels is not None else "failed"] += 1
        return pixels

    def truth(self) -> dict[str, Any]:
        """What is true here, as JSON values."""
        return asdict(self._truth)

    def rebuild(self, truth: dict[str, Any]) -> None:
        """Stand for another truth from the next exposure on."""
        with self._lock:
            self._set_up(truth_from(truth))

    def set_timing(self, display: DisplayName, *, latency_s: float | None, response_s: float | None) -> None:
        """Give a display another latency or response, for changes from now on."""
        history = {"mask": self._mask, "scene": self._scene}[display]
        given = {"latency_s": latency_s, "response_s": response_s}
        changes = {name: float(value) for name, value in given.items() if value is not None}
        for name, value in changes.items():
            setattr(history, name, value)
        part = "panel" if display == "mask" else "monitor"
        self._truth = replace(self._truth, **{part: replace(getattr(self._truth, part), **changes)})

    def stall(self, seconds: float) -> None:
        """Deliver nothing for so long."""
        self._stalled_until_s = time.monotonic() + seconds

    def fail_next(self, count: int) -> None:
        """Fail the next `count` exposures."""
        self._fail_next = count

    def statistics(self) -> dict[str, float]:
        """Frames delivered and failed, pictures read from the screens, and how late the slowest was read."""
        watch = self._watch
        return {**self.counters, "pictures": watch.pictures, "slowest_read_s": watch.slowest_s}

    def _set_up(self, truth: Truth) -> None:
        self._truth = truth
        self._caster = ShadowCaster(truth)
        self._chips: dict[int, Chip] = {}
        mask_box, scene_box = self._boxes()
        self._mask = self._history(mask_box, truth.panel)
        self._scene = self._history(scene_box, truth.monitor)
        self._watch.follow([(mask_box, self._mask), (scene_box, self._scene)])

    def _history(self, box: Box, display: Panel | Monitor) -> ScreenHistory:
        picture = self._watch.grab(box)
        return ScreenHistory(picture, latency_s=display.latency_s, response_s=display.response_s)

    def _boxes(self) -> tuple[Box, Box]:
        return (
            _centre(self._places.mask_monitor, self._truth.panel.stop_px, "panel.stop_px"),
            _centre(self._places.scene_monitor, self._truth.monitor.view_px, "monitor.view_px"),
        )

    def _develop(self, request: ExposureRequest, end_ns: int, at_start: Illumination) -> npt.NDArray[np.uint16] | None:
        with self._lock:
            if self._fail_next > 0:
                self._fail_next -= 1
                return None
            if time.monotonic() - request.start_ns / 1e9 > KEPT_S:
                _note(f"frame {request.frame_id}: asked for more than {KEPT_S} s after its start")
                return None
            try:
                self._watch.catch_up()
                photons = mean_photons_per_s(
                    self._truth, self._caster, self._mask, self._scene,
                    start_s=request.start_ns / 1e9, end_s=end_ns / 1e9, light=_mean(at_start, self._light()),
                )  # fmt: skip
            except Unseen as error:
                self.counters["unseen"] += 1
                _note(f"frame {request.frame_id}: {error}")
                return None
            except ScreenGone as error:
                _note(f"frame {request.frame_id}: {error}")
                return None
            return self._chip(request.camera).read_out(
                photons,
                exposure_s=request.exposure_ns / 1e9,
                gain_db=request.gain_db,
                black_level_dn=request.black_level_dn,
                frame=(request.frame_id, request.start_ns) if self._truth.noise else None,
            )

    def _chip(self, camera: int) -> Chip:
        if camera not in self._chips:
            self._chips[camera] = Chip(self._truth.silicon, seed=self._truth.seed, camera=camera)
        return self._chips[camera]

    def _light(self) -> Illumination:
        if self._instruments is None:
            return Illumination()
        lamp, shutter = (float(np.clip(value, 0, 1)) for value in self._instruments[:2])
        return Illumination(lamp, shutter)


def _note(text: str) -> None:
    """Into the log. Standard output is a pipe that nobody reads after its first line: it would fill up and hold us."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _centre(monitor: Box, size: tuple[int, int], name: str) -> Box:
    left, top, width, height = monitor
    if size[0] > height or size[1] > width:
        raise ValueError(f"{name} is {size[0]}x{size[1]} pixels, its monitor has {height}x{width}")
    return left + (width - size[1]) // 2, top + (height - size[0]) // 2, size[1], size[0]


def _mean(first: Illumination, last: Illumination) -> Illumination:
    return Illumination((first.lamp + last.lamp) / 2, (first.shutter + last.shutter) / 2)


def _mapped(path: str | None) -> npt.NDArray[np.float64] | None:
    return None if path is None else np.memmap(Path(path), dtype="<f8", mode="r", shape=(4,))


def _sleep_until(time_s: float) -> None:
    while (left_s := time_s - time.monotonic()) > 0:
        time.sleep(left_s)
