"""The Zarr v3 array of frames, at the level of bytes.

A shard is one frame after the other, each with its CRC-32C, and an index at its end. So the raw file that frames are
appended to becomes a shard by appending the index and renaming it: nothing is written twice. See docs/decisions.
"""

from __future__ import annotations

import json
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from labctl.errors import RunFailed
from labctl.frames.header import SetHeader

ARRAY = "coded"
"""Name of the array in its Zarr group, `frames.zarr`."""

CHECKSUM_BYTES = 4
MISSING = 2**64 - 1
"""What a Zarr index says of a chunk that was never written."""

ZSTD_LEVEL = 1

Chunk = bytes | npt.NDArray[np.uint8]
"""The stored form of a frame, without its checksum. An array lies in the memory of the frame: nothing was copied."""


def crc32c(data: Chunk) -> int:
    """CRC-32C of `data`."""
    return int(google_crc32c.value(data))


def encode_frame(pixels: npt.NDArray[np.uint16], header: SetHeader) -> tuple[Chunk, int]:
    """The chunk of one frame (C, h, w) without its checksum, and that checksum."""
    data: Chunk = np.ascontiguousarray(pixels).astype("<u2", copy=False).reshape(-1).view(np.uint8)
    if header.compression == "zstd":
        from numcodecs.zstd import Zstd

        data = bytes(Zstd(level=ZSTD_LEVEL).encode(data))
    return data, crc32c(data)


def decode_frame(chunk: Chunk, header: SetHeader) -> npt.NDArray[np.uint16]:
    """(C, h, w) DN of a chunk without its checksum. Raises RunFailed when it is no frame of this set."""
    data: Any = chunk
    if header.compression == "zstd":
        from numcodecs.zstd import Zstd

        try:
            data = Zstd().decode(chunk)
        except RuntimeError as error:
            raise RunFailed(f"a frame cannot be decompressed: {error}") from error
    if len(data) != header.frame_bytes:
        raise RunFailed(f"a frame has {len(data)} bytes; {header.frame_bytes} are needed")
    return np.frombuffer(data, dtype="<u2").reshape(header.frame_shape)


def checksum_bytes(checksum: int) -> bytes:
    """What stands behind a chunk."""
    return checksum.to_bytes(CHECKSUM_BYTES, "little")


def shard_index(sizes: npt.NDArray[np.int64], shard_frames: int) -> bytes:
    """The end of a shard. sizes: (n,) bytes of every chunk that is there, checksums included, from the start on."""
    index = np.full((shard_frames, 2), MISSING, dtype="<u8")
    index[: len(sizes), 0] = np.cumsum(sizes) - sizes
    index[: len(sizes), 1] = sizes
    data = index.tobytes()
    return data + checksum_bytes(crc32c(data))


def index_bytes(shard_frames: int) -> int:
    """Length of `shard_index`."""
    return 16 * shard_frames + CHECKSUM_BYTES


def group_metadata() -> bytes:
    """`zarr.json` of the group."""
    return _json({"zarr_format": 3, "node_type": "group", "attributes": {"labctl": "frames of a labctl set"}})


def array_metadata(header: SetHeader, frames: int) -> bytes:
    """`zarr.json` of the array with `frames` frames. Made here, since shape and codecs must match the bytes above."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    checked = {"name": "crc32c"}
    packed = [{"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}]
    inner = [little, *(packed if header.compression == "zstd" else []), checked]
    sharding = {
        "chunk_shape": [1, *header.frame_shape],
        "codecs": inner,
        "index_codecs": [little, checked],
        "index_location": "end",
    }
    return _json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [frames, *header.frame_shape],
            "data_type": "uint16",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [header.shard_frames, *header.frame_shape]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": 0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["frame", "channel", "row", "column"],
            "attributes": {"unit": "DN", "set_id": header.set_id},
        }
    )


def shard_name(shard: int) -> str:
    """Key of a shard below the array."""
    return f"c.{shard}.0.0.0"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
