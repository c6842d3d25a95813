"""What holds for a whole captured set: `header.json`, written once, before the first frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import google_crc32c
from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import Field, ValidationError

from labctl.errors import BadInput
from labctl.frames.record import Privacy
from labctl.frozen import Frozen

SCHEMA = "labctl.frames/2"
SCHEMA_1 = "labctl.frames/1"

SHARD_BYTES = 256 * 2**20
"""Aim for the size of a shard: few files, and still a bearable object in cloud storage."""

MOST_SHARD_FRAMES = 4096

Compression = Literal["none", "zstd"]

Sync = Literal["block", "shard", "never"]
"""When frames are forced to the disk. `block`: before they are acknowledged, so that a power cut loses no acknowledged
frame; `shard`: when a shard is complete; `never`: when the system likes. A killed process loses none in any case."""

Side = Annotated[int, Gt(0), Le(65536)]


class SetHeader(Frozen):
    """What holds for a whole captured set."""

    set_id: Annotated[str, MaxLen(200)]
    """Names the capture: the content hash of its step, or any other name that no other capture has."""

    frame_shape: tuple[Side, Side, Side]
    """(C, h, w); pixels are uint16 DN."""

    planned: Annotated[int, Ge(0)] | None = None
    """How many frames there shall be; None when nobody knows."""

    shard_frames: Annotated[int, Ge(1), Le(65536)]
    compression: Compression = "none"
    sync: Sync = "block"

    created: str = ""
    """ISO 8601, local time with zone."""

    labctl: str = ""
    title: str = ""
    run_id: str | None = None
    rig_name: str | None = None
    rig_hash: str | None = None

    nature: str | None = None
    """`simulated`, `emulated`, `replayed` or `real`: what the rig was."""

    design: str | None = None
    privacy: Privacy = "unknown"

    data_id: str | None = None
    """Fingerprint of the source that `sample_id` counts in."""

    class_names: tuple[str, ...] = ()
    ladder: tuple[float, ...] = (1.0,)
    """Exposure of every rung of a high-dynamic-range ladder, relative to the first."""

    units: dict[str, str] = Field(default_factory=dict)
    """Unit of every instrument reading."""

    about: dict[str, str] = Field(default_factory=dict)
    """What the data card says beyond this: who, what, how, licence."""

    merged_from: tuple[str, ...] = ()
    """Set ids that this set was put together from."""

    @classmethod
    def new(cls, set_id: str, frame_shape: tuple[int, int, int], **more: Any) -> Self:
        """A header with a shard size that suits `frame_shape` (C, h, w), unless `shard_frames` is given.

        `created` and `labctl` are left empty: the writer fills them in, so that two headers of one capture are equal.
        """
        frame_bytes = 2 * frame_shape[0] * frame_shape[1] * frame_shape[2]
        fitting = max(1, min(MOST_SHARD_FRAMES, SHARD_BYTES // max(frame_bytes, 1)))
        return cls(**{"shard_frames": fitting, "set_id": set_id, "frame_shape": frame_shape, **more})

    @property
    def frame_bytes(self) -> int:
        """Bytes of the pixels of one frame."""
        channels, rows, columns = self.frame_shape
        return 2 * channels * rows * columns

    def dump(self) -> str:
        """The text of `header.json`, with a checksum of all that it says."""
        said = {"schema": SCHEMA, **self.model_dump(mode="json")}
        return json.dumps({**said, "checksum": _checksum(said)}, indent=2, allow_nan=False) + "\n"

    def same_capture(self, other: SetHeader) -> bool:
        """Whether frames of one may be appended to the other: all that decides pixels and layout is equal."""
        names = ("set_id", "frame_shape", "planned", "ladder")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def parse_header(text: str | bytes, where: str | Path) -> SetHeader:
    """Raises BadInput that names `where` and what is wrong: damaged, older, newer, or no header at all."""
    try:
        value = json.loads(text)
        schema = value.pop("schema")
    except (ValueError, KeyError, AttributeError) as error:
        raise BadInput(
            f"{where}: header.json cannot be read ({type(error).__name__}: {error}); restore it from a copy"
        ) from error
    if schema == SCHEMA_1:
        raise BadInput(
            f"{where} was made by an older labctl (schema {schema}); `labctl dataset merge {where} --out NEW` makes a "
            f"set of today's schema, {SCHEMA}, of it"
        )
    if schema != SCHEMA:
        raise BadInput(f"{where} has schema {schema!r}, this labctl reads {SCHEMA}; install the labctl that made it")
    if value.pop("checksum", None) != _checksum({"schema": schema, **value}):
        raise BadInput(f"{where}: header.json was changed or is damaged (its checksum differs); restore it from a copy")
    try:
        return SetHeader.model_validate(value)
    except ValidationError as error:
        raise BadInput(f"{where}: header.json does not hold to its schema: {error}; restore it from a copy") from error


def _checksum(said: dict[str, Any]) -> str:
    return f"{google_crc32c.value(json.dumps(said, sort_keys=True).encode()):08x}"
