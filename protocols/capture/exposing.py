"""Planned frames as exposures of the rig: which scene, mask and time each gets, in plans that fit in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labctl.exposure import Exposure, FloatArray, Frames, still_plan
from labctl.frames.scenes import scene_hash
from protocols.capture.drift import sentinel_scene
from protocols.capture.exposures import CHECK_IDS
from protocols.capture.metadata import mask_facts
from protocols.capture.order import MASK_CLOSED, CapturePlan

if TYPE_CHECKING:
    from labctl.rig import Rig
    from protocols.data import ImageSet

PART = 512
"""Scenes that are read and sent to the rig at a time; bounds memory, not results."""

PART_BYTES = 128 * 2**20
"""The same for large scenes, as float32."""


class Exposer:
    """Exposes the frames of a plan on a rig.

    exposures: one for each rung. first_id: frame i of the plan is exposure first_id + i, at whatever attempt.
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
    ) -> None:
        self._rig, self.plan, self._data, self._exposures, self._first_id = rig, plan, data, exposures, first_id
        scene_px = (data.images.shape[-2], data.images.shape[-1])
        self._mask, self._closed = mask, np.zeros_like(mask)
        self._black = np.zeros((1, *scene_px), dtype=np.float32)
        self._sentinel = sentinel_scene(scene_px)
        self._part = max(1, min(PART, PART_BYTES // self._black.nbytes))
        self._facts = {closed: mask_facts(self._closed if closed else mask, rig) for closed in (False, True)}
        self._hashes: dict[int, str] = {}

    def stream(self, start: int) -> Iterator[tuple[int, FloatArray, Frames]]:
        """Index, scene (1, H, W) and frame of planned frames from `start` on, of one mask and exposure, in order.

        A new plan begins like a resumed capture: settled.
        """
        stop = self.plan.segment_end(start, self._part)
        scenes = self._scenes(np.arange(start, stop))
        ids = self._first_id + np.arange(start, stop)
        plan = still_plan(scenes, self._mask_of(start), self._exposures[self.plan.rungs[start]], exposure_ids=ids)
        with contextlib.closing(self._rig.stream(plan)) as frames:  # type: ignore[type-var]
            for place, frame in enumerate(frames):
                yield start + place, scenes[place], frame

    def again(self, index: int, attempt: int) -> Frames:
        """One planned frame by itself, from displays settled anew."""
        exposure = self._exposures[self.plan.rungs[index]]
        ids = [self._first_id + index]
        plan = still_plan(self.scene(index)[None], self._mask_of(index), exposure, exposure_ids=ids, attempt=attempt)
        return self._rig.expose(plan)

    def sentinel_beside(self, number: int) -> Frames:
        """A sentinel beside the plan, the `number`-th of this capture."""
        ids = [self._first_id + CHECK_IDS + number]
        return self._rig.expose(still_plan(self._sentinel[None], self._mask, self._exposures[0], exposure_ids=ids))

    def scene(self, index: int) -> FloatArray:
        """(1, H, W) radiance that planned frame `index` sees."""
        return self._scenes(np.array([index]))[0]

    def facts(self, index: int, scene: FloatArray) -> dict[str, object]:
        """What the plan knows of frame `index`, as `FrameRecord` names it."""
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
        return {**facts, "scene_hash": self._hashes[key], **self._facts[plan.kind(index) in MASK_CLOSED]}

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

    def _mask_of(self, index: int) -> FloatArray:
        return self._closed if self.plan.kind(index) in MASK_CLOSED else self._mask
