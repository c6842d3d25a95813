"""The quantiser of BDQ: a staircase whose steps are learned. [Kumawat and Nagahara 2022]

Positions are counted in levels: 0 is the lower end of the range, L - 1 the upper one, for L codes and L - 1 thresholds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import model_validator
from torch import Tensor, nn

from labctl.errors import BadInput
from labctl.frozen import Frozen

RANGE_FLOOR = 1e-4
"""What the authors' code adds to the range, and the least height of a level. [code]"""

TABLE_ENTRIES = 4096
TABLE_MARGIN = 2.0
"""How far the table reaches beyond the range, in levels; further out the staircase is flat."""

RUNNING_SHARE = 0.05
"""Share of a new batch in running percentiles."""

RUNNING_ITEMS = 100_000
"""Most values of a batch that percentiles are taken of."""


class QuantiserSettings(Frozen):
    """A staircase of `levels` codes."""

    levels: Annotated[int, Ge(2), Le(256)] = 16
    """Codes; one more than there are thresholds. [paper: 16]"""

    range: Literal["fixed", "running", "batch"] = "fixed"
    """Where the ends of the range come from. `fixed`: `low` and `high`. `running`: percentiles of what training sees,
    which stand still afterwards. `batch`: least and largest value of each batch, as in the authors' code: then what is
    read of a clip depends on the other clips of its batch, which no camera can do."""

    low: float | None = None
    """Lower end, in light; None: -0.5 for differences, 0 for frames."""

    high: float | None = None
    """Upper end, in light; None: 0.5 for differences, 1 for frames."""

    percentiles: tuple[Annotated[float, Ge(0), Lt(50)], Annotated[float, Gt(50), Le(100)]] = (0.5, 99.5)
    """With `running`."""

    start: Literal["mid-step", "on-threshold"] = "mid-step"
    """Where the thresholds start, evenly. `on-threshold`: at 0.5, 1.5, ... [code]; with 16 levels the middle of the
    range lies on one, and noise flips the code of all that stands still. `mid-step`: half a level lower."""

    thresholds: tuple[float, ...] | None = None
    """Where they start instead, in levels, 0 to levels - 1: one fewer than there are levels."""

    learn: bool = True
    rate: Annotated[float, Gt(0), Le(10)] = 0.05
    """Learning rate of the thresholds, in levels per step of Adam."""

    temperature: Annotated[float, Gt(0), Le(1000)] = 5.0
    """Steepness of the sigmoids, per level. [code]"""

    temperature_end: Annotated[float, Gt(0), Le(1000)] | None = None
    """The temperature is brought to this geometrically; None keeps it, as the authors' code does."""

    evaluation: Literal["table", "exact"] = "table"
    """How the soft staircase is computed: from a table of 4096 entries, several times faster, or sigmoid by sigmoid."""

    @model_validator(mode="after")
    def _start_lies_in_the_range(self) -> Self:
        if self.thresholds is None:
            return self
        if len(self.thresholds) != self.levels - 1:
            raise ValueError(
                f"{len(self.thresholds)} thresholds for {self.levels} levels; {self.levels - 1} are needed"
            )
        beyond = [value for value in self.thresholds if not 0 <= value <= self.levels - 1]
        if beyond:
            raise ValueError(f"threshold {beyond[0]:g} leaves the range 0..{self.levels - 1} levels")
        return self

    @model_validator(mode="after")
    def _range_is_in_order(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low is {self.low:g}, high {self.high:g}; low must be the smaller one")
        return self


class Quantiser(nn.Module):
    """A learned staircase from light to codes -1..1.

    difference: whether it sees differences, which decides the range where the settings leave it open.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, settings: QuantiserSettings, *, difference: bool) -> None:
        super().__init__()
        self.settings, self.temperature = settings, settings.temperature
        first = 0.0 if settings.start == "mid-step" else 0.5
        start = settings.thresholds or tuple(first + place for place in range(settings.levels - 1))
        raw = torch.tensor(start, dtype=torch.float32)
        if settings.learn:
            self.raw = nn.Parameter(raw)
        else:
            self.register_buffer("raw", raw)
        low, high = settings.low, settings.high
        self.register_buffer("low", torch.tensor((-0.5 if difference else 0.0) if low is None else low))
        self.register_buffer("high", torch.tensor((0.5 if difference else 1.0) if high is None else high))
        self.register_buffer("seen", torch.tensor(settings.range != "running"))
        if float(self.low) >= float(self.high):
            raise BadInput(
                f"the range of the quantiser is {float(self.low):g}..{float(self.high):g}; give low and high"
            )

    @property
    def levels(self) -> int:
        """Codes."""
        return self.settings.levels

    def thresholds(self) -> Tensor:
        """(L - 1,) in levels: limited to the range and sorted, with gradients.

        Raises BadInput when one is not finite, or all have left the range on one side: nothing would be read any more.
        """
        raw: Tensor = self.raw
        with torch.no_grad():
            if not bool(torch.isfinite(raw).all()):
                raise BadInput("a threshold of the quantiser is not finite; lower its `rate`")
            if bool((raw < 0).all() or (raw > self.levels - 1).all()):
                raise BadInput(
                    f"all thresholds of the quantiser left the range 0..{self.levels - 1} levels "
                    f"({float(raw.min()):.3g}..{float(raw.max()):.3g}); lower their `rate` or the weight of privacy"
                )
        return raw.clamp(0, self.levels - 1).sort().values

    def forward(self, light: Tensor, hard: bool = False) -> Tensor:
        """Codes -1..1 of light of any shape. hard: the value of the staircase, with the slope of the soft one."""
        low, high = self.ends(light)
        place = positions(light, low, high, self.levels)
        thresholds = self.thresholds()
        soft = self._soft(place, thresholds)
        codes = soft + (hard_codes(place, thresholds) - soft).detach() if hard else soft
        return 2 * codes / (self.levels - 1) - 1

    def ends(self, light: Tensor) -> tuple[Tensor, Tensor]:
        """() lower and upper end of the range for this batch of light."""
        if self.settings.range == "batch":
            return light.amin().detach(), light.amax().detach()
        if self.settings.range == "running" and self.training:
            self._follow(light.detach())
        return self.low, self.high

    def anneal(self, progress: float) -> None:
        """Set the temperature for the share 0..1 of the training that is done."""
        first, last = self.settings.temperature, self.settings.temperature_end
        self.temperature = first if last is None else first * (last / first) ** progress

    def transfer(self, points: int = 1001) -> tuple[Tensor, Tensor, Tensor]:
        """(points,) light over the range and a little beyond, and the soft and the hard codes -1..1 of it."""
        with torch.no_grad():
            reach = 0.1 * (self.high - self.low)
            light = torch.linspace(float(self.low - reach), float(self.high + reach), points)
            place, thresholds = positions(light, self.low, self.high, self.levels), self.thresholds()
            soft, hard = soft_codes(place, thresholds, self.temperature), hard_codes(place, thresholds)
        return light, 2 * soft / (self.levels - 1) - 1, 2 * hard / (self.levels - 1) - 1

    def as_light(self) -> dict[str, Any]:
        """What an ADC must be set to: `levels`, `range_light`, and `thresholds_light`, from code to code."""
        with torch.no_grad():
            low, high = float(self.low), float(self.high)
            steps = low + self.thresholds() * (high - low + RANGE_FLOOR) / (self.levels - 1)
        return {"levels": self.levels, "range_light": [low, high], "thresholds_light": [float(step) for step in steps]}

    def _soft(self, place: Tensor, thresholds: Tensor) -> Tensor:
        if self.settings.evaluation == "exact":
            return soft_codes(place, thresholds, self.temperature)
        codes: Tensor = _FromTable.apply(place, thresholds, self.temperature)
        return codes

    def _follow(self, light: Tensor) -> None:
        values = light.flatten()
        values = values[:: max(1, len(values) // RUNNING_ITEMS)].float()
        ends = torch.quantile(values, torch.tensor(self.settings.percentiles, device=values.device) / 100)
        share = RUNNING_SHARE if bool(self.seen) else 1.0
        for own, new in ((self.low, ends[0]), (self.high, ends[1])):
            own.lerp_(new.to(own), share)
        self.seen.fill_(True)
        if float(self.low) >= float(self.high):
            raise BadInput(f"all light is {float(self.low):g}: there is no range to quantise; look at the clips")


# The staircase as functions of arrays


def positions(light: Tensor, low: Tensor | float, high: Tensor | float, levels: int) -> Tensor:
    """Light of any shape in levels: 0 at `low`, `levels` - 1 at `high` (less RANGE_FLOOR, as in the authors' code)."""
    return (levels - 1) * (light - low) / (high - low + RANGE_FLOOR)


def soft_codes(place: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
    """Sum of sigmoids over thresholds (L - 1,) of places of any shape, 0..L - 1."""
    return torch.sigmoid(temperature * (place.unsqueeze(-1) - thresholds)).sum(dim=-1)


def hard_codes(place: Tensor, thresholds: Tensor) -> Tensor:
    """How many of the sorted thresholds (L - 1,) lie at or below each place; without gradients."""
    return torch.searchsorted(thresholds.detach().contiguous(), place.detach().contiguous(), right=True).to(place)


def in_light(codes: Tensor, low: Tensor | float, high: Tensor | float, levels: int) -> Tensor:
    """Codes 0..levels - 1 on the scale of the light, as the authors' code puts them out."""
    height = torch.as_tensor((high - low) / (levels - 1)).clamp(min=RANGE_FLOOR)
    return codes * height + low


class _FromTable(torch.autograd.Function):
    """`soft_codes`, interpolated in a table; the slope is that of the interpolated staircase, to places and thresholds.

    Thresholds are met by every value, so their slope is a histogram of the incoming one times the slope of the table.
    """

    @staticmethod
    def forward(ctx: Any, place: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
        first, last = -TABLE_MARGIN, len(thresholds) + TABLE_MARGIN
        per_level = (TABLE_ENTRIES - 1) / (last - first)
        nodes = torch.linspace(first, last, TABLE_ENTRIES, dtype=place.dtype, device=place.device)
        table = soft_codes(nodes, thresholds, temperature)
        at = ((place - first) * per_level).clamp(0, TABLE_ENTRIES - 1)
        below = at.long().clamp(max=TABLE_ENTRIES - 2)
        share = at - below
        rise = table.diff()
        risen = rise[below]
        inside = (at > 0) & (at < TABLE_ENTRIES - 1)
        ctx.save_for_backward(below, share, risen * per_level * inside, nodes, thresholds)
        ctx.temperature = temperature
        return table[below] + share * risen

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        below, share, slope, nodes, thresholds = ctx.saved_tensors
        to_place = grad * slope if ctx.needs_input_grad[0] else None
        to_thresholds = None
        if ctx.needs_input_grad[1]:
            flat, part, whole = below.flatten(), share.flatten(), grad.flatten()
            weight = torch.bincount(flat, whole * (1 - part), minlength=TABLE_ENTRIES)
            weight = weight + torch.bincount(flat + 1, whole * part, minlength=TABLE_ENTRIES)
            step = torch.sigmoid(ctx.temperature * (nodes[:, None] - thresholds))
            to_thresholds = weight.to(step) @ (-ctx.temperature * step * (1 - step))
        return to_place, to_thresholds, None
