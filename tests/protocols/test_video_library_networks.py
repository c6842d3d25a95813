"""Networks that other packages define: asked for by name, refused with what to install, and checked where they are."""

from __future__ import annotations

import importlib
import typing

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from labctl.errors import BadInput
from protocols.video.networks.library_settings import Library, LibraryFrame
from protocols.video.networks.weights import weights_in_words

KINDS = typing.get_args(LibraryFrame.model_fields["type"].annotation)
PAIRS = [
    (library, kind)
    for library in typing.get_args(Library)
    for kind in KINDS
    if (library, kind) != ("transformers", "resnext2d-50")
]


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def settings(request) -> LibraryFrame:
    """Of every network of every library; skipped where that is not installed, as it is by default."""
    library, kind = request.param
    pytest.importorskip(library)
    return LibraryFrame(type=kind, library=library)


def test_a_network_of_a_library_learns_and_answers_each_frame_for_itself(settings):
    torch.manual_seed(0)
    network = settings.build((15, 1, 32, 32), 10)
    frames, labels = torch.randn(8, 1, 32, 32), torch.arange(8)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        losses.append(nn.functional.cross_entropy(network(frames), labels))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(frames)[2:3], network(frames[2:3]), rtol=1e-4, atol=1e-4)


def test_its_published_weights_for_colour_are_taken_for_grey(settings, tmp_path):
    colour = settings.build((15, 3, 32, 32), 1000).eval()
    torch.save(colour.inner.state_dict(), tmp_path / "w.pt")
    taken = LibraryFrame.model_validate({**settings.model_dump(), "weights": tmp_path / "w.pt"})
    frames = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        same = taken.build((15, 1, 32, 32), 1000).eval()(frames)
        torch.testing.assert_close(same, colour(frames.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    told = weights_in_words(taken, (15, 1, 32, 32), 10)
    assert "start afresh" in told
    assert "summed over three colours" in told


def test_frames_are_resized_where_that_is_asked_for(settings):
    network = LibraryFrame(type=settings.type, library=settings.library, input_px=64).build((15, 1, 20, 12), 10)
    assert network(torch.randn(2, 1, 20, 12)).shape == (2, 10)


@pytest.mark.parametrize("library", typing.get_args(Library))
def test_a_missing_package_is_named_with_what_to_install(library, monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BadInput, match=rf"{library} is not installed; `pip install {library}`, or take"):
        LibraryFrame(type="vit-small", library=library).build((15, 1, 32, 32), 10)


def test_what_a_package_itself_lacks_is_named_too(monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision.transforms")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BadInput, match="and torchvision is not installed; `pip install timm torchvision`"):
        LibraryFrame(type="resnet2d-18", library="timm").build((15, 1, 32, 32), 10)


def test_a_package_of_another_torch_is_named_with_its_reason(monkeypatch):
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(BadInput, match=r"cannot be imported: operator torchvision::nms .* belongs to your torch"):
        LibraryFrame(type="resnet2d-50", library="torchvision").build((15, 1, 32, 32), 10)


def test_what_cannot_be_is_refused_before_anything_is_imported():
    with pytest.raises(ValidationError, match="transformers has no resnext2d-50; take `library: timm`"):
        LibraryFrame(type="resnext2d-50", library="transformers")
    with pytest.raises(BadInput, match="patches of 16 px, these have 24x24; set its input_px to a multiple"):
        LibraryFrame(type="vit-small", library="timm").build((15, 1, 24, 24), 10)
