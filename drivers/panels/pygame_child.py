"""The child of the `pygame` driver: a full-screen SDL window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from drivers.panels.monitors import Monitor
from drivers.panels.panel_child import serve_panel, stays_in_place
from labctl.devices import Levels

PLACE_LIMIT_S = 2.0
"""How long a window manager may take to put the window where it belongs."""

SDL_SETTINGS = {
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_VIDEODRIVER": "x11",  # on a Wayland desktop too: a Wayland client cannot know where its window is
    "SDL_FRAMEBUFFER_ACCELERATION": "0",  # a plain copy to the server is exact and 8 times faster than software GL
    "SDL_VIDEO_MINIMIZE_ON_FOCUS_LOSS": "0",  # or a click on another monitor takes the mask away
    "SDL_VIDEO_CENTERED": "0",
}


class PygamePanel:
    """See `drivers.panels.panel_child.Panel`."""

    def __init__(self, monitor: Monitor, options: Mapping[str, str]) -> None:
        os.environ.update(SDL_SETTINGS)
        import pygame
        from pygame import _sdl2

        self._pygame = pygame
        pygame.display.init()
        pygame.display.set_allow_screensaver(False)
        size = (monitor.columns, monitor.rows)
        index = _sdl_display(_sdl2, monitor)
        if pygame.display.get_desktop_sizes()[index] == size:
            self._screen = pygame.display.set_mode(size, pygame.FULLSCREEN, display=index)
        else:  # SDL does not know this monitor, as when a virtual screen is cut in two: a window without borders
            os.environ["SDL_VIDEO_WINDOW_POS"] = f"{monitor.left},{monitor.top}"
            self._screen = pygame.display.set_mode(size, pygame.NOFRAME)
        pygame.display.set_caption("labctl panel")
        pygame.mouse.set_visible(False)
        self._window: Any = _sdl2.Window.from_display_module()
        self._last: Any = None
        stays_in_place(self, monitor, PLACE_LIMIT_S)  # whether it did is asked last of all in `open`

    def prepare(self, levels: Levels) -> Any:
        """See `Panel.prepare`."""
        rows, columns = levels.shape
        grey = self._pygame.image.frombuffer(levels.tobytes(), (columns, rows), "P")
        grey.set_palette([(level, level, level) for level in range(256)])
        return grey.convert(self._screen)

    def paint(self, picture: Any) -> None:
        """See `Panel.paint`. SDL's frame-buffer path ends with XSync: the server has drawn when flip returns."""
        self._last = picture
        self._screen.blit(picture, (0, 0))
        self._pygame.display.flip()

    def place(self) -> tuple[int, int, int, int]:
        """See `Panel.place`."""
        left, top = self._window.position
        columns, rows = self._window.size
        return left, top, columns, rows

    def look_after(self) -> None:
        """See `Panel.look_after`. What was uncovered is painted anew."""
        exposed = {self._pygame.VIDEOEXPOSE, self._pygame.WINDOWEXPOSED}
        seen = {event.type for event in self._pygame.event.get()}
        if seen & exposed and self._last is not None:
            self.paint(self._last)


def _sdl_display(sdl2: Any, monitor: Monitor) -> int:
    """SDL's own index of the display at the place of `monitor`; SDL counts the primary one first, X may not."""
    middle = (monitor.left + monitor.columns // 2, monitor.top + monitor.rows // 2)
    probe = sdl2.Window("labctl panel", size=(1, 1), position=middle, hidden=True)
    index: int = probe.display_index
    probe.destroy()
    return index


if __name__ == "__main__":
    serve_panel(PygamePanel)
