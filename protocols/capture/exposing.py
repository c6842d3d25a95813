"""Planned frames as exposures of the rig: which scene, mask and time each gets, in plans that fit in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labctl.exposure import Exposure, ExposurePlan, FloatArray, Frames, still_plan
from labctl.frames.scenes import scene_hash
from protocols.capture.drift import sentinel_scene
from protocols.capture.exposures import CHECK_IDS
from protocols.capture.metadata import mask_facts
from protocols.capture.order import MASK_CLOSED, CapturePlan

if TYPE_CHECKING:
    from labctl.rig import Rig
    from protocols.capture.patterns import FramePatterns
    from protocols.data import ImageSet

PART = 512
"""Scenes that are read and sent to the rig at a time; bounds memory, not results."""

PART_BYTES = 128 * 2**20
"""The same for large scenes, as float32."""


class Exposer:
    """Exposes the frames of a plan on a rig.

    exposures: one for each rung. first_id: frame i of the plan is exposure first_id + i, at whatever attempt.
    patterns: of a dynamic design, what scenes are taken through in place of `mask`.
    """

    def __init__(
        self,
        rig: Rig,
        plan: CapturePlan,
        data: ImageSet,
        mask: FloatArray,
        exposures: Sequence[Exposure],
        *,
        first_id: int,
        patterns: FramePatterns | None = None,
    ) -> None:
        self._rig, self.plan, self._data, self._exposures, self._first_id = rig, plan, data, exposures, first_id
        scene_px = (data.images.shape[-2], data.images.shape[-1])
        self._mask, self._closed, self._patterns = mask, np.zeros_like(mask), patterns
        self._black = np.zeros((1, *scene_px), dtype=np.float32)
        self._sentinel = sentinel_scene(scene_px)
        self._part = max(1, min(PART, PART_BYTES // self._black.nbytes))
        self._facts = {closed: mask_facts(self._closed if closed else mask, rig) for closed in (False, True)}
        self._hashes: dict[int, str] = {}
        # Own patterns of frames that were planned and not told of yet: a pattern is drawn for the plan alone.
        self._own: dict[int, FloatArray] = {}

    def stream(self, start: int) -> Iterator[tuple[int, FloatArray, Frames]]:
        """Index, scene (1, H, W) and frame of planned frames from `start` on, of one mask and exposure, in order.

        A new plan begins like a resumed capture: settled.
        """
        indices = np.arange(start, self.plan.segment_end(start, self._part))
        scenes = self._scenes(indices)
        plan = self._exposure_plan(scenes, indices)
        with contextlib.closing(self._rig.stream(plan)) as frames:  # type: ignore[type-var]
            for place, frame in enumerate(frames):
                yield start + place, scenes[place], frame

    def again(self, index: int, attempt: int) -> Frames:
        """One planned frame by itself, from displays settled anew."""
        return self._rig.expose(self._exposure_plan(self.scene(index)[None], np.array([index]), attempt))

    def sentinel_beside(self, number: int) -> Frames:
        """A sentinel beside the plan, the `number`-th of this capture."""
        ids = [self._first_id + CHECK_IDS + number]
        return self._rig.expose(still_plan(self._sentinel[None], self._mask, self._exposures[0], exposure_ids=ids))

    def scene(self, index: int) -> FloatArray:
        """(1, H, W) radiance that planned frame `index` sees."""
        return self._scenes(np.array([index]))[0]

    def facts(self, index: int, scene: FloatArray) -> dict[str, object]:
        """What the plan knows of frame `index`, as `FrameRecord` names it; once, after it was exposed."""
        plan, row = self.plan, int(self.plan.rows[index])
        facts: dict[str, object] = {"kind": plan.kind(index), "rung": int(plan.rungs[index])}
        if row >= 0:
            label = int(self._data.labels[row])
            facts |= {
                "sample_id": int(self._data.sample_ids[row]),
                "label": label,
                "label_name": self._data.class_names[label],
                "split": int(self._data.split[row]),
                "repeat": int(plan.repeats[index]),
            }
        # Of special frames there are few scenes, of samples as many as there are rows.
        key = row if row >= 0 else -1 - int(plan.kinds[index])
        if key not in self._hashes:
            self._hashes[key] = scene_hash(scene)
        shown = self._facts[plan.kind(index) in MASK_CLOSED]
        if self._has_pattern(index):
            shown = mask_facts(self._own.pop(index), self._rig)
        return {**facts, "scene_hash": self._hashes[key], **shown}

    def _exposure_plan(self, scenes: FloatArray, indices: np.ndarray, attempt: int = 0) -> ExposurePlan:
        """Of frames that share the exposure, and the mask unless scenes have patterns of their own."""
        return ExposurePlan(
            scenes=scenes[:, None],
            masks=self._masks(indices)[:, None],
            exposure=self._exposures[self.plan.rungs[indices[0]]],
            exposure_ids=(self._first_id + indices).astype(np.int64),
            attempt=attempt,
        )

    def _scenes(self, indices: np.ndarray) -> FloatArray:
        rows = self.plan.rows[indices]
        scenes = np.empty((len(indices), *self._black.shape), dtype=np.float32)
        shown = rows >= 0
        if shown.any():
            scenes[shown] = self._data.images[rows[shown]]
        for place in np.flatnonzero(~shown):
            is_sentinel = self.plan.kind(int(indices[place])) == "sentinel"
            scenes[place] = self._sentinel if is_sentinel else self._black
        return scenes

    def _masks(self, indices: np.ndarray) -> FloatArray:
        """(1, H, W) for all of these frames, or (n, H, W), one each."""
        first = self._closed if self.plan.kind(int(indices[0])) in MASK_CLOSED else self._mask
        own = [place for place, index in enumerate(indices) if self._has_pattern(int(index))]
        if not own or self._patterns is None:
            return first[None]
        masks = np.repeat(first[None], len(indices), axis=0)
        masks[own] = self._patterns.of(self._data.sample_ids[self.plan.rows[indices[own]]])
        self._own |= {int(indices[place]): masks[place] for place in own}
        return masks

    def _has_pattern(self, index: int) -> bool:
        return self._patterns is not None and self.plan.kind(index) == "scene"
