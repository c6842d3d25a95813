"""KTH, SBU, Weizmann and IPN Hand as they are distributed, in small: names, classes, splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labctl.errors import BadInput
from protocols.data.clips import IpnHand, Kth, Sbu, Weizmann
from protocols.data.clips.known_sets import facts
from tests.protocols.clips.videos import numbers, stairs, write_video

SCENE = (8, 8)


def people_of(data, part: str) -> set[str]:
    return {data.actor_names[actor] for actor in data.actor[data.part(part)]}


# --- KTH


@pytest.fixture(scope="module")
def kth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people of each official part, two actions, four scenarios, in the folders of the downloaded archives."""
    root = tmp_path_factory.mktemp("kth")
    for action in ("boxing", "walking"):
        for person in (11, 19, 22):
            for scenario in (1, 2, 3, 4):
                write_video(root / action / f"person{person}_{action}_d{scenario}_uncomp.avi", stairs(35))
    return root


def test_the_persons_split_of_kth_is_that_of_schuldt_et_al():
    split = facts("kth")["persons"]
    assert [len(split[part]) for part in ("train", "val", "test")] == [8, 8, 9]
    assert sorted([*split["train"], *split["val"], *split["test"]]) == list(range(1, 26))
    assert split["train"] == list(range(11, 19))


def test_kth_by_persons_keeps_them_apart(kth):
    data = Kth(path=kth, split_by="persons").load_clips(SCENE)
    assert [people_of(data, part) for part in ("train", "val", "test")] == [{"person11"}, {"person19"}, {"person22"}]
    assert data.action_names == ("boxing", "walking")
    assert data.clips.shape == (24, 16, 1, *SCENE)


def test_the_599_videos_of_kth_have_everyone_and_everything_in_every_part(tmp_path):
    known = facts("kth")
    for person in range(1, known["actors"] + 1):
        for action in known["actions"]:
            for scenario in (1, 2, 3, 4):
                if (person, action, scenario) != (13, "handclapping", 3):
                    (tmp_path / f"person{person:02}_{action}_d{scenario}_uncomp.avi").touch()
    for settings, counts in (
        ({}, [350, 125, 124]),
        ({"fractions": (0.5, 0, 0.5)}, [300, 0, 299]),
        ({"split_by": "scenarios"}, [299, 150, 150]),
        ({"split_by": "persons"}, [191, 192, 216]),
    ):
        cast = Kth(path=tmp_path, **settings).cast
        assert np.bincount(cast.split, minlength=3).tolist() == counts
        for part in np.unique(cast.split):
            assert len(set(cast.action[cast.split == part])) == 6
            assert len(set(cast.actor[cast.split == part])) >= (8 if settings.get("split_by") == "persons" else 25)


def test_kth_is_cut_into_its_sequences_which_stay_together(kth, tmp_path):
    videos = sorted(path.stem.removesuffix("_uncomp") for path in kth.rglob("*.avi"))
    lines = ["Training:  person11, 12, ...", *(f"{name}\t\tframes\t1-10, 11-20, 21-35" for name in videos)]
    (tmp_path / "00sequences.txt").write_text("\n".join(lines))
    data = Kth(path=kth, sequences=tmp_path / "00sequences.txt", frames=4).load_clips(SCENE)
    assert len(data) == 72
    assert numbers(data.clips[np.array([1])][0]) == [10, 12, 14, 16]
    assert (np.ptp(data.split.reshape(24, 3), axis=1) == 0).all()
    (tmp_path / "00sequences.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(BadInput, match=r"has no frames of 'person22_walking_d4'"):
        Kth(path=kth, sequences=tmp_path / "00sequences.txt", frames=4).check()


def test_kth_names_a_video_of_no_class(tmp_path):
    for name in ("person01_boxing_d1_uncomp.avi", "person01_cooking_d1_uncomp.avi"):
        write_video(tmp_path / name, stairs(35))
    with pytest.raises(
        BadInput, match=r"1 of 2 recordings are of no class, 'person01_cooking_d1_uncomp.avi'; names like"
    ):
        Kth(path=tmp_path).check()
    (tmp_path / "person01_cooking_d1_uncomp.avi").rename(tmp_path / "person31_boxing_d1_uncomp.avi")
    with pytest.raises(BadInput, match=r"'person31_boxing_d1_uncomp.avi' are of no actor; 01..25 are known"):
        Kth(path=tmp_path).check()


# --- SBU


def test_sbu_reads_folders_of_colour_pictures_and_merges_the_orders_of_a_pair(tmp_path):
    assert len(facts("sbu")["pairs"]) == 13
    for pair in ("s01s02", "s02s01", "s01s03"):
        for action in ("03", "08"):
            for take in ("001", "002"):
                folder = tmp_path / pair / pair / action / take
                folder.mkdir(parents=True)
                (folder / "skeleton_pos.txt").write_text("1")
                for number, frame in enumerate(stairs(10)):
                    Image.fromarray(frame).save(folder / f"rgb_{number + 1:06}.png")
                    Image.fromarray(255 - frame).save(folder / f"depth_{number + 1:06}.png")
    data = Sbu(path=tmp_path).load_clips(SCENE)
    assert data.action_names == ("kicking", "punching")
    assert data.actor_names == ("12/21", "13")
    assert np.bincount(data.actor).tolist() == [8, 4]
    assert numbers(data.clips[np.array([0])][0]) == [*range(10), *range(6)], "10 frames, gone through again"
    listed = [f"SBU/{p.parent.relative_to(tmp_path)}" for p in sorted(tmp_path.rglob("rgb_000001.png"))]
    (tmp_path / "lists.txt").write_text("".join(f"{n}, {'test' if '/002' in n else 'train'}\n" for n in listed))
    data = Sbu(path=tmp_path, split_list=tmp_path / "lists.txt").load_clips(SCENE)
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [6, 0, 6]


def test_sbu_names_a_pair_that_is_none_of_the_thirteen(tmp_path):
    write_video(tmp_path / "s01s02" / "01" / "001.avi", stairs(16))
    write_video(tmp_path / "s01s06" / "01" / "001.avi", stairs(16))
    with pytest.raises(BadInput, match=r"1 of 2 recordings are of no class, 's01s06/01/001.avi'"):
        Sbu(path=tmp_path).check()


# --- Weizmann


def test_weizmann_has_ten_actions_of_nine_people_each_in_every_part(tmp_path):
    known = facts("weizmann")
    assert (len(known["actions"]), len(known["actors"])) == (10, 9)
    for actor in known["actors"]:
        for action in known["actions"]:
            twice = actor == "lena" and action in ("run", "skip", "walk")
            for take in ("1", "2") if twice else ("",):
                path = tmp_path / action / f"{actor}_{action}{take}.avi"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"")
    cast = Weizmann(path=tmp_path).cast
    assert len(cast.recordings) == 93
    for part in range(3):
        assert set(cast.action[cast.split == part]) == set(range(10))
        assert set(cast.actor[cast.split == part]) == set(range(9))


def test_weizmann_is_read_and_a_stranger_is_named(tmp_path):
    for actor in ("daria", "lena"):
        for action in ("walk", "wave2"):
            for take in ("1", "2", ""):
                write_video(tmp_path / f"{actor}_{action}{take}.avi", stairs(28))
    data = Weizmann(path=tmp_path).load_clips(SCENE)
    assert data.action_names == ("walk", "wave2")
    assert numbers(data.clips[np.array([0])][0]) == list(range(16))
    write_video(tmp_path / "zoe_walk.avi", stairs(28))
    with pytest.raises(
        BadInput, match=r"1 of 13 recordings are of no class, 'zoe_walk.avi'; names like daria_walk.avi"
    ):
        Weizmann(path=tmp_path).check()


# --- IPN Hand


@pytest.fixture
def ipn(tmp_path: Path) -> Path:
    """Two people train, two judge; each video has no gesture, then two gestures."""
    (tmp_path / "annotations").mkdir()
    lists: dict[str, list[str]] = {"Train": [], "Test": []}
    table = ["Video Name,Frames,Sex"]
    for k, (part, person) in enumerate(
        (("Train", "1CM1_1"), ("Train", "1CV2_2"), ("Test", "4CM3_3"), ("Test", "4CV4_4"))
    ):
        video = f"{person}_R_#{k}"
        write_video(tmp_path / "videos" / f"{video}.avi", stairs(36))
        lists[part] += [f"{video},D0X,1,1,9,9", f"{video},B0A,2,10,29,20", f"{video},G05,8,30,36,7"]
        table.append(f"{video},36,{'Man' if 'CM' in video else 'Woman'}")
    for part, lines in lists.items():
        (tmp_path / "annotations" / f"Annot_{part}List.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "annotations" / "metadata.csv").write_text("\n".join(table) + "\n")
    return tmp_path


def test_ipn_hand_cuts_gestures_out_of_videos_by_the_official_lists(ipn):
    source = IpnHand(path=ipn, gender_column="sex", frames=4)
    data = source.load_clips(SCENE)
    assert data.action_names == ("pointing with one finger", "throw left")
    assert data.actor_names == ("man", "woman")
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [4, 0, 4]
    assert numbers(data.clips[np.array([0])][0]) == [9, 11, 13, 15]
    assert numbers(data.clips[np.array([1])][0]) == [29, 31, 33, 35]
    source.check_pixels(SCENE)


def test_ipn_hand_sets_people_aside_as_val_if_asked_to(ipn):
    source = IpnHand(path=ipn, gender_column="sex", frames=4, val_share=0.5)
    with pytest.raises(BadInput, match=r"has no train clip of actor '(man|woman)'"):
        source.check()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda p: None,
            "metadata.csv' has no column 'gender'; set `gender_column`: .*allowed: Video Name, Frames, Sex",
        ),
        (lambda p: (p / "annotations" / "metadata.csv").unlink(), "metadata table '.*' cannot be read: No such file"),
        (lambda p: (p / "annotations" / "Annot_TestList.txt").unlink(), "list of gestures '.*' cannot be read"),
    ],
)
def test_ipn_hand_says_what_its_tables_lack(ipn, spoil, said):
    spoil(ipn)
    with pytest.raises(BadInput, match=said):
        IpnHand(path=ipn, gender_column="gender" if "column" in said else "sex").check()


def test_ipn_hand_names_videos_and_genders_that_are_missing(ipn):
    (ipn / "videos" / "4CM3_3_R_#2.avi").unlink()
    with pytest.raises(BadInput, match=r"no video of '4CM3_3_R_#2' is below the folder"):
        IpnHand(path=ipn, gender_column="sex").check()
    write_video(ipn / "videos" / "4CM3_3_R_#2.avi", stairs(36))
    table = ipn / "annotations" / "metadata.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(BadInput, match=r"no gender of '4CV4_4_R_#3' is in the metadata table"):
        IpnHand(path=ipn, gender_column="sex").check()
    lists = ipn / "annotations" / "Annot_TestList.txt"
    lists.write_text("4CM3_3_R_#2,G99,3,10,29,20\n4CM3_3_R_#2,B0A,3,20,10,20\n")
    with pytest.raises(BadInput, match=r"line 2: '4CM3_3_R_#2,B0A,3,20,10,20' is no VIDEO,LABEL"):
        IpnHand(path=ipn, gender_column="sex").check()
    lists.write_text("4CM3_3_R_#2,G99,3,10,29,20\n")
    with pytest.raises(BadInput, match=r"name gestures of no class, 'G99'; B0A to G11 are known"):
        IpnHand(path=ipn, gender_column="sex").check()
