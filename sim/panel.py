"""The SLM: from mask transmittance over 8-bit levels to what the panel really lets through, and how fast it follows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.roads import FULL_LEVEL, PanelRoad
from sim.surrogates import Surrogate, staircase

SETTLED_RESPONSES = math.log(2550)
"""After this many response times a full-scale change is a tenth of a level from its end; it then counts as reached."""


def quantise_levels(share: Tensor, *, surrogate: Surrogate = "straight-through", steepness: float = 1.0) -> Tensor:
    """Round a share 0..1 of full level to the 256 levels of the panel, with the slope of `surrogate`.

    See `sim.surrogates.staircase`: 1 for straight-through, one sigmoid per level of that steepness for sigmoid.
    """
    return staircase(share, levels=FULL_LEVEL + 1, surrogate=surrogate, steepness=steepness)


def road_levels(mask: Tensor, road: PanelRoad) -> Tensor:
    """Levels that `road` sends to the panel, as a share 0..1 of full level.

    mask: (..., H, W) transmittance 0..1. Returns (..., H cell_px, W cell_px). Values are those of `road.levels`
    to the bit, since the road itself makes them. The slope is that of the road before rounding, taken no nearer to
    zero than one level, where it would be infinite for gamma > 1. To learn a mask use `shown_transmittance`.
    """
    levels = _levels_of(mask, road)
    if not (torch.is_grad_enabled() and mask.requires_grad):
        return levels
    floor = 1.0 / road.contrast
    share = ((mask.detach() - floor) / (1 - floor)).clamp(1 / FULL_LEVEL, 1)
    if road.lut is None:
        slope = share ** (1 / road.gamma - 1) / (road.gamma * (1 - floor))
    else:
        table = torch.tensor(road.lut, dtype=mask.dtype, device=mask.device)
        right = torch.searchsorted(table, share).clamp(1, len(table) - 1)
        slope = 1 / ((len(table) - 1) * (table[right] - table[right - 1]) * (1 - floor))
    return levels + cells_on_panel((mask - mask.detach()) * slope, road.cell_px)


def panel_transmittance(
    share: Tensor,
    *,
    gamma: Tensor | float,
    contrast: Tensor | float,
    fill_factor: float = 1.0,
    crosstalk: Tensor | float = 0.0,
    lut: Tensor | None = None,
) -> Tensor:
    """Transmittance of every panel pixel, t0 + fill_factor (1 - t0) response with t0 = 1 / contrast.

    share: (..., rows, columns) level / 255. The response is share^gamma, or `lut` (n,) at n equally spaced shares.
    crosstalk: share of its open light that a pixel exchanges with its four neighbours; the sum over the picture is
    kept. Differentiable in all tensors, also at share 0.
    """
    return _transmit(_response(share, gamma, lut), contrast=contrast, fill_factor=fill_factor, crosstalk=crosstalk)


def shown_transmittance(
    mask: Tensor,
    road: PanelRoad,
    *,
    gamma: Tensor | float,
    contrast: Tensor | float,
    fill_factor: float = 1.0,
    crosstalk: Tensor | float = 0.0,
    lut: Tensor | None = None,
    surrogate: Surrogate = "straight-through",
    steepness: float = 1.0,
) -> Tensor:
    """Transmittance of every panel pixel when `mask` goes down `road` to the panel.

    mask: (..., H, W) transmittance 0..1. Returns (..., H cell_px, W cell_px), in value
    `panel_transmittance(road_levels(mask, road), ...)`. The slope goes straight through road and response together:
    one unit of mask is one unit of response. It is exact for a panel whose gamma the road knows, and unlike the product
    of the two slopes (infinite times zero) it also moves a cell that stands at 0.
    surrogate, steepness: the slope of the 8-bit rounding between the two, see `quantise_levels`. The value is the same.
    """
    response = _response(_levels_of(mask, road), gamma, lut)
    if torch.is_grad_enabled() and mask.requires_grad:
        change = mask - mask.detach()
        if surrogate == "sigmoid":
            change = quantise_levels(_unrounded(mask, road) + change, surrogate=surrogate, steepness=steepness)
            change = change - change.detach()
        response = response + cells_on_panel(change, road.cell_px)
    return _transmit(response, contrast=contrast, fill_factor=fill_factor, crosstalk=crosstalk)


def cells_on_panel(values: Tensor, cell_px: int) -> Tensor:
    """(..., H cell_px, W cell_px): values (..., H, W) of mask cells, on all panel pixels of each."""
    return values.repeat_interleave(cell_px, dim=-2).repeat_interleave(cell_px, dim=-1)


def settled_fraction(elapsed_s: float, response_s: float) -> float:
    """Share 0..1 of a change that the panel has made `elapsed_s` after `show`; exactly 1 once it counts as settled."""
    if response_s == 0 or elapsed_s >= SETTLED_RESPONSES * response_s:
        return 1.0
    return -math.expm1(-elapsed_s / response_s)


def ghost_weight(settle_s: float, exposure_s: float, response_s: float) -> float:
    """Mean weight of the previous picture in an exposure that starts `settle_s` after `show`.

    Mean of exp(-t / response_s) over the exposure; exactly 0 from `SETTLED_RESPONSES` response times on.
    Use it as new + w (previous - new), so that an unchanged picture stays exact.
    """
    residual = 1.0 - settled_fraction(settle_s, response_s)
    if residual == 0.0:
        return 0.0
    return -residual * response_s / exposure_s * math.expm1(-exposure_s / response_s)


def _levels_of(mask: Tensor, road: PanelRoad) -> Tensor:
    levels = road.levels(mask.detach().cpu().numpy())
    return torch.from_numpy(levels).to(dtype=mask.dtype, device=mask.device) / FULL_LEVEL


def _unrounded(mask: Tensor, road: PanelRoad) -> Tensor:
    """Share 0..1 of full level that `road` would send if panels had more than 256; no gradient."""
    share = torch.from_numpy(road.shares(mask.detach().cpu().numpy()))
    return share.to(dtype=mask.dtype, device=mask.device)


def _response(share: Tensor, gamma: Tensor | float, lut: Tensor | None) -> Tensor:
    if lut is not None:
        place = share.clamp(0, 1) * (len(lut) - 1)
        left = place.detach().floor().clamp(max=len(lut) - 2).long()
        return lut[left] + (place - left) * (lut[left + 1] - lut[left])
    lit = share > 0
    return torch.where(lit, torch.where(lit, share, 1.0) ** gamma, 0.0)


def _transmit(response: Tensor, *, contrast: Tensor | float, fill_factor: float, crosstalk: Tensor | float) -> Tensor:
    leak = 1.0 / contrast
    open_part = (1.0 - leak) * fill_factor * response
    if torch.is_tensor(crosstalk) or crosstalk != 0:
        open_part = open_part + crosstalk * (_neighbour_mean(open_part) - open_part)
    return leak + open_part


def _neighbour_mean(picture: Tensor) -> Tensor:
    """Mean of the four neighbours; a border pixel counts itself for each that it lacks, which keeps the sum."""
    flat = picture.reshape(-1, 1, *picture.shape[-2:])
    wide = F.pad(flat, (1, 1, 1, 1), mode="replicate")
    mean = (wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]) / 4
    return mean.reshape(picture.shape)
