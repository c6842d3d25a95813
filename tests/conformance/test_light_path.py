"""What every rig and light path promises, from plan to frames. See `labctl.rig.Rig` and `labctl.light_path`."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.errors import BadInput, InterlockError
from labctl.exposure import Exposure, FloatArray, still_plan
from labctl.rig import Rig
from tests.conformance.conftest import Lit, fill, shoot, whole_mask, whole_scene


def grey(rig: Rig, *radiances: float) -> FloatArray:
    """(N, 1, H, W) uniform scenes."""
    return np.stack([np.full((1, *whole_scene(rig)), radiance) for radiance in radiances])


def test_frames_come_in_the_order_of_the_plan_under_their_exposure_ids(rig: Rig, lit: Lit) -> None:
    exposure, ids = lit(), [7, 3, 2**40, 4]
    plan = still_plan(grey(rig, 0.9, 0.1, 0.6, 0.3), np.ones(whole_mask(rig)), exposure, exposure_ids=ids, attempt=2)
    streamed = list(rig.stream(plan))
    assert [len(frame) for frame in streamed] == [1, 1, 1, 1]
    frames = rig.expose(plan)
    assert frames.exposure_ids.tolist() == ids
    assert [frame.exposure_ids[0] for frame in streamed] == ids
    assert frames.attempt == 2
    assert np.diff(frames.frame_ids).tolist() == [1, 1, 1]
    assert frames.pixels.shape == (4, 1, *rig.devices().camera.shape)
    assert np.argsort(frames.pixels.mean(axis=(1, 2, 3))).tolist() == [1, 3, 2, 0]


def test_every_exposure_has_its_own_mask(rig: Rig, lit: Lit) -> None:
    exposure, (rows, columns) = lit(), whole_mask(rig)
    masks = np.zeros((3, rows, columns))
    masks[0], masks[1, : rows // 2] = 1.0, 1.0
    whole = still_plan(grey(rig, 1.0, 1.0, 1.0), masks[0], exposure, exposure_ids=[0, 1, 2])
    plan = type(whole)(whole.scenes, masks[:, None], exposure, whole.exposure_ids)
    opened, half, closed = rig.expose(plan).pixels.mean(axis=(1, 2, 3))
    assert opened > half > closed


def test_the_same_plan_twice_gives_the_same_frames_on_a_simulated_rig(rig: Rig, lit: Lit, repeatable: None) -> None:
    exposure = lit()
    plan = still_plan(grey(rig, 0.5, 1.0), np.ones(whole_mask(rig)), exposure, exposure_ids=[5, 6])
    first = rig.expose(plan)
    shoot(rig, np.zeros(whole_mask(rig)), np.ones(whole_scene(rig)), exposure, 77)
    second = rig.expose(plan)
    assert np.array_equal(first.pixels, second.pixels)
    later = rig.expose(plan.part(1, 2))
    assert np.array_equal(later.pixels, first[1].pixels), "what came before an exposure does not matter"


def test_another_attempt_is_another_measurement(rig: Rig, lit: Lit) -> None:
    exposure, mask, scene = lit(), np.ones(whole_mask(rig)), grey(rig, 1.0)
    first, again = (rig.expose(still_plan(scene, mask, exposure, exposure_ids=[1], attempt=n)) for n in (0, 1))
    assert not np.array_equal(first.pixels, again.pixels)
    assert first.pixels.mean() == pytest.approx(again.pixels.mean(), rel=0.05)


def test_a_brighter_scene_gives_a_brighter_frame(rig: Rig, lit: Lit) -> None:
    exposure = lit()
    plan = still_plan(grey(rig, 0.0, 0.25, 0.5, 1.0), np.ones(whole_mask(rig)), exposure, exposure_ids=range(4))
    means = rig.expose(plan).pixels.mean(axis=(1, 2, 3))
    assert (np.diff(means) > 0.1 * (means[-1] - means[0])).all()
    assert means[2] - means[0] == pytest.approx((means[3] - means[0]) / 2, rel=0.2), "roads make radiance linear"


def test_a_shifted_mask_moves_the_frame(rig: Rig) -> None:
    rows, columns = whole_mask(rig)
    scene = np.zeros(whole_scene(rig))
    height, width = scene.shape
    scene[2 * height // 5 : 3 * height // 5, 2 * width // 5 : 3 * width // 5] = 1.0

    def pinhole(column: int) -> FloatArray:
        mask = np.zeros((rows, columns))
        mask[rows // 2 - 1 : rows // 2 + 1, column - 1 : column + 1] = 1.0
        return mask

    exposure = fill(rig, pinhole(columns // 2), scene)

    def centre(column: int) -> FloatArray:
        lit, dark = (shoot(rig, pinhole(column), s, exposure).pixels[0, 0].astype(float) for s in (scene, 0 * scene))
        spot = np.clip(lit - dark - 0.3 * (lit - dark).max(), 0, None)
        return np.array([np.average(grid, weights=spot) for grid in np.indices(spot.shape)])

    step = columns // 8
    left, middle, right = (centre(column) for column in (columns // 2 - step, columns // 2, columns // 2 + step))
    assert np.hypot(*(right - left)) > 2
    assert np.hypot(*(right - middle)) == pytest.approx(np.hypot(*(middle - left)), rel=0.4)
    assert np.dot(right - middle, middle - left) > 0, "the same way for the same move"


def test_a_live_scene_gives_frames_on_every_rig(rig: Rig) -> None:
    low, high = rig.devices().camera.exposure_limits_s
    exposure = Exposure(exposure_s=min(max(0.01, low), high))
    frames = rig.expose(still_plan("live", np.ones(whole_mask(rig)), exposure, exposure_ids=[4, 2]))
    assert frames.exposure_ids.tolist() == [4, 2]
    assert frames.pixels.shape == (2, 1, *rig.devices().camera.shape)


def test_a_live_scene_does_not_see_the_last_scene_shown(rig: Rig, lit: Lit) -> None:
    exposure, mask = lit(), np.ones(whole_mask(rig))
    scene = rig.devices().scene
    assert scene is not None
    scene.blank()
    before = shoot(rig, mask, None, exposure, 1)
    shown = shoot(rig, mask, np.ones(whole_scene(rig)), exposure, 2)
    after = shoot(rig, mask, None, exposure, 1)
    assert before.pixels.shape == after.pixels.shape == shown.pixels.shape
    assert after.exposure_ids.tolist() == [1]
    left_over = float(after.pixels.mean()) - float(before.pixels.mean())
    assert abs(left_over) < 0.1 * (float(shown.pixels.mean()) - float(before.pixels.mean()))


def test_whoever_stops_reading_early_can_go_on_with_another_plan(rig: Rig, lit: Lit) -> None:
    exposure, mask = lit(), np.ones(whole_mask(rig))
    stream = rig.stream(still_plan(grey(rig, 0.1, 0.2, 0.3), mask, exposure, exposure_ids=[0, 1, 2]))
    assert next(stream).exposure_ids.tolist() == [0]
    stream.close()  # type: ignore[attr-defined]
    assert shoot(rig, mask, np.ones(whole_scene(rig)), exposure, 9).exposure_ids.tolist() == [9]


def test_a_plan_that_does_not_fit_the_rig_is_refused(rig: Rig) -> None:
    rows, columns = whole_mask(rig)
    exposure = Exposure(exposure_s=rig.devices().camera.exposure_limits_s[1])
    with pytest.raises(BadInput, match=r"the mask (needs|covers)"):
        rig.expose(still_plan(grey(rig, 1.0), np.ones((rows + 1, columns)), exposure, exposure_ids=[0]))
    height, width = whole_scene(rig)
    with pytest.raises(BadInput, match=r"the (scene|frame) (needs|covers)"):
        rig.expose(still_plan(np.ones((1, 1, height, width + 1)), np.ones((rows, columns)), exposure, exposure_ids=[0]))
    short = Exposure(exposure_s=rig.devices().camera.exposure_limits_s[0] / 2)
    with pytest.raises(InterlockError, match="camera"):
        rig.expose(still_plan(grey(rig, 1.0), np.ones((rows, columns)), short, exposure_ids=[0]))


def test_a_rig_can_be_made_safe_and_closed_twice(rig: Rig, lit: Lit) -> None:
    lit()
    assert rig.safe() == rig.safe() == []
    rig.close()
    rig.close()
    with pytest.raises(BadInput, match="is not open"):
        rig.devices()
