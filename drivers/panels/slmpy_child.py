"""The child of the `slmpy` driver: slmPy's wx window, unmodified, with what it lacks added around it.

slmPy runs wx in a thread of its own. A failure there leaves its constructor waiting for ever, so that every wait has a
limit here and the thread's exception is what is reported. slmPy returns before it has painted; `paint` waits until the
display server has the pixels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from drivers.panels.monitors import Monitor
from drivers.panels.panel_child import serve_panel, stays_in_place, wrong_place
from drivers.panels.slmpy_module import display_class
from labctl.devices import Levels
from labctl.errors import DeviceTimeout, HardwareError

WINDOW_LIMIT_S = 10.0
PAINT_LIMIT_S = 3.0
MOVE_LIMIT_S = 1.5
"""How long a window manager may take to put the window where it belongs."""

GTK_SETTINGS = {"GDK_BACKEND": "x11", "GDK_SCALE": "1", "GDK_DPI_SCALE": "1"}

LIST_WX_MONITORS = (
    "import json, wx; app = wx.App(); "
    "print(json.dumps([list(wx.Display(i).GetGeometry()) for i in range(wx.Display.GetCount())]))"
)


class SlmpyPanel:
    """See `drivers.panels.panel_child.Panel`."""

    def __init__(self, monitor: Monitor, options: Mapping[str, str]) -> None:
        os.environ.update(GTK_SETTINGS)
        kind = display_class(options["module"])
        self._wx_thread_error: str | None = None
        threading.excepthook = self._thread_failed
        self._slm: Any = None
        index = _wx_index(monitor)
        opening = threading.Thread(target=self._open, args=(kind, index), daemon=True)
        opening.start()
        end = time.monotonic() + WINDOW_LIMIT_S
        while self._slm is None:
            self._need_wx_thread()
            if time.monotonic() > end:
                raise DeviceTimeout(f"slmPy has no window after {WINDOW_LIMIT_S:g} s; look into the log of this device")
            opening.join(0.02)
        self._put(monitor)

    def prepare(self, levels: Levels) -> Any:
        """See `Panel.prepare`."""
        return levels.copy().view(_WithToString)

    def paint(self, picture: Any) -> None:
        """See `Panel.paint`.

        `Update` paints now; asking for the mouse is a round trip on wx's own connection, so the server has drawn.
        """
        import wx

        self._need_wx_thread()
        self._slm.updateArray(picture, sleep=0)
        self._on_wx(lambda: (self._frame.Window.Update(), wx.GetMousePosition()), PAINT_LIMIT_S)

    def place(self) -> tuple[int, int, int, int]:
        """See `Panel.place`."""
        window = self._frame.Window
        left, top, columns, rows = self._on_wx(
            lambda: (*window.ClientToScreen((0, 0)), *window.GetClientSize()), PAINT_LIMIT_S
        )
        return left, top, columns, rows

    def look_after(self) -> None:
        """See `Panel.look_after`. wx repaints by itself in its own thread."""

    @property
    def _frame(self) -> Any:
        return self._slm.vt.frame

    def _open(self, kind: Any, index: int) -> None:
        self._slm = kind(index)

    def _put(self, monitor: Monitor) -> None:
        """Bring the window onto `monitor`: some window managers, and their absence, put it elsewhere."""
        import wx

        frame, place = self._frame, (monitor.left, monitor.top)

        def full_screen(on: bool) -> object:
            return frame.ShowFullScreen(on, wx.FULLSCREEN_ALL)

        repairs: tuple[Callable[[], object], ...] = (
            lambda: None,
            lambda: [full_screen(False), frame.Move(*place), full_screen(True)],
            lambda: [full_screen(False), frame.SetSize(*place, monitor.columns, monitor.rows)],
        )
        for repair in repairs:
            self._on_wx(repair, PAINT_LIMIT_S)
            if stays_in_place(self, monitor, MOVE_LIMIT_S):
                return
        raise HardwareError(f"{wrong_place(self.place(), monitor)}; use another window manager or the pygame driver")

    def _on_wx(self, work: Callable[[], Any], limit_s: float) -> Any:
        """What `work` returns when wx's own thread does it. Raises DeviceTimeout, HardwareError."""
        import wx

        done = threading.Event()
        result: list[Any] = []
        error: list[Exception] = []

        def guarded() -> None:
            try:
                result.append(work())
            except Exception as caught:  # noqa: BLE001 - wx would print it and go on
                error.append(caught)
            done.set()

        wx.CallAfter(guarded)
        if not done.wait(limit_s):
            self._need_wx_thread()
            raise DeviceTimeout(f"the wx window of slmPy does not answer within {limit_s:g} s; open the rig anew")
        if error:
            raise HardwareError(f"the wx window of slmPy is gone ({error[0]}); open the rig anew")
        return result[0]

    def _need_wx_thread(self) -> None:
        if self._wx_thread_error is not None:
            raise HardwareError(f"slmPy's wx thread failed: {self._wx_thread_error}; open the rig anew")

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        self._wx_thread_error = f"{failure.exc_type.__name__}: {failure.exc_value}"
        sys.stderr.write(f"{self._wx_thread_error}\n")


class _WithToString(np.ndarray[Any, Any]):
    """An array with the method `tostring` that slmPy calls and numpy 2.3 took away; it survives slmPy's stacking."""

    __array_priority__ = 10.0

    def tostring(self, order: Any = "C") -> bytes:
        return self.tobytes(order)


def _wx_index(monitor: Monitor) -> int:
    """wx's own index of `monitor`; 0 where wx does not know it, as when a virtual screen is cut in two.

    Asked in a process of its own: wx can be started only once in a process, and slmPy wants to start it.
    """
    try:
        answer = subprocess.run(
            [sys.executable, "-c", LIST_WX_MONITORS],
            capture_output=True,
            text=True,
            timeout=WINDOW_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceTimeout(f"wx does not start within {WINDOW_LIMIT_S:g} s; check the display server") from None
    lines = answer.stdout.splitlines()
    if answer.returncode != 0 or not lines:
        said = answer.stderr.strip().splitlines()[-1:] or [f"exit code {answer.returncode}"]
        raise HardwareError(f"wx cannot start: {said[0]}; check wxPython and the display server")
    wanted = [monitor.left, monitor.top, monitor.columns, monitor.rows]
    there = json.loads(lines[-1])
    return there.index(wanted) if wanted in there else 0


if __name__ == "__main__":
    serve_panel(SlmpyPanel)
