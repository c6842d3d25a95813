"""What steps that judge a finished camera for clips have in common: their settings, and its encoded clips."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from labctl.errors import BadInput, concerning
from labctl.references import OutputKind, Reference
from labctl.steps import Source, Step, StepContext, StepSetting
from protocols.fit import built_design, check_captures, check_fit
from protocols.learning_from_captures import check_corrections, measurement_for
from protocols.measurement import Corrections
from protocols.splits import Split
from protocols.video.networks.library_settings import LibraryFrame

if TYPE_CHECKING:
    from protocols.data.clips import ClipSet
    from protocols.video.camera_file import VideoCamera
    from protocols.video.encoded import EncodedClips
    from protocols.video.recognising import LabelledClips
    from sim.designs.video.base import Operator, VideoDesign

Label = Literal["action", "actor"]


class OnEncodedClips(Step):
    """Settings of a step that reads the encoded clips of a trained camera, which stays as it is."""

    where: ClassVar[Literal["host", "child"]] = "child"
    uses: ClassVar[frozenset[Source]] = frozenset({"data", "design", "twin"})
    modules: ClassVar[tuple[str, ...]] = ("torch", "protocols.video.recognising", "skimage.measure")

    model: Annotated[Reference, OutputKind("video_model")]
    """The trained camera."""

    frames: Annotated[Reference, OutputKind("frames")] | None = None
    """Captured frames of the clips; without them the twin makes frames."""

    calibration: Annotated[Reference, OutputKind("calibration")] | None = None
    """By which captured frames are corrected first; without it they stay as they were measured."""

    corrections: Corrections = "all"
    """With `calibration`: these parts of `dark`, `flat`, `gain`, `registration`, or all that it has."""

    operator: Literal["soft", "hard"] = "hard"
    """Which read-out: `soft` as training differentiates it, `hard` as a device does it. The same for a camera that has
    one only."""

    def check(self, setting: StepSetting) -> None:
        """There must be clips, a design that reads them, and captures that fit."""
        check_clips(setting)
        if self.frames is not None:
            check_captures(self.frames, "train", 2, setting)
            check_captures(self.frames, "test", 1, setting)
        elif self.calibration is not None:
            raise BadInput("corrects captured frames, and there are none; take it away", at=setting.at("calibration"))
        check_corrections(self.calibration, self.corrections, setting)


class Encodings:
    """The encoded clips of one camera, each part made once."""

    def __init__(self, step: OnEncodedClips, context: StepContext) -> None:
        from protocols.video.camera_file import load_video_camera

        self.step, self.context = step, context
        self.data: ClipSet = load_clips(context)
        self.camera: VideoCamera = load_video_camera(context.input(step.model), context.setting)
        self._parts: dict[tuple[Split, str, bool], EncodedClips] = {}

    @property
    def stage(self) -> Literal["simulated", "captured"]:
        """Which frames the step judges."""
        return "simulated" if self.step.frames is None else "captured"

    @property
    def seed(self) -> int:
        """Of the step."""
        return int(self.context.setting.seed or 0)

    def of(self, split: Split, operator: Operator | None = None, *, simulated: bool = False) -> EncodedClips:
        """Clips of one split. operator: that of the step if None. simulated: also where frames were captured."""
        from protocols.video.encoded import encoded

        asked = operator_of(self.camera.design, operator or self.step.operator)
        frames = None if self.step.frames is None or simulated else self.context.input(self.step.frames)
        key = (split, asked, frames is None)
        if key not in self._parts:
            measurement = None if frames is None else self._measurement
            self._parts[key] = encoded(
                self.context, self.data, self.camera, split, operator=asked, frames=frames, measurement=measurement
            )
        return self._parts[key]

    def labelled(
        self, split: Split, label: Label, operator: Operator | None = None, *, simulated: bool = False
    ) -> LabelledClips:
        """The same with one of its labels."""
        from protocols.video.recognising import LabelledClips

        part = self.of(split, operator, simulated=simulated)
        return LabelledClips(part.clips, getattr(part, label))

    def rows(self, split: Split) -> Any:
        """(n,) rows of the data of the encoded clips of a split, in their order."""
        import numpy as np

        order = np.argsort(self.data.clip_ids, kind="stable")
        return order[np.searchsorted(self.data.clip_ids[order], self.of(split).clip_ids)]

    @cached_property
    def _measurement(self) -> Any:
        assert self.step.frames is not None
        return measurement_for(
            self.context,
            self.context.input(self.step.frames),
            self.step.calibration,
            self.step.corrections,
            self.camera,  # type: ignore[arg-type]  # has exposure, design and mask, which is all that is asked
        )


def operator_of(design: VideoDesign, asked: Operator) -> Operator:
    """What a design is asked for: of a camera without quantiser, the one read-out that it has."""
    return asked if asked in design.operators else design.operators[0]


def light_shape(seen: Encodings) -> tuple[int, int]:
    """(h, w) of the light on the sensor."""
    scene_px, cells = seen.context.setting.protocol.grids()
    h, w = seen.context.setting.rig.twin.frame_shape(cells, scene_px)
    return int(h), int(w)


def check_clips(setting: StepSetting) -> None:
    """Raise BadInput where the protocol has no clips, or the design does not read them."""
    from protocols.data.clips import ClipSource
    from sim.designs.video.base import VideoDesign

    check_fit(setting)
    if not isinstance(setting.protocol.data, ClipSource):
        raise BadInput(
            f"step '{setting.name}' needs clips, and '{setting.protocol.data.type}' gives single pictures; use "
            "`data: {type: moving_digits}` or another source of clips",
            at=("data",),
        )
    if not isinstance(built_design(setting), VideoDesign):
        raise BadInput(
            f"step '{setting.name}' needs a camera that reads clips, and '{setting.design}' reads single frames",
            at=("designs", str(setting.design)),
        )


def check_networks(networks: Iterable[Any], setting: StepSetting) -> None:
    """Raise BadInput where one cannot be built for what the design reads: too small, a package or weights missing."""
    design = _video_design(setting)
    frames, span = setting.protocol.data.clip_frames, design.span
    if frames < span:
        raise BadInput(
            f"clips have {frames} frames, '{setting.design}' reads {span} or more; set data.frames higher", at=("data",)
        )
    scene_px, cells = setting.protocol.grids()
    height, width = setting.rig.twin.frame_shape(cells, scene_px)
    with concerning("designs", str(setting.design)):
        read = design.read_clip_shape((frames, int(height), int(width)))
    _check_all(networks, read, setting, ("designs", str(setting.design)))


def check_networks_of_scenes(networks: Iterable[Any], setting: StepSetting) -> None:
    """Raise BadInput where one cannot be built for undegraded clips."""
    (height, width), _ = setting.protocol.grids()
    _check_all(networks, (setting.protocol.data.clip_frames, 1, int(height), int(width)), setting, ("scene_px",))


def _video_design(setting: StepSetting) -> VideoDesign:
    from sim.designs.video.base import VideoDesign

    design = built_design(setting)
    assert isinstance(design, VideoDesign)
    return design


def _check_all(
    networks: Iterable[Any], shape: tuple[int, int, int, int], setting: StepSetting, decides: tuple[str, ...]
) -> None:
    """decides: the setting that makes the shape what it is. Files and packages are the step's own matter."""
    for network in networks:
        own = network.weights is not None or isinstance(network, LibraryFrame)
        with concerning(*(setting.at() if own else decides)):
            _check_network(network, shape, network.fingerprint())


@cache
def _check_network(network: Any, shape: tuple[int, int, int, int], held: str) -> None:
    """Build it once per process, as long as its file holds the same."""
    network.build(shape, 2)


def load_clips(context: StepContext) -> ClipSet:
    """All clips at `scene_px`. Says how many were left out because they cannot be read."""
    from protocols.splits import some_of

    protocol = context.setting.protocol
    data: ClipSet = protocol.data.load_clips(protocol.grids()[0])
    if data.skipped:
        told = some_of(data.skipped)
        context.log(f"skipped {len(data.skipped)} of {len(data.skipped) + len(data)} clips that cannot be read: {told}")
    return data
