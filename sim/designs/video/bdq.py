"""Blur, difference, quantise: a camera that hides who acts and shows what is done. [Kumawat and Nagahara 2022]"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from annotated_types import Ge, Gt, Le
from pydantic import model_validator
from torch import Tensor, nn

from labctl.frames.record import Privacy
from labctl.frozen import Frozen
from sim.designs.base import CameraDesign, DesignSettings, check_mask_shape
from sim.designs.video.base import Operator, VideoDesign
from sim.designs.video.quantiser import Quantiser, QuantiserSettings

DIFFERENCE_HALF_RANGE = 0.5
"""Differences of light lie within -1..1, nearly all within half of that: what is read is them over this."""


class BlurSettings(Frozen):
    """A Gaussian blur by the optics, as wide as the mask has cells. [paper: 5x5]"""

    sigma_px: Annotated[float, Gt(0), Le(64)] = 1.0
    """In mask cells, which are sensor pixels on the rigs for clips. The authors' code has 3, frozen."""

    learn: bool = True
    rate: Annotated[float, Gt(0), Le(1)] = 0.02
    """Learning rate of the logarithm of sigma."""


class Bdq(DesignSettings):
    """Any of blur (by the optics), difference of successive frames, and a learned quantiser; any of them `null`.

    Three operators: `soft`, which trains; `hard`, the staircase that an ADC does; and what a rig measures.
    """

    raw_frames: ClassVar[Privacy] = "after-readout"

    type: Literal["bdq"] = "bdq"

    blur: BlurSettings | None = BlurSettings()
    difference: bool = True
    quantise: QuantiserSettings | None = QuantiserSettings()

    optics: Literal["panel", "lens"] = "panel"
    """What blurs. `panel`: the Gaussian stands on the SLM. `lens`: an ordinary lens out of focus, with all its light,
    which no panel can show."""

    alpha: Annotated[float, Ge(0), Le(1000)] | None = None
    """Weight of privacy in training; goes before the `alpha` of the step that trains it."""

    @model_validator(mode="after")
    def _something_is_done(self) -> Self:
        if self.blur is None and not self.difference and self.quantise is None:
            raise ValueError("neither blur nor difference nor quantiser is left; use `type: video_original`")
        return self

    def build(self, mask_shape: tuple[int, int], seed: int) -> CameraDesign:
        """See `DesignSettings.build`. Nothing in it is random."""
        check_mask_shape(mask_shape)
        return BdqCamera(mask_shape, self)


class BdqCamera(VideoDesign):
    """See `Bdq`."""

    operators: tuple[Operator, ...] = ("soft", "hard")

    def __init__(self, mask_shape: tuple[int, int], settings: Bdq) -> None:
        super().__init__()
        self.kept, self.shape = settings, mask_shape
        self.span = 2 if settings.difference else 1
        self.on_panel = settings.optics == "panel"
        self.quantiser = None
        if settings.quantise is not None:
            self.quantiser = Quantiser(settings.quantise, difference=settings.difference)
        self.blur_learns = settings.blur is not None and settings.blur.learn
        if settings.blur is not None:
            log_sigma = torch.tensor(math.log(settings.blur.sigma_px))
            if self.blur_learns:
                self.log_sigma = nn.Parameter(log_sigma)
            else:
                self.register_buffer("log_sigma", log_sigma)
        self.learnable = any(True for _ in self.parameters())
        rates = [group["lr"] for group in self.parameter_groups()]
        self.rate = max(rates) if rates else None

    @property
    def moving_optics(self) -> bool:
        """See `VideoDesign.moving_optics`."""
        return self.blur_learns and self.log_sigma.requires_grad

    @property
    def sigma_px(self) -> float | None:
        """Of the blur, in mask cells; None without."""
        return None if self.kept.blur is None else float(self.log_sigma.detach().exp())

    def mask(self) -> Tensor:
        """See `CameraDesign.mask`: a Gaussian with a peak of 1, or one open cell."""
        rows, columns = (torch.arange(n) - n // 2 for n in self.shape)
        squared = (rows[:, None].square() + columns.square()).float()
        if self.kept.blur is None:
            weights = (squared == 0).float()
        else:
            weights = torch.exp(-squared.to(self.log_sigma) / (2 * torch.exp(2 * self.log_sigma)))
        return weights if self.on_panel else weights * (weights.numel() / weights.sum())

    def read_clips(self, light: Tensor, operator: Operator = "soft") -> Tensor:
        """See `VideoDesign.read_clips`; (N, T or T - 1, 1, h, w), the height of all codes scaled to -1..1."""
        self.check_clips(light, operator)
        seen = light.diff(dim=1) if self.kept.difference else light
        if self.quantiser is not None:
            read: Tensor = self.quantiser(seen, hard=operator == "hard")
            return read
        return seen / DIFFERENCE_HALF_RANGE if self.kept.difference else 2 * seen - 1

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See `VideoDesign.parameter_groups`."""
        groups = []
        if self.blur_learns and self.kept.blur is not None:
            groups.append({"params": [self.log_sigma], "lr": self.kept.blur.rate})
        if self.quantiser is not None and self.quantiser.settings.learn:
            groups.append({"params": [self.quantiser.raw], "lr": self.quantiser.settings.rate})
        return groups

    def anneal(self, progress: float) -> None:
        """See `CameraDesign.anneal`."""
        if self.quantiser is not None:
            self.quantiser.anneal(progress)

    def electronics(self) -> dict[str, Any]:
        """See `VideoDesign.electronics`."""
        found: dict[str, Any] = {"difference": self.kept.difference}
        return found if self.quantiser is None else {**found, **self.quantiser.as_light()}


def code_table(electronics: dict[str, Any], *, white_dn: float, top_dn: int) -> dict[int, int]:
    """The quantiser as a table: DN above black, or of a difference -top_dn..top_dn, → code 0..levels - 1.

    electronics: of `BdqCamera.electronics`. white_dn: what light of 1 adds to black. It is what a sensor needs whose
    ADC takes a look-up table; a threshold belongs to the code above it.
    """
    from bisect import bisect_right

    steps = electronics["thresholds_light"]
    first = -top_dn if electronics["difference"] else 0
    return {dn: bisect_right(steps, dn / white_dn) for dn in range(first, top_dn + 1)}
