from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from labctl.errors import BadInput
from protocols.models import Classifier, Normalisation, SmallResidual, settle_batch_norm


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def frames() -> torch.Tensor:
    return 200 + 30 * torch.rand(24, 1, 32, 28) + 50 * torch.linspace(0, 1, 28)


def fitted_classifier(frames: torch.Tensor, n_classes: int = 3) -> Classifier:
    shape = (int(frames.shape[2]), int(frames.shape[3]))
    classifier = Classifier(SmallResidual().build(shape, n_classes), shape)
    classifier.normalisation.fit(frames)
    return classifier


@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (63, 41), (128, 128)])
def test_the_network_reads_frames_from_16_to_128_px_and_learns_from_all_its_weights(shape):
    network = SmallResidual(dropout=0).build(shape, 5)
    logits = network(torch.randn(4, 1, *shape))
    assert logits.shape == (4, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_network_of_width_16_has_84_thousand_weights_for_11_classes():
    assert sum(p.numel() for p in SmallResidual().build((32, 32), 11).parameters()) == 83_963


def test_an_answer_does_not_depend_on_the_other_frames_of_the_batch(frames):
    classifier = fitted_classifier(frames)
    for _ in range(3):
        classifier(frames)
    classifier.eval()
    together = classifier(frames)
    alone = torch.cat([classifier(frame[None]) for frame in frames])
    beside_glare = classifier(torch.cat([frames[:1], 60_000 * torch.ones(7, 1, 32, 28)]))[:1]
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(together[:1], beside_glare, atol=1e-4)
    assert torch.equal(classifier(frames), together)


def test_the_network_tells_by_position_alone():
    """One bright dot per frame, left or right: equal in every statistic but place."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(64) % 2
    frames = torch.zeros(64, 1, 32, 32)
    rows = torch.randint(4, 28, (64,), generator=generator)
    columns = torch.randint(4, 12, (64,), generator=generator) + 16 * labels
    frames[torch.arange(64), 0, rows, columns] = 1
    classifier = fitted_classifier(frames, n_classes=2)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(classifier(frames[:48]), labels[:48]).backward()
        optimiser.step()
    classifier.eval()
    assert (classifier(frames[48:]).argmax(1) == labels[48:]).float().mean() >= 0.9


def test_the_same_seed_gives_the_same_first_weights():
    networks = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        networks.append(torch.cat([p.flatten() for p in SmallResidual().build((16, 16), 2).parameters()]))
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


def test_fitted_frames_have_mean_zero_at_every_pixel_and_variance_one(frames):
    normalisation = Normalisation((32, 28))
    normalisation.fit(frames)
    normal = normalisation(frames)
    assert normal.mean(dim=0).abs().max() < 1e-4
    assert float(normal.square().mean()) == pytest.approx(1, abs=1e-4)


def test_normalisation_keeps_how_much_light_a_frame_has(frames):
    normalisation = Normalisation((32, 28))
    normalisation.fit(frames)
    step = normalisation(frames + 10) - normalisation(frames)
    assert torch.allclose(step, 10 / normalisation.std.expand_as(step), atol=1e-4)


def test_light_reaches_the_input_as_a_gradient(frames):
    normalisation = Normalisation((32, 28))
    normalisation.fit(frames)
    seen = frames.clone().requires_grad_()
    normalisation(seen).sum().backward()
    assert torch.allclose(seen.grad, (1 / normalisation.std).expand_as(seen))
    assert not list(normalisation.parameters())


def test_a_saved_classifier_answers_as_before(frames, tmp_path):
    classifier = fitted_classifier(frames)
    classifier(frames)
    classifier.eval()
    torch.save(classifier.state_dict(), tmp_path / "model.pt")
    again = Classifier(SmallResidual().build((32, 28), 3), (32, 28))
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    again.eval()
    assert torch.equal(again(frames), classifier(frames))


def test_a_large_pedestal_does_not_spoil_the_scale():
    small = torch.randn(50, 1, 16, 16)
    normalisation = Normalisation((16, 16))
    normalisation.fit(60_000 + small)
    spread = small.std(dim=0, correction=0).square().mean().sqrt()
    assert float(normalisation.std) == pytest.approx(float(spread), rel=0.01)


def test_frames_before_the_fit_are_refused(frames):
    with pytest.raises(BadInput, match="no statistics yet; call fit"):
        Normalisation((32, 28))(frames)


@pytest.mark.parametrize(
    ("training", "text"),
    [
        (torch.ones(4, 1, 16, 16), "all training frames are the same"),
        (torch.full((4, 1, 16, 16), 0.1), "all training frames are the same"),
        (torch.randn(1, 1, 16, 16), "1 frames cannot show how frames differ"),
        (torch.randn(4, 1, 8, 16), r"frames have shape \(4, 1, 8, 16\); \(N, 1, 16, 16\)"),
        (torch.randn(4, 16, 16), r"frames have shape \(4, 16, 16\)"),
        (torch.full((4, 1, 16, 16), float("nan")), "hold NaN or infinite values"),
    ],
)
def test_frames_that_give_no_statistics_are_refused(training, text):
    normalisation = Normalisation((16, 16))
    with pytest.raises(BadInput, match=text):
        normalisation.fit(training)
    assert not normalisation.fitted


def test_frames_too_small_and_classes_too_few_are_refused():
    with pytest.raises(BadInput, match="frames of 15x40 px are too small for small-residual; at least 16 px"):
        SmallResidual().build((15, 40), 4)
    with pytest.raises(BadInput, match="n_classes is 1; at least 2"):
        SmallResidual().build((32, 32), 1)
    with pytest.raises(ValidationError, match="dropout"):
        SmallResidual(dropout=1.0)


def test_settled_statistics_are_those_of_the_network_as_it_is_now():
    torch.manual_seed(0)
    frames = torch.randn(96, 1, 32, 32) * 5 + 100
    classifier = Classifier(SmallResidual().build((32, 32), 3), (32, 32))
    classifier.normalisation.fit(frames)
    classifier.eval()
    lagging = classifier(frames)
    settle_batch_norm(classifier, frames, batch=32)
    settled = classifier(frames)
    assert not classifier.training
    assert not torch.allclose(lagging, settled)
    stem = classifier.network.stem[0](classifier.normalisation(frames))
    layer = classifier.network.stem[1]
    assert torch.allclose(layer.running_mean, stem.mean(dim=(0, 2, 3)), atol=1e-4)
    assert layer.momentum == 0.1
    settle_batch_norm(classifier, frames, batch=32)
    assert torch.allclose(classifier(frames), settled, atol=1e-5), "asking again changes nothing"
