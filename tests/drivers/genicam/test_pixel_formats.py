"""Pixel formats: bytes become DN exactly, whichever way they are decoded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from drivers.genicam.compiled_unpacking import compiled_unpackers
from drivers.genicam.pixel_formats import (
    FORMATS,
    NUMPY_UNPACKERS,
    Bytes,
    Decoder,
    Packing,
    Pixels,
    decode,
    pixel_format,
)  # fmt: skip
from labctl.errors import BadInput

BITS = {"10p": 10, "12p": 12, "10Packed": 10, "12Packed": 12}


def pack(pixels: Pixels, packing: str) -> Bytes:
    """The standard's own picture of each packing, bit by bit."""
    bits = BITS[packing]
    if packing.endswith("p"):
        stream = ((pixels[:, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)
        return np.packbits(stream, bitorder="little")
    low = bits - 8
    padded = np.append(pixels, np.zeros(len(pixels) % 2, np.uint16)).reshape(-1, 2)
    middle = (padded[:, 0] & (1 << low) - 1) | (padded[:, 1] & (1 << low) - 1) << 4
    return np.stack([padded[:, 0] >> low, middle, padded[:, 1] >> low], axis=1).astype(np.uint8).reshape(-1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 4096])
@pytest.mark.parametrize("packing", list(BITS))
@pytest.mark.parametrize("unpackers", [NUMPY_UNPACKERS, compiled_unpackers()], ids=["numpy", "numba"])
def test_a_packed_frame_becomes_its_pixels(unpackers: Mapping[str, Decoder], packing: Packing, count: int) -> None:
    pixels = np.random.default_rng(count).integers(0, 2 ** BITS[packing], count, dtype=np.uint16)
    data = pack(pixels, packing)
    assert FORMATS[f"Mono{packing}"].frame_bytes(count) == len(data)
    rest = np.full(5, 0xFF, dtype=np.uint8)  # what a slot still holds behind the frame
    np.testing.assert_array_equal(unpackers[packing](np.concatenate([data, rest]), count), pixels)
    np.testing.assert_array_equal(decode(np.concatenate([data, rest]), count, packing, BITS[packing]), pixels)


@pytest.mark.parametrize("name", ["Mono8", "Mono10", "Mono12", "Mono16", "BayerRG8", "BayerGB12"])
def test_an_unpacked_frame_becomes_its_pixels(name: str) -> None:
    known = FORMATS[name]
    pixels = np.linspace(0, known.saturation_dn, 256).astype(np.uint16)
    data = np.frombuffer(pixels.astype("u1" if known.bits == 8 else "<u2").tobytes(), dtype=np.uint8)
    assert known.frame_bytes(len(pixels)) == len(data)
    decoded = decode(data, len(pixels), known.packing, known.bits)
    np.testing.assert_array_equal(decoded, pixels)
    assert decoded.max() == known.saturation_dn
    assert not np.shares_memory(decoded, data), "a frame must not change when its slot is used again"


def test_a_bayer_format_names_its_pattern() -> None:
    assert FORMATS["BayerRG12p"].pattern == "RG"
    assert FORMATS["Mono12p"].pattern == ""


def test_a_format_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        BadInput, match=r"the camera does not offer it; did you mean `Mono12p`\? allowed: Mono8, Mono12p"
    ):
        pixel_format("Mono12", ["Mono8", "Mono12p", "RGB8"])
    with pytest.raises(BadInput, match="frames of it cannot be read"):
        pixel_format("RGB8", ["Mono8", "Mono12p", "RGB8"])
