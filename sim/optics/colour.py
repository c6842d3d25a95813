"""The colour filter array of a sensor: which channel every pixel sees, and the four planes that papers feed on.

Nothing is interpolated here: reconstruction takes the planes as they are, as in FlatCam and DeepFlatCam.
[Asif et al. 2017, Nguyen Canh and Nagahara 2019]
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from labctl.errors import BadInput

BayerPattern = Literal["rggb", "bggr", "grbg", "gbrg"]
"""Colours of the top left 2x2 pixels, row by row."""


def mosaic(rgb: Tensor, pattern: BayerPattern) -> Tensor:
    """Raw picture (N, 1, h, w) that pixels under colour filters see of `rgb` (N, 3, h, w)."""
    _check_channels(rgb, 3, "a picture to mosaic")
    return (rgb * bayer_filters(pattern, _shape(rgb)).to(rgb)).sum(dim=1, keepdim=True)


def mosaic_adjoint(raw: Tensor, pattern: BayerPattern) -> Tensor:
    """Every raw value (N, 1, h, w) in the channel that saw it, zero in the others: (N, 3, h, w)."""
    _check_channels(raw, 1, "a raw picture")
    return raw * bayer_filters(pattern, _shape(raw)).to(raw)


def bayer_planes(raw: Tensor, pattern: BayerPattern) -> Tensor:
    """Planes (N, 4, h/2, w/2) of a raw picture (N, 1, h, w) as red, green in its row, green in its column, blue.

    Raises BadInput when h or w is odd.
    """
    _check_channels(raw, 1, "a raw picture")
    rows, columns = _shape(raw)
    if rows % 2 or columns % 2:
        raise BadInput(
            f"a raw picture of {rows}x{columns} pixels is no whole number of 2x2 blocks; cut it to even size"
        )
    red_row, red_column = divmod(pattern.index("r"), 2)
    places = (
        (red_row, red_column),
        (red_row, 1 - red_column),
        (1 - red_row, red_column),
        (1 - red_row, 1 - red_column),
    )
    return torch.cat([raw[..., row::2, column::2] for row, column in places], dim=1)


def bayer_filters(pattern: BayerPattern, shape: tuple[int, int]) -> Tensor:
    """(3, h, w) float64: 1 where a pixel sees red, green, blue, else 0."""
    if pattern not in get_args(BayerPattern):
        raise BadInput(f"the Bayer pattern is {pattern!r}; it may be {', '.join(get_args(BayerPattern))}")
    channel = torch.tensor(["rgb".index(colour) for colour in pattern]).reshape(2, 2)
    tiles = channel.repeat((shape[0] + 1) // 2, (shape[1] + 1) // 2)[: shape[0], : shape[1]]
    return (torch.arange(3).reshape(3, 1, 1) == tiles).to(torch.float64)


def pattern_from(pattern: BayerPattern, row: int, column: int) -> BayerPattern:
    """The pattern of a region whose top left pixel is (row, column) of a sensor with `pattern`."""
    moved = "".join(pattern[2 * ((row + y) % 2) + (column + x) % 2] for y in (0, 1) for x in (0, 1))
    return next(known for known in get_args(BayerPattern) if known == moved)


def _shape(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-2], picture.shape[-1]


def _check_channels(picture: Tensor, count: int, what: str) -> None:
    if picture.ndim != 4 or picture.shape[1] != count:
        raise BadInput(f"{what} has shape {tuple(picture.shape)}; (N, {count}, h, w) is needed")
