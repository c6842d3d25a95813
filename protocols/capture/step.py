"""`capture`: show every scene through the mask and keep what the camera measured, to the last frame."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import model_validator

from labctl.calibration.shelf import CalibrationSet
from labctl.errors import BadInput
from labctl.frames.card import write_card
from labctl.frames.header import Compression, Sync
from labctl.frames.layout import SCENES
from labctl.frames.record import KINDS
from labctl.frames.scenes import write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.writer import FrameWriter
from labctl.references import OutputKind, Reference
from labctl.steps import Estimate, Role, Source, Step, StepContext, StepResult, StepSetting
from protocols.calibrate.roads import measured_roads
from protocols.capture.drift import DriftWatch
from protocols.capture.exposing import Exposer
from protocols.capture.exposures import PILOT_IDS, check_ladder, found_exposure
from protocols.capture.judging import WitnessKind, open_witness, renew_witness, witness_exposures
from protocols.capture.metadata import About, FrameNotes, set_header, set_instruments
from protocols.capture.order import CLOSED_BLOCK, CapturePlan, OrderName, arrange, plan_capture, with_followers
from protocols.capture.patterns import FramePatterns, check_patterns
from protocols.capture.taking import FrameTaking, OnDrift
from protocols.fit import built_design, check_exposure, check_fit, check_instruments, check_panel
from protocols.keys import first_exposure_id
from protocols.scenes import load_scenes, scenes_of
from protocols.splits import IntArray, Split, spread
from protocols.train import Train

if TYPE_CHECKING:
    from protocols.data import ImageSet

LINE_BYTES = 1200
"""Of the ledger, for each frame."""

Count = Annotated[int, Ge(0)] | Literal["all"]
Every = Annotated[int, Ge(0), Le(1_000_000)]
"""Scene frames between two; 0: none."""


class Capture(Step):
    """Captures coded frames of the data through a mask, interrupted and resumed at will.

    One exposure holds for the whole set, searched once on the same rig: a per-frame exposure would tell the classes
    apart by itself.
    """

    where: ClassVar[Literal["host", "child"]] = "host"
    outputs: ClassVar[Mapping[str, str]] = {"frames": "frames"}
    needs: ClassVar[frozenset[Role]] = frozenset({"mask", "scene", "camera"})
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "rig"})
    version: ClassVar[int] = 2
    newer: ClassVar[frozenset[str]] = frozenset({"calibration", "closed_mask", "samples", "patterns"})

    type: Literal["capture"]

    mask: Annotated[Reference, OutputKind("mask")]
    """What to show on the SLM."""

    patterns: Annotated[Reference, OutputKind("model")] | None = None
    """The camera that draws a pattern for every scene, needed of a dynamic design; others draw `mask` every time.
    Pilots, backgrounds and sentinels are taken through `mask`, which stands for all patterns and is as open."""

    train: Count = "all"
    """How many scenes of the training split to capture, spread evenly over it; the labelled captures of `finetune`. Of
    clips: how many clips, each with all its frames."""

    val: Count = "all"
    test: Count = "all"

    exposure_s: Annotated[float, Gt(0), Le(60)] | Literal["auto"] = "auto"
    """As in the `train` that made the mask: frames of another brightness would be answered wrongly without a word."""

    pilot: Literal["white", "scenes"] = "white"
    """With `auto`: search with a white scene, as training does, or with scenes of the data, which use more of the
    sensor where scenes are dim. Then frames are brighter than those that `train` made: fine-tune before you trust."""

    pilot_scenes: Annotated[int, Ge(1), Le(1024)] = 32
    """With `pilot: scenes`: how many, spread over what is captured."""

    fill: Annotated[float, Gt(0), Le(0.98)] = 0.9
    """With `auto`: the share of full scale that the pilot reaches: white, or the brightest of the scenes. As in
    `train`, too."""

    ladder: Annotated[tuple[Annotated[float, Gt(0), Le(1e4)], ...], MinLen(1), MaxLen(8)] = (1.0,)
    """High dynamic range: every scene is taken at each of these multiples of the exposure, the first of which is 1."""

    order: OrderName = "shuffled"
    """`interleaved` lets classes and splits take turns; `as-is` is the order of the data. The frames of a clip stay
    together in any order."""

    order_seed: Annotated[int, Ge(0), Le(2**32)] = 0

    repeats: Annotated[int, Ge(1), Le(1000)] = 1
    """Frames per scene; they are averaged when learned from."""

    dark_every: Every = 0
    """A frame with the mask closed and the scene black at the start, the end, and after every so many scene frames."""

    background_every: Every = 0
    """The same with the mask as it is: what light comes in beside the scene."""

    sentinel_every: Every = 0
    """One fixed scene at the start, the end, and after every so many scene frames, by which drift is seen."""

    drift_limit: Annotated[float, Gt(0), Le(1)] = 0.02
    """How far a sentinel may differ from the first one in brightness or shape, as a share of the light."""

    on_drift: OnDrift = "ask"
    """Beyond it, frames since the last good sentinel are marked. Then `ask` the operator, or stop where nobody can
    answer; `stop`; or go on and `mark`."""

    witness: WitnessKind = "templates"
    """What proves that a frame shows its scene: the rig's answer to every block of a scene, measured before the first
    frame; the `twin`, which needs fewer exposures and a rig that is as the twin believes; or `none`."""

    witness_attempts: Annotated[int, Ge(1), Le(100)] = 3
    """Attempts at a frame that does not show its scene; then it is kept, marked as doubtful."""

    block: Annotated[int, Ge(1), Le(4096)] = 32
    """Frames between two commits to the disk, and the longest wait for a stop."""

    compression: Compression = "none"
    sync: Sync = "block"
    """When frames are forced to the disk: see docs/run-folder.md."""

    keep_scenes: bool = False
    """Keep the scenes themselves beside the frames, apart and removable: then the set protects nobody."""

    readings_every_s: Annotated[float, Ge(0), Le(3600)] = 1.0
    """Instruments are read once in this time at most; frames in between carry the last reading."""

    about: About = {}
    """What the data card shall say: `{licence: CC-BY-4.0, subjects: ..., contact: ...}`."""

    closed_mask: Literal["none", "subtract"] = "none"
    """`subtract` takes every scene a second time with the mask closed, and learning sees the difference: a panel of
    finite contrast leaks through all its closed cells. Twice the frames, up to 1.4 times the noise. Training in
    simulation needs nothing else where the rig file takes closed cells for opaque."""

    samples: Annotated[Reference, OutputKind("samples")] | None = None
    """Training scenes in the order of their worth, as `choose` finds it: `train` takes so many from its start. Scenes
    that it does not name come after those that it does."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """Mask and scenes are shown by the responses that were measured of panel and monitor, not by those of the rig
    file. It matters to grey masks and scenes; a closed and an open cell stay at the same levels."""

    instruments: dict[str, dict[str, float]] = {}
    """Quantities to set before, by instrument: `{lamp: {power: 0.8}}`. They are made safe with the rig."""

    @model_validator(mode="after")
    def _ladder_starts_at_one(self) -> Self:
        if self.ladder[0] != 1 or len(set(self.ladder)) < len(self.ladder):
            raise ValueError(f"the ladder is {list(self.ladder)}; it starts with 1 and names every rung once")
        return self

    def check(self, setting: StepSetting) -> None:
        """Mask, scene and rig must fit; instruments must be there, and exposures within the limits of the camera."""
        check_fit(setting)
        check_panel(setting)
        check_patterns(self, setting)
        check_instruments(self.instruments, setting)
        limits_s, camera = setting.rig.twin.exposure_limits_s, f"the camera of rig '{setting.rig.name}'"
        if self.exposure_s != "auto":
            check_exposure(self.exposure_s, setting)
            try:
                check_ladder(self.exposure_s, self.ladder, limits_s, camera)
            except BadInput as error:
                raise BadInput(str(error), at=setting.at("ladder")) from None
        elif max(self.ladder) / min(self.ladder) > limits_s[1] / limits_s[0]:
            span = f"{limits_s[0]:g}..{limits_s[1]:g} s"
            text = f"{list(self.ladder)} spans more than {camera} allows ({span}); leave rungs out"
            raise BadInput(text, at=setting.at("ladder"))
        self._check_same_exposure(setting)
        if self.train == self.val == self.test == 0:
            raise BadInput("train, val and test are all 0; capture at least one scene", at=setting.at("train"))

    def estimate(self, setting: StepSetting) -> Estimate:
        """Frames, bytes and what moves."""
        scene_px, cells = setting.protocol.grids()
        data = scenes_of(setting.protocol)
        plan = self._plan(data, self._rows(data, None))  # another choice of as many scenes takes as long
        frames, shape = len(plan), setting.rig.twin.frame_shape(cells, scene_px)
        scenes = len(np.unique(plan.rows[plan.rows >= 0])) if self.keep_scenes else 0
        slowest, settled = (0.0, 0.0) if setting.rig.simulated else (0.1, 0.2)
        witness = witness_exposures(self.witness, scene_px)
        exposures_s = 0.0 if self.exposure_s == "auto" else self.exposure_s * float(np.mean(self.ladder))
        return Estimate(
            seconds=1 + frames * (0.004 + slowest + exposures_s) + witness * (0.01 + settled),
            frames=frames,
            disk_bytes=frames * (2 * shape[0] * shape[1] + LINE_BYTES) + scenes * 4 * scene_px[0] * scene_px[1],
            moves=(
                f"shows {'every scene another' if built_design(setting).dynamic else 'the'} mask on the SLM",
                f"plays {frames} scenes",
                f"triggers {frames} exposures and a few pilots",
                *([f"takes {witness} exposures for the witness first"] if witness else []),
                *([self._closed_in_words(plan)] if self.closed_mask == "subtract" else []),
            ),
        )

    def run(self, context: StepContext) -> StepResult:
        """Capture what is missing."""
        if self.calibration is None:
            return self._capture(context)
        with measured_roads(context.rig, CalibrationSet(context.input(self.calibration)), context.log):
            return self._capture(context)

    def _capture(self, context: StepContext) -> StepResult:
        setting = context.setting
        scene_px, cells = setting.protocol.grids()
        data = load_scenes(context)
        for split, wanted in self._wanted():
            there = len(data.part(split)) // data.together
            if wanted != "all" and wanted > there:
                context.log(f"{wanted} {split.name.lower()} scenes are asked for, {there} are there; all are captured")
        rows = self._rows(data, context)
        plan = self._plan(data, rows)
        shape = setting.rig.twin.frame_shape(cells, scene_px)
        folder = context.folder / "frames"
        header = set_header(
            context,
            np.load(context.input(self.mask)),
            (1, *shape),
            len(plan),
            self.about,
            class_names=data.class_names,
            ladder=self.ladder,
            compression=self.compression,
            sync=self.sync,
        )
        with FrameWriter(folder, header, block=self.block, say=context.log) as writer:
            for done in writer.recovery.did:
                context.log(f"a crash was mended: {done}")
            if 0 < writer.next_index < len(plan):
                context.log(f"goes on at frame {writer.next_index} of {len(plan)}")
            if writer.next_index < len(plan):
                self._take(context, writer, plan, data, rows, shape)
            if self.keep_scenes and not (folder / SCENES).exists():
                shown = np.unique(plan.rows[plan.rows >= 0])
                write_scenes(folder, data.sample_ids[shown], _Rows(data, shown))
            if not writer.is_finished:
                writer.finish()
        write_card(folder)
        return StepResult({"frames": folder}, {**self._metrics(FrameStore.open(folder)), "skipped": len(data.skipped)})

    def _take(
        self,
        context: StepContext,
        writer: FrameWriter,
        plan: CapturePlan,
        data: ImageSet,
        rows: IntArray,
        shape: tuple[int, int],
    ) -> None:
        maker, rig = context.setting.protocol.steps[self.mask.step], context.rig
        if self._brighter_than_trained(maker):
            how = "with scenes" if self.exposure_s == "auto" else f"{self.exposure_s:g} s whatever the mask"
            context.log(
                f"the exposure is {how}, step '{self.mask.step}' exposes until white fills {maker.fill:g} of the "
                "sensor: until fine-tuned, accuracy holds at that level only"
            )
        mask = np.load(context.input(self.mask))
        set_instruments(self.instruments, rig)
        exposure, black_dn = found_exposure(self, context, mask, data, rows, shape)
        times_s = check_ladder(exposure.exposure_s, self.ladder, rig.devices().camera.exposure_limits_s, "the camera")
        exposures = [exposure.model_copy(update={"exposure_s": time_s}) for time_s in times_s]
        witness = open_witness(context, self.witness, mask, data, rows, exposure)
        drift = None
        if self.sentinel_every:
            drift = DriftWatch(
                context.folder,
                writer.mark,
                limit=self.drift_limit,
                black_dn=black_dn,
                saturation_dn=rig.devices().camera.saturation_dn,
                kept=writer.next_index,
            )
        FrameTaking(
            context,
            writer,
            Exposer(
                rig,
                plan,
                data,
                mask,
                exposures,
                first_id=first_exposure_id(context.content_hash),
                patterns=None
                if self.patterns is None
                else FramePatterns.of_model(context.input(self.patterns), context.setting),
            ),
            FrameNotes(context, mask, black_dn=black_dn, readings_every_s=self.readings_every_s),
            block=self.block,
            witness=witness,
            renew_witness=partial(renew_witness, context, self.witness, mask, data, rows, exposure),
            attempts=self.witness_attempts,
            drift=drift,
            on_drift=self.on_drift,
        ).take()

    def _check_same_exposure(self, setting: StepSetting) -> None:
        maker = setting.protocol.steps[self.mask.step]
        if not isinstance(maker, Train) or self._brighter_than_trained(maker):
            return  # brighter: said by `run`, since a time found on the bench may suit light that no twin knows
        for name in ("exposure_s", "fill") if self.exposure_s == "auto" else ("exposure_s",):
            here, there = getattr(self, name), getattr(maker, name)
            if here != there:
                raise BadInput(
                    f"{here} here, {there} in step '{self.mask.step}': the frames would be of another brightness than "
                    "those that the classifier learns; give both steps the same, and change the light by instruments",
                    at=setting.at(name),
                )

    def _brighter_than_trained(self, maker: Step) -> bool:
        """Whether frames are exposed by another rule than those that `maker` trained with, on purpose."""
        free = isinstance(maker, Train) and maker.exposure_s == "auto"
        return free and (self.exposure_s != "auto" or self.pilot == "scenes")

    def _wanted(self) -> tuple[tuple[Split, Count], ...]:
        return (Split.TRAIN, self.train), (Split.VAL, self.val), (Split.TEST, self.test)

    def _rows(self, data: ImageSet, context: StepContext | None) -> IntArray:
        """Rows of the data that are captured, split after split. context: for the order that `samples` names."""
        chosen = []
        for split, wanted in self._wanted():
            rows = data.part(split)[:: data.together]
            count = len(rows) if wanted == "all" else wanted
            if split == Split.TRAIN and self.samples is not None and context is not None:
                chosen.append(ranked_rows(data, rows, np.load(context.input(self.samples)))[:count])
            else:
                chosen.append(rows[spread(len(rows), count)])
        return with_followers(np.concatenate(chosen).astype(np.int64), data.together)

    def _plan(self, data: ImageSet, rows: IntArray) -> CapturePlan:
        if len(rows) == 0:
            raise BadInput("nothing to capture: the splits asked for hold no pictures; raise train, val or test")
        first = rows[:: data.together]
        first = arrange(first, data.labels[first], data.split[first], order=self.order, seed=self.order_seed)
        plan = plan_capture(
            with_followers(first, data.together),
            repeats=self.repeats,
            rungs=len(self.ladder),
            dark_every=self.dark_every,
            background_every=self.background_every,
            sentinel_every=self.sentinel_every,
            closed=self.closed_mask == "subtract",
        )
        if len(plan) > PILOT_IDS:
            raise BadInput(f"{len(plan)} frames are asked for, a set holds {PILOT_IDS}; capture in several steps")
        return plan

    def _closed_in_words(self, plan: CapturePlan) -> str:
        closed = int((plan.kinds == KINDS.index("closed")).sum())
        blocks = -(-closed // (CLOSED_BLOCK * len(self.ladder)))
        return f"takes {closed} of the frames with the mask closed, {2 * blocks} changes of the SLM"

    def _metrics(self, captured: FrameStore) -> dict[str, Any]:
        places = captured.select(kind="scene", marked=None)
        first_rung = places[captured.column("rung")[places] == 0]
        kinds = captured.column("kind")
        words = [mark.word for mark in captured.marks]
        records = list(captured.records)
        metrics = {
            "frames": len(captured),
            "exposure_s": float(captured.column("exposure_s")[first_rung[0]]),
            "saturated_fraction": float(captured.column("saturated_fraction")[first_rung].mean()),
            "witnessed": sum(record.witness is not None for record in records),
            "retaken": sum(bool(record.retries) for record in records),
            "doubtful": words.count("doubtful"),
            "marked": int(captured.marked.sum()),
        }
        for kind in ("dark", "background", "sentinel"):
            metrics[kind] = int((kinds == kind).sum())
        if self.closed_mask == "subtract":
            metrics["closed"] = int((kinds == "closed").sum())
        return metrics


def ranked_rows(data: ImageSet, rows: IntArray, sample_ids: IntArray) -> IntArray:
    """`rows` of the data in the order of `sample_ids`, then those that it does not name.

    Raises BadInput when it names none of them.
    """
    place = {int(sample): number for number, sample in enumerate(sample_ids)}
    known = [place.get(int(sample), len(place)) for sample in data.sample_ids[rows]]
    if len(rows) and min(known) == len(place):
        raise BadInput("`samples` names none of the training scenes; choose from the data of this protocol")
    return rows[np.argsort(known, kind="stable")]


class _Rows:
    """Some scenes of the data, read when they are asked for. See `labctl.frames.scenes.SceneRows`."""

    def __init__(self, data: ImageSet, rows: IntArray) -> None:
        self._data, self._rows = data, rows
        self.shape = (len(rows), *data.images.shape[1:])

    def __getitem__(self, rows: slice) -> Any:
        return self._data.images[self._rows[rows]]
