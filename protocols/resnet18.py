"""The residual network of the literature, with the stem for small pictures."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from labctl.frozen import Frozen
from protocols.models import ResidualBlock, check_task

STAGES = (1, 2, 4, 8)
"""Channels of the four stages over the width; the last three halve the grid. [He et al. 2016]"""


class ResNet18(Frozen):
    """ResNet-18 with a 3x3 stem and no max-pool, as used for CIFAR: 11 million weights at width 64.

    About a hundred times the arithmetic of `small-residual`: give it a GPU, or narrow it.
    """

    type: Literal["resnet18"] = "resnet18"

    width: Annotated[int, Ge(4), Le(256)] = 64
    """Channels of the first stage. [He et al. 2016] has 64."""

    pooled_cells: Annotated[int, Ge(1), Le(8)] = 4
    """Cells along one side that the read-out keeps. The textbook has 1, which forgets where light fell."""

    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """A network from (N, 1, h, w) normalised frames to (N, n_classes) logits; in_shape is (h, w) in pixels.

        First weights come from torch's global generator. Raises BadInput for frames under 16 px or below two classes.
        """
        check_task(self.type, in_shape, n_classes)
        return ResNet18Network(self.width, self.pooled_cells, self.dropout, n_classes)


class ResNet18Network(nn.Module):
    """See `ResNet18`."""

    def __init__(self, width: int, pooled_cells: int, dropout: float, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, channels = [], width
        for stage, factor in enumerate(STAGES):
            blocks.append(ResidualBlock(channels, factor * width, stride=1 if stage == 0 else 2))
            blocks.append(ResidualBlock(factor * width, factor * width, stride=1))
            channels = factor * width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(pooled_cells)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * pooled_cells * pooled_cells, n_classes)
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 1, h, w) to (N, n_classes) logits."""
        return cast(Tensor, self.head(self.pool(self.blocks(self.stem(frames)))))
