"""Pixel formats by their names in the GenICam Pixel Format Naming Convention, and how their bytes become DN."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labctl.errors import BadInput
from labctl.suggest import one_of

Bytes = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.uint16]
Packing = Literal["none", "10p", "12p", "10Packed", "12Packed"]
Decoder = Callable[[Bytes, int], Pixels]


@dataclass(frozen=True)
class PixelFormat:
    """How one pixel is coded. bits: significant ones, DN 0..2**bits - 1; pattern: of the colour filter, `RG` or ''."""

    name: str
    bits: int
    packing: Packing = "none"
    pattern: str = ""

    @property
    def saturation_dn(self) -> int:
        """The largest DN that fits."""
        return (1 << self.bits) - 1

    def frame_bytes(self, pixels: int) -> int:
        """Bytes of `pixels` pixels without gaps between rows."""
        if self.packing == "none":
            return pixels * (1 if self.bits == 8 else 2)
        if self.packing in ("10p", "12p"):
            return -(-pixels * self.bits // 8)
        return -(-pixels // 2) * 3


def pixel_format(name: str, offered: Sequence[str]) -> PixelFormat:
    """The format called `name`. Raises BadInput when the camera does not offer it, or when it cannot be read here."""
    readable = [other for other in offered if other in FORMATS]
    if name not in offered or name not in FORMATS:
        why = "the camera does not offer it" if name not in offered else "frames of it cannot be read"
        raise BadInput(f"pixel_format is {name}, but {why}; {one_of(name, readable)}")
    return FORMATS[name]


def decode(data: Bytes, pixels: int, packing: Packing, bits: int) -> Pixels:
    """The first `pixels` pixels in `data` as a new array of DN. Lets go of the interpreter lock where it can.

    Packed formats take numba where it is installed, numpy otherwise; both give the same.
    """
    if packing == "none":
        return data[:pixels].astype(np.uint16) if bits == 8 else data[: 2 * pixels].view("<u2").astype(np.uint16)
    return unpacker(packing)(data, pixels)


@cache
def unpacker(packing: Packing) -> Decoder:
    """The fastest way from packed bytes to DN on this computer, compiled on first use."""
    if importlib.util.find_spec("numba") is None:
        return NUMPY_UNPACKERS[packing]
    from drivers.genicam.compiled_unpacking import compiled_unpackers

    return compiled_unpackers()[packing]


def _formats() -> dict[str, PixelFormat]:
    found = {}
    for family in ("Mono", "BayerRG", "BayerGR", "BayerGB", "BayerBG"):
        for suffix, bits, packing in _CODINGS:
            name = family + suffix
            found[name] = PixelFormat(name, bits, packing, family.removeprefix("Bayer").removeprefix("Mono"))
    return found


_CODINGS: Sequence[tuple[str, int, Packing]] = (
    ("8", 8, "none"), ("10", 10, "none"), ("12", 12, "none"), ("14", 14, "none"), ("16", 16, "none"),
    ("10p", 10, "10p"), ("12p", 12, "12p"), ("10Packed", 10, "10Packed"), ("12Packed", 12, "12Packed"),
)  # fmt: skip

FORMATS: Mapping[str, PixelFormat] = _formats()
"""Formats whose frames can be read. Bayer frames stay raw: one DN per pixel under its filter."""


def _unpack_12p(data: Bytes, pixels: int) -> Pixels:
    triples = _groups(data, pixels, 2, 3)
    out = np.empty((len(triples), 2), dtype=np.uint16)
    out[:, 0] = triples[:, 0] | (triples[:, 1] & 0x0F) << 8
    out[:, 1] = triples[:, 1] >> 4 | triples[:, 2] << 4
    return out.reshape(-1)[:pixels]


def _unpack_10p(data: Bytes, pixels: int) -> Pixels:
    fives = _groups(data, pixels, 4, 5)
    out = np.empty((len(fives), 4), dtype=np.uint16)
    for place in range(4):
        low, high = fives[:, place], fives[:, place + 1]
        out[:, place] = low >> 2 * place | (high & (1 << 2 * place + 2) - 1) << 8 - 2 * place
    return out.reshape(-1)[:pixels]


def _unpack_12packed(data: Bytes, pixels: int) -> Pixels:
    triples = _groups(data, pixels, 2, 3)
    out = np.empty((len(triples), 2), dtype=np.uint16)
    out[:, 0] = triples[:, 0] << 4 | triples[:, 1] & 0x0F
    out[:, 1] = triples[:, 2] << 4 | triples[:, 1] >> 4
    return out.reshape(-1)[:pixels]


def _unpack_10packed(data: Bytes, pixels: int) -> Pixels:
    triples = _groups(data, pixels, 2, 3)
    out = np.empty((len(triples), 2), dtype=np.uint16)
    out[:, 0] = triples[:, 0] << 2 | triples[:, 1] & 0x03
    out[:, 1] = triples[:, 2] << 2 | triples[:, 1] >> 4 & 0x03
    return out.reshape(-1)[:pixels]


def _groups(data: Bytes, pixels: int, per_group: int, group_bytes: int) -> npt.NDArray[Any]:
    """(groups, group_bytes) uint16; the last group is filled up with zeros where the data ends inside it."""
    needed = -(-pixels // per_group) * group_bytes
    held = data[:needed].astype(np.uint16)
    if len(held) < needed:
        held = np.concatenate([held, np.zeros(needed - len(held), dtype=np.uint16)])
    return held.reshape(-1, group_bytes)


NUMPY_UNPACKERS: Mapping[str, Decoder] = {
    "12p": _unpack_12p,
    "10p": _unpack_10p,
    "12Packed": _unpack_12packed,
    "10Packed": _unpack_10packed,
}
