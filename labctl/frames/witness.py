"""Proof that a frame of a large set shows its scene, and nothing of the scene before it.

A coded frame looks like every other one, and a mark beside the picture would not be seen through a mask. So a witness
foretells what the rig would measure for the frame's own scene, and for the one before, and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from labctl.exposure import Exposure, FloatArray, Frames
from labctl.frames.record import WitnessScore
from labctl.frames.witness_blocks import BlockGrid
from labctl.frames.witness_judge import BlockWitness
from labctl.frames.witness_learning import LEAST_CALIBRATION, check_calibration, learn_witness
from labctl.frames.witness_measuring import Bench, measure_dark, measure_responses, settled_exposures
from labctl.rig import Rig

__all__ = [
    "BLOCKS", "LEAST_CALIBRATION", "BlockWitness", "Witness", "exposures_of_witness", "load_witness", "measure_witness",
]  # fmt: skip

BLOCKS = 16
"""Blocks along each side of the scene. For digits 8 are enough, for faces through a disc they are not."""

REST_S = 0.1
"""Least settling time meanwhile. A display slower than this needs its `settle_s` in the rig file."""


class Witness(Protocol):
    """Says of each frame whether it shows what was asked for."""

    def judge(self, frame: Frames, scene: FloatArray, previous: FloatArray | None) -> WitnessScore:
        """Compare a single frame with its own `scene` and the `previous` one, both (1, H, W) radiance 0..1.

        previous: what stood on the display before; None when nothing did. The word is `right`, `stale` (the previous
        scene), `torn` (some of each, in space or in time) or `wrong` (something else). Where the two scenes are too
        alike to be told apart, nothing is called stale or torn: see `tells_apart`.
        """

    def tells_apart(self, scene: FloatArray, previous: FloatArray) -> bool:
        """Whether a frame of `previous` in place of `scene` would be noticed."""


def measure_witness(
    rig: Rig,
    mask: FloatArray,
    scene_shape: tuple[int, int],
    exposure: Exposure,
    *,
    first_id: int,
    calibration_scenes: FloatArray,
    blocks: int = BLOCKS,
    rest_s: float = REST_S,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BlockWitness:
    """A witness for frames of (H, W) `scene_shape` scenes through `mask` (H, W), from measured templates.

    Takes `exposures_of_witness` exposures by `Rig.stream`, with ids from `first_id` on: black, grey, every block by
    itself, then `calibration_scenes` (N, 1, H, W), other scenes than those judged later, but of their kind. The
    displays get twice their settling time, `rest_s` at least. exposure: that of the first rung; others are understood.
    progress: called with how many exposures are done, and of how many.
    Raises BadInput when there are too few scenes, no scene display, or when this rig's frames cannot tell scenes apart.
    """
    check_calibration(len(calibration_scenes))
    grid = BlockGrid.fitting(scene_shape, blocks)
    planned = exposures_of_witness(scene_shape, len(calibration_scenes), blocks=blocks)
    with Bench(rig, mask, exposure, first_id, rest_s, planned, progress) as bench:
        dark, noise, block_s = measure_dark(bench, scene_shape)
        responses = measure_responses(bench, grid, dark, block_s)
        frames = bench.take(calibration_scenes)
    return learn_witness(responses, dark, noise, bench.bins, frames, calibration_scenes)


def exposures_of_witness(scene_shape: tuple[int, int], calibration_scenes: int, *, blocks: int = BLOCKS) -> int:
    """How many exposures `measure_witness` takes."""
    return settled_exposures(calibration_scenes) + len(BlockGrid.fitting(scene_shape, blocks))


def load_witness(path: Path) -> BlockWitness:
    """What `BlockWitness.save` wrote; it says the same words. Raises BadInput when the file cannot be read."""
    return BlockWitness.load(path)
