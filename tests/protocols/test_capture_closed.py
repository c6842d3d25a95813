from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from labctl.api import prepare
from labctl.durable import append_line
from labctl.errors import BadInput, RunFailed, Stopped
from labctl.frames.card import card_text
from labctl.frames.marks import Mark
from labctl.frames.merge import merge
from labctl.frames.verify import verify
from labctl.rig import Rig
from protocols.captured import labelled_frames
from protocols.learning_from_captures import as_bright_as_trained
from protocols.measurement import Measurement
from protocols.scenes import scenes_of
from protocols.simulation import ExposureRule, Simulation
from sim.designs.masks import FixedMask
from tests.protocols.captures import DISC, Session, pixels

DIGITS = tuple("0123456789")
PINHOLES = np.zeros((32, 32), dtype=np.float32)
PINHOLES[[9, 13, 20, 25], [11, 22, 8, 19]] = 1
LEAKY = {"rig": "as-built", "overrides": ("rig.world.contrast=50",)}
TOGETHER = {"closed_mask": "subtract", "exposure_s": 0.008}
TRAINED = {"exposure_s": 0.008}


def session(folder: Path, mask: np.ndarray = DISC, **settings: object) -> Session:
    return Session(folder, {**TOGETHER, **settings}, mask=mask, train=TRAINED, **LEAKY)


def test_every_scene_comes_again_with_the_mask_closed_after_two_changes_of_the_slm(tmp_path: Path) -> None:
    taken = session(tmp_path, train=70, test=6)
    metrics = taken.run().metrics
    assert (metrics["frames"], metrics["closed"]) == (2 * 76, 76)
    store = taken.store()
    kinds, masks = store.column("kind"), store.column("mask_hash")
    assert list(kinds[:64]) == ["scene"] * 64
    assert list(kinds[64:128]) == ["closed"] * 64
    assert_array_equal(store.column("sample_id")[:64], store.column("sample_id")[64:128])
    assert_array_equal(store.column("scene_hash")[:64], store.column("scene_hash")[64:128])
    assert (masks[1:] != masks[:-1]).sum() == 3, "two blocks"
    report = verify(store)
    assert [finding.text for finding in report.findings if finding.severity == "error"] == []


def test_learning_sees_the_light_of_the_open_cells_and_not_that_which_leaks(tmp_path: Path) -> None:
    """Against a bench with the same errors whose panel is as good as opaque."""
    leaky = session(tmp_path / "leaky", PINHOLES)
    tight = Session(
        tmp_path / "tight",
        {"exposure_s": 0.008},
        mask=PINHOLES,
        train=TRAINED,
        rig="as-built",
        overrides=("rig.world.contrast=100000",),
    )
    leaky.run()
    tight.run()
    wanted = labelled_frames(tight.frames, DIGITS)
    subtracted = labelled_frames(leaky.frames, DIGITS)
    assert_array_equal(subtracted.sample_ids, wanted.sample_ids)
    raw = leaky.store()
    first = raw.read(raw.select(kind="scene")).mean()
    black = float(raw.column("black_level_dn")[0])
    light = float(wanted.frames.mean()) - black
    assert first - black > 2 * light, "1020 closed cells at 50:1 leak more than 4 open ones let through"
    assert float(subtracted.frames.mean()) - black == pytest.approx(light, rel=0.05)
    # Fixed pattern is taken off too; the scenes are told apart as on the tight bench.
    about_the_mean = [frames.frames - frames.frames.mean(axis=0) for frames in (subtracted, wanted)]
    assert np.corrcoef(*(frames.ravel() for frames in about_the_mean))[0, 1] > 0.6


def test_repeats_and_rungs_each_have_a_closed_frame_of_their_own(tmp_path: Path) -> None:
    taken = session(tmp_path, ladder=[1, 0.25], repeats=2, dark_every=9)
    taken.run()
    store = taken.store()
    keys = np.stack([store.column(name) for name in ("sample_id", "repeat", "rung")])
    scenes, closed = (np.unique(keys[:, store.select(kind=kind)], axis=1) for kind in ("scene", "closed"))
    assert scenes.shape == (3, 2 * 2 * 18)
    assert_array_equal(scenes, closed)
    single = session(tmp_path / "single")
    single.run()
    one, many = (labelled_frames(one.frames, DIGITS) for one in (single, taken))
    difference = many.frames - one.frames
    assert one.frames.mean() > 300
    assert abs(difference.mean()) < 3


def test_a_stopped_capture_goes_on_to_the_very_frames_of_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = session(tmp_path / "whole"), session(tmp_path / "parts")
    whole.run()
    parts.stop = True
    stops = 0
    while True:
        try:
            parts.run()
            break
        except Stopped:
            stops += 1
    assert stops > 5
    assert_array_equal(pixels(parts.store()), pixels(whole.store()))
    assert_array_equal(parts.store().column("kind"), whole.store().column("kind"))


def test_a_scene_whose_closed_frame_is_in_doubt_is_left_out(tmp_path: Path) -> None:
    taken = session(tmp_path)
    taken.run()
    store = taken.store()
    place = int(store.select(kind="closed")[4])
    before = labelled_frames(taken.frames, DIGITS)
    mark = Mark(word="bad", first=place, last=place, reason="somebody stood before the camera")
    append_line(taken.frames / "marks.jsonl", mark.model_dump(mode="json"))
    after = labelled_frames(taken.frames, DIGITS)
    assert set(before.sample_ids) - set(after.sample_ids) == {int(store.column("sample_id")[place])}
    kept = np.isin(before.sample_ids, after.sample_ids)
    assert_array_equal(before.frames[kept], after.frames)


def test_the_card_says_what_learning_sees_and_that_noise_grows(tmp_path: Path) -> None:
    taken = session(tmp_path)
    taken.run()
    text = card_text(taken.store())
    assert "18 closed" in text
    assert "its noise is up to 1.4 times (the square root of 2) that of one frame" in text


def test_the_plan_says_how_many_frames_are_taken_with_the_mask_closed(tmp_path: Path) -> None:
    taken = session(tmp_path, train=70, test=6)
    taken.run()
    estimate = list(prepare(tmp_path / "protocol.yaml", rig="as-built"))[1].estimate
    assert estimate.frames == 2 * 76
    assert "takes 76 of the frames with the mask closed, 4 changes of the SLM" in estimate.moves


def test_a_data_loader_gives_the_difference_where_it_is_asked_for(tmp_path: Path) -> None:
    taken = session(tmp_path)
    taken.run()
    store = taken.store()
    dataset = store.dataset(closed=True)
    place = int(store.select(kind="scene")[3])
    closed = int(store.select(kind="closed")[3])
    wanted = store.frame(place).astype(np.float32) - store.frame(closed)
    assert_array_equal(dataset[3]["frame"].numpy(), wanted)
    with pytest.raises(BadInput, match="dark and closed are asked for; each holds the dark signal"):
        store.dataset(closed=True, dark=True)


def test_a_set_without_closed_frames_cannot_be_asked_for_the_difference(tmp_path: Path) -> None:
    plain = Session(tmp_path)
    plain.run()
    with pytest.raises(BadInput, match="no frames through the closed mask; capture with `closed_mask: subtract`"):
        plain.store().dataset(closed=True)


def test_corrected_frames_stand_on_the_black_of_the_data_sheet(tmp_path: Path) -> None:
    taken = session(tmp_path)
    rigs: list[Rig] = []
    taken.with_rig = rigs.append
    taken.run()
    spec = rigs[0].spec
    measurement = Measurement.of(spec, {}, (), taken.store().header.frame_shape[1:])
    raw, corrected = (labelled_frames(taken.frames, DIGITS, how) for how in (None, measurement))
    black = float(taken.store().column("black_level_dn")[0])
    assert black > 66
    assert float((raw.frames - corrected.frames).mean()) == pytest.approx(black - 64, abs=0.1)


def test_merged_sets_keep_every_closed_frame_with_its_scene(tmp_path: Path) -> None:
    one, other = session(tmp_path / "a"), session(tmp_path / "b", order_seed=1)
    one.run()
    other.run()
    merge([one.frames, other.frames], tmp_path / "m", as_repeats=True)
    merged = labelled_frames(tmp_path / "m", DIGITS)
    parts = [labelled_frames(taken.frames, DIGITS) for taken in (one, other)]
    np.testing.assert_allclose(merged.frames, (parts[0].frames + parts[1].frames) / 2, rtol=1e-5, atol=0.6)


def test_the_witness_still_proves_the_scenes(tmp_path: Path) -> None:
    taken = session(tmp_path, witness="templates", train=4, test=2)
    metrics = taken.run().metrics
    assert metrics["doubtful"] == 0
    records = list(taken.store().records)
    assert all((record.witness is not None) == (record.kind == "scene") for record in records)


def test_wanted_light_is_as_bright_as_in_the_training_whatever_light_the_rig_file_believes_in(tmp_path: Path) -> None:
    """The search counts the leak; and what it finds under another light is no measure of how much leaks."""
    taken = Session(
        tmp_path,
        {"closed_mask": "subtract", "exposure_s": "auto"},
        mask=PINHOLES,
        train={"exposure_s": "auto"},
        **LEAKY,
    )
    rigs: list[Rig] = []
    taken.with_rig = rigs.append
    taken.run()
    spec, data = rigs[0].spec, scenes_of(list(prepare(tmp_path / "protocol.yaml", rig="as-built"))[1].setting.protocol)
    scenes = torch.from_numpy(np.asarray(data.images)[np.isin(data.sample_ids, taken.store().column("sample_id"))])
    mask = torch.from_numpy(PINHOLES)
    camera = SimpleNamespace(exposure=ExposureRule(0.9), mask=mask, design=FixedMask(PINHOLES))
    simulation = Simulation(spec, camera.exposure)
    wanted = simulation.all_frames(simulation.shown(scenes), camera.mask) - 64
    levels = []
    for photons_per_s in (15_000.0, 30_000.0):
        twin = spec.twin.model_copy(
            update={"light": spec.twin.light.model_copy(update={"photons_per_s": photons_per_s})}
        )
        believed = SimpleNamespace(rig=replace(spec, twin=twin))
        context = SimpleNamespace(setting=believed, log=lambda text: pytest.fail(text))
        plain = Measurement.of(spec, {}, (), (32, 32))
        measurement = as_bright_as_trained(plain, taken.frames, camera, context)
        levels.append(float(labelled_frames(taken.frames, DIGITS, measurement).frames.mean()) - 64)
    assert levels[0] == pytest.approx(float(wanted.mean()), rel=0.1)
    assert levels[1] == pytest.approx(levels[0], rel=1e-3)
    as_searched = float(labelled_frames(taken.frames, DIGITS).frames.mean()) - 64
    assert as_searched < 0.5 * levels[0], "four open cells at 50:1: most of the white that was searched with leaked"


def test_a_mask_that_lets_through_no_more_than_it_leaks_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    dead = Session(
        tmp_path,
        {"closed_mask": "subtract", "exposure_s": "auto"},
        mask=0 * PINHOLES,
        train={"exposure_s": "auto"},
        **LEAKY,
    )
    with pytest.raises(RunFailed, match=r"more than through the closed mask.*5 errors are needed.*does not modulate"):
        dead.run()
    assert len(dead.store()) == 0
