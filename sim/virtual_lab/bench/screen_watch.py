"""Reads the part of two monitors that matters, whenever the X server draws there."""

from __future__ import annotations

import select
import threading
import time

import mss
import numpy as np
import numpy.typing as npt
from Xlib import X
from Xlib.display import Display
from Xlib.error import ConnectionClosedError, DisplayError
from Xlib.ext import damage

from sim.virtual_lab.bench.screen_history import ScreenHistory

Levels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]

ONE_PICTURE_S = 0.004
"""Drawing operations that lie no farther apart belong to one picture: clients draw a picture in several."""

CLOCK_WRAP_MS = 1 << 32


class ScreenGone(Exception):
    """The X server does not answer any more."""


class ScreenWatch:
    """Two boxes (left, top, width, height) of one screen, each with its history.

    The server stamps every drawing with CLOCK_MONOTONIC in milliseconds, so a busy computer delays the reading but not
    the time that goes with it. Only when it was drawn twice before the bench came to read is something lost; then the
    time in between counts as unseen. A client that waits for its frame before it draws again never gets there, since
    the bench reads the screen before it answers.
    """

    def __init__(self, display: str) -> None:
        try:
            self._display = Display(display)
        except (DisplayError, OSError) as error:
            raise ScreenGone(f"the X server {display} cannot be reached: {error}") from error
        self._grabber = mss.MSS(display=display)
        self._display.damage_query_version()
        self._display.screen().root.damage_create(damage.DamageReportRawRectangles)
        self._display.sync()
        self._watched: list[tuple[Box, ScreenHistory]] = []
        self._lock = threading.Lock()
        self.pictures = 0
        self.slowest_s = 0.0
        self.gone = False
        threading.Thread(target=self._wait_for_drawings, name="screens", daemon=True).start()

    def grab(self, box: Box) -> Levels:
        """(height, width) levels on the screen now: the green of its pixels."""
        left, top, width, height = box
        shot = self._grabber.grab({"left": left, "top": top, "width": width, "height": height})
        picture: Levels = np.frombuffer(shot.raw, dtype=np.uint8).reshape(height, width, 4)[:, :, 1].copy()
        return picture

    def follow(self, watched: list[tuple[Box, ScreenHistory]]) -> None:
        """Fill these histories from now on, in place of any others."""
        with self._lock:
            self._watched = []
            self._read()
            self._watched = watched
            for box, history in watched:
                self._compare(box, history, time.monotonic())

    def catch_up(self) -> None:
        """Read everything that was drawn before this call. Raises ScreenGone."""
        with self._lock:
            if self.gone:
                raise ScreenGone("the X server is gone; start the virtual lab anew")
            try:
                self._display.sync()
                self._read()
            except (ConnectionClosedError, OSError, mss.ScreenShotError) as error:
                self.gone = True
                raise ScreenGone(f"the X server is gone ({error}); start the virtual lab anew") from error

    def _wait_for_drawings(self) -> None:
        while not self.gone:
            select.select([self._display.fileno()], [], [], 1.0)
            try:
                self.catch_up()
            except ScreenGone:
                return

    def _read(self) -> None:
        drawn: list[list[float]] = [[] for _ in self._watched]
        while self._display.pending_events():
            event = self._display.next_event()
            if event.type == X.MappingNotify or not hasattr(event, "area"):
                continue
            now_s = time.monotonic()
            time_s = now_s - ((int(now_s * 1000) - event.timestamp) % CLOCK_WRAP_MS) / 1000
            for times, (box, _) in zip(drawn, self._watched, strict=True):
                if _meet(event.area, box):
                    times.append(time_s)
                    self.slowest_s = max(self.slowest_s, now_s - time_s)
        for times, (box, history) in zip(drawn, self._watched, strict=True):
            if times:
                self._record(box, history, min(times), max(times))

    def _record(self, box: Box, history: ScreenHistory, first_s: float, last_s: float) -> None:
        if last_s - first_s > ONE_PICTURE_S:
            history.record_unseen(first_s, last_s)
        self._compare(box, history, last_s)

    def _compare(self, box: Box, history: ScreenHistory, time_s: float) -> None:
        picture = self.grab(box)
        if not np.array_equal(picture, history.last):
            self.pictures += 1
            history.record(time_s, picture)


def _meet(area: object, box: Box) -> bool:
    left, top, width, height = box
    x, y, w, h = (getattr(area, name) for name in ("x", "y", "width", "height"))
    return bool(x < left + width and left < x + w and y < top + height and top < y + h)
