"""The light that reaches the sensor during one exposure, however the displays move meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sim.virtual_lab.bench.response import radiance, transmittance
from sim.virtual_lab.bench.screen_history import Piece, ScreenHistory
from sim.virtual_lab.bench.settings import Truth
from sim.virtual_lab.bench.shadow import ShadowCaster

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Illumination:
    """Fractions 0..1: lamp power, and how far the shutter is open."""

    lamp: float = 1.0
    shutter: float = 1.0


def mean_photons_per_s(
    truth: Truth,
    caster: ShadowCaster,
    mask: ScreenHistory,
    scene: ScreenHistory,
    *,
    start_s: float,
    end_s: float,
    light: Illumination,
) -> Array:
    """(rows, columns) photons per second, the mean over the exposure. Raises Unseen.

    The light is linear in the transmittance and in the radiance. So each is averaged over every stretch of time in
    which neither display was changed, with its own response curve, and the stretches are summed.
    """
    shares = _shares(mask, scene, start_s, end_s)
    masks = list(dict.fromkeys(pair[0] for pair in shares))
    scenes = list(dict.fromkeys(pair[1] for pair in shares))
    through = {piece: _mean_transmittance(piece, truth) for piece in masks}
    shining = {piece: _mean_radiance(piece, truth, light) for piece in scenes}
    total = np.zeros(truth.silicon.shape)
    if len(masks) <= len(scenes):
        for piece in masks:
            seen = sum(share * shining[other] for (own, other), share in shares.items() if own is piece)
            total += caster.photons_per_s(through[piece], np.asarray(seen), piece.key)
    else:
        for piece in scenes:
            mixed = sum(share * through[other] for (other, own), share in shares.items() if own is piece)
            total += caster.photons_per_s(np.asarray(mixed), shining[piece])
    return total


def _shares(
    mask: ScreenHistory, scene: ScreenHistory, start_s: float, end_s: float
) -> dict[tuple[Piece, Piece], float]:
    """Share of the exposure in which a piece of the mask and a piece of the scene stand together."""
    inner = sorted({*mask.cuts(start_s, end_s), *scene.cuts(start_s, end_s)})
    edges = [start_s, *inner, end_s]
    still: dict[bytes, Piece] = {}
    shares: dict[tuple[Piece, Piece], float] = {}
    for low, high in pairwise(edges):
        pair = (_known(mask.piece(low, high), still, b"mask"), _known(scene.piece(low, high), still, b"scene"))
        shares[pair] = shares.get(pair, 0.0) + (high - low) / (end_s - start_s)
    return shares


def _known(piece: Piece, still: dict[bytes, Piece], display: bytes) -> Piece:
    """The same piece for the same settled picture."""
    return piece if piece.key is None else still.setdefault(display + piece.key, piece)


def _mean_transmittance(piece: Piece, truth: Truth) -> Array:
    return _weighted([transmittance(levels, truth.panel) for levels in piece.levels], piece.weights)


def _mean_radiance(piece: Piece, truth: Truth, light: Illumination) -> Array:
    """A monitor that has settled at level 0 counts as taken away: then the live scene stands there, lit by the lamp."""
    passing = light.shutter if truth.light.shutter_before == "camera" else 1.0
    if piece.key is not None and not piece.levels[0].any():
        return np.full(truth.scene_px, truth.light.live_scene * light.lamp * light.shutter)
    return passing * _weighted([radiance(levels, truth.monitor) for levels in piece.levels], piece.weights)


def _weighted(pictures: Sequence[Array], weights: Sequence[float]) -> Array:
    return pictures[0] if len(pictures) == 1 else np.tensordot(weights, pictures, axes=1)
