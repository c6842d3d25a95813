"""Sets that do not fit in memory: decoded once into a file, read row by row, whatever happens in between."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labctl.errors import BadInput, RunFailed
from protocols.data import Folder, decoding, scene_store
from protocols.data.scene_store import FileStore, StoredPictures, to_levels, to_radiance
from protocols.images import read_picture, resized

SCENE = (12, 10)
CLASSES, PER_CLASS = 4, 8
N = CLASSES * PER_CLASS


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    draws = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = tmp_path / "tree" / f"m.0{label}"
        folder.mkdir(parents=True)
        for number in range(PER_CLASS):
            picture = draws.integers(0, 256, (20, 18, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{number}.jpg")
    return tmp_path / "tree"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set is too large for the memory, and five scenes fill a block."""
    monkeypatch.setattr(decoding, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(decoding, "BLOCK_BYTES", 5 * 2 * SCENE[0] * SCENE[1])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures in the order in which they are decoded."""
    names: list[str] = []

    def read(path: Path, encoding: str) -> object:
        names.append(path.name)
        return read_picture(path, encoding)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "read_picture", read)
    return names


def the_file(cache: Path) -> Path:
    (found,) = cache.rglob("*.scenes")
    return found


def test_a_small_set_is_an_array_and_makes_no_file(tree, cache):
    data = Folder(path=tree).load(SCENE)
    assert isinstance(data.images, np.ndarray)
    assert data.images.dtype == np.float32
    assert not cache.exists()


def test_streamed_and_in_memory_pictures_are_the_same_to_the_bit(tree, monkeypatch):
    for settings in ({}, {"encoding": "srgb", "crop": "stretch"}):
        small = Folder(path=tree, **settings).load(SCENE)
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "IN_MEMORY_BYTES", 0)
            large = Folder(path=tree, **settings).load(SCENE)
        assert isinstance(large.images, StoredPictures)
        assert np.array_equal(large.images[:], small.images)
        assert np.array_equal(large.labels, small.labels)
        assert np.array_equal(large.split, small.split)
        assert np.array_equal(large.sample_ids, small.sample_ids)


def test_sixteen_bits_lose_no_level_of_a_picture_of_the_scene_size(tmp_path):
    levels = np.arange(256, dtype=np.float32) / 255
    assert np.allclose(to_radiance(to_levels(levels)), levels, atol=1e-7)
    assert np.array_equal(to_levels(np.array([0, 0.5, 1], dtype=np.float32)), [0, 32768, 65535])


@pytest.mark.usefixtures("streamed")
def test_streamed_pictures_answer_rows_as_an_array_does(tree):
    images = Folder(path=tree).load(SCENE).images
    whole = images[:]
    assert images.shape == whole.shape == (N, 1, *SCENE)
    assert (images.ndim, len(images)) == (4, N)
    for rows in (3, -1, slice(4, 9), slice(None, None, 7), np.array([5, 0, 5]), np.arange(N) % 3 == 0, [], [2]):
        rows = np.asarray(rows, dtype=np.int64) if isinstance(rows, list) else rows
        assert np.array_equal(images[rows], whole[rows])
        assert images[rows].dtype == np.float32
    with pytest.raises(IndexError):
        images[N]


@pytest.mark.usefixtures("streamed")
def test_each_picture_is_decoded_once_for_all_looks_and_all_later_objects(tree, counted):
    for _ in range(2):
        source = Folder(path=tree)
        source.check_pixels(SCENE)
        source.check()
        source.fingerprint()
        source.load(SCENE)
    assert len(counted) == N
    Folder(path=tree, split_seed=3, fractions=(0.5, 0, 0.5)).load(SCENE)
    assert len(counted) == N, "another split shows the same pictures"
    Folder(path=tree, crop="stretch").load(SCENE)
    assert len(counted) == 2 * N


@pytest.mark.usefixtures("streamed")
def test_each_thing_that_decides_a_scene_has_a_file_of_its_own(tree, cache):
    for settings, shape in (({}, SCENE), ({"encoding": "srgb"}, SCENE), ({"crop": "stretch"}, SCENE), ({}, (10, 12))):
        Folder(path=tree, **settings).load(shape)
    Folder(path=tree, identities=2).load(SCENE)
    os.utime(tree / "m.00" / "0.jpg", ns=(1, 1))
    Folder(path=tree).load(SCENE)
    assert len(list(cache.rglob("*.scenes"))) == 6
    for settings in ({"split_seed": 4}, {"fractions": (0.5, 0, 0.5)}, {"corrupt": "skip"}, {"sizes": "any"}):
        Folder(path=tree, **settings).load(SCENE)
    assert len(list(cache.rglob("*.scenes"))) == 6, "how scenes are used makes no other scenes"


def test_a_small_set_is_decoded_once_for_check_and_load(tree, counted):
    source = Folder(path=tree)
    source.check_pixels(SCENE)
    source.load(SCENE)
    assert len(counted) == N


@pytest.mark.usefixtures("streamed")
def test_a_changed_picture_is_seen_by_the_next_object(tree):
    before = Folder(path=tree).load(SCENE)
    picture = tree / "m.00" / "0.jpg"
    Image.fromarray(np.zeros((20, 18, 3), dtype=np.uint8)).save(picture)
    os.utime(picture, ns=(1, 1))
    after = Folder(path=tree).load(SCENE)
    assert before.images[0].max() > 0 == after.images[0].max()


@pytest.mark.parametrize("memory", [0, 2**30])
def test_two_versions_of_a_set_with_equal_names_sizes_and_times_are_told_apart(memory, tmp_path, streamed, monkeypatch):
    """As two archives leave them whose times were all set to one: plain formats have equal sizes."""
    monkeypatch.setattr(decoding, "IN_MEMORY_BYTES", memory)
    for version, level in (("sharp", 200), ("blurred", 90)):
        for label in "ab":
            (tmp_path / version / label).mkdir(parents=True)
            for number in range(4):
                path = tmp_path / version / label / f"{number}.pgm"
                Image.fromarray(np.full((20, 18), level, dtype=np.uint8)).save(path)
                os.utime(path, ns=(0, 0))
    sharp, blurred = Folder(path=tmp_path / "sharp"), Folder(path=tmp_path / "blurred")
    assert sharp.fingerprint() != blurred.fingerprint()
    assert sharp.load(SCENE).images[0].max() > 0.7 > blurred.load(SCENE).images[0].max()


@pytest.mark.usefixtures("streamed")
def test_the_tree_is_listed_once_per_object(tree, monkeypatch):
    seen = []
    really = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (seen.append(path), really(path))[1])
    source = Folder(path=tree)
    source.check_pixels(SCENE)
    source.check()
    source.fingerprint()
    source.load(SCENE)
    assert len(seen) == 1 + CLASSES


def test_two_sources_with_the_same_settings_are_equal_whether_they_looked_or_not(tree):
    looked, other = Folder(path=tree), Folder(path=tree)
    looked.load(SCENE)
    assert looked == other
    other.check()
    assert looked == other
    assert hash(looked) == hash(other)
    assert looked != Folder(path=tree, split_seed=1)


@pytest.mark.usefixtures("streamed")
def test_the_fill_says_how_far_it_is(tree):
    said: list[tuple[int, int, str]] = []
    Folder(path=tree).check_pixels(SCENE, lambda *how_far: said.append(how_far))
    assert said == [(done, N, "pictures") for done in (5, 10, 15, 20, 25, 30, 32)]


@pytest.mark.usefixtures("streamed")
def test_an_interrupted_fill_goes_on_where_it_stopped(tree, counted):
    def stop_at_half(done: int, total: int, unit: str) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Folder(path=tree).check_pixels(SCENE, stop_at_half)
    done = len(counted)
    assert done == 20
    data = Folder(path=tree).load(SCENE)
    assert len(counted) == N
    assert np.array_equal(data.images[:], _decoded_afresh(tree))


def test_a_killed_fill_goes_on_where_it_stopped(tree, cache, counted, streamed):
    code = f"""
        import os, signal
        from pathlib import Path
        from protocols.data import Folder, decoding
        decoding.IN_MEMORY_BYTES, decoding.BLOCK_BYTES = 0, {decoding.BLOCK_BYTES}
        def kill(done, total, unit):
            if done >= 15:
                os.kill(os.getpid(), signal.SIGKILL)
        Folder(path=Path({str(tree)!r})).check_pixels({SCENE}, kill)
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    data = Folder(path=tree).load(SCENE)
    assert len(counted) == N - 15
    assert np.array_equal(data.images[:], _decoded_afresh(tree))


@pytest.mark.usefixtures("streamed")
def test_a_fill_that_is_on_its_way_is_waited_for_and_not_done_twice(tree, counted, caplog):
    """Two processes are two objects here: each has its own lock on the same file."""
    reached, go_on = threading.Event(), threading.Event()

    def hold(done: int, total: int, unit: str) -> None:
        reached.set()
        assert go_on.wait(20)

    first = threading.Thread(target=lambda: Folder(path=tree).check_pixels(SCENE, hold))
    first.start()
    assert reached.wait(20)
    second = threading.Thread(target=lambda: Folder(path=tree).check_pixels(SCENE))
    second.start()
    while "waiting for it" not in caplog.text:
        time.sleep(0.01)
    go_on.set()
    first.join(20)
    second.join(20)
    assert len(counted) == N


def test_processes_that_fill_the_same_file_at_once_do_not_harm_it(tree, cache, streamed):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sums = pool.map(_sum_of, [(str(tree), str(cache))] * 3)
    assert len(set(sums)) == 1
    assert sums[0] == float(_decoded_afresh(tree).sum(dtype=np.float64))


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[:-7], "bytes, .* are needed"),
        (lambda content: content + b"x", "bytes, .* are needed"),
        (lambda content: b"foreign" + content[7:], "its header is not that of this set"),
        (lambda content: b"", "its header is not that of this set"),
    ],
)
def test_a_damaged_or_foreign_file_is_made_anew_with_a_word(tree, cache, counted, caplog, spoil, why):
    Folder(path=tree).load(SCENE)
    path = the_file(cache)
    path.write_bytes(spoil(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        data = Folder(path=tree).load(SCENE)
    assert len(counted) == 2 * N
    assert np.array_equal(data.images[:], _decoded_afresh(tree))
    assert caplog.records[0].getMessage().startswith(f"{path} is damaged or foreign (")
    assert re.search(why, caplog.text)


@pytest.mark.usefixtures("streamed")
def test_a_scene_with_a_flipped_bit_is_never_handed_out_and_is_made_anew(tree, cache, counted):
    data = Folder(path=tree).load(SCENE)
    path = the_file(cache)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert len(data.images[: N - 1]) == N - 1
    with pytest.raises(RunFailed, match=r"scene 31 of .* is damaged; `labctl resume` decodes its picture anew"):
        data.images[N - 2 :]
    assert np.array_equal(Folder(path=tree).load(SCENE).images[:], _decoded_afresh(tree))
    assert len(counted) == N + 1


@pytest.mark.usefixtures("streamed")
def test_a_file_removed_under_a_reader_ends_the_run_in_words(tree, cache):
    data = Folder(path=tree).load(SCENE)
    the_file(cache).unlink()
    with pytest.raises(RunFailed, match=r"scenes cannot be read from .*No such file.*resume"):
        data.images[:2]


@pytest.mark.usefixtures("streamed")
def test_a_full_disk_is_refused_with_what_is_free_and_what_to_do(tree, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(5))
    with pytest.raises(BadInput, match=r"0\.00 GB are free, 0\.00 are needed; free some space.*LABCTL_CACHE"):
        Folder(path=tree).check_pixels(SCENE)


@pytest.mark.usefixtures("streamed")
def test_a_disk_that_fills_up_during_the_fill_is_bad_input_and_keeps_what_is_done(tree, counted, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(scene_store, "_to_disk", _full)
        with pytest.raises(BadInput, match="No space left on device; free some space"):
            Folder(path=tree).check_pixels(SCENE)
    assert np.array_equal(Folder(path=tree).load(SCENE).images[:], _decoded_afresh(tree))


def test_a_cache_folder_that_cannot_be_made_names_the_variable(tree, monkeypatch, streamed):
    monkeypatch.setenv("LABCTL_CACHE", str(tree / "m.00" / "0.jpg"))
    with pytest.raises(BadInput, match=r"cache folder .*0\.jpg/scenes cannot be made: .*LABCTL_CACHE"):
        Folder(path=tree).check_pixels(SCENE)


def test_a_scenes_folder_that_cannot_be_made_names_the_variable(tree, cache, streamed):
    cache.mkdir()
    (cache / "scenes").write_text("a file stands in the way")
    with pytest.raises(BadInput, match=r"cache folder .*scenes cannot be made: .*LABCTL_CACHE"):
        Folder(path=tree).check_pixels(SCENE)


@pytest.mark.usefixtures("streamed")
def test_corrupt_pictures_are_counted_while_filling_and_refused(tree):
    for number in (1, 3):
        (tree / "m.02" / f"{number}.jpg").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"2 of 32 pictures cannot be read: 'm\.02/1\.jpg'.*'m\.02/3\.jpg'"):
            Folder(path=tree).check_pixels(SCENE)


@pytest.mark.usefixtures("streamed")
def test_corrupt_pictures_are_skipped_and_the_others_keep_rows_and_ids(tree, counted):
    (tree / "m.01" / "2.jpg").write_bytes(b"no picture")
    data = Folder(path=tree, corrupt="skip").load(SCENE)
    bad = PER_CLASS + 2
    assert data.skipped == ("m.01/2.jpg",)
    assert np.array_equal(data.sample_ids, [i for i in range(N) if i != bad])
    picture = resized(read_picture(tree / "m.01" / "3.jpg", "linear"), SCENE, "centre")
    assert np.array_equal(data.images[bad,][0], to_radiance(to_levels(picture)))
    counted.clear()
    Folder(path=tree, corrupt="skip").load(SCENE)
    assert counted == ["2.jpg"], "only what could not be read is tried again"


@pytest.mark.usefixtures("streamed")
def test_a_stray_size_is_found_in_the_file_too_without_decoding_again(tree, counted):
    Image.fromarray(np.zeros((30, 30, 3), dtype=np.uint8)).save(tree / "m.03" / "7.jpg")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"2 sizes, rows x columns: 31 of 20x18, 1 of 30x30; odd are 'm\.03/7\.jpg'"):
            Folder(path=tree).check_pixels(SCENE)
    assert len(Folder(path=tree, sizes="any").load(SCENE)) == N
    assert len(counted) == N


@pytest.mark.parametrize("memory", [True, False], ids=["in memory", "streamed"])
def test_a_mixture_of_grey_and_colour_is_refused_unless_grey_is_asked_for(memory, tree, counted, request):
    if not memory:
        request.getfixturevalue("streamed")
    for name in ("m.01/5.jpg", "m.03/7.jpg"):
        Image.open(tree / name).convert("L").save(tree / name)
    said = (
        r"mixes grey and colour pictures: 2 grey, the first is 'm\.01/5\.jpg', and 30 with colour, the first is "
        r"'m\.00/0\.jpg'; take one kind away, or set `channels: grey`"
    )
    for _ in range(2):
        with pytest.raises(BadInput, match=said):
            Folder(path=tree).check_pixels(SCENE)
        with pytest.raises(BadInput, match=said):
            Folder(path=tree).load(SCENE)
    assert np.array_equal(Folder(path=tree, channels="grey").load(SCENE).images[:], _decoded_afresh(tree))
    assert len(counted) == N, "no look decodes again"


def test_a_fill_asks_for_no_more_than_is_missing(tmp_path):
    store = FileStore(tmp_path / "a.scenes", "key", 3, SCENE)
    scene = np.full((1, *SCENE), 7, dtype=np.uint16)
    with store.filling():
        store.put(np.array([1]), scene, np.array([[20, 18]]), np.array([True]))
    again = FileStore(tmp_path / "a.scenes", "key", 3, SCENE)
    assert again.sizes.tolist() == [[0, 0], [20, 18], [0, 0]]
    assert again.coloured.tolist() == [False, True, False]
    assert np.array_equal(again.read(np.array([1])), scene)
    assert FileStore(tmp_path / "a.scenes", "other", 3, SCENE).sizes.sum() == 0


def _decoded_afresh(tree: Path) -> np.ndarray:
    paths = sorted(tree.rglob("*.jpg"), key=lambda path: path.relative_to(tree).as_posix())
    scenes = [resized(read_picture(path, "linear"), SCENE, "centre") for path in paths]
    return np.stack([to_radiance(to_levels(scene)) for scene in scenes])[:, None]


def _sum_of(where: tuple[str, str]) -> float:
    tree, cache = where
    os.environ["LABCTL_CACHE"] = cache
    decoding.IN_MEMORY_BYTES, decoding.BLOCK_BYTES = 0, 5 * 2 * SCENE[0] * SCENE[1]
    return float(Folder(path=Path(tree)).load(SCENE).images[:].sum(dtype=np.float64))


def _full(file: object) -> None:
    raise OSError(28, "No space left on device")
