"""What a training with the hardware in the loop will ask of the bench: exposures, mask changes, hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from labctl.timing import load_timing

if TYPE_CHECKING:
    from labctl.rig_file import RigSpec

GradientRule = Literal["sim", "straight_through", "physics_aware", "learned_twin"]
"""Where value and slope of a frame come from while a camera learns.

`sim`: both from the simulator; nothing is exposed. The others measure every frame. `straight_through`: slope of the
simulator of the rig file. `physics_aware`: slope of the given fitted twin at what was really shown, for how long, and
without the pixels that saturated. [Wright et al. 2022] `learned_twin`: the same, the twin refitted on the captures.
"""

Learns = Literal["both", "mask", "classifier"]

FITTED_RULES: frozenset[str] = frozenset({"physics_aware", "learned_twin"})
"""Rules whose slope is that of a fitted twin."""

PILOTS = 28
"""Exposures of the search for an exposure time and of the look for light, roughly."""

SIMULATED_S = 1e-3
"""For one exposure of a simulated rig; its displays settle in simulated time."""

FRAME_S = 0.02
"""From the end of an exposure to the frame, where it was not measured."""

SETTLE_S = 0.1
"""Of a display, where neither the rig file says it nor `labctl timing` measured it."""


@dataclass(frozen=True)
class LoopPlan:
    """exposures: frames in all. batches: plans that the rig gets; each begins with displays settled twice.

    mask_changes: at most, the first one included.
    """

    exposures: int
    batches: int
    mask_changes: int

    def seconds(self, spec: RigSpec, exposure_s: float) -> float:
        """How long the bench is busy with it, by the settling and the delays that are known of it."""
        if spec.simulated:
            return SIMULATED_S * self.exposures
        timing = load_timing(spec.name)
        scene_s, mask_s = (_settle_s(spec, name) for name in ("scene", "mask"))
        frame_s = FRAME_S if timing is None else timing.camera.frame_s
        once_s = 2 * max(scene_s, mask_s)
        return self.exposures * (exposure_s + scene_s + frame_s) + self.batches * once_s


def plan_loop(
    *, steps: int, epochs: int, moving_steps: int, train: int, val: int, searched: bool, reused: bool, block: int
) -> LoopPlan:
    """The plan of a training of `steps` in `epochs`, in `moving_steps` of which the mask may change.

    train, val: scenes of these splits. reused: each is exposed once, `block` at a time, and its frame used again in
    every epoch. searched: the exposure time is searched first.
    """
    pilots = PILOTS if searched else 0
    if reused:
        return LoopPlan(train + val + pilots, -(-(train + val) // block) + pilots, 1)
    return LoopPlan(epochs * train + val + pilots, steps + -(-val // block) + pilots, 1 + moving_steps)


def _settle_s(spec: RigSpec, name: str) -> float:
    said = getattr(spec.devices.get(name), "settle_s", None)
    if said is not None:
        return float(said)
    timing = load_timing(spec.name)
    measured = None if timing is None else timing.displays.get(name)
    return SETTLE_S if measured is None else measured.settle_s
