from __future__ import annotations

import pytest
import torch
from torch import nn

from labctl.errors import BadInput
from protocols.resnet18 import ResNet18


def weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_textbook_network_has_its_eleven_million_weights():
    # 11,173,962 with three input channels and 10 classes [pytorch-cifar]; one channel less twice takes 2 x 9 x 64 away.
    network = ResNet18(pooled_cells=1).build((32, 32), 10)
    assert weights(network) == 11_173_962 - 2 * 9 * 64


def test_it_reads_frames_and_learns_from_all_its_weights():
    network = ResNet18(width=8, dropout=0).build((32, 28), 5)
    logits = network(torch.randn(4, 1, 32, 28))
    assert logits.shape == (4, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_read_out_of_four_cells_tells_where_light_fell_and_one_of_one_cell_does_not():
    torch.manual_seed(0)
    frame = torch.zeros(1, 1, 64, 64)
    frame[..., 8:16, 8:16] = 1
    moved = frame.roll((40, 40), (-2, -1))
    for cells, least, most in ((4, 1e-2, 1e9), (1, 0, 1e-2)):
        network = ResNet18(width=8, pooled_cells=cells).build((64, 64), 5).eval()
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.padding_mode = "circular"
                    module._reversed_padding_repeated_twice = [p for q in reversed(module.padding) for p in (q, q)]
            difference = float((network(frame) - network(moved)).norm() / network(frame).norm())
        assert least <= difference <= most


def test_small_frames_and_one_class_are_refused():
    with pytest.raises(BadInput, match="frames of 15x32 px are too small for resnet18; at least 16 px"):
        ResNet18().build((15, 32), 5)
    with pytest.raises(BadInput, match="n_classes is 1"):
        ResNet18().build((32, 32), 1)
