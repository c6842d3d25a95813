"""Training from a set: the same samples from shards, pack and address, paired with their scenes, in a seeded order."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from labctl.errors import BadInput
from labctl.frames.pack import write_pack
from labctl.frames.scenes import remove_scenes, write_scenes
from labctl.frames.store import FrameStore
from labctl.frames.torch_data import SeededBatches, frame_dataset, frame_loader
from tests.labctl.frames.sets import LABELS, record, write_set

FRAMES = 12


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    """Twelve frames of samples 100, 101 ..., with their scenes."""
    return _store(tmp_path / "set")


def _store(folder: Path) -> FrameStore:
    store = write_set(folder, FRAMES, records=lambda index: record(index, sample_id=100 + index))
    scenes = np.linspace(0, 1, FRAMES * 6, dtype=np.float32).reshape(FRAMES, 1, 2, 3)
    write_scenes(folder, 100 + np.arange(FRAMES), scenes)
    return store


def test_items_are_float_frames_with_their_label_sample_and_scene(store: FrameStore) -> None:
    data = frame_dataset(store, split="test", class_names=LABELS[::-1], scenes=True)
    assert len(data) == 4
    item = data[1]
    assert {name: (value.dtype, tuple(value.shape)) for name, value in item.items()} == {
        "frame": (torch.float32, (1, 4, 6)),
        "label": (torch.int64, ()),
        "sample_id": (torch.int64, ()),
        "scene": (torch.float32, (1, 2, 3)),
    }
    np.testing.assert_array_equal(item["frame"].numpy(), store.frame(5))
    assert int(item["sample_id"]) == 105
    assert data.class_names[int(item["label"])] == store.records[5].label_name
    np.testing.assert_allclose(item["scene"].numpy().reshape(-1), np.arange(30, 36) / (6 * FRAMES - 1), rtol=1e-6)
    assert torch.equal(data[-1]["frame"], data[3]["frame"])
    with pytest.raises(IndexError, match="there are 4"):
        data[4]


def test_shards_pack_and_address_give_the_same_items(store: FrameStore) -> None:
    fsspec.filesystem("memory").put(f"{store.where}/", "/torch-set/", recursive=True)
    address = FrameStore.open("memory://torch-set")
    datas = [
        frame_dataset(store, split="train", scenes=True),
        write_pack(store).dataset(split="train", scenes=True),
        frame_dataset(address, split="train", scenes=True),
        frame_dataset(FrameStore.open(f"file://{store.where}"), split="train", scenes=True),
    ]
    picked = [3, 0, 2]
    first = datas[0][picked]
    assert first["sample_id"].tolist() == [109, 100, 106]
    np.testing.assert_array_equal(first["frame"].numpy(), store.read([9, 0, 6]))
    np.testing.assert_allclose(first["scene"][:, 0, 0, 0].numpy() * (6 * FRAMES - 1), [54, 0, 36], rtol=1e-6)
    for data in datas[1:]:
        assert len(data) == 4
        batch = data[picked]
        assert batch.keys() == first.keys()
        assert all(torch.equal(batch[name], first[name]) for name in first)
    fsspec.filesystem("memory").rm("/torch-set", recursive=True)


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """A web server that knows ranges, as object storage does; remembers how much it gave."""

    given: list[int] = []

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = self.headers.get("Range")
        if asked:
            start, stop = asked.removeprefix("bytes=").split("-")
            data = data[int(start) : int(stop) + 1] if start else data[-int(stop) :]
        self.given.append(len(data))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def web(store: FrameStore) -> Iterator[str]:
    """The set behind http://."""
    handler = partial(_Ranges, directory=str(store.folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/set"
        server.shutdown()
        thread.join()


def test_behind_a_web_server_only_the_frames_asked_for_are_fetched(store: FrameStore, web: str) -> None:
    remote = frame_dataset(FrameStore.open(web), scenes=True)
    _Ranges.given.clear()
    batch = remote[[7, 1]]
    frame_bytes = store.header.frame_bytes + 4
    assert _Ranges.given.count(frame_bytes) == 2
    assert torch.equal(batch["frame"], frame_dataset(store)[[7, 1]]["frame"])


def test_scenes_that_are_not_kept_are_not_made_up(store: FrameStore) -> None:
    pack = write_pack(store)
    write_scenes(store.folder, [100, 101], np.zeros((2, 1, 2, 3), np.float32))
    with pytest.raises(BadInput, match="keeps no scene of 10 of 12 samples, such as 102"):
        frame_dataset(store, scenes=True)
    remove_scenes(store.folder)
    for make in (partial(frame_dataset, store), pack.dataset):
        assert "scene" not in make()[0]
        with pytest.raises(BadInput, match="keeps no scenes"):
            make(scenes=True)


def test_any_loader_of_torch_makes_the_same_batches(store: FrameStore) -> None:
    data = frame_dataset(store)
    plain = list(DataLoader(data, batch_size=5))
    own = list(frame_loader(data, 5, shuffle=False))
    assert [len(batch["label"]) for batch in own] == [5, 5, 2]
    for one, other in zip(plain, own, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_order_follows_from_seed_and_epoch_and_a_resumed_training_gets_the_rest_of_it() -> None:
    whole = SeededBatches(23, 4, seed=3)
    epochs = [list(whole) for _ in range(3)]
    assert sorted(chain(*epochs[1])) == list(range(23))
    assert epochs[0] != epochs[1]
    assert len(epochs[0]) == len(whole) == 6
    resumed = SeededBatches(23, 4, seed=3)
    resumed.go_on_at(1, 2)
    assert list(resumed) == epochs[1][2:]
    assert list(resumed) == epochs[2]
    assert list(SeededBatches(23, 4, seed=4)) != epochs[0]
    assert len(list(SeededBatches(23, 4, seed=3, drop_last=True))) == 5
    assert list(chain(*SeededBatches(5, 2, seed=0, shuffle=False))) == list(range(5))
    with pytest.raises(BadInput, match="a batch of 0"):
        SeededBatches(23, 0, seed=3)


@pytest.mark.slow
def test_a_spawned_worker_reads_what_this_process_reads_epoch_after_epoch(store: FrameStore) -> None:
    data = frame_dataset(store, scenes=True)
    alone = frame_loader(data, 5, seed=1)
    many = frame_loader(data, 5, seed=1, workers=1)
    for _ in range(2):
        for one, other in zip(alone, many, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    many._iterator._shutdown_workers()  # type: ignore[union-attr]
