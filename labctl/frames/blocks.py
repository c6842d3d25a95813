"""Making blocks of frames safe, in a thread of its own, while the next block is being written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.durable import sync_folder
from labctl.frames.header import SetHeader
from labctl.frames.layout import SetFolder
from labctl.frames.shards import Chunk

APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@dataclass(frozen=True)
class Block:
    """Frames that are acknowledged together; their pixels are written already."""

    first: int
    """Index of its first frame; the others follow."""

    lines: Sequence[bytes]
    """One of the ledger for each frame."""

    spool: int
    """File number of the spool that its pixels are in."""

    shard_sizes: npt.NDArray[np.int64] | None
    """(n,) stored bytes of all frames of the shard that it completes; None when it completes none."""


class BlockKeeper:
    """Makes one block after the other safe. A disk that syncs can take the pixels of the next block meanwhile.

    acknowledge: told how many frames have become safe. fail: told what went wrong; nothing is done after that. Both are
    called in the thread of the keeper.
    """

    def __init__(
        self,
        folder: SetFolder,
        header: SetHeader,
        *,
        acknowledge: Callable[[int], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._folder, self._header, self._acknowledge, self._fail = folder, header, acknowledge, fail
        self._thread: threading.Thread | None = None
        self._ledger = -1
        self._failed = False

    def keep(self, block: Block) -> None:
        """Begin with a block, which closes its spool when it completes a shard; the one before is done on return."""
        self.wait()
        if self._ledger < 0:
            self._ledger = os.open(self._folder.ledger, APPENDING, 0o644)
        self._thread = threading.Thread(target=self._run, args=(block,), name="frame-keeper", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is under way."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Let go of the ledger. Nothing may be under way."""
        if self._ledger >= 0:
            os.close(self._ledger)
        self._ledger = -1

    def _run(self, block: Block) -> None:
        try:
            if self._failed:
                return
            self._make_safe(block)
            if block.shard_sizes is not None:
                self._end_shard(block.first // self._header.shard_frames, block.shard_sizes)
        except BaseException as error:  # noqa: BLE001 - it is raised where frames are appended
            self._failed = True
            self._fail(error)
        finally:
            if block.shard_sizes is not None:
                os.close(block.spool)

    def _make_safe(self, block: Block) -> None:
        """Pixels first, then their lines: every line that can be read names pixels that can be read."""
        if self._header.sync != "never" and block.first % self._header.shard_frames == 0:
            sync_folder(self._folder.spool(0).parent)  # the spool is new
        if self._header.sync == "block":
            os.fsync(block.spool)
        write_all(self._ledger, [b"".join(block.lines)])
        if self._header.sync == "block":
            os.fsync(self._ledger)
        for number in (block.spool, self._ledger):
            if os.fstat(number).st_nlink == 0:  # the system goes on writing to a file that was removed
                raise FileNotFoundError(errno.ENOENT, "it was removed while it was written")
        self._acknowledge(len(block.lines))

    def _end_shard(self, shard: int, sizes: npt.NDArray[np.int64]) -> None:
        if self._header.sync == "shard":  # lines first: a power cut may leave a shard less, but never a shard without
            os.fsync(self._ledger)
        self._folder.commit_shard(shard, sizes, self._header)


def write_all(number: int, pieces: Sequence[Chunk]) -> None:
    """Write `pieces` one behind the other; the system may take less than all at once."""
    left = [memoryview(piece) for piece in pieces]  # type: ignore[arg-type]  # an array is a buffer from 3.12 on
    while left:
        done = os.writev(number, left)
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left:
            left[0] = left[0][done:]
