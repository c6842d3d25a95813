"""Ground-truth scenes: kept bit for bit, apart from the frames, whole or not at all, and gone when removed."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import numpy.typing as npt
import pytest

from labctl.errors import BadInput, RunFailed
from labctl.frames import scenes as module
from labctl.frames.scenes import Scenes, remove_scenes, scene_hash, write_scenes

IDS = [30, 1, 4, 15, 9]


@pytest.fixture
def shown() -> npt.NDArray[np.float32]:
    """Five scenes of 8 x 6."""
    return np.random.default_rng(0).random((5, 1, 8, 6), dtype=np.float32)


def test_scenes_come_back_bit_for_bit_in_the_order_asked_for(
    tmp_path: Path, shown: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_BYTES", 400)  # two scenes per shard, and one in the last
    write_scenes(tmp_path, IDS, shown)
    kept = Scenes.open(tmp_path)
    assert kept is not None
    assert kept.shape == shown.shape
    assert kept.has(15)
    assert not kept.has(2)
    np.testing.assert_array_equal(kept.read([9, 30, 9]), shown[[4, 0, 4]])
    np.testing.assert_array_equal(kept.scene(1), shown[1])
    np.testing.assert_array_equal(kept.sample_ids, IDS)


def test_the_hash_of_a_record_is_the_hash_that_a_kept_scene_is_held_against(
    tmp_path: Path, shown: npt.NDArray[np.float32]
) -> None:
    write_scenes(tmp_path, IDS, shown)
    kept = Scenes.open(tmp_path)
    assert kept is not None
    assert scene_hash(kept.scene(4)) == scene_hash(shown[2]) == scene_hash(shown[2].astype(np.float64))
    assert scene_hash(shown[2]) != scene_hash(np.nextafter(shown[2], np.float32(1)))


def test_a_changed_scene_is_not_read_as_if_it_were_right(tmp_path: Path, shown: npt.NDArray[np.float32]) -> None:
    write_scenes(tmp_path, IDS, shown)
    import zarr

    array = zarr.open_array(tmp_path / "scenes.zarr" / "scenes", mode="r+")
    array[3, 0, 0, 0] = 0.123
    kept = Scenes.open(tmp_path)
    assert kept is not None
    np.testing.assert_array_equal(kept.read([30]), shown[:1])
    with pytest.raises(RunFailed, match="sample 15 does not match its hash"):
        kept.read([30, 15])


def test_scenes_are_read_behind_an_address_and_in_another_process(
    tmp_path: Path, shown: npt.NDArray[np.float32]
) -> None:
    write_scenes(tmp_path, IDS, shown)
    fsspec.filesystem("memory").put(f"{tmp_path}/", "/scenes-set/", recursive=True)
    for where in (str(tmp_path), f"file://{tmp_path}", "memory://scenes-set"):
        kept = Scenes.open(where)
        again = pickle.loads(pickle.dumps(kept))
        np.testing.assert_array_equal(again.read([4, 1]), shown[[2, 1]])
    fsspec.filesystem("memory").rm("/scenes-set", recursive=True)


def test_removed_scenes_leave_nothing_behind_not_even_those_of_a_killed_writer(
    tmp_path: Path, shown: npt.NDArray[np.float32]
) -> None:
    write_scenes(tmp_path, IDS, shown)
    write_scenes(tmp_path, IDS, shown[::-1])
    shutil.copytree(tmp_path / "scenes.zarr", tmp_path / ".scenes.zarr.new")  # where a writer died before it was done
    assert remove_scenes(tmp_path)
    assert Scenes.open(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert not remove_scenes(tmp_path)


def test_scenes_that_cannot_all_be_written_are_not_written_and_the_old_ones_stay(
    tmp_path: Path, shown: npt.NDArray[np.float32]
) -> None:
    write_scenes(tmp_path, IDS, shown)
    with pytest.raises(BadInput, match=r"sample 9 has radiance .* to 1.5; 0 to 1 is needed"):
        write_scenes(tmp_path, IDS, np.where(np.arange(5)[:, None, None, None] == 4, np.float32(1.5), shown))
    with pytest.raises(BadInput, match="radiance nan"):
        write_scenes(tmp_path, IDS, np.full_like(shown, np.nan))
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.zarr"]
    kept = Scenes.open(tmp_path)
    assert kept is not None
    np.testing.assert_array_equal(kept.read(IDS), shown)


def test_scenes_must_fit_their_ids(tmp_path: Path, shown: npt.NDArray[np.float32]) -> None:
    with pytest.raises(BadInput, match="with 4 sample ids"):
        write_scenes(tmp_path, IDS[:4], shown)
    with pytest.raises(BadInput, match="stands twice"):
        write_scenes(tmp_path, [1, 2, 3, 4, 1], shown)
    write_scenes(tmp_path, IDS, shown)
    kept = Scenes.open(tmp_path)
    assert kept is not None
    with pytest.raises(BadInput, match="keeps no scene of sample 2; it keeps those of 5"):
        kept.scene(2)


def test_a_disk_that_refuses_is_named_and_nothing_is_left(
    tmp_path: Path, shown: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "sync_tree", full)
    with pytest.raises(RunFailed, match="No space left on device; free some space"):
        write_scenes(tmp_path, IDS, shown)
    assert list(tmp_path.iterdir()) == []
