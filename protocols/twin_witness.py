"""A witness that foretells frames by the twin of the rig, and learns by calibration frames how far the twin is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from labctl.exposure import Exposure, FloatArray
from labctl.frames.witness import BLOCKS, REST_S, BlockWitness
from labctl.frames.witness_blocks import Bins, BlockGrid, BlockResponses
from labctl.frames.witness_learning import check_calibration, learn_witness
from labctl.frames.witness_measuring import Bench, measure_dark, settled_exposures
from protocols.simulation import CHUNK

if TYPE_CHECKING:
    from labctl.rig import Rig
    from sim.twin import Twin


def twin_witness(
    rig: Rig,
    twin: Twin,
    mask: FloatArray,
    scene_shape: tuple[int, int],
    exposure: Exposure,
    *,
    first_id: int,
    calibration_scenes: FloatArray,
    rest_s: float = REST_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BlockWitness:
    """As `labctl.frames.witness.measure_witness`, with the responses of all blocks computed by `twin`.

    Only black, grey and calibration scenes are exposed. What the twin has wrong, brightness, gain and the mixing of
    features, is learned from the calibration frames by ridge regression; the more of them, the better (128 are good).
    """
    check_calibration(len(calibration_scenes))
    grid = BlockGrid.fitting(scene_shape, BLOCKS)
    planned = settled_exposures(len(calibration_scenes))
    with Bench(rig, mask, exposure, first_id, rest_s, planned, progress) as bench:
        responses = twin_responses(twin, mask, grid, bench.exposure, bench.bins)
        dark, noise, _ = measure_dark(bench, scene_shape)
        frames = bench.take(calibration_scenes)
    return learn_witness(responses, dark, noise, bench.bins, frames, calibration_scenes)


def twin_responses(twin: Twin, mask: FloatArray, grid: BlockGrid, exposure: Exposure, bins: Bins) -> BlockResponses:
    """Light of every block of the scene through (H, W) `mask`, as `twin` computes it: without noise."""
    rows, columns = bins.frame_shape[1:]
    cells = torch.from_numpy(np.asarray(mask))

    def light(scenes: FloatArray) -> FloatArray:
        with torch.no_grad():
            frames = twin.measure(
                torch.from_numpy(scenes[:, None]),
                cells,
                exposure_s=exposure.exposure_s,
                gain_db=exposure.gain_db,
                roi=(rows, columns),
                quantise=False,
            )
        return bins.means(frames.cpu().numpy().astype(np.float64))

    patterns = grid.patterns()
    black = light(np.zeros((1, *grid.scene_shape), dtype=np.float32))
    lit = np.concatenate([light(patterns[start : start + CHUNK]) for start in range(0, len(patterns), CHUNK)])
    return BlockResponses(grid, lit - black, exposure.exposure_s, exposure.gain_db)
