"""Response tables: monotone, with errors, and refused where they fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput
from protocols.calibrate.response_table import check_rising, inverse_levels, read_table, response_from, strictly_rising


def panel(levels: np.ndarray, gamma: float = 2.3, contrast: float = 60.0) -> np.ndarray:
    return 1 / contrast + (1 - 1 / contrast) * (levels / 255) ** gamma


def test_twenty_levels_give_the_whole_table_within_a_thousandth():
    levels = np.round(np.linspace(0, 255, 20))
    found = response_from(levels, 812.0 * panel(levels), np.full(20, 0.2))
    assert np.abs(found.table - panel(np.arange(256))).max() < 1e-3
    assert found.contrast == pytest.approx(60, abs=3 * found.contrast_error)
    assert found.gamma == pytest.approx(2.3, abs=0.01)


def test_noise_within_the_errors_is_no_fall_and_the_table_still_rises():
    stream = np.random.default_rng(3)
    levels = np.linspace(0, 255, 86)
    noisy = panel(levels, contrast=500) + stream.normal(0, 2e-3, 86)
    assert (np.diff(noisy) < 0).any()
    found = response_from(levels, noisy.clip(0), np.full(86, 2e-3))
    assert (np.diff(found.table) >= 0).all()


def test_stated_errors_cover_the_truth_as_often_as_they_say():
    levels = np.linspace(0, 255, 22)
    true = panel(levels)
    inside = []
    for seed in range(40):
        noisy = true + np.random.default_rng(seed).normal(0, 2e-3, 22)
        found = response_from(levels, noisy.clip(0), np.full(22, 2e-3))
        # The full level is 1 by definition, so compare what is told relative to it.
        scale = noisy[-1] / true[-1]
        inside.append(np.abs(found.table * scale - panel(np.arange(256)))[5:250] < found.error[5:250])
    assert 0.55 < np.mean(inside) < 0.9


def test_a_falling_table_is_refused_with_level_size_and_what_to_do():
    levels = np.linspace(0, 255, 16)
    values = panel(levels)
    values[9] = values[8] - 0.05
    with pytest.raises(BadInput, match=r"falls by 0\.05 .* from level 136 to level 153.*measure these levels again"):
        response_from(levels, values, np.full(16, 1e-3))


def test_a_slow_slide_of_small_steps_is_seen_too():
    values = np.concatenate([np.linspace(0, 1, 50), np.linspace(1, 0.9, 50), np.linspace(0.9, 1.2, 50)])
    with pytest.raises(BadInput, match=r"falls by 0\.1 "):
        check_rising(np.arange(150.0), values, np.full(150, 3e-3))


@pytest.mark.parametrize(
    ("levels", "values", "said"),
    [
        ([0, 100, 255], [0, 0.5, 1], "at least 4"),
        ([0, 100, 90, 255], [0, 0.5, 0.6, 1], "must rise"),
        ([1, 100, 200, 255], [0, 0.5, 0.6, 1], "must rise from 0"),
        ([0, 100, 200, 255], [0, 0, 0, 0], "light"),
        ([0, 100, 200, 255], [0, np.nan, 0.5, 1], "not finite"),
    ],
)
def test_what_is_no_response_is_refused(levels: list[float], values: list[float], said: str):
    with pytest.raises(BadInput, match=said):
        response_from(levels, values)


def test_the_inverse_gives_back_the_level():
    table = response_from(np.arange(256.0), panel(np.arange(256.0))).table
    assert inverse_levels(table, table[[0, 40, 200, 255]]) == pytest.approx([0, 40, 200, 255], abs=0.01)


def test_flat_stretches_get_an_inverse_and_ends_stay():
    rising = strictly_rising([0, 0, 0.5, 0.5, 1])
    assert (np.diff(rising) > 0).all()
    assert rising[0] == 0
    assert rising[-1] == 1
    with pytest.raises(BadInput, match="no inverse"):
        strictly_rising([0, 0.5, 0.4, 1])


def test_tables_are_read_from_text_and_npy(tmp_path: Path):
    rows = np.column_stack([np.arange(0, 256, 51), np.linspace(0, 1, 6), np.full(6, 0.01)])
    (tmp_path / "table.csv").write_text(
        "# level, transmittance, error\n" + "\n".join(f"{a},{b},{c}" for a, b, c in rows)
    )
    np.save(tmp_path / "table.npy", rows[:, :2])
    levels, _, error = read_table(tmp_path / "table.csv")
    assert np.array_equal(levels, rows[:, 0])
    assert error is not None
    assert read_table(tmp_path / "table.npy")[2] is None
    (tmp_path / "bad.csv").write_text("a b c\n")
    with pytest.raises(BadInput, match=r"bad\.csv"):
        read_table(tmp_path / "bad.csv")


@pytest.mark.data
def test_the_532_nm_table_of_a_real_panel_falls_and_the_405_nm_one_does_not(data_folder: Path):
    path = data_folder / "slm_lut_bns" / "slm7070_luts.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    tables = np.load(path)
    levels = tables["input_14bit"].astype(float)
    good = response_from(levels, tables["nm405"].astype(float), full_level=levels[-1])
    assert (np.diff(good.table) >= 0).all()
    with pytest.raises(BadInput, match="33 falling steps"):
        response_from(levels, tables["nm532"].astype(float), full_level=levels[-1])
