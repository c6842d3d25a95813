from __future__ import annotations

import typing

import pytest
import torch
from torch import nn

from labctl.errors import BadInput
from protocols.models import settle_batch_norm
from protocols.video.networks import AttackerNetwork, Unet3d
from protocols.video.networks.full_size import C3d, I3dLike, R2plus1d
from protocols.video.networks.library_settings import LibraryFrame
from protocols.video.networks.settings import Resnet3d, Small3d, SmallFrame

SHAPES = [(15, 1, 32, 32), (16, 2, 16, 16), (5, 1, 8, 8)]
LARGE = (Resnet3d, R2plus1d, I3dLike, C3d)
KINDS = typing.get_args(typing.get_args(AttackerNetwork)[0])
SMALL = [settings() for settings in KINDS if settings not in (*LARGE, LibraryFrame)]
NARROWED = [Resnet3d(depth=18, width=4), Resnet3d(depth=50, width=4), R2plus1d(width=8), I3dLike(width=16, dropout=0.2),
            C3d(width=4, dropout=0.2)]  # fmt: skip


def named(settings) -> str:
    return str(settings.type)


def weights_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def batch(settings, shape, n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, *(shape if settings.reads == "clip" else shape[1:]), generator=generator)


@pytest.mark.parametrize("settings", [*SMALL, *NARROWED], ids=named)
def test_every_network_names_clips_or_frames_of_any_size_each_for_itself(settings):
    for shape in SHAPES:
        torch.manual_seed(0)
        network = settings.build(shape, 7)
        given = batch(settings, shape)
        network(given)
        network.eval()
        with torch.no_grad():
            assert network(given).shape == (6, 7)
            torch.testing.assert_close(network(given)[2:3], network(given[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [*SMALL, *NARROWED], ids=named)
def test_every_network_learns_a_batch_by_heart(settings):
    torch.manual_seed(0)
    network = settings.build((4, 1, 16, 16), 2)
    given, labels = batch(settings, (4, 1, 16, 16)), torch.tensor([0, 1, 0, 1, 1, 0])
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(given), labels).backward()
        optimiser.step()
    network.eval()
    for module in network.modules():  # statistics of a batch this small lag behind
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    assert bool((network(given).argmax(1) == labels).all())


@pytest.mark.parametrize("settings", SMALL, ids=named)
def test_small_networks_have_some_ten_to_four_hundred_thousand_weights(settings):
    assert 10_000 < weights_of(settings.build((15, 1, 32, 32), 10)) < 500_000


@pytest.mark.parametrize("settings", NARROWED, ids=named)
def test_large_networks_train_on_clips_shorter_than_their_kernels(settings):
    for frames in (1, 3, 5, 6):  # of 5, a kernel over 7 frames once wrote out of bounds and ended the process
        network = settings.build((frames, 1, 32, 32), 3)
        for _ in range(3):
            network(torch.randn(8, frames, 1, 32, 32)).sum().backward()
        assert all(bool(torch.isfinite(weight.grad).all()) for weight in network.parameters())


def test_sizes_are_those_that_the_docstrings_tell():
    assert weights_of(Small3d().build((15, 1, 32, 32), 14)) == pytest.approx(238_000, rel=0.01)
    assert weights_of(SmallFrame().build((15, 1, 32, 32), 10)) == pytest.approx(223_000, rel=0.01)
    assert weights_of(Unet3d().build((15, 1, 32, 32))) == pytest.approx(59_000, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "published", "within"),
    [(Resnet3d(), 47.0e6, 0.02), (R2plus1d(), 31_505_325, 0), (I3dLike(), 25e6 / 2, 0.02)],  # two streams: 25 million
    ids=["resnet-3d", "r2plus1d", "i3d"],
)
def test_the_networks_of_the_literature_have_their_published_size(settings, published, within):
    assert weights_of(settings.build((16, 3, 112, 112), 400)) == pytest.approx(published, rel=within)


@pytest.mark.parametrize("settings", NARROWED, ids=named)
def test_the_large_clip_networks_see_the_order_of_time(settings):
    torch.manual_seed(0)
    network = settings.build((16, 1, 32, 32), 3)
    clips = torch.randn(4, 16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    settle_batch_norm(network, clips)
    assert not torch.allclose(network(clips), network(clips.flip(1)), rtol=1e-3)


def test_the_first_layers_of_a_clip_network_see_time():
    network = Small3d().build((8, 1, 16, 16), 3).eval()
    clips = torch.randn(2, 8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(network(clips), network(clips.flip(1)))


def test_frames_that_are_too_small_and_one_class_are_refused():
    with pytest.raises(BadInput, match=r"small-3d needs frames of 8 px or more each way, these have 4x4"):
        Small3d().build((15, 1, 4, 4), 3)
    with pytest.raises(BadInput, match="1 classes apart; two or more"):
        SmallFrame().build((15, 1, 16, 16), 1)


def test_the_u_net_keeps_the_size_of_clips_of_any_length():
    for shape in ((15, 1, 32, 32), (4, 2, 18, 10)):
        network = Unet3d().build(shape)
        assert network(torch.randn(2, *shape)).shape == (2, shape[0], 1, *shape[2:])
