"""A panel as a `labctl.devices.Display`: checks everything, and lets a child process draw.

When the child dies, its window goes with it and the panel shows the desktop: nobody is left who could blank it. The
next call says so. Give the panel's desktop a plain background of the blank level.
"""

from __future__ import annotations

import logging
import math
import os
import string
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import numpy as np

from drivers.panels.monitors import Monitor, choose_monitor, keep_awake, list_monitors
from drivers.panels.panel_child import HEADER_BYTES
from drivers.panels.playback import PanelPlayback
from drivers.panels.settings import PanelSettings
from labctl.device_process import DeviceProcess
from labctl.devices import Levels, OpenContext, Playback
from labctl.errors import BadInput, DeviceTimeout, HardwareError
from labctl.shared_block import SharedBlock
from labctl.state import state_folder

log = logging.getLogger(__name__)

DEFAULT_SETTLE_S = 0.1
"""Six frames at 60 Hz: two until the picture leaves the graphics card, the rest for a liquid crystal of 10 to 60 ms."""

OPEN_LIMIT_S = 25.0
SHOW_LIMIT_S = 5.0
MOST_PATTERN_BYTES = 2**30
"""How much memory of the child one sequence may take."""


class PanelDisplay:
    """See `labctl.devices.Display`. The same for every driver; `settings` names the child that draws.

    settle_s may be set once it has been measured.
    """

    def __init__(self, context: OpenContext, settings: PanelSettings) -> None:
        self.name = context.name
        self.settings = settings
        self.shape: tuple[int, int] = settings.shape or (0, 0)
        self.settle_s = DEFAULT_SETTLE_S if settings.settle_s is None else settings.settle_s
        self.monitor: Monitor | None = None
        self._environment = dict(context.environment)
        self._log = state_folder() / "devices" / f"{context.rig_name}-{context.name}.log"
        self._process: DeviceProcess | None = None
        self._block: SharedBlock | None = None
        self._playback: PanelPlayback | None = None

    def open(self) -> None:
        """Open the window on its monitor, blank, and prove its place and pixels as `settings.verify` says.

        Raises HardwareError for a missing extra, display server or monitor, a wrong size, a window that is elsewhere.
        """
        self.close()
        need_extra(self.name, self.settings)
        try:
            monitor = self._choose()
            self._block = SharedBlock.make(HEADER_BYTES + monitor.rows * monitor.columns)
            self.monitor, self.shape = monitor, monitor.shape
            self._log.unlink(missing_ok=True)
            self._process = DeviceProcess(
                self.name,
                self.settings.child,
                self._log,
                environment=self._child_environment(),
                inherit=[self._block.fd],
            )
            self._ask(
                "open",
                OPEN_LIMIT_S,
                fd=self._block.fd,
                monitor=asdict(monitor),
                blank_level=self.settings.blank_level,
                verify=self.settings.verify,
                options=self.settings.child_options(),
            )
        except BaseException:
            self._let_go()
            raise

    def safe(self) -> None:
        """Go blank, whatever was under way. A closed panel stays as it is."""
        if self._process is not None:
            self.blank()

    def close(self) -> None:
        """Go blank and close the window."""
        self._stop_playing()
        self._let_go()

    def describe_device(self) -> dict[str, Any]:
        """See `Device.describe_device`."""
        return {
            "name": self.name,
            "model": f"{self.settings.type} window",
            "shape": list(self.shape),
            "settle_s": self.settle_s,
            "monitor": None if self.monitor is None else asdict(self.monitor),
            **self.settings.model_dump(mode="json", include={"blank_level", "verify", "module"}),
        }

    def show(self, levels: Levels) -> float:
        """See `Display.show`. The time is that of the monotonic clock, as `WallClock.now` has it."""
        self._check(levels, self.shape)
        self._need_silence("show a picture")
        self._hand_over(levels)
        shown_s: float = self._ask("show", SHOW_LIMIT_S)["shown_s"]
        return shown_s

    def check_shown(self) -> None:
        """See `labctl.devices.SelfChecking`. Reads the pixels back with `verify: every`, and does nothing otherwise."""
        self._need_open()
        if self.settings.verify == "every":
            self._need_silence("be checked")
            self._ask("check", SHOW_LIMIT_S)

    def play(self, levels: Levels, slot_s: float) -> Playback:
        """See `Display.play`. Late patterns show in the dwell times; pixels are not read back while it plays.

        Timed by software: slots of 16.7 ms and more with pygame, 50 ms and more with slmPy.
        """
        self._check(levels, (len(levels), *self.shape))
        if len(levels) == 0:
            raise BadInput(f"{self.name}: a sequence of no patterns cannot be played; give 1 or more")
        if not (slot_s > 0 and math.isfinite(slot_s)):
            raise BadInput(f"{self.name}: slot_s is {slot_s}; a time above 0 s is needed")
        if levels.nbytes > MOST_PATTERN_BYTES:
            raise BadInput(
                f"{self.name}: a sequence of {levels.nbytes} bytes is too long, {MOST_PATTERN_BYTES} bytes are "
                "allowed; play it in parts"
            )
        self._need_silence("play")
        for index, pattern in enumerate(levels):
            self._hand_over(pattern)
            self._ask("load", SHOW_LIMIT_S, index=index)
        self._stop_flag(0)
        limit_s = len(levels) * (slot_s + 1.0) + SHOW_LIMIT_S
        self._playback = PanelPlayback(
            self.name, len(levels), slot_s, lambda: self._ask("play", limit_s, slot_s=slot_s)["dwell_s"]
        )
        return self._playback

    def blank(self) -> None:
        """See `Display.blank`. Stops a sequence under way."""
        self._need_open()
        self._stop_playing()
        self._ask("blank", SHOW_LIMIT_S)

    def _choose(self) -> Monitor:
        environment = self._whole_environment()
        try:
            monitor = choose_monitor(list_monitors(environment), self.settings.monitor)
            keep_awake(environment)
        except HardwareError as error:
            raise type(error)(f"{self.name}: {error}") from error
        if self.settings.shape not in (None, monitor.shape):
            raise HardwareError(
                f"{self.name}: monitor {monitor} has {monitor.rows} rows and {monitor.columns} columns, the rig file "
                f"says shape {list(self.settings.shape or ())}; set its mode with xrandr, or choose another monitor"
            )
        if monitor.scale != (1.0, 1.0):
            raise HardwareError(
                f"{self.name}: monitor {monitor} is scaled by {monitor.scale[0]:g} x {monitor.scale[1]:g}, so that no "
                f"level reaches its pixel; run `xrandr --output {monitor.name} --scale 1x1`"
            )
        if any(gamma != 1.0 for gamma in monitor.gamma or ()):
            log.warning(
                "%s: the graphics card bends the levels of %s by gamma ramps %s; run `xrandr --output %s --gamma 1`",
                self.name, monitor, monitor.gamma, monitor.name,
            )  # fmt: skip
        return monitor

    def _child_environment(self) -> dict[str, str]:
        return {**self._environment, "DISPLAY": self._whole_environment()["DISPLAY"]}

    def _whole_environment(self) -> dict[str, str]:
        return panel_environment(self._environment, self.settings.display)

    def _hand_over(self, levels: Levels) -> None:
        assert self._block is not None
        self._block.array(self.shape, np.uint8, HEADER_BYTES)[:] = levels

    def _stop_flag(self, value: int) -> None:
        assert self._block is not None
        self._block.array((1,), np.uint8)[0] = value

    def _stop_playing(self) -> None:
        playback, self._playback = self._playback, None
        if playback is not None and not playback.over:
            self._stop_flag(1)
            playback.join(SHOW_LIMIT_S)

    def _let_go(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None
        if self._block is not None:
            self._block.close()
            self._block = None

    def _ask(self, op: str, limit_s: float, **arguments: Any) -> dict[str, Any]:
        process = self._need_open()
        try:
            return process.ask(op, limit_s, **arguments)
        except DeviceTimeout:
            raise
        except HardwareError as error:
            text = str(error)
            if not process.alive:
                text = f"{text}; its window is gone and the panel may show the desktop{self._server_state()}"
            raise HardwareError(text if text.startswith(f"{self.name}: ") else f"{self.name}: {text}") from error

    def _server_state(self) -> str:
        try:
            list_monitors(self._whole_environment())
        except HardwareError as error:
            return f"; {error}"
        return ""

    def _check(self, levels: Levels, shape: tuple[int, ...]) -> None:
        self._need_open()
        if not isinstance(levels, np.ndarray) or levels.dtype != np.uint8 or levels.shape != shape:
            got = f"{levels.dtype} {levels.shape}" if isinstance(levels, np.ndarray) else type(levels).__name__
            raise BadInput(f"{self.name} takes uint8 levels of shape {shape}, got {got}; take it down its road first")

    def _need_silence(self, what: str) -> None:
        if self._playback is not None and not self._playback.over:
            raise HardwareError(
                f"{self.name} cannot {what} while a sequence plays; wait() for it, or blank() to stop it"
            )

    def _need_open(self) -> DeviceProcess:
        if self._process is None:
            raise HardwareError(f"{self.name} is not open; call open() first")
        return self._process


def panel_environment(extra: Mapping[str, str], display: str | None = None) -> dict[str, str]:
    """Our variables and `extra`, with DISPLAY as `display` names it. Raises HardwareError for an unset `$NAME`."""
    environment = {**os.environ, **extra}
    if display is not None:
        try:
            environment["DISPLAY"] = string.Template(display).substitute(environment)
        except (KeyError, ValueError) as error:
            raise HardwareError(
                f"display is '{display}', and {error} is no variable of the environment; set it or name the display "
                'server, as in ":0"'
            ) from None
    return environment


def need_extra(name: str, settings: PanelSettings) -> None:
    """Raise HardwareError unless everything of the extra [slm] that this driver needs is installed."""
    missing = [package for package in settings.needs if find_spec(package) is None]
    if missing:
        raise HardwareError(
            f"{name}: the driver '{settings.type}' needs {' and '.join(missing)}, not installed; "
            "pip install 'labctl[slm]'"
        )
