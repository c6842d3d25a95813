"""Another program's window on top of a panel, as a notification or a screen lock is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from Xlib import display as xlib


class OtherWindow:
    """A grey window that no window manager touches. left, top, columns, rows: pixels of the screen."""

    def __init__(self, server: str, place: tuple[int, int, int, int]) -> None:
        self._server = xlib.Display(server)
        screen = self._server.screen()
        left, top, columns, rows = place
        self._window = screen.root.create_window(
            left, top, columns, rows, 0, screen.root_depth, override_redirect=True, background_pixel=0x808080
        )

    def raise_it(self) -> None:
        """Cover what is below. Returns when the server has done it."""
        self._window.map()
        self._window.raise_window()
        self._server.sync()

    def lower_it(self) -> None:
        """Go away."""
        self._window.unmap()
        self._server.sync()

    def close(self) -> None:
        """Go for good."""
        self._server.close()


@contextmanager
def other_window(server: str, place: tuple[int, int, int, int]) -> Iterator[OtherWindow]:
    """A window that is not yet on the screen, and is gone afterwards."""
    window = OtherWindow(server, place)
    try:
        yield window
    finally:
        window.close()
