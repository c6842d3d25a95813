"""Writing a set: a bounded pipeline from the thread that captures to the disk, which acknowledges what is safe."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from labctl import __version__
from labctl.durable import append_line, sync_tree, write_json
from labctl.errors import BadInput, RunFailed
from labctl.frames.blocks import APPENDING, Block, BlockKeeper, write_all
from labctl.frames.claim import claim, release
from labctl.frames.header import SetHeader, parse_header
from labctl.frames.layout import SetFolder
from labctl.frames.ledger import ledger_line, record_json
from labctl.frames.marks import Mark
from labctl.frames.record import FrameRecord
from labctl.frames.recovery import SOFT_SHARDS, recover
from labctl.frames.refusals import refusal
from labctl.frames.shards import CHECKSUM_BYTES, Chunk, checksum_bytes, encode_frame

log = logging.getLogger(__name__)

BLOCK = 256
"""A block costs two syncs, some milliseconds: that must stay little beside small frames of a fast camera."""

BLOCK_BYTES = 64 * 2**20
"""A block ends with so many bytes, whatever its number of frames."""

BLOCK_S = 1.0
"""A frame waits no longer than this to be made safe."""

GROUP_BYTES = 2**20
"""Frames are written in groups of about this size: one by one, small ones would cost more in calls and hand-overs than
in bytes; many at once, their pixels would have left the processor's cache between checksum and writing."""

GROUP = 256
"""A group has no more frames than this: the system takes 1024 pieces in one call, and a frame is two."""

QUEUE_BYTES = 256 * 2**20
SAY_EVERY_S = 60.0
SLOW_SHARE = 0.1
"""The disk is called slow when the capture waits for it for more than this share of the time."""

SLOW_S = 1.0
GRACE_S = 10.0
"""How long what is queued may take to reach the disk when the capture ends by an error."""

_Frame = tuple[npt.NDArray[np.uint16], FrameRecord]


class FrameWriter:
    """Appends frames to a set, made anew or gone on with. Use as a context manager.

    `append` returns at once while the queue has room and waits while it has none: no frame is ever dropped.
    `acknowledged` counts the frames that stay whatever happens now: to this process, and, with `sync: block`, to the
    power. Raises BadInput when the folder holds another capture, is finished or is being written; RunFailed when
    acknowledged frames are damaged, or when the disk refuses.

    block: frames between two syncs at most. say: hears what a user should know.
    """

    def __init__(
        self,
        folder: Path,
        header: SetHeader,
        *,
        block: int = BLOCK,
        queue_bytes: int = QUEUE_BYTES,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        self.folder = SetFolder(folder)
        self._block, self._queue_bytes, self._say = block, queue_bytes, say
        self._lock = claim(folder)
        try:
            self.header = self._open_header(header)
            ledger, self.recovery = recover(self.folder, self.header)
            if self.recovery.did or self.recovery.kept:
                self.note(kept=self.recovery.kept, did=list(self.recovery.did))
        except OSError as error:
            release(self._lock)
            raise RunFailed(refusal(folder, error)) from error
        except BaseException:
            release(self._lock)
            raise
        kept, per_shard = self.recovery.kept, self.header.shard_frames
        self._finished = self.folder.finished.exists()
        self.acknowledged = kept
        self._appended = kept
        self._shard_sizes: list[int] = ledger.sizes[kept - kept % per_shard : kept].tolist()
        self._queue: deque[_Frame] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._flush_asked = self._stop_asked = self._closed = self._told = False
        self._error: BaseException | None = None
        self._waited_s, self._began_s, self._said_s = 0.0, time.monotonic(), -SAY_EVERY_S
        self._busy_s, self._busy_since_s, self._rate_mb_s = 0.0, 0.0, 0.0
        self._spool = -1
        self._spooled = kept
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._oldest_s = 0.0
        self._keeper = BlockKeeper(self.folder, self.header, acknowledge=self._acknowledge, fail=self._fail)
        self._thread = threading.Thread(target=self._run, name="frame-writer", daemon=True)
        self._thread.start()

    def append(self, pixels: npt.NDArray[np.uint16], record: FrameRecord) -> None:
        """Take one frame (C, h, w), which must not be changed any more; waits while the queue is full.

        Raises RunFailed when the disk refused this or an earlier frame; acknowledged ones are safe.
        """
        if pixels.shape != self.header.frame_shape or pixels.dtype != np.uint16:
            raise RunFailed(
                f"a frame is {pixels.dtype} {pixels.shape}; this set holds uint16 {self.header.frame_shape}"
            )
        if self._finished or self._closed:
            ended = "finished" if self._finished else "closed"
            raise RunFailed(f"{self.folder.path} is {ended}; nothing can be appended")
        with self._changed:
            self._wait(lambda: self._queued_bytes < self._queue_bytes)
            self._queue.append((pixels, record))
            self._queued_bytes += pixels.nbytes
            self._appended += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until every appended frame is acknowledged. Raises RunFailed when the disk refuses."""
        with self._changed:
            self._flush_asked = True
            self._changed.notify_all()
            try:
                self._wait(lambda: self.acknowledged == self._appended, count=False)
            finally:
                self._flush_asked = False

    def mark(self, mark: Mark) -> None:
        """Write down what was found out about frames that are there already; it is on the disk on return."""
        try:
            append_line(self.folder.marks, mark.model_dump(mode="json"))
        except OSError as error:
            raise RunFailed(refusal(self.folder.path, error)) from error

    def finish(self) -> None:
        """Make the last shard; nothing can be appended any more. Raises RunFailed when planned frames are missing."""
        if self._finished:
            return
        self.flush()
        planned = self.header.planned
        if planned is not None and self.acknowledged != planned:
            raise RunFailed(
                f"{self.folder.path}: {self.acknowledged} of {planned} frames are there; capture the others"
            )
        self._stop_thread()
        if self._error is not None:
            self._raise()
        shard, rest = divmod(self.acknowledged, self.header.shard_frames)
        try:
            self._close_files()
            if self.header.sync != "never":
                sync_tree(self.folder.ledger)
            if rest and not self.folder.shard(shard).exists():
                self.folder.commit_shard(shard, np.array(self._shard_sizes, dtype=np.int64), self.header)
            if self.header.sync == "never":  # a finished set is on the disk, whatever was risked before
                sync_tree(self.folder.path)
            write_json(self.folder.finished, {"frames": self.acknowledged, "time": _now()})
            self._finished = True
        except OSError as error:
            raise RunFailed(refusal(self.folder.path, error)) from error

    @property
    def next_index(self) -> int:
        """Index of the next frame to append."""
        return self._appended

    @property
    def is_finished(self) -> bool:
        """Whether the set was finished, now or before."""
        return self._finished

    @property
    def waited_s(self) -> float:
        """How long `append` has waited for the disk."""
        return self._waited_s

    def close(self, grace_s: float | None = None) -> None:
        """Bring what is queued to the disk and let go of the set. May be called twice.

        grace_s: give up after so long; None waits as long as the disk takes. A disk that hangs longer keeps the set
        locked until this process ends: nobody else may write while its last word may still come.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._stop_thread(grace_s)
            if self._error is not None and not self._told:
                self._raise()
        finally:
            if not self._thread.is_alive():
                self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(GRACE_S)
        except RunFailed as second:
            error.add_note(str(second))

    def _open_header(self, header: SetHeader) -> SetHeader:
        path = self.folder.path
        if not self.folder.header.exists():
            if self.folder.ledger.exists() and self.folder.ledger.stat().st_size:
                raise RunFailed(f"{path} has a ledger but no header.json; restore it from a copy")
            header = header.model_copy(update={"created": _now(), "labctl": __version__})
            self.folder.make(header)
            return header
        there = parse_header(self.folder.header.read_bytes(), path)
        if not there.same_capture(header):
            raise BadInput(f"{path} holds frames of another capture; give the run another folder")
        return there

    def note(self, **said: Any) -> None:
        """Write to the history who did what; recovery goes by what is said there of acknowledged frames."""
        append_line(self.folder.history, {"time": _now(), "pid": os.getpid(), **said})

    def _wait(self, ready: Callable[[], bool], *, count: bool = True) -> None:
        """Wait for the writing thread under the lock; short waits, so that a signal is heard."""
        began = time.monotonic()
        while not ready():
            if self._error is not None:
                self._raise()
            self._changed.wait(0.2)
            if count and not ready():
                self._complain(self._waited_s + time.monotonic() - began)
        if self._error is not None:
            self._raise()
        if count:
            self._waited_s += time.monotonic() - began

    def _complain(self, waited_s: float) -> None:
        now = time.monotonic()
        if waited_s < max(SLOW_S, SLOW_SHARE * (now - self._began_s)) or now - self._said_s < SAY_EVERY_S:
            return
        self._said_s = now
        takes = f"takes {self._rate_mb_s:.1f} MB/s, less" if self._rate_mb_s else "takes less"
        self._say(
            f"the disk that holds {self.folder.path} {takes} than the camera gives: the capture waits for it "
            f"({waited_s:.0f} s so far); nothing is dropped"
        )

    def _raise(self) -> None:
        assert self._error is not None
        self._told = True
        if isinstance(self._error, OSError):
            gone = self._error.errno == errno.ENOENT
            kept = "" if gone else f"; {self.acknowledged} frames are safe"
            raise RunFailed(refusal(self.folder.path, self._error) + kept) from self._error
        raise self._error

    # What follows runs in the writing thread.

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._something_to_do, timeout=self._time_left())
                    group = self._next_group()
                    flush, stop = self._flush_asked, self._stop_asked
                    self._busy_since_s = time.monotonic()
                if group:
                    self._write(group)
                with self._changed:
                    self._queued_bytes -= sum(pixels.nbytes for pixels, _ in group)
                    self._changed.notify_all()
                    idle = not self._queue
                del group  # what is written must not stay in memory
                if self._pending and (self._time_left() == 0.0 or ((flush or stop) and idle)):
                    self._end_block()
                if self._error is not None or (idle and stop):
                    return
                self._busy_s += time.monotonic() - self._busy_since_s
        except BaseException as error:  # noqa: BLE001 - it is raised where frames are appended
            self._fail(error)
        finally:
            self._keeper.wait()  # the files stay open until then

    def _something_to_do(self) -> bool:
        ended = self._stop_asked or self._error is not None
        return ended or bool(self._queue) or (self._flush_asked and bool(self._pending))

    def _time_left(self) -> float | None:
        """Until the pending frames must be acknowledged; None when nothing is pending."""
        return max(0.0, self._oldest_s + BLOCK_S - time.monotonic()) if self._pending else None

    def _next_group(self) -> list[_Frame]:
        """The next frames in the queue, at most as many as the block and the shard still take."""
        room = min(
            GROUP, self._block - len(self._pending), self.header.shard_frames - len(self._shard_sizes), len(self._queue)
        )
        group: list[_Frame] = []
        size = 0
        while len(group) < room and size < GROUP_BYTES:
            group.append(self._queue.popleft())
            size += group[-1][0].nbytes
        return group

    def _write(self, group: list[_Frame]) -> None:
        """Bring frames to the spool, and end the block or the shard when it is full."""
        index = self._spooled
        shard = index // self.header.shard_frames
        if self._spool < 0:
            self._spool = os.open(self.folder.spool(shard), APPENDING, 0o644)
        if not self._pending:
            self._oldest_s = time.monotonic()
        hard = max(0, shard + 1 - SOFT_SHARDS[self.header.sync]) * self.header.shard_frames
        safe = index - len(self._pending) if self.header.sync == "block" else hard
        pieces: list[Chunk] = []
        for number, (pixels, record) in enumerate(group, index):
            chunk, checksum = encode_frame(pixels, self.header)
            pieces += (chunk, checksum_bytes(checksum))
            self._pending.append(ledger_line(number, chunk, checksum, record_json(record), safe=safe))
            self._shard_sizes.append(len(chunk) + CHECKSUM_BYTES)
        write_all(self._spool, pieces)
        self._spooled += len(group)
        self._pending_bytes += sum(self._shard_sizes[-len(group) :])
        room = len(self._pending) < self._block and self._pending_bytes < BLOCK_BYTES
        if not room or len(self._shard_sizes) == self.header.shard_frames:
            self._end_block()

    def _end_block(self) -> None:
        """Have the block made safe, and its shard when that is full, while the next one is written."""
        full = len(self._shard_sizes) == self.header.shard_frames
        sizes = np.array(self._shard_sizes, dtype=np.int64) if full else None
        self._keeper.keep(Block(self._spooled - len(self._pending), self._pending, self._spool, sizes))
        self._pending, self._pending_bytes = [], 0
        if full:
            self._spool, self._shard_sizes = -1, []

    def _acknowledge(self, frames: int) -> None:
        with self._changed:
            self.acknowledged += frames
            busy_s = self._busy_s + time.monotonic() - self._busy_since_s
            self._rate_mb_s = (self.acknowledged - self.recovery.kept) * self.header.frame_bytes / busy_s / 1e6
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._queue.clear()
            self._changed.notify_all()

    def _stop_thread(self, grace_s: float | None = None) -> None:
        with self._changed:
            self._stop_asked = True
            self._changed.notify_all()
        until = None if grace_s is None else time.monotonic() + grace_s
        while self._thread.is_alive() and (until is None or time.monotonic() < until):
            self._thread.join(0.2)

    def _let_go(self) -> None:
        try:
            self._close_files()
            if self.acknowledged > self.recovery.kept:
                self.note(closed=self.acknowledged)
        except OSError as error:  # what is acknowledged is safe without these words
            if self._error is None:
                log.warning("%s", refusal(self.folder.path, error))
        finally:
            release(self._lock)

    def _close_files(self) -> None:
        self._keeper.close()
        if self._spool >= 0:
            os.close(self._spool)
        self._spool = -1


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
