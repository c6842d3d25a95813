from __future__ import annotations

import pytest
import torch

from labctl.errors import BadInput
from sim.optics.blur import gaussian_blur


def test_blur_keeps_energy_is_gaussian_and_is_nothing_at_sigma_zero():
    point = torch.zeros(41, 41, dtype=torch.float64)
    point[20, 20] = 1.0
    blurred = gaussian_blur(point, 1.5)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-12)
    variance = float((blurred.sum(1) * (torch.arange(41, dtype=torch.float64) - 20) ** 2).sum())
    assert variance == pytest.approx(1.5**2 + 1 / 12, rel=1e-3)
    assert torch.equal(gaussian_blur(point, 0.0), point)


def test_blur_has_true_gradients_in_image_and_sigma():
    image = torch.rand(2, 7, 9, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(0.63, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_blur, (image, sigma))


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_a_blur_without_meaning_is_refused(sigma):
    with pytest.raises(BadInput, match=r"blur sigma is .* px; a finite value of 0 or more is needed"):
        gaussian_blur(torch.ones(3, 3), sigma)
