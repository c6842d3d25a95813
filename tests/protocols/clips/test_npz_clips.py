"""Clips in an npz file: the window, the names, and every way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import BadInput
from protocols.data.clips import NpzClips
from protocols.images import resized

SCENE = (12, 12)


def write(path: Path, **changes: object) -> Path:
    """12 clips of 9 frames, 2 actions by 2 actors, split 1/1/1; frame k is even at level 20 k; None removes a key."""
    levels = 20 * np.arange(9, dtype=np.uint8)
    arrays: dict[str, object] = {
        "clips": np.broadcast_to(levels[None, :, None, None], (12, 9, 16, 16)).copy(),
        "action": np.arange(12) % 2,
        "actor": np.arange(12) // 2 % 2,
        "split": np.repeat([0, 1, 2], 4),
        "action_name": np.array(["jump", "wave"]),
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def source(path: Path, **settings: object) -> NpzClips:
    return NpzClips.model_validate({"path": path, "frames": 4, **settings})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [0, 2, 4, 6]),
        ({"start": "centre"}, [1, 3, 5, 7]),
        ({"stride": 1}, [0, 1, 2, 3]),
        ({"stride": 1, "start": "centre"}, [2, 3, 4, 5]),
    ],
)
def test_the_window_takes_every_strideth_frame_from_the_first_or_about_the_centre(file, settings, wanted):
    data = source(file, **settings).load_clips(SCENE)
    assert data.clips.shape == (12, 4, 1, *SCENE)
    assert np.allclose(data.clips[3].mean(axis=(1, 2, 3)) * 255 / 20, wanted)


def test_labels_names_and_ids_are_those_of_the_file(file):
    data = source(file).load_clips(SCENE)
    assert data.action_names == ("jump", "wave")
    assert data.actor_names == ("0", "1")
    action, actor = source(file).labels()
    assert np.array_equal(action, data.action)
    assert np.array_equal(actor, data.actor)
    assert data.clip_ids.tolist() == list(range(12))
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [4, 4, 4]
    assert source(file).attribute("actor")[0].tolist() == np.repeat(actor, 4).tolist()


def test_frames_are_resized_as_pictures_are_and_linearised_before(tmp_path):
    clips = np.random.default_rng(0).random((12, 9, 16, 20)).astype(np.float32)
    path = write(tmp_path / "d.npz", clips=clips)
    data = source(path, crop="stretch").load_clips(SCENE)
    assert np.allclose(data.clips[2, 1, 0], resized(clips[2, 2], SCENE, "stretch"))
    assert source(path, encoding="srgb").load_clips(SCENE).clips.mean() < data.clips.mean()


def test_another_split_of_the_file_can_be_chosen_and_keeps_actors_apart(tmp_path):
    path = write(tmp_path / "d.npz", other=np.where(np.arange(12) // 2 % 2, 2, 0))
    data = source(path, split_key="other", actors="apart").load_clips(SCENE)
    assert set(data.actor[data.part("train")]) & set(data.actor[data.part("test")]) == set()
    with pytest.raises(BadInput, match=r"has no train clip of actor '1'; every actor needs"):
        source(path, split_key="other").check()
    with pytest.raises(BadInput, match=r"2 of 2 values of 'actor' stand on several sides.*or set `actors: shared`"):
        source(path, actors="apart").check()


def test_the_fingerprint_follows_content_and_settings_but_not_the_place(tmp_path, file):
    (tmp_path / "elsewhere").mkdir()
    moved = write(tmp_path / "elsewhere" / "e.npz")
    changed = write(tmp_path / "f.npz", clips=np.full((12, 9, 16, 16), 7, dtype=np.uint8))
    assert source(file).fingerprint() == source(moved).fingerprint()
    assert source(file).fingerprint() != source(changed).fingerprint()
    assert source(file).fingerprint() != source(file, stride=1).fingerprint()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clips": np.zeros((12, 9, 16, 16, 3), np.uint8)}, r"clips have shape \(12, 9, 16, 16, 3\), type uint8"),
        ({"clips": np.zeros((12, 9, 16, 16), np.int16)}, "type int16; .N, T, H, W. uint8 or float is needed"),
        (
            {"clips": np.zeros((12, 6, 16, 16), np.uint8)},
            "clips have 6 frames; frames = 4 with stride = 2 need 7; lower",
        ),
        ({"clips": np.full((12, 9, 16, 16), 1.5)}, "clip 0 spans 1.5..1.5; 0..1 is allowed for float clips; divide"),
        ({"clips": np.full((12, 9, 16, 16), np.nan)}, "clip 0 spans nan..nan"),
        ({"actor": None}, "lacks 'actor'; found 'action', 'action_name', 'clips', 'split'; write these too"),
        ({"actor": np.arange(12) / 2}, "actor has shape .12,., type float64 for 12 clips; one whole number per clip"),
        ({"action": np.arange(10) % 2}, "action has shape .10,., type int64 for 12 clips"),
        ({"action": np.arange(12) % 2 - 1}, "action goes down to -1; whole numbers from 0"),
        ({"split": np.repeat([0, 1, 4], 4)}, "split holds '4'; 0 train, 1 val, 2 test only"),
        ({"split": np.repeat([0, 1], 6)}, "has no test clip of action 'jump', 'wave'"),
        ({"actor": np.repeat([0, 0, 1, 0], 3)}, "has no train clip of actor '1'; every actor needs"),
        ({"actor": np.zeros(12, int)}, "has one actor, '0'; at least 2 are needed"),
        (
            {"action_name": np.array(["jump"])},
            "action_name has shape .1,., type <U4; one text for each of the 2 values",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path, changes, said):
    with pytest.raises(BadInput, match=said):
        source(write(tmp_path / "d.npz", **changes)).check_pixels(SCENE)
