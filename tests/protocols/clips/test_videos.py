"""Videos: the right frames, at the right grey, decoded once; and none that cannot be trusted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labctl.errors import BadInput
from protocols.data import decoding
from protocols.data.clips import VideoTree, recordings
from protocols.data.clips.two_labels import split_clips
from protocols.data.clips.video_file import Window, read_window
from protocols.images import UnreadablePicture
from tests.protocols.clips.videos import COLUMNS, ROWS, cut_off, noise, numbers, stairs, write_tree, write_video

SCENE = (12, 12)
WINDOW = Window(frames=4, stride=2, start="first", short="refuse", frame_rate="constant")
PHONE_MS = [0, 40, 80, 160, 180, 220, 260, 300, 340, 400]


def tree(root: Path, **settings: object) -> VideoTree:
    return VideoTree.model_validate({"path": root, "actor": r"^([a-z]+)_", "frames": 4, **settings})


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("videos") / "tree")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A small tree to spoil."""
    return write_tree(tmp_path / "tree", per_actor=3, n=9)


# --- one video


@pytest.mark.parametrize(
    ("codec", "suffix"), [("mpeg4", ".avi"), ("mpeg4", ".mp4"), ("libx264", ".mp4"), ("mpeg4", ".mkv")]
)
@pytest.mark.parametrize("start", ["first", "centre"])
def test_the_window_shows_the_frames_that_are_asked_for(tmp_path, codec, suffix, start):
    path = write_video(tmp_path / f"v{suffix}", stairs(20), codec=codec)
    window = Window(frames=4, stride=3, start=start, short="refuse", frame_rate="constant")
    clip = read_window(path, window, "linear")
    assert clip.shape == (4, ROWS, COLUMNS)
    first = 0 if start == "first" else 5
    assert numbers(clip) == [first, first + 3, first + 6, first + 9]


def test_grey_spans_black_to_white(tmp_path):
    frames = np.repeat(np.array([0, 128, 255], np.uint8), 3)[:, None, None].repeat(ROWS, 1).repeat(COLUMNS, 2)
    clip = read_window(write_video(tmp_path / "v.avi", frames), WINDOW, "linear")
    assert np.allclose(clip[[0, 2, 3], 0, 0], [0, 128 / 255, 1], atol=0.01)
    dark = read_window(tmp_path / "v.avi", WINDOW, "srgb")
    assert dark[2, 0, 0] == pytest.approx(0.216, abs=0.01)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_a_clip_deep_in_a_long_video_is_sought_to_the_frame(tmp_path, codec):
    frames = np.broadcast_to((np.arange(300) % 200)[:, None, None] + 20, (300, ROWS, COLUMNS)).astype(np.uint8)
    path = write_video(tmp_path / "long.avi", frames, codec=codec)
    clip = read_window(path, WINDOW, "linear", first=151, last=170)
    assert np.allclose(clip.mean(axis=(1, 2)) * 255, [171, 173, 175, 177], atol=0.9)


def test_a_folder_of_pictures_is_a_recording_and_depth_pictures_are_none(tmp_path):
    for number, frame in enumerate(stairs(9)):
        Image.fromarray(frame).save(tmp_path / f"rgb_{number:06}.png")
        Image.fromarray(255 - frame).save(tmp_path / f"depth_{number:06}.png")
    assert numbers(read_window(tmp_path, WINDOW, "linear")) == [0, 2, 4, 6]


def test_a_short_recording_is_gone_through_again_if_that_is_wanted(tmp_path):
    path = write_video(tmp_path / "v.avi", stairs(5))
    with pytest.raises(UnreadablePicture, match=r"5 frames"):
        read_window(path, WINDOW, "linear")
    again = Window(frames=4, stride=2, start="first", short="repeat", frame_rate="constant")
    assert numbers(read_window(path, again, "linear")) == [0, 2, 4, 1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_is_seen_in_the_time_stamps(tmp_path, suffix):
    path = write_video(tmp_path / f"v{suffix}", stairs(10), times_ms=PHONE_MS)
    with pytest.raises(UnreadablePicture, match=r"frames come after 20 to 80 ms"):
        read_window(path, WINDOW, "linear")
    anyhow = Window(frames=4, stride=2, start="first", short="refuse", frame_rate="any")
    assert numbers(read_window(path, anyhow, "linear")) == [0, 2, 4, 6]


def test_a_clock_of_milliseconds_does_not_make_30_frames_per_second_uneven(tmp_path):
    times = [round(1000 * k / 30) for k in range(10)]
    path = write_video(tmp_path / "v.mkv", stairs(10), times_ms=times)
    assert numbers(read_window(path, WINDOW, "linear")) == [0, 2, 4, 6]


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_cut_off_video_is_found(tmp_path, suffix):
    path = cut_off(write_video(tmp_path / f"v{suffix}", noise(60)))
    with pytest.raises(UnreadablePicture):
        read_window(path, Window(frames=16, stride=3, start="first", short="refuse", frame_rate="any"), "linear")


def test_a_video_that_is_cut_behind_its_window_is_found_by_what_its_header_counts(tmp_path):
    path = write_video(tmp_path / "v.avi", noise(60))
    read_window(path, WINDOW, "linear")
    cut_off(path)
    with pytest.raises(UnreadablePicture, match=r"header counts 60 frames, \d+ are there: it is cut off"):
        read_window(path, WINDOW, "linear")


# --- a tree


def test_a_tree_gives_its_clips_with_action_actor_and_split(good):
    data = tree(good).load_clips(SCENE)
    assert data.clips.shape == (20, 4, 1, *SCENE)
    assert data.action_names == ("jump", "wave")
    assert data.actor_names == ("ann", "bob")
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [12, 4, 4]
    for part in ("train", "test"):
        rows = data.part(part)
        assert set(data.action[rows]) == set(data.actor[rows]) == {0, 1}
    row = 13  # wave/ann_3
    assert (data.action[row], data.actor[row]) == (1, 0)
    assert numbers(data.clips[np.array([row])][0], base=20 + 9 + 10) == [0, 2, 4, 6]


def test_labels_and_pictures_go_with_the_clips(good):
    source = tree(good)
    data = source.load_clips(SCENE)
    action, actor = source.labels()
    assert np.array_equal(action, data.action)
    assert np.array_equal(actor, data.actor)
    labels, names = source.attribute("actor")
    assert names == ("ann", "bob")
    assert np.array_equal(labels, np.repeat(actor, 4))
    pictures = source.load(SCENE)
    assert np.array_equal(pictures.images[4 * 5 + 2], data.clips[np.array([5])][0, 2])
    assert np.array_equal(pictures.images[[6, 1]], np.asarray(data.clips[np.array([1, 0])])[[0, 1], [2, 1]])


def test_a_split_on_top_of_the_tree_goes_before_the_seed(good, tmp_path):
    for part, takes in (("train", "012"), ("test", "34")):
        for video in good.rglob("*.avi"):
            if video.stem[-1] in takes:
                target = tmp_path / "split" / part / video.relative_to(good)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(video.read_bytes())
    data = tree(tmp_path / "split").load_clips(SCENE)
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [12, 0, 8]


def test_a_large_set_is_decoded_once_into_a_file_to_the_same_bits(good, cache, monkeypatch):
    in_memory = np.asarray(tree(good).load_clips(SCENE).clips[np.arange(20)])
    monkeypatch.setattr(decoding, "IN_MEMORY_BYTES", 0)
    tree(good).check_pixels(SCENE)
    assert len(list(cache.rglob("*.scenes"))) == 1

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(recordings, "read_window", never)
    for settings in ({}, {"split_seed": 5}, {"actors": "apart", "fractions": (0.5, 0, 0.5)}):
        clips = tree(good, **settings).load_clips(SCENE).clips
        assert not isinstance(clips, np.ndarray)
        assert np.array_equal(clips[np.arange(20)], in_memory)
        assert np.array_equal(clips[3:5], in_memory[3:5])
    with pytest.raises(AssertionError, match=r"decoded again"):
        tree(good, stride=1).load_clips(SCENE)


def test_the_fingerprint_follows_the_videos_and_their_split_but_not_the_place(own, tmp_path):
    before = tree(own).fingerprint()
    assert before == tree(own).fingerprint()
    assert before != tree(own, split_seed=1).fingerprint()
    own.rename(tmp_path / "moved")
    assert before == tree(tmp_path / "moved").fingerprint()
    write_video(tmp_path / "moved" / "jump" / "ann_0.avi", noise(9))
    assert before != tree(tmp_path / "moved").fingerprint()


def test_actors_apart_trains_and_judges_on_different_people(tmp_path):
    root = tmp_path / "tree"
    for action in ("jump", "wave"):
        for who in ("ann", "bob", "cy"):
            write_video(root / action / f"{who}_0.avi", stairs(9))
    data = tree(root, actors="apart").load_clips(SCENE)
    people = [set(data.actor[data.part(part)]) for part in ("train", "val", "test")]
    assert all(people)
    assert sum(map(len, people)) == 3


def test_a_list_of_the_user_decides_the_split_and_may_leave_clips_out(own, tmp_path):
    files = sorted(path.relative_to(own) for path in own.rglob("*.avi"))
    parts = ["train", "test", "leave"] * 4
    said = [f"/data/set/{f.with_suffix('')}, {part}" for f, part in zip(files, parts, strict=True)]
    (tmp_path / "list.txt").write_text("\n".join(said))
    data = tree(own, split_list=tmp_path / "list.txt").load_clips(SCENE)
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [4, 0, 4]
    before = tree(own, split_list=tmp_path / "list.txt").fingerprint()
    (tmp_path / "list.txt").rename(tmp_path / "other.txt")
    assert tree(own, split_list=tmp_path / "other.txt").fingerprint() == before
    for spoilt, why in (
        (said[:-1], "does not name 1 of 12 recordings, 'wave/bob_2.avi'; write train, val, test or leave"),
        ([*said, "wave/zoe_1 test"], "names 'wave/zoe_1', not found"),
        ([*said, "wave/bob_2 tets"], r"line 13: 'wave/bob_2 tets' is no `NAME PART`; did you mean `test`\?"),
        ([*said, said[0]], "line 13: .* is named twice"),
    ):
        (tmp_path / "list.txt").write_text("\n".join(spoilt))
        with pytest.raises(BadInput, match=why):
            tree(own, split_list=tmp_path / "list.txt").check()
    with pytest.raises(BadInput, match=r"cannot be read: No such file"):
        tree(own, split_list=tmp_path / "none.txt").check()


def test_when_each_actor_does_each_action_once_every_action_and_actor_is_still_in_every_part():
    actions, actors = [f"a{k % 10}" for k in range(90)], [f"p{k // 10}" for k in range(90)]
    names = [f"{actor}_{action}" for actor, action in zip(actors, actions, strict=True)]
    shuffled = np.random.default_rng(0).permutation(90)
    for seed in range(20):
        settings = {"fractions": (0.6, 0.2, 0.2), "seed": seed, "keep": "shared", "what": "set"}
        split = split_clips(actions, actors, names, **settings)
        for part in range(3):
            assert {actions[row] for row in np.flatnonzero(split == part)} == set(actions)
            assert {actors[row] for row in np.flatnonzero(split == part)} == set(actors)
        again = split_clips(*([of[row] for row in shuffled] for of in (actions, actors, names)), **settings)
        assert np.array_equal(again, split[shuffled])


# --- what is refused


def test_short_recordings_are_refused_by_name(own):
    write_video(own / "wave" / "bob_1.avi", stairs(5))
    said = r"1 of 12 recordings are shorter than the window of 7 frames .*'wave/bob_1.avi': 5 frames; lower frames"
    with pytest.raises(BadInput, match=said):
        tree(own).check_pixels(SCENE)
    with pytest.raises(BadInput, match=said):
        tree(own, corrupt="skip").check_pixels(SCENE)
    tree(own, short="repeat").check_pixels(SCENE)


def test_a_variable_frame_rate_is_refused_by_name(own):
    write_video(own / "wave" / "bob_3.mp4", stairs(10), times_ms=PHONE_MS)
    with pytest.raises(BadInput, match=r"1 of 13 recordings have a variable frame rate: 'wave/bob_3.mp4': frames come"):
        tree(own).check_pixels(SCENE)
    assert len(tree(own, frame_rate="any").load_clips(SCENE)) == 13


def test_unreadable_videos_are_refused_or_skipped_and_counted(own):
    (own / "wave" / "bob_1.avi").write_bytes(b"no video")
    for check in (lambda s: s.check(), lambda s: s.check_pixels(SCENE), lambda s: s.load_clips(SCENE)):
        with pytest.raises(BadInput, match=r"1 of 12 recordings cannot be read: 'wave/bob_1.avi': Invalid data"):
            check(tree(own))
    source = tree(own, corrupt="skip", fractions=(0.5, 0, 0.5))
    source.check()
    assert len(source.labels()[0]) == 11
    data = source.load_clips(SCENE)
    assert data.skipped == ("wave/bob_1.avi",)
    assert data.pictures().skipped == data.skipped
    assert np.array_equal(source.labels()[1], data.actor)
    assert 10 not in data.clip_ids


def test_skipping_must_leave_training_and_test_clips(own):
    for video in own.rglob("bob_*.avi"):
        video.write_bytes(b"no video")
    with pytest.raises(BadInput, match=r"without the 6 recordings that cannot be read has no test clip of"):
        tree(own, corrupt="skip").check_pixels(SCENE)


def test_a_folder_that_is_no_tree_of_actions_is_refused(tmp_path, own):
    with pytest.raises(BadInput, match=r"video folder '.*none' does not exist; give the folder"):
        tree(tmp_path / "none").check()
    (own / "empty").mkdir()
    with pytest.raises(BadInput, match=r"action folder '.*empty' holds no videos \(.avi, "):
        tree(own).check()
    (own / "empty").rmdir()
    write_video(own / "wave" / "12.avi", stairs(9))
    with pytest.raises(
        BadInput, match=r"finds nobody in 1 of 7 videos of 'wave', 'wave/12.avi'; it must tell of every"
    ):
        tree(own).check()
    (own / "wave" / "12.avi").rename(own / "12.avi")
    with pytest.raises(BadInput, match=r"has videos in no action: '12.avi'; move each into its action"):
        tree(own).check()
    (own / "12.avi").unlink()
    for part in ("train", "test"):
        (own / part).mkdir()
    with pytest.raises(BadInput, match=r"holds 'jump', 'wave' beside train and test; split it in one way only"):
        tree(own).check()


def test_an_actor_with_too_few_videos_is_named(own):
    write_video(own / "wave" / "zoe_0.avi", stairs(9))
    with pytest.raises(BadInput, match=r"actor 'zoe' has 1 clip for 3 parts"):
        tree(own).check()


def test_without_pyav_the_way_to_it_is_said(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadInput, match=r"videos need PyAV.*pip install 'labctl\[video\]'"):
        tree(own).check()


@pytest.mark.parametrize(("pattern", "why"), [("([a-z", "is no regular expression"), ("[a-z]+_", "has no group")])
def test_an_actor_pattern_without_a_group_is_refused(own, pattern, why):
    with pytest.raises(ValueError, match=why):
        tree(own, actor=pattern)
