"""What is known of one captured frame: the line of the ledger, by schema."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import Field

from labctl.frozen import Frozen

Kind = Literal["scene", "dark", "background", "sentinel", "closed"]
"""`scene`: a sample of the data; `dark`: mask closed, scene black; `background`: mask as it is, scene black;
`sentinel`: always the same scene, by which drift is seen; `closed`: a sample of the data with the mask closed, which
shows what leaks through the panel."""

Privacy = Literal["optical", "after-readout", "none", "unknown"]
"""Where the design protects: before the sensor; only after its read-out, so that raw frames identify; nowhere."""

KINDS: tuple[Kind, ...] = ("scene", "dark", "background", "sentinel", "closed")
"""New ones come last: plans hold places in it."""


class Retry(Frozen):
    """Why an earlier attempt at a frame was thrown away."""

    attempt: Annotated[int, Ge(0)]
    reason: str


class WitnessScore(Frozen):
    """What a witness found in a frame; see `labctl.frames.witness`."""

    own: float
    """Likeness to the prediction for its own pattern, -1..1."""

    previous_share: float
    """Share of the previous pattern, 0..1 but for noise."""

    word: str
    """`right`, or what is wrong with it."""


class FrameRecord(Frozen):
    """All that is known of one frame. What nobody knows is None, never a guess."""

    kind: Kind = "scene"

    sample_id: int | None = None
    """Place of the scene in its data source."""

    label: Annotated[int, Ge(0)] | None = None
    label_name: str | None = None

    split: Annotated[int, Ge(0), Le(2)] | None = None
    """0 train, 1 val, 2 test."""

    repeat: Annotated[int, Ge(0)] = 0
    """Which of several frames of the same scene."""

    rung: Annotated[int, Ge(0)] = 0
    """Which exposure of a high-dynamic-range ladder."""

    scene_hash: str | None = None
    """sha256 of the scene's radiance as float32."""

    mask_hash: str | None = None
    """Hash of the mask on the design grid."""

    levels_hash: str | None = None
    """sha256 of the levels on the SLM."""

    design: str | None = None
    privacy: Privacy = "unknown"

    exposure_s: Annotated[float, Gt(0)]
    """As read back from the camera; so is the gain."""

    gain_db: float
    black_level_dn: float | None = None
    """Mean DN without light, as measured on this camera before the first frame; not what its data sheet says."""

    saturation_dn: Annotated[int, Gt(0)]
    saturated_fraction: Annotated[float, Ge(0), Le(1)]

    camera_time_s: float
    """On the camera's own clock."""

    host_time_s: float
    """On the clock of the rig, which is virtual for a simulated one and never goes back."""

    unix_time_s: float
    """On the wall, when the frame was handed over to be stored. Somebody may set this clock back."""

    frame_id: int
    exposure_id: int
    attempt: Annotated[int, Ge(0)] = 0
    retries: tuple[Retry, ...] = ()

    instruments: dict[str, float | None] = Field(default_factory=dict)
    """Readings by `instrument.quantity`, in the unit of the instrument; see `SetHeader.units`."""

    calibrations: dict[str, str] = Field(default_factory=dict)
    """Ids of the calibrations that were valid, by what they calibrate."""

    rig_hash: str | None = None
    run_id: str | None = None
    witness: WitnessScore | None = None
