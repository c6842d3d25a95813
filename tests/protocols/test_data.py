from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from labctl.errors import BadInput
from protocols.data import Digits, Folder, ImageSet, Npz
from protocols.images import has_colour, linear_radiance, read_picture, resized
from protocols.splits import stratified_split

SCENE = (24, 20)


def write_npz(path: Path, **changes: object) -> Path:
    """3 identities x 5 pictures of 16x12, split 3/1/1; `changes` replaces arrays, None removes one."""
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (15, 16, 12), dtype=np.uint8),
        "identity": np.repeat([0, 1, 2], 5),
        "split": np.tile([0, 0, 0, 1, 2], 3).astype(np.uint8),
    }
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def write_pictures(folder: Path, n: int, level: int = 100, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        Image.fromarray(np.full((10, 8), level + index, dtype=np.uint8)).save(folder / f"p{index}{suffix}")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, level in (("ann", 10), ("bob", 80), ("cy", 160)):
        write_pictures(tmp_path / "tree" / name, 6, level)
    return tmp_path / "tree"


def assert_sound(data: ImageSet, scene_shape: tuple[int, int]) -> None:
    assert data.images.shape == (len(data), 1, *scene_shape)
    assert data.images.dtype == np.float32
    assert data.labels.dtype == data.sample_ids.dtype == np.int64
    assert data.split.dtype == np.uint8
    assert 0 <= data.images.min() <= data.images.max() <= 1
    assert set(data.labels) == set(range(len(data.class_names)))
    assert len(set(data.sample_ids)) == len(data)


# --- digits


def test_digits_are_split_60_20_20_within_every_class():
    data = Digits().load((16, 16))
    assert_sound(data, (16, 16))
    assert len(data) == 1797
    for digit in range(10):
        shares = np.bincount(data.split[data.labels == digit], minlength=3) / (data.labels == digit).sum()
        assert np.allclose(shares, [0.6, 0.2, 0.2], atol=0.006)


def test_the_digits_split_is_the_same_on_every_load_and_another_for_another_seed():
    first, again, other = (Digits(split_seed=seed).load((8, 8)).split for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert 0.3 < (first != other).mean() < 0.8


def test_the_digits_split_is_pinned_so_that_runs_of_later_versions_compare():
    split = Digits().load((8, 8)).split
    assert "".join(map(str, split[:24])) == "011201001000000202022020"


def test_a_digit_fills_the_centre_and_leaves_the_margin_dark():
    data = Digits(margin=0.25).load((32, 40))
    outside = data.images.copy()
    outside[:, :, 8:24, 12:28] = 0
    assert outside.max() == 0
    assert data.images[:, :, 8:24, 12:28].max() > 0.9
    lit = Digits().load((32, 32)).images.mean(axis=(0, 1)) > 0.02
    assert lit.any(axis=1).sum() >= 0.85 * 32


def test_digits_name_a_margin_that_leaves_no_pixel():
    with pytest.raises(BadInput, match=r"margin 0\.45 leaves no pixel"):
        Digits(margin=0.45).load((3, 3))


@pytest.mark.parametrize("shape", [(0, 8), (8,), (8.5, 8)])
def test_a_scene_shape_that_is_no_grid_is_refused(shape):
    with pytest.raises(BadInput, match="scene_shape is"):
        Digits().load(shape)


# --- pictures


def test_a_picture_of_the_scene_size_is_not_touched():
    image = np.random.default_rng(1).random((9, 7)).astype(np.float32)
    assert np.allclose(resized(image, (9, 7), "centre"), image, atol=1e-6)


def test_making_a_fine_grating_small_gives_its_mean_light_and_no_moire():
    grating = np.tile(np.array([0, 1], dtype=np.float32), (60, 30))
    small = resized(grating, (13, 13), "centre")[2:-2, 2:-2]
    assert np.abs(small - 0.5).max() < 0.03


def test_the_centre_crop_keeps_shapes_and_the_stretch_keeps_everything():
    wide = np.zeros((10, 30), dtype=np.float32)
    wide[:, :10] = 1
    assert resized(wide, (10, 10), "centre").max() == 0
    assert resized(wide, (10, 10), "stretch").mean() == pytest.approx(1 / 3, abs=0.01)


def test_srgb_values_become_linear_radiance():
    assert np.allclose(linear_radiance(np.array([0, 0.04045, 0.5, 1]), "srgb"), [0, 0.0031308, 0.2140411, 1], atol=1e-6)


def test_colour_becomes_luminance_and_transparency_becomes_dark(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0] = [[0, 255, 0, 255], [255, 255, 255, 0], [255, 255, 255, 255]]
    Image.fromarray(rgba).save(tmp_path / "c.png")
    assert np.allclose(read_picture(tmp_path / "c.png", "linear"), [[0.7152, 0, 1]], atol=1e-4)


def test_a_file_has_colour_by_how_it_is_stored_whatever_it_shows(tmp_path):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    deep = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    cases = {
        "l.png": (grey, False),
        "l.jpg": (grey, False),
        "la.png": (grey.convert("LA"), False),
        "one.png": (grey.convert("1"), False),
        "deep.png": (deep, False),
        "deep.tif": (deep, False),
        "float.tif": (grey.convert("F"), False),
        "greys.png": (grey.convert("P"), False),
        "palette.png": (red.quantize(4), True),
        "grey-in-rgb.png": (grey.convert("RGB"), True),
        "rgba.png": (red.convert("RGBA"), True),
        "rgb.jpg": (red, True),
        "cmyk.jpg": (red.convert("CMYK"), True),
    }
    for name, (picture, _) in cases.items():
        picture.save(tmp_path / name)
    assert {name: has_colour(tmp_path / name) for name in cases} == {name: said for name, (_, said) in cases.items()}


def test_a_folder_of_colour_pictures_becomes_luminance_without_a_word(tmp_path):
    for name, colour in (("ann", (0, 255, 0)), ("bob", (255, 0, 0))):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / f"{number}.png")
    data = Folder(path=tmp_path).load(SCENE)
    assert np.allclose(data.images[data.labels == 0], 0.7152, atol=1e-4)
    assert np.allclose(data.images[data.labels == 1], 0.2126, atol=1e-4)


def test_sixteen_bit_pictures_keep_their_depth(tmp_path):
    Image.fromarray(np.array([[0, 1, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.allclose(read_picture(tmp_path / "deep.png", "linear"), [[0, 1 / 65535, 1]], atol=1e-8)


def test_a_picture_taken_sideways_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((4, 9), dtype=np.uint8)).save(tmp_path / "s.jpg", exif=exif)
    assert read_picture(tmp_path / "s.jpg", "linear").shape == (9, 4)


# --- npz


def test_an_npz_file_loads_with_its_own_split(tmp_path):
    path = write_npz(tmp_path / "faces.npz")
    data = Npz(path=path).load(SCENE)
    assert_sound(data, SCENE)
    assert data.class_names == ("0", "1", "2")
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [9, 3, 3]
    assert np.array_equal(data.split, np.load(path)["split"])


def test_bytes_and_floats_of_the_same_pictures_load_alike(tmp_path):
    pictures = np.random.default_rng(2).integers(0, 256, (15, 16, 12), dtype=np.uint8)
    whole = Npz(path=write_npz(tmp_path / "u8.npz", images=pictures)).load((16, 12))
    share = Npz(path=write_npz(tmp_path / "f64.npz", images=pictures / 255)).load((16, 12))
    assert np.allclose(whole.images, share.images, atol=1e-6)
    assert np.allclose(whole.images[:, 0], pictures / 255, atol=1e-6)


def test_srgb_pictures_of_an_npz_file_are_darker_as_radiance(tmp_path):
    path = write_npz(tmp_path / "grey.npz", images=np.full((15, 16, 12), 128, dtype=np.uint8))
    assert Npz(path=path).load(SCENE).images.mean() == pytest.approx(128 / 255, abs=1e-4)
    assert Npz(path=path, encoding="srgb").load(SCENE).images.mean() == pytest.approx(0.2158605, abs=1e-4)


def test_only_well_covered_identities_stay_and_are_numbered_anew(tmp_path):
    identity = np.array([0] * 3 + [1] * 7 + [3] * 5)
    split = np.array([0, 1, 2] + [0] * 5 + [1, 2] + [0] * 3 + [1, 2])
    names = np.array(["rare", "ann", "nobody", "bob"])
    path = write_npz(tmp_path / "f.npz", identity=identity, split=split, identity_name=names)
    data = Npz(path=path, min_per_identity=5).load(SCENE)
    assert data.class_names == ("ann", "bob")
    assert np.array_equal(data.labels, [0] * 7 + [1] * 5)
    assert np.array_equal(data.sample_ids, np.arange(3, 15))


def test_the_home_directory_and_the_current_directory_are_understood(tmp_path, monkeypatch):
    write_npz(tmp_path / "f.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Npz(path="~/f.npz").check()
    monkeypatch.chdir(tmp_path)
    Npz(path="f.npz").check()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"identity": None, "split": None}, "lacks 'identity', 'split'; found 'images'"),
        ({"identity": np.zeros(4, dtype=int)}, r"identity has shape \(4,\).*15 images"),
        ({"split": np.tile([0, 1, 7, 0, 2], 3)}, "split holds '7'; 0 train, 1 val, 2 test"),
        ({"split": np.array([0, 1, 2] * 3 + [2] * 6)}, "has no train picture of '2'"),
        ({"split": np.array([0, 2] * 5 + [0] * 5)}, "has no test picture of '2'"),
        ({"identity": np.repeat([-1, 0, 1], 5)}, "identity goes down to -1"),
        ({"identity": np.zeros(15, dtype=int)}, "1 of 1 identities"),
        ({"images": np.zeros((15, 4, 4, 3), dtype=np.uint8)}, r"images have shape \(15, 4, 4, 3\)"),
        ({"images": np.zeros((15, 4, 4), dtype=np.int32)}, "type int32"),
        ({"identity_name": np.array(["a", "b"])}, "identity_name has shape .* 3 identities"),
    ],
)
def test_what_is_wrong_in_an_npz_file_is_named_before_pixels_are_read(tmp_path, changes, text):
    source = Npz(path=write_npz(tmp_path / "bad.npz", **changes))
    with pytest.raises(BadInput, match=text):
        source.check()
    with pytest.raises(BadInput, match=text):
        source.load(SCENE)


def test_too_high_a_cover_names_the_best_covered(tmp_path):
    with pytest.raises(BadInput, match=r"0 of 3 identities with min_per_identity = 6 .* best covered have 5, 5"):
        Npz(path=write_npz(tmp_path / "f.npz"), min_per_identity=6).check()


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_float_pictures_beyond_radiance_are_named(tmp_path, value):
    images = np.full((15, 4, 4), 0.5)
    images[3, 2, 1] = value
    with pytest.raises(BadInput, match=r"picture 3 spans .*0\.\.1 is allowed"):
        Npz(path=write_npz(tmp_path / "f.npz", images=images)).load(SCENE)


def test_files_that_are_no_npz_are_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        Npz(path=tmp_path / "none.npz").check()
    with pytest.raises(BadInput, match="is a folder"):
        Npz(path=tmp_path).fingerprint()
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(BadInput, match="is no npz file"):
        Npz(path=tmp_path / "text.npz").check()
    whole = write_npz(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="is no npz file, or damaged"):
        Npz(path=tmp_path / "cut.npz").check()


def test_an_npz_file_with_altered_pixels_is_not_loaded(tmp_path):
    path = write_npz(tmp_path / "f.npz", images=np.zeros((15, 64, 64), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[30_000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"images cannot be read.*CRC"):
        Npz(path=path).load(SCENE)


def test_pickles_in_an_npz_file_are_never_run(tmp_path):
    path = write_npz(tmp_path / "f.npz", identity_name=np.array(["a", "b", "c"], dtype=object))
    with pytest.raises(BadInput, match="identity_name cannot be read: Object arrays"):
        Npz(path=path).check()


def test_the_npz_fingerprint_follows_content_and_settings_but_not_the_place(tmp_path):
    first = Npz(path=write_npz(tmp_path / "a.npz"))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    assert Npz(path=tmp_path / "b.npz").fingerprint() == first.fingerprint()
    assert len(first.fingerprint()) == 64
    others = {
        Npz(path=first.path, min_per_identity=2).fingerprint(),
        Npz(path=first.path, encoding="srgb").fingerprint(),
        Npz(path=first.path, crop="stretch").fingerprint(),
        Npz(path=write_npz(tmp_path / "c.npz", split=np.tile([0, 0, 2, 1, 2], 3))).fingerprint(),
        first.fingerprint(),
    }
    assert len(others) == 5


# --- folder


def test_a_class_tree_is_split_within_every_class(tree):
    data = Folder(path=tree, fractions=(0.5, 0.17, 0.33)).load(SCENE)
    assert_sound(data, SCENE)
    assert data.class_names == ("ann", "bob", "cy")
    for label in range(3):
        assert np.array_equal(np.bincount(data.split[data.labels == label]), [3, 1, 2])
    assert data.images[data.labels == 2].min() >= 159 / 255 > data.images[data.labels == 1].max()


def test_a_tree_loads_the_same_pictures_again_whatever_the_time_and_place(tree, tmp_path):
    first = Folder(path=tree).load(SCENE)
    tree.rename(tmp_path / "moved")
    again = Folder(path=tmp_path / "moved").load(SCENE)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.split, again.split)


def test_a_tree_that_is_split_keeps_its_split(tmp_path):
    for part, n in (("train", 3), ("val", 1), ("test", 2)):
        for name in ("ann", "bob"):
            write_pictures(tmp_path / part / name, n)
    data = Folder(path=tmp_path).load(SCENE)
    assert data.class_names == ("ann", "bob")
    assert [len(data.part(part)) for part in (0, 1, 2)] == [6, 2, 4]


def test_all_picture_kinds_are_read_and_hidden_files_ignored(tree):
    for suffix in (".jpg", ".bmp", ".tif", ".pgm", ".PNG"):
        write_pictures(tree / "ann", 1, 10, suffix)
    (tree / "ann" / ".hidden.png").write_bytes(b"no picture")
    (tree / ".cache").mkdir()
    (tree / "ann" / "notes.txt").write_text("no picture")
    # On a file system that ignores case, p0.PNG replaces p0.png.
    assert len(Folder(path=tree).load(SCENE)) in (22, 23)


def test_corrupt_pictures_are_counted_and_the_first_five_named(tree):
    for index in range(6):
        (tree / "bob" / f"x{index}.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"6 of 24 pictures .*'bob/x0\.png'.*'bob/x4\.png'.*; and 1 more") as e:
        Folder(path=tree).load(SCENE)
    assert "x5" not in str(e.value)
    assert "corrupt: skip" in str(e.value)


def test_a_cut_picture_is_corrupt_and_a_bad_header_is_seen_by_the_check(tree):
    picture = tree / "ann" / "p3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(picture)
    picture.write_bytes(picture.read_bytes()[:2000])
    Folder(path=tree).check()
    with pytest.raises(BadInput, match=r"1 of 18 pictures cannot be read: 'ann/p3\.png'"):
        Folder(path=tree).load(SCENE)
    (tree / "ann" / "p0.png").write_bytes(b"")
    with pytest.raises(BadInput, match=r"1 of 3 pictures cannot be read: 'ann/p0\.png'"):
        Folder(path=tree).check()


def test_skipped_pictures_are_named_and_the_others_keep_their_ids(tree):
    (tree / "ann" / "p2.png").write_bytes(b"no picture")
    data = Folder(path=tree, corrupt="skip").load(SCENE)
    assert data.skipped == ("ann/p2.png",)
    assert np.array_equal(data.sample_ids, [i for i in range(18) if i != 2])


def test_a_class_does_not_vanish_because_its_pictures_are_skipped(tree):
    for picture in (tree / "ann").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(BadInput, match="too few readable pictures are left, 'ann: 0'"):
        Folder(path=tree, corrupt="skip").load(SCENE)


def test_small_classes_are_left_out_when_asked_and_named_otherwise(tree):
    write_pictures(tree / "dan", 2)
    with pytest.raises(BadInput, match="class 'dan' has 2 samples for 3 parts"):
        Folder(path=tree).check()
    data = Folder(path=tree, min_per_identity=3).load(SCENE)
    assert data.class_names == ("ann", "bob", "cy")


def test_wrong_trees_are_refused_with_the_names(tree, tmp_path):
    def refused(text: str) -> None:
        with pytest.raises(BadInput, match=text):
            Folder(path=tree).check()

    (tmp_path / "empty").mkdir()
    (tree / "dan").mkdir()
    refused("class folder '.*dan' holds no pictures")
    write_pictures(tree / "dan" / "old", 3)
    refused("class '.*dan' holds folders: 'old'")
    (tree / "dan").rename(tree / "train")
    (tree / "test").mkdir()
    refused("has train and test beside 'ann', 'bob', 'cy'")
    write_pictures(tree, 1)
    refused("has pictures outside any class: 'p0.png'")
    with pytest.raises(BadInput, match="holds no class folders"):
        Folder(path=tree.parent / "empty").check()
    with pytest.raises(BadInput, match="does not exist"):
        Folder(path=tmp_path / "none").check()
    with pytest.raises(BadInput, match="is a file"):
        Folder(path=tree / "p0.png").fingerprint()


def test_a_split_tree_needs_a_test_part_and_every_class_in_training(tmp_path):
    write_pictures(tmp_path / "train" / "ann", 2)
    write_pictures(tmp_path / "val" / "ann", 2)
    with pytest.raises(BadInput, match="has only 'train', 'val'; a split tree needs train and test"):
        Folder(path=tmp_path).check()
    write_pictures(tmp_path / "test" / "ann", 2)
    write_pictures(tmp_path / "test" / "bob", 2)
    with pytest.raises(BadInput, match="has no train picture of 'bob'"):
        Folder(path=tmp_path).check()


def test_the_folder_fingerprint_follows_names_sizes_times_and_settings(tree):
    seen = [Folder(path=tree).fingerprint(), Folder(path=tree, split_seed=1).fingerprint()]
    os.utime(tree / "ann" / "p0.png", ns=(1, 1))
    seen.append(Folder(path=tree).fingerprint())
    (tree / "ann" / "p0.png").rename(tree / "ann" / "q.png")
    seen.append(Folder(path=tree).fingerprint())
    assert len(set(seen)) == 4
    assert Folder(path=tree).fingerprint() == seen[-1]


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.3), (1, 0, 0), (0, 0.5, 0.5), (1.2, -0.4, 0.2)])
def test_fractions_that_are_no_split_are_refused(fractions):
    with pytest.raises(ValidationError, match="fractions are"):
        Folder(path="x", fractions=fractions)


# --- splits and sets


def test_one_more_picture_moves_few_others_between_the_parts():
    names = [f"p{i}" for i in range(100)]
    fractions = (0.6, 0.2, 0.2)
    before = stratified_split(["a"] * 100, names, fractions=fractions, seed=3)
    after = stratified_split(["a"] * 101, ["new", *names], fractions=fractions, seed=3)[1:]
    assert (before != after).sum() <= 2


def test_a_split_that_does_not_exist_and_arrays_that_do_not_fit_are_refused():
    data = Digits().load((8, 8))
    with pytest.raises(BadInput, match="split 'tset' does not exist; use train"):
        data.part("tset")
    with pytest.raises(BadInput, match=r"labels has shape \(3,\); \(1797,\) is needed"):
        ImageSet(data.images, data.labels[:3], data.split, data.class_names, data.sample_ids)
    with pytest.raises(BadInput, match=r"labels span 0\.\.9 with 2 class names"):
        ImageSet(data.images, data.labels, data.split, ("a", "b"), data.sample_ids)


def test_importing_the_data_sets_loads_nothing_heavy():
    heavy = {"torch", "sklearn", "scipy", "skimage", "PIL"}
    code = f"import sys, protocols.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.data
def test_eleven_people_of_lfw_have_fifty_pictures_or_more():
    root = os.environ.get("LABCTL_DATA")
    if root is None:
        pytest.skip("LABCTL_DATA names no folder")
    source = Npz(path=Path(root) / "faces_lfw" / "lfw_min20.npz", min_per_identity=50)
    source.check()
    data = source.load((63, 63))
    assert_sound(data, (63, 63))
    assert len(data.class_names) == 11
    assert data.class_names[0] == "George_W_Bush"
    assert [len(data.part(part)) for part in (0, 1, 2)] == [614, 206, 203]
