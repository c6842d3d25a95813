from __future__ import annotations

from typing import get_args

import pytest
import torch

from labctl.errors import BadInput
from sim.optics.colour import BayerPattern, bayer_filters, bayer_planes, mosaic, mosaic_adjoint, pattern_from

DOUBLE = torch.float64
PATTERNS = get_args(BayerPattern)


def coloured(red: float, green: float, blue: float, shape=(4, 6)) -> torch.Tensor:
    return torch.tensor([red, green, blue], dtype=DOUBLE).reshape(1, 3, 1, 1).expand(1, 3, *shape)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_first_four_pixels_see_the_colours_of_the_name(pattern):
    raw = mosaic(coloured(1, 2, 3), pattern)
    names = {1.0: "r", 2.0: "g", 3.0: "b"}
    assert "".join(names[float(raw[0, 0, y, x])] for y in (0, 1) for x in (0, 1)) == pattern
    assert raw.shape == (1, 1, 4, 6)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_planes_come_as_red_two_greens_and_blue_whatever_the_pattern(pattern, rng):
    planes = bayer_planes(mosaic(coloured(1, 2, 3), pattern), pattern)
    assert planes.shape == (1, 4, 2, 3)
    assert planes[0].mean(dim=(1, 2)).tolist() == [1, 2, 2, 3]
    raw = torch.from_numpy(rng.random((1, 1, 4, 6)))
    planes = bayer_planes(raw, pattern)
    red_row = pattern.index("r") // 2
    torch.testing.assert_close(planes[:, :2].sum(dim=(0, 1, 3)), raw[0, 0, red_row::2].sum(dim=1))


def test_every_pixel_has_one_filter_and_half_of_them_are_green():
    filters = bayer_filters("gbrg", (6, 8))
    assert torch.equal(filters.sum(0), torch.ones(6, 8, dtype=DOUBLE))
    assert filters.sum(dim=(1, 2)).tolist() == [12, 24, 12]


def test_a_raw_value_goes_back_to_the_channel_that_saw_it(rng):
    raw = torch.from_numpy(rng.random((2, 1, 5, 6)))
    assert torch.equal(mosaic(mosaic_adjoint(raw, "bggr"), "bggr"), raw)


@pytest.mark.parametrize("start", [(0, 0), (0, 1), (3, 2), (5, 5)])
def test_a_region_has_the_pattern_of_where_it_starts(start):
    whole = bayer_filters("grbg", (10, 10))
    region = whole[:, start[0] : start[0] + 4, start[1] : start[1] + 4]
    assert torch.equal(bayer_filters(pattern_from("grbg", *start), (4, 4)), region)


def test_what_is_no_raw_picture_is_refused():
    with pytest.raises(BadInput, match="a raw picture of 5x4 pixels is no whole number of 2x2 blocks"):
        bayer_planes(torch.ones(1, 1, 5, 4), "rggb")
    with pytest.raises(BadInput, match=r"a picture to mosaic has shape \(1, 1, 4, 4\); \(N, 3, h, w\) is needed"):
        mosaic(torch.ones(1, 1, 4, 4), "rggb")
    with pytest.raises(BadInput, match="the Bayer pattern is 'rgbg'; it may be rggb, bggr, grbg, gbrg"):
        bayer_filters("rgbg", (4, 4))
