"""Face sets as they lie on disk, and which of their people are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from labctl.errors import BadInput
from protocols.data import Folder, Npz
from tests.protocols.test_data import write_npz

SCENE = (8, 8)


def people(root: Path, counts: dict[str, int], size: tuple[int, int] = (10, 8)) -> Path:
    """A folder per person with so many pictures."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full(size, 10 + number, dtype=np.uint8)).save(root / name / f"{number:04}.jpg")
    return root


@pytest.mark.parametrize(
    "names",
    [("m.0107_f", "m.01_0d4", "m.0abc"), ("0000045", "0000099", "0000100"), ("n000002", "n000003", "n000004")],
    ids=["MS-Celeb-1M", "CASIA-WebFace", "VGG-Face2 train"],
)
def test_a_face_set_is_read_as_it_lies(tmp_path, names):
    data = Folder(path=people(tmp_path, dict.fromkeys(names, 5))).load(SCENE)
    assert data.class_names == tuple(sorted(names))
    assert len(data) == 15


def test_train_and_test_of_different_people_are_refused_with_the_way_out(tmp_path):
    people(tmp_path / "train", {"n000002": 3, "n000003": 3, "n000004": 3})
    people(tmp_path / "test", {"n000001": 3, "n000009": 3})
    with pytest.raises(BadInput) as refused:
        Folder(path=tmp_path).check()
    text = str(refused.value)
    assert "train and test hold different people (3 and 2, none in both), as VGG-Face2 lies" in text
    assert f"give one of the two as path, '{tmp_path}/train' or '{tmp_path}/test'" in text
    assert Folder(path=tmp_path / "test").load(SCENE).class_names == ("n000001", "n000009")


def test_one_person_only_in_test_is_named_as_before(tmp_path):
    people(tmp_path / "train", {"ann": 3, "bob": 3})
    people(tmp_path / "test", {"ann": 3, "bob": 3, "cy": 3})
    with pytest.raises(BadInput, match="has no train picture of 'cy'"):
        Folder(path=tmp_path).check()


def test_the_best_covered_people_are_kept_and_ties_go_by_name(tmp_path):
    tree = people(tmp_path, {"ann": 4, "bob": 6, "cy": 5, "dan": 5, "eve": 3})
    assert Folder(path=tree, identities=2).load(SCENE).class_names == ("bob", "cy")
    data = Folder(path=tree, identities=3).load(SCENE)
    assert data.class_names == ("bob", "cy", "dan")
    assert np.array_equal(data.sample_ids, np.arange(4, 20)), "ids stay those of the whole tree"
    assert Folder(path=tree, identities=4, min_per_identity=4).load(SCENE).class_names == ("ann", "bob", "cy", "dan")


def test_ten_people_split_95_to_5_as_in_the_papers(tmp_path):
    tree = people(tmp_path, {f"m.{number:02}": 20 + number % 3 for number in range(14)})
    data = Folder(path=tree, identities=10, fractions=(0.95, 0, 0.05)).load(SCENE)
    assert len(data.class_names) == 10
    assert np.array_equal(np.bincount(data.labels[data.part("test")]), np.ones(10))


def test_more_people_than_there_are_is_refused(tmp_path):
    tree = people(tmp_path, {"ann": 4, "bob": 6, "cy": 5})
    with pytest.raises(BadInput, match=r"3 of 3 identities .*identities = 4: 4 identities are needed; .*lower"):
        Folder(path=tree, identities=4).check()
    with pytest.raises(BadInput, match=r"2 of 3 identities with min_per_identity = 5 .*identities = 3: 3 identities"):
        Folder(path=tree, identities=3, min_per_identity=5).check()
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Folder(path=tree, identities=1)


def test_identities_of_an_npz_file_are_chosen_alike(tmp_path):
    identity = np.array([0] * 3 + [1] * 5 + [2] * 4 + [3] * 3)
    split = np.array([0, 1, 2, 0, 0, 0, 1, 2, 0, 0, 1, 2, 0, 1, 2])
    path = write_npz(tmp_path / "f.npz", identity=identity, split=split)
    assert Npz(path=path, identities=3).load(SCENE).class_names == ("0", "1", "2")
    assert Npz(path=path, identities=2).load(SCENE).class_names == ("1", "2")
    assert Npz(path=path, identities=2).fingerprint() != Npz(path=path).fingerprint()


def test_a_person_with_one_picture_is_named_with_the_limit_and_the_way_out(tmp_path):
    tree = people(tmp_path, {"ann": 4, "bob": 4, "cy": 1, "dan": 2})
    with pytest.raises(BadInput) as refused:
        Folder(path=tree).check()
    text = str(refused.value)
    assert "class 'cy' has 1 sample for 3 parts" in text
    assert "at least 3 are needed; so have 1 more classes; set `min_per_identity: 3`" in text
    assert Folder(path=tree, min_per_identity=3).load(SCENE).class_names == ("ann", "bob")


def test_pictures_that_are_not_used_do_not_count(tmp_path):
    tree = people(tmp_path, {"ann": 4, "bob": 4, "cy": 1})
    source = Folder(path=tree, min_per_identity=3)
    before = source.fingerprint()
    (tree / "cy" / "0000.jpg").write_bytes(b"no picture, of another size, and not used")
    source = Folder(path=tree, min_per_identity=3)
    source.check_pixels(SCENE)
    assert source.fingerprint() == before


def test_stray_sizes_are_refused_with_how_many_and_which(tmp_path):
    tree = people(tmp_path, {"ann": 6, "bob": 6})
    people(tmp_path / "big", {"x": 2}, size=(30, 20))
    people(tmp_path / "wide", {"x": 1}, size=(10, 9))
    (tmp_path / "big" / "x" / "0000.jpg").rename(tree / "ann" / "3.jpg")
    (tmp_path / "big" / "x" / "0001.jpg").rename(tree / "bob" / "1.jpg")
    (tmp_path / "wide" / "x" / "0000.jpg").rename(tree / "bob" / "2.jpg")
    for name in ("big", "wide"):
        (tmp_path / name / "x").rmdir()
        (tmp_path / name).rmdir()
    said = (
        r"mixes 3 sizes, rows x columns: 12 of 10x8, 2 of 30x20, 1 of 10x9; "
        r"odd are 'ann/3\.jpg', 'bob/1\.jpg', 'bob/2\.jpg'; .*`sizes: any`"
    )
    with pytest.raises(BadInput, match=said):
        Folder(path=tree).check_pixels(SCENE)
    with pytest.raises(BadInput, match="mixes 3 sizes"):
        Folder(path=tree).load(SCENE)
    assert Folder(path=tree, sizes="any").load(SCENE).images.shape == (15, 1, *SCENE)


def test_a_size_is_that_of_the_upright_picture(tmp_path):
    tree = people(tmp_path, {"ann": 4, "bob": 4})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((8, 10), dtype=np.uint8)).save(tree / "ann" / "turned.jpg", exif=exif)
    Folder(path=tree).check_pixels(SCENE)


def test_a_skipped_picture_has_no_size(tmp_path):
    tree = people(tmp_path, {"ann": 4, "bob": 4})
    (tree / "ann" / "0001.jpg").write_bytes(b"no picture")
    assert len(Folder(path=tree, corrupt="skip").load(SCENE)) == 7
