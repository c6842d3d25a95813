"""What a bench is shown for the twin fit: scenes and masks that together tell its values apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SEED = 20_240_601
"""Of all patterns: two fits of one bench show the same."""

SCENES_PER_MASK = 4

FITTED_MASKS = ("cells-1", "cells-2", "cells-4", "grey-2", "grey-4", "few", "closed")
HELD_OUT_MASKS = ("cells-1", "grey-2")


@dataclass(frozen=True)
class Shown:
    """One mask with its scenes. mask: (H, W) transmittance. scenes: (n, Hs, Ws) radiance. name: in words."""

    name: str
    mask: FloatArray
    scenes: FloatArray


def fitted_patterns(
    cells: tuple[int, int], scene_px: tuple[int, int], trained: FloatArray | None = None
) -> list[Shown]:
    """Masks of several cell sizes, grey ones, one nearly closed and one closed, each with scenes of several scales.

    Coarse masks find the shadow from far, fine ones place it; grey levels tell the response of the panel; the closed
    mask tells the leak apart from stray light and offset. trained: a mask that the twin will be asked about.
    """
    return _patterns(FITTED_MASKS, cells, scene_px, trained, np.random.default_rng((SEED, 0)))


def held_out_patterns(
    cells: tuple[int, int], scene_px: tuple[int, int], trained: FloatArray | None = None
) -> list[Shown]:
    """Other masks and other scenes, to be foretold and never fitted; `trained` comes again, with other scenes."""
    return _patterns(HELD_OUT_MASKS, cells, scene_px, trained, np.random.default_rng((SEED, 1)))


def random_mask(kind: str, cells: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """(H, W) `cells-N` open at random in squares of N cells, `grey-N` at random levels, `few` open, or `closed`."""
    if kind == "closed":
        return np.zeros(cells)
    if kind == "few":
        return (rng.random(cells) < 0.06).astype(np.float64)
    what, size = kind.split("-")
    coarse = tuple(-(-n // int(size)) for n in cells)
    values = (rng.random(coarse) < 0.4).astype(np.float64) if what == "cells" else rng.random(coarse)
    return np.kron(values, np.ones((int(size), int(size))))[: cells[0], : cells[1]]


def random_scenes(scene_px: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """(4, H, W): squares at two scales, grey clouds, and a bright field with a dark patch and a gradient."""
    from scipy.ndimage import gaussian_filter

    rows, columns = scene_px
    squares = []
    for size in (3, 8):
        coarse = rng.random((-(-rows // size), -(-columns // size)))
        squares.append(np.kron(np.where(coarse < 0.4, rng.random(coarse.shape), 0.0), np.ones((size, size))))
    clouds = gaussian_filter(rng.standard_normal(scene_px), 2.0)
    clouds = (clouds - clouds.min()) / np.ptp(clouds)
    y, x = np.mgrid[:rows, :columns] / max(scene_px)
    field = 0.6 + 0.4 * np.cos(2 * np.pi * (rng.random() + x * rng.uniform(0.3, 1) + y * rng.uniform(0.3, 1)))
    top, left = (int(rng.integers(n // 6, n // 2)) for n in scene_px)
    field[top : top + rows // 4, left : left + columns // 4] = 0.0
    return np.stack([*(square[:rows, :columns] for square in squares), clouds, np.clip(field, 0, 1)])


def _patterns(
    kinds: tuple[str, ...],
    cells: tuple[int, int],
    scene_px: tuple[int, int],
    trained: FloatArray | None,
    rng: np.random.Generator,
) -> list[Shown]:
    shown = [Shown(kind, random_mask(kind, cells, rng), random_scenes(scene_px, rng)) for kind in kinds]
    if trained is not None:
        shown.append(Shown("trained", np.asarray(trained, dtype=np.float64), random_scenes(scene_px, rng)))
    return shown
