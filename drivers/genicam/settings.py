"""What a rig file says about a GenICam camera."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from drivers.genicam.own_features import check_free
from labctl.devices import Camera, DeviceKind, DeviceSettings, OpenContext


class GenicamSettings(DeviceSettings):
    """A camera behind a GenTL producer. Which of its features stand where is read from the camera itself."""

    kind: ClassVar[DeviceKind] = "camera"
    type: Literal["genicam"] = "genicam"

    producer: str | None = None
    """The producer's .cti file, or a folder with such files. `$NAME` stands for a variable; null: all producers in the
    folders of GENICAM_GENTL64_PATH."""

    serial: str | None = None
    """Serial number of the camera, as `labctl devices` lists it."""

    model: str | None = None

    user_id: str | None = None
    """The name that was given to the camera itself (DeviceUserID)."""

    index: Annotated[int, Ge(0)] | None = None
    """Which of the cameras that fit, in the producer's order; only needed when several do."""

    pixel_format: str = "Mono12"
    """Coding of the pixels. Unpacked forms cost the computer less, packed ones the cable."""

    trigger: Literal["software", "free-run"] = "software"
    """How a frame is taken: by a software trigger, or as the next one that begins after it was asked for."""

    features: dict[str, StrictBool | StrictInt | float | StrictStr] = {}
    """Further features, by their names in the camera, set in this order when it opens. Not those that the driver sets
    itself: exposure, gain, region, trigger, chunks, automatics."""

    exposure_limits_s: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] | None = None
    """Narrower limits than the camera's own."""

    fixed_exposure_s: Annotated[float, Gt(0), Le(60)] | None = None
    """Exposure time of a camera that has no feature for it."""

    gain_step_db: Annotated[float, Gt(0), Le(10)] | None = None
    """dB per unit of the gain feature, of the data sheet, where the camera does not say that it counts in dB (GainRaw,
    Gain without a unit). Without it such a camera stays at its smallest gain."""

    saturation_dn: Annotated[int, Gt(0), Le(65535)] | None = None
    """The DN at which the sensor saturates, where that is below the top of the pixel format."""

    settle_frames: Annotated[int, Ge(0), Le(32)] = 2
    """Frames thrown away after a new exposure time or gain. Only used when frames do not tell their own exposure."""

    buffers: Annotated[int, Ge(3), Le(256)] = 8
    """Buffers that the producer fills."""

    slots: Annotated[int, Ge(4), Le(1024)] = 16
    """Frames that can wait to be taken."""

    answer_limit_s: Annotated[float, Gt(0), Le(60)] = 5.0
    """After so long without an answer the camera's process is killed and started anew."""

    frame_limit_s: Annotated[float, Gt(0), Le(60)] = 3.0
    """How long after its exposure a frame may come before it counts as lost."""

    open_limit_s: Annotated[float, Gt(0), Le(120)] = 20.0
    """What opening the camera may take."""

    reopen_limit_s: Annotated[float, Field(ge=0, le=600)] = 15.0
    """How long a camera that was lost is looked for."""

    @model_validator(mode="after")
    def _features_are_free(self) -> Self:
        for name in self.features:
            check_free(name)
        return self

    def make(self, context: OpenContext) -> Camera:
        """See `DeviceSettings.make`."""
        from drivers.genicam.camera import GenicamCamera

        return GenicamCamera(context.name, context.rig_name, self, context.environment)
