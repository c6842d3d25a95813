"""The data card: it says what the set says, and calls unknown what nobody said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from labctl.frames.card import write_card
from labctl.frames.layout import SetFolder
from labctl.frames.scenes import write_scenes
from labctl.frames.splitting import split_set, write_split
from labctl.frames.summary import summarize
from tests.labctl.frames.sets import header, record, scene, write_set


def card(folder: Path) -> str:
    return write_card(folder).read_text()


def test_the_card_tells_who_what_and_how(tmp_path: Path) -> None:
    about = {"licence": "CC-BY-4.0", "subjects": "12 adults | with consent", "room": "B 12"}
    store = write_set(tmp_path, head=header(10, about=about))
    write_split(tmp_path, "people", split_set(store, by="label", fractions=(0.34, 0.33, 0.33), seed=0))
    text = card(tmp_path)
    for said in (
        "# a set for tests\n",
        "No light was measured: the frames were computed.",
        "| licence | CC-BY-4.0 |",
        r"| subjects | 12 adults \| with consent |",
        "| frames | 10 of 10 planned: 10 scene |",
        "| labels | 3: anna 4, ben 3, chloé 3 |",
        "| splits of the capture | train 4, val 3, test 3 |",
        "| split 'people' | ",
        "| exposure | 2 ms |",
        "| lamp.power | 0.8 |",
        "| calibration of timing | t1 |",
        "- room: B 12",
        'store.select(split="train")',
    ):
        assert said in text, said
    assert str(tmp_path) not in text


def test_what_nobody_said_is_unknown_and_never_guessed(tmp_path: Path) -> None:
    bare = {"label": None, "label_name": None, "split": None, "design": None, "instruments": {}, "calibrations": {}}
    write_set(
        tmp_path,
        head=header(None, nature=None, rig_name=None, data_id=None, design=None, privacy="unknown", class_names=()),
        records=lambda index: record(index, black_level_dn=None, rig_hash=None, privacy="unknown", **bare),
    )
    text = card(tmp_path)
    for said in (
        "| licence | not said |",
        "| subjects | not said |",
        "| design | unknown |",
        "| black level | unknown |",
    ):
        assert said in text, said
    assert "Whether the rig was real or simulated is unknown." in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        ("optical", "optical: the design is meant to protect before the sensor"),
        ("after-readout", "after read-out: the raw frames IDENTIFY"),
        ("none", "none: the frames show the scene"),
        ("unknown", "unknown: nobody said where the design protects"),
    ],
)
def test_privacy_is_said_in_plain_words(privacy: str, said: str, tmp_path: Path) -> None:
    write_set(tmp_path, head=header(10, privacy=privacy), records=lambda index: record(index, privacy=privacy))
    assert said in card(tmp_path)


def test_one_frame_that_identifies_is_enough_for_the_warning(tmp_path: Path) -> None:
    write_set(tmp_path, records=lambda index: record(index, privacy="after-readout" if index == 3 else "optical"))
    assert "the raw frames IDENTIFY" in card(tmp_path)


def test_kept_scenes_are_told_and_so_is_their_absence(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert "The sharp scenes are not kept with the set." in card(tmp_path)
    write_scenes(tmp_path, [1], scene(1)[None])
    assert "**The sharp scenes are kept with the set** (1 of them" in card(tmp_path)


def test_limits_name_marked_frames_and_an_unfinished_set(tmp_path: Path) -> None:
    write_set(tmp_path, 6, head=header(10), finish=False)
    SetFolder(tmp_path).marks.write_text(
        json.dumps({"word": "drift", "first": 2, "last": 4, "reason": "r", "unix_time_s": 0.0}) + "\n"
    )
    text = card(tmp_path)
    assert "**Not finished: 6 of 10 frames are there.**" in text
    assert "- 3 frames are marked as in doubt (drift); they are left out of learning." in text


def test_two_hundred_people_do_not_fill_the_card(tmp_path: Path) -> None:
    names = tuple(f"person {n}" for n in range(20))
    write_set(
        tmp_path,
        20,
        head=header(20, class_names=names),
        records=lambda index: record(index, label=index, label_name=names[index]),
        images=lambda index: np.full((1, 4, 6), index, np.uint16),
    )
    assert "and 8 more |" in card(tmp_path)


def test_a_damaged_later_split_does_not_hide_the_rest_of_the_set(tmp_path: Path) -> None:
    store = write_set(tmp_path / "set", 4)
    (tmp_path / "set" / "splits").mkdir(exist_ok=True)
    (tmp_path / "set" / "splits" / "torn.json").write_text('{"split_of_')
    assert summarize(store)["later_splits"] == {"torn": {}}
