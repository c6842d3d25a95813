from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.errors import BadInput
from sim.designs.separable import Mls
from sim.optics.convolution import convolve, convolve_window
from sim.optics.separable import (
    circulant_matrix,
    maximum_length_sequence,
    measure_separable,
    remove_row_column_means,
    separable_mask,
    tikhonov,
    toeplitz_matrix,
)

DOUBLE = torch.float64


def code(order: int) -> torch.Tensor:
    return maximum_length_sequence(order, dtype=DOUBLE)


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(*shape, dtype=DOUBLE, generator=generator) for shape in shapes)


@pytest.mark.parametrize("order", [2, 5, 8])
def test_a_maximum_length_sequence_is_invertible_with_a_flat_spectrum(order):
    sequence = code(order)
    power = torch.fft.fft(sequence).abs() ** 2
    assert len(sequence) == 2**order - 1
    assert float(sequence.sum()) == 1
    torch.testing.assert_close(power[1:], torch.full_like(power[1:], 2.0**order))
    matrix = circulant_matrix(sequence, len(sequence))
    torch.testing.assert_close(torch.linalg.inv(matrix) @ matrix, torch.eye(len(sequence), dtype=DOUBLE))


def test_the_separable_measurement_is_the_dense_matrix():
    scene, left, right = tensors((2, 3, 4, 5), (6, 4), (3, 5))
    dense = torch.kron(left, right)
    expected = (scene.reshape(6, 20) @ dense.T).reshape(2, 3, 6, 3)
    torch.testing.assert_close(measure_separable(scene, left, right), expected)


@pytest.mark.parametrize(("start", "size"), [((4, 3), (7, 6)), ((0, 0), (15, 12)), ((2, 1), (11, 9))])
def test_an_outer_product_mask_convolves_like_its_two_matrices(start, size):
    scene, rows, columns = tensors((2, 1, 11, 9), (5,), (4,))
    left = toeplitz_matrix(rows, 11, start=start[0], size=size[0])
    right = toeplitz_matrix(columns, 9, start=start[1], size=size[1])
    psf = torch.outer(rows, columns)[None]
    expected = convolve_window(scene, psf, start, size)
    torch.testing.assert_close(measure_separable(scene, left, right), expected)


def test_the_valid_part_has_the_matrices_that_its_docstring_names():
    scene, rows, columns = tensors((1, 1, 11, 9), (5,), (4,))
    left, right = toeplitz_matrix(rows, 11, start=4, size=7), toeplitz_matrix(columns, 9, start=3, size=6)
    expected = convolve(scene, torch.outer(rows, columns)[None], "valid")
    torch.testing.assert_close(measure_separable(scene, left, right), expected)


def test_a_repeated_code_is_the_circulant_camera():
    (scene,) = tensors((1, 1, 7, 7))
    sequence = code(3)
    twice = torch.cat([sequence, sequence])
    circulant = circulant_matrix(sequence, 7)
    seen = convolve_window(scene, torch.outer(twice, twice)[None], (7, 7), (7, 7))
    torch.testing.assert_close(measure_separable(scene, circulant, circulant), seen)


def test_row_and_column_means_are_gone_and_stay_gone():
    (frames,) = tensors((2, 3, 6, 5))
    left = remove_row_column_means(frames)
    assert float(left.mean(-1).abs().max()) < 1e-15
    assert float(left.mean(-2).abs().max()) < 1e-15
    torch.testing.assert_close(remove_row_column_means(left), left)
    added = frames + torch.arange(6, dtype=DOUBLE)[:, None] - 2 * torch.arange(5, dtype=DOUBLE)
    torch.testing.assert_close(remove_row_column_means(added), left)


@pytest.mark.parametrize("repeated", [True, False])
def test_without_means_a_mask_that_shows_all_the_scene_measures_half_of_what_its_signed_code_does(repeated):
    (scene,) = tensors((2, 1, 6, 5))
    rows, columns = code(4), code(3)
    if repeated:
        rows, columns = torch.cat([rows, rows]), torch.cat([columns, columns])
    start, size = (5, 4), (len(rows) - 5, len(columns) - 4)
    signed = convolve_window(scene, torch.outer(rows, columns)[None], start, size)
    printed = convolve_window(scene, separable_mask(rows, columns)[None], start, size)
    torch.testing.assert_close(remove_row_column_means(printed), remove_row_column_means(signed) / 2)
    part = convolve(scene, separable_mask(rows[:3], columns[:3])[None])
    signed_part = convolve(scene, torch.outer(rows[:3], columns[:3])[None])
    gap = remove_row_column_means(part) - remove_row_column_means(signed_part) / 2
    assert float(gap.abs().max()) > 1e-3  # a small mask shows each pixel another part: there the rule does not hold


def test_removing_means_is_measuring_with_matrices_whose_columns_have_none():
    scene, left, right = tensors((1, 1, 4, 5), (6, 4), (7, 5))
    centred = measure_separable(scene, left - left.mean(0), right - right.mean(0))
    torch.testing.assert_close(remove_row_column_means(measure_separable(scene, left, right)), centred)


@pytest.mark.parametrize(("left_shape", "right_shape"), [((6, 4), (5, 3)), ((3, 4), (2, 3)), ((3, 4), (5, 3))])
def test_tikhonov_solves_the_normal_equations(left_shape, right_shape):
    left, right, frames = tensors(left_shape, right_shape, (2, 1, left_shape[0], right_shape[0]))
    dense = torch.kron(left, right)
    normal = dense.T @ dense + 0.05 * torch.eye(12, dtype=DOUBLE)
    expected = torch.linalg.solve(normal, dense.T @ frames.reshape(2, -1).T).T.reshape(2, 1, 4, 3)
    torch.testing.assert_close(tikhonov(frames, left, right, 0.05), expected)


def test_tikhonov_has_true_gradients_where_all_singular_values_coincide():
    left, right = circulant_matrix(code(2), 3), circulant_matrix(code(3), 7)
    (frames,) = tensors((1, 1, 3, 7))
    weight = torch.tensor(0.2, dtype=DOUBLE)
    points = [tensor.requires_grad_() for tensor in (frames, left, right, weight)]
    assert torch.autograd.gradcheck(tikhonov, points)


def test_a_printed_maximum_length_mask_gives_the_scene_back_up_to_its_mean():
    (scene,) = tensors((1, 1, 31, 31))
    rows = torch.cat([code(5), code(5)])
    frames = convolve_window(scene, separable_mask(rows, rows)[None], (31, 31), (31, 31))
    matrix = circulant_matrix(code(5), 31)
    centred = matrix - matrix.mean(0)
    found = tikhonov(2 * remove_row_column_means(frames), centred, centred, 1e-9)
    torch.testing.assert_close(found, remove_row_column_means(scene), rtol=0, atol=1e-6)


def test_bad_codes_scenes_and_weights_are_refused():
    with pytest.raises(BadInput, match="order is 1; a maximum-length sequence has 2 to 24 bits"):
        maximum_length_sequence(1)
    with pytest.raises(BadInput, match="the scene spans 8 pixels, one period of the code 7"):
        circulant_matrix(code(3), 8)
    with pytest.raises(BadInput, match=r"the weight of the regulariser is 0\.0; more than 0 is needed"):
        tikhonov(torch.ones(1, 1, 2, 2), torch.eye(2), torch.eye(2), 0.0)


def test_the_design_is_the_sequence_cropped_to_the_mask():
    mask = Mls().build((32, 40), seed=3).mask()
    assert mask.shape == (32, 40)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    sequence = maximum_length_sequence(6)
    torch.testing.assert_close(2 * mask - 1, torch.outer(sequence[:32], sequence[:40]))
    assert torch.equal(mask, Mls(order=6).build((32, 40), seed=4).mask())
    assert Mls().build((31, 31), 0).mask().mean().item() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(Mls().build((1, 1), 0).settings()["mask"].shape, (1, 1))


def test_a_sequence_shorter_than_the_mask_is_refused():
    with pytest.raises(BadInput, match="a sequence of order 4 has 15 cells, the mask 32 along one side; use order 6"):
        Mls(order=4).build((32, 20), seed=0)
