"""A plain convolutional network: another family of recogniser than the residual ones."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from labctl.frozen import Frozen
from protocols.models import POOLED_CELLS, check_task


class PlainCnn(Frozen):
    """Three 3x3 convolutions with max-pooling and one hidden layer, without shortcuts: 170 thousand weights at width 16
    with 11 classes."""

    type: Literal["plain-cnn"] = "plain-cnn"

    width: Annotated[int, Ge(4), Le(128)] = 16
    """Channels of the first convolution; the others have two and four times as many."""

    hidden: Annotated[int, Ge(8), Le(4096)] = 128
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.3

    def build(self, in_shape: tuple[int, int], n_classes: int) -> nn.Module:
        """A network from (N, 1, h, w) normalised frames to (N, n_classes) logits; in_shape is (h, w) in pixels.

        First weights come from torch's global generator. Raises BadInput for frames under 16 px or below two classes.
        """
        check_task(self.type, in_shape, n_classes)
        return PlainNetwork(self.width, self.hidden, self.dropout, n_classes)


class PlainNetwork(nn.Module):
    """See `PlainCnn`."""

    def __init__(self, width: int, hidden: int, dropout: float, n_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 1
        for factor in (1, 2, 4):
            blocks += [
                nn.Conv2d(channels, factor * width, 3, padding=1, bias=False),
                nn.BatchNorm2d(factor * width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels = factor * width
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(POOLED_CELLS))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * POOLED_CELLS * POOLED_CELLS, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 1, h, w) to (N, n_classes) logits."""
        return cast(Tensor, self.head(self.features(frames)))
