"""C3D: eight 3x3x3 convolutions in a row. [Tran et al. 2015]"""

from __future__ import annotations

from torch import nn

from protocols.video.networks.of_clips import TimeSecond

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Convolutions of each stage, as their channels over the width."""


def c3d(channels: int, width: int, dropout: float, n_classes: int) -> nn.Module:
    """See `C3d`. What reaches the hidden layers is brought to 1x4x4 cells, as clips of 16 frames of 112 px have there.

    The publication has no batch normalisation; here it is, since fresh weights hardly learn without.
    """
    layers: list[nn.Module] = [TimeSecond()]
    before = channels
    for number, stage in enumerate(STAGES):
        for factor in stage:
            after = factor * width
            layers += [nn.Conv3d(before, after, 3, padding=1, bias=False), nn.BatchNorm3d(after), nn.ReLU()]
            before = after
        in_time = 1 if number == 0 else 2
        layers.append(nn.MaxPool3d((in_time, 2, 2), ceil_mode=True))
    hidden = 64 * width
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool3d((1, 4, 4)),
        nn.Flatten(),
        nn.Linear(16 * before, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, n_classes),
    )
