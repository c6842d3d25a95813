"""A pattern sequence that plays in a panel's child, seen from the parent."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from labctl.errors import DeviceTimeout, HardwareError, LabctlError


class PanelPlayback:
    """See `labctl.devices.Playback`. The last dwell time ends with its slot; its pattern stays on the panel.

    play: plays to the end in the child and returns the dwell times, fewer than `patterns` when it was stopped.
    """

    def __init__(self, name: str, patterns: int, slot_s: float, play: Callable[[], list[float]]) -> None:
        self._name, self._patterns, self._slot_s = name, patterns, slot_s
        self._dwell_s: npt.NDArray[np.float64] | None = None
        self._error: LabctlError | None = None
        self._thread = threading.Thread(target=self._run, args=(play,), name=f"labctl-play-{name}", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return not self._thread.is_alive()

    def join(self, limit_s: float) -> None:
        """Wait for the end, in whatever way, for at most `limit_s`."""
        self._thread.join(limit_s)

    def wait(self, timeout_s: float) -> npt.NDArray[np.float64]:
        """See `Playback.wait`. Raises HardwareError when it was stopped by `blank`, `safe` or `close`."""
        self._thread.join(max(timeout_s, 0.0))
        if self._thread.is_alive():
            raise DeviceTimeout(
                f"{self._name} plays {self._patterns} patterns of {self._slot_s:g} s and is not through after another "
                f"{timeout_s:.3g} s; wait again"
            )
        if self._error is not None:
            raise self._error
        assert self._dwell_s is not None
        return self._dwell_s

    def _run(self, play: Callable[[], list[float]]) -> None:
        try:
            dwell_s = play()
        except LabctlError as error:
            self._error = error
            return
        if len(dwell_s) < self._patterns:
            self._error = HardwareError(
                f"{self._name}: the sequence was stopped after {len(dwell_s)} of {self._patterns} patterns; "
                "play it again"
            )
        self._dwell_s = np.array(dwell_s, dtype=np.float64)
