"""How long `show` takes at 1920x1080 on a virtual screen, against a bare pygame window that converts, blits and flips.

Ours checks, copies to a child process, and comes back when the display server has drawn; so does the bare window, in
this process. slmPy has no faster way to the screen, so both drivers are compared with pygame.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.panels.pygame_child import SDL_SETTINGS
from labctl.devices import Levels
from tests.drivers.panels.conftest import DRIVERS, panel
from tests.drivers.panels.screens import Screen, xvfb

PASSES, ROUNDS = 3, 60
SHAPE = (1080, 1920)
Show = Callable[[Levels], object]


@contextlib.contextmanager
def bare_pygame(screen: Screen) -> Iterator[Show]:
    """Nothing but the window."""
    os.environ.update({**SDL_SETTINGS, **screen.environment})
    import pygame

    pygame.display.init()
    window = pygame.display.set_mode(SHAPE[::-1], pygame.FULLSCREEN)
    pygame.mouse.set_visible(False)
    for _ in range(20):  # until the server has mapped it
        pygame.event.pump()
        pygame.time.wait(10)
    greys = [(level, level, level) for level in range(256)]

    def show(levels: Levels) -> None:
        surface = pygame.image.frombuffer(levels.tobytes(), SHAPE[::-1], "P")
        surface.set_palette(greys)
        window.blit(surface, (0, 0))
        pygame.display.flip()

    try:
        yield show
    finally:
        pygame.display.quit()


@contextlib.contextmanager
def driver_window(driver: str, screen: Screen, verify: str) -> Iterator[Show]:
    """One of ours."""
    display = panel(driver, screen, verify=verify)
    display.open()
    try:
        yield display.show
    finally:
        display.close()


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with xvfb(tmp_path_factory.mktemp("xvfb"), "1920x1080") as started:
        yield started


def comparisons() -> Iterator[Any]:
    """Methods alternate, so that a busy machine hits all alike."""
    for driver, turn in itertools.product(DRIVERS, range(PASSES)):
        if driver == "pygame" or find_spec("wx"):
            for role, label in (("floor", "bare pygame"), ("ours", "show"), ("other", "show, read back every time")):
                yield pytest.param(driver, role, label, id=f"{driver}-{label}-{turn}")


@pytest.mark.parametrize(("driver", "role", "label"), list(comparisons()))
def test_show(benchmark: Any, screen: Screen, tmp_path: Path, driver: str, role: str, label: str) -> None:
    pictures = itertools.cycle(np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8))
    verify = "every" if role == "other" else "open"
    window = bare_pygame(screen) if role == "floor" else driver_window(driver, screen, verify)
    with window as show:
        levels = next(pictures)
        show(levels)
        assert (screen.frame_buffer_pixels() == levels[..., None]).all()
        benchmark.group = f"show, {driver}, 1920x1080"
        benchmark.extra_info.update(ratio_group=benchmark.group, role=role, label=label)
        benchmark.pedantic(show, setup=lambda: ((next(pictures),), {}), rounds=ROUNDS, warmup_rounds=3)
