"""`capture`: show every scene through the mask and keep what the camera measured, to the last frame."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from labctl.config import content_hash
from labctl.durable import write_json
from labctl.errors import BadInput
from labctl.exposure import Exposure, FloatArray, Frames, still_plan
from labctl.frames.ledger import FrameLedger, read_capture
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.exposure_search import Pilot, search_exposure
from protocols.fit import check_exposure, check_fit, check_instruments
from protocols.keys import EXPOSURES_PER_STEP, first_exposure_id
from protocols.scenes import load_scenes, scenes_of
from protocols.splits import Split, spread
from protocols.train import Train

if TYPE_CHECKING:
    from labctl.rig import Rig
    from protocols.data import ImageSet

PILOT_IDS = EXPOSURES_PER_STEP // 2
"""Pilots take exposure ids from here on, captured frames from 0."""

HOT_SHARE = 0.002
"""Share of pixels that may stand at the top whatever the light: stuck ones must not shorten every exposure."""

PART = 512
"""Scenes that are read and sent to the rig at a time; bounds memory, not results."""

EXPOSURE_FILE = "exposure.json"
Count = Annotated[int, Ge(0)] | Literal["all"]


@dataclass(frozen=True)
class _Order:
    """What is captured, in order: one row per frame."""

    rows: npt.NDArray[np.int64]
    """Row of the image set."""

    repeats: npt.NDArray[np.int64]


class Capture(Step):
    """Captures coded frames of the data through a mask, interrupted and resumed at will.

    Exposure `auto` searches once, with a white scene through the same mask on the same rig, and holds for the whole
    set: a per-frame exposure would tell the classes apart by itself.
    """

    where: ClassVar[Literal["host", "child"]] = "host"
    outputs: ClassVar[Mapping[str, str]] = {"frames": "frames"}
    needs: ClassVar[frozenset[Role]] = frozenset({"mask", "scene", "camera"})
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "rig"})

    type: Literal["capture"]

    mask: Annotated[Reference, OutputKind("mask")]
    """What to show on the SLM."""

    train: Count = "all"
    """How many scenes of the training split to capture, spread evenly over it; the labelled captures of `finetune`."""

    val: Count = "all"
    test: Count = "all"

    exposure_s: Annotated[float, Gt(0), Le(60)] | Literal["auto"] = "auto"
    """As in the `train` that made the mask: frames of another brightness would be answered wrongly without a word."""

    fill: Annotated[float, Gt(0), Le(0.98)] = 0.9
    """With `auto`: the share of full scale that a white scene reaches. As in `train`, too."""

    repeats: Annotated[int, Ge(1), Le(1000)] = 1
    """Frames per scene; they are averaged when learned from."""

    block: Annotated[int, Ge(1), Le(4096)] = 32
    """Frames between two commits to the disk, and the longest wait for a stop."""

    instruments: dict[str, dict[str, float]] = {}
    """Quantities to set before, by instrument: `{lamp: {power: 0.8}}`. They are made safe with the rig."""

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit; instruments must be there."""
        check_fit(setting)
        check_instruments(self.instruments, setting)
        if self.exposure_s != "auto":
            check_exposure(self.exposure_s, setting)
        self._check_same_exposure(setting)
        if self.train == self.val == self.test == 0:
            raise BadInput("train, val and test are all 0; capture at least one scene", at=setting.at("train"))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Frames, bytes and what moves."""
        scene_px, cells = setting.protocol.grids()
        frames = len(self._order(scenes_of(setting.protocol)).rows)
        shape = setting.rig.twin.frame_shape(cells, scene_px)
        slowest = 0.0 if setting.rig.simulated else 0.1
        return Estimate(
            seconds=1 + frames * (0.002 + slowest + (0.0 if self.exposure_s == "auto" else self.exposure_s)),
            frames=frames,
            disk_bytes=frames * (2 * shape[0] * shape[1] + 400),
            moves=(
                "shows the mask on the SLM",
                f"plays {frames} scenes",
                f"triggers {frames} exposures and a few pilots",
            ),
        )

    def run(self, context: StepContext) -> StepResult:
        """Capture what is missing."""
        setting = context.setting
        scene_px, cells = setting.protocol.grids()
        data = load_scenes(context)
        for split, wanted in self._wanted():
            there = len(data.part(split))
            if wanted != "all" and wanted > there:
                context.log(f"{wanted} {split.name.lower()} scenes are asked for, {there} are there; all are captured")
        order = self._order(data)
        mask = np.load(context.input(self.mask))
        shape = setting.rig.twin.frame_shape(cells, scene_px)
        folder = context.folder / "frames"
        with FrameLedger(
            folder, frame_shape=(1, *shape), capture_hash=context.content_hash, planned=len(order.rows)
        ) as ledger:
            if ledger.recovery.dropped_lines or ledger.recovery.dropped_bytes:
                context.log(f"a crash left {ledger.recovery.dropped_bytes} bytes without a ledger line; cut off")
            if ledger.next_index:
                context.log(f"goes on at frame {ledger.next_index} of {len(order.rows)}")
            if ledger.next_index < len(order.rows):
                maker = setting.protocol.steps[self.mask.step]
                if self.exposure_s != "auto" and isinstance(maker, Train) and maker.exposure_s == "auto":
                    context.log(
                        f"exposure_s is {self.exposure_s:g} s whatever the mask, step '{self.mask.step}' exposes until "
                        f"white fills {maker.fill:g} of the sensor: until fine-tuned, accuracy holds at that level only"
                    )
                set_instruments(self.instruments, context.rig)
                exposure = self._exposure(context, mask, scene_px, shape)
                self._fill_ledger(context, ledger, order, data, mask, exposure)
        captured = read_capture(folder)
        metrics = {
            "frames": len(captured.records),
            "skipped": len(data.skipped),
            "exposure_s": float(captured.column("exposure_s")[0]),
            "saturated_fraction": float(captured.column("saturated_fraction").mean()),
        }
        return StepResult({"frames": folder}, metrics)

    def _fill_ledger(
        self,
        context: StepContext,
        ledger: FrameLedger,
        order: _Order,
        data: ImageSet,
        mask: FloatArray,
        exposure: Exposure,
    ) -> None:
        total = len(order.rows)
        mask_hash = content_hash(mask.tolist())
        for index, frame in self._frames(context, order.rows, ledger.next_index, data, mask, exposure):
            row = int(order.rows[index])
            said = {
                "sample_id": int(data.sample_ids[row]),
                "label": int(data.labels[row]),
                "label_name": data.class_names[int(data.labels[row])],
                "split": int(data.split[row]),
                "repeat": int(order.repeats[index]),
                "mask_hash": mask_hash,
                "design": context.setting.design,
            }
            ledger.append(frame.pixels[0], {**said, **frame_record(frame)})
            if (index + 1) % self.block == 0 or index + 1 == total:
                with context.shield():
                    ledger.commit()
                context.progress(index + 1, total, "frames")
                if index + 1 < total:
                    context.stop_here(f"{index + 1} of {total} frames are on the disk")

    def _frames(
        self,
        context: StepContext,
        rows: npt.NDArray[np.int64],
        start: int,
        data: ImageSet,
        mask: FloatArray,
        exposure: Exposure,
    ) -> Iterator[tuple[int, Frames]]:
        """Frames `start` and on with their place in `rows`. A new part begins like a resumed capture: settled."""
        first_id = first_exposure_id(context.content_hash)
        for first in range(start, len(rows), PART):
            part = rows[first : first + PART]
            ids = first_id + np.arange(first, first + len(part))
            plan = still_plan(data.images[part], mask, exposure, exposure_ids=ids)
            with contextlib.closing(context.rig.stream(plan)) as frames:
                yield from enumerate(frames, first)

    def _exposure(
        self, context: StepContext, mask: FloatArray, scene_px: tuple[int, int], shape: tuple[int, int]
    ) -> Exposure:
        """The exposure of this capture, searched once and kept in a file: a resumed capture must not search again."""
        path = context.folder / EXPOSURE_FILE
        if path.exists():
            return Exposure(exposure_s=json.loads(path.read_text())["exposure_s"], roi=shape)
        if self.exposure_s == "auto":
            exposure_s = white_exposure(
                context.rig,
                mask,
                scene_px,
                shape,
                self.fill,
                first_id=first_exposure_id(context.content_hash) + PILOT_IDS,
            )
        else:
            exposure_s = self.exposure_s
        taken = context.rig.devices().camera.configure(Exposure(exposure_s=exposure_s, roi=shape))
        write_json(path, {"exposure_s": taken.exposure_s, "how": str(self.exposure_s), "time": time.time()})
        return taken

    def _check_same_exposure(self, setting: StepSetting) -> None:
        maker = setting.protocol.steps[self.mask.step]
        if not isinstance(maker, Train):
            return
        if maker.exposure_s == "auto" and self.exposure_s != "auto":
            return  # a time found on the bench, whose light the twin need not know; `run` says what to look at
        for name in ("exposure_s", "fill") if self.exposure_s == "auto" else ("exposure_s",):
            here, there = getattr(self, name), getattr(maker, name)
            if here != there:
                raise BadInput(
                    f"{here} here, {there} in step '{self.mask.step}': the frames would be of another brightness than "
                    "those that the classifier learns; give both steps the same, and change the light by instruments",
                    at=setting.at(name),
                )

    def _wanted(self) -> tuple[tuple[Split, Count], ...]:
        return (Split.TRAIN, self.train), (Split.VAL, self.val), (Split.TEST, self.test)

    def _order(self, data: ImageSet) -> _Order:
        chosen = []
        for split, wanted in self._wanted():
            rows = data.part(split)
            chosen.append(rows[spread(len(rows), len(rows) if wanted == "all" else wanted)])
        rows = np.concatenate(chosen).astype(np.int64)
        if len(rows) == 0:
            raise BadInput("nothing to capture: the splits asked for hold no pictures; raise train, val or test")
        # Interleaved, so that slow drifts of the bench do not fall on one class or one split.
        rows = np.random.default_rng(0).permutation(rows)
        return _Order(np.tile(rows, self.repeats), np.repeat(np.arange(self.repeats), len(rows)))


def white_exposure(
    rig: Rig, mask: FloatArray, scene_px: tuple[int, int], roi: tuple[int, int], fill: float, *, first_id: int
) -> float:
    """Exposure time at which a white scene through `mask` stands at `fill` between black and full scale.

    The level is the mean of the middle of the frame: a peak would grow with noise and hot pixels, and give another
    exposure than the twin would.
    """
    camera = rig.devices().camera
    used = iter(range(first_id, first_id + EXPOSURES_PER_STEP // 4))

    def frame(level: float, exposure_s: float) -> npt.NDArray[np.uint16]:
        scene = np.full((1, 1, *scene_px), level, dtype=np.float32)
        plan = still_plan(scene, mask, Exposure(exposure_s=exposure_s, roi=roi), exposure_ids=[next(used)])
        return rig.expose(plan).pixels[0, 0]

    def pilot(exposure_s: float) -> Pilot:
        pixels = frame(1.0, exposure_s)
        rows, columns = pixels.shape
        middle = pixels[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
        return Pilot(float(middle.mean()), float(np.quantile(pixels, 1 - HOT_SHARE)))

    dark = float(frame(0.0, camera.exposure_limits_s[0]).mean())
    return search_exposure(
        pilot,
        target_dn=dark + fill * (camera.saturation_dn - dark),
        dark_dn=dark,
        top_dn=camera.saturation_dn,
        limits_s=camera.exposure_limits_s,
    )


def frame_record(frame: Frames) -> dict[str, Any]:
    """What the camera says of a single frame, as ledger values."""
    return {
        "exposure_id": int(frame.exposure_ids[0]),
        "frame_id": int(frame.frame_ids[0]),
        "attempt": frame.attempt,
        "exposure_s": float(frame.exposure_s[0]),
        "gain_db": float(frame.gain_db[0]),
        "camera_time_s": float(frame.camera_time_s[0]),
        "host_time_s": float(frame.host_time_s[0]),
        "saturated_fraction": float(frame.saturated_fraction[0]),
    }


def set_instruments(wanted: Mapping[str, Mapping[str, float]], rig: Rig) -> None:
    """Set quantities with read-back. Raises InterlockError outside their limits."""
    instruments = rig.devices().instruments
    for name, quantities in wanted.items():
        for quantity, value in quantities.items():
            instruments[name].set_quantity(quantity, value)
