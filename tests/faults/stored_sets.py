"""Captured sets that something happens to while they are written or while they lie there, and how they go on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labctl.errors import LabctlError
from labctl.frames.layout import SetFolder
from labctl.frames.store import FrameStore
from labctl.frames.verify import verify
from labctl.frames.writer import FrameWriter
from tests.faults.table import Row, keep
from tests.labctl.frames.sets import header, pixels, record

FRAMES = 22
"""Five shards of four frames and one of two; blocks of two."""

Fault = Callable[[], object]


@dataclass
class StoredSet:
    """One set, what the capture said, and how many of its frames were acknowledged."""

    path: Path
    acknowledged: int = 0
    error: LabctlError | None = None
    said: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> SetFolder:
        return SetFolder(self.path)

    def capture(self, until: int = FRAMES, faults: Mapping[int, Fault] | None = None) -> StoredSet:
        """Capture what is missing up to frame `until`; before frame k is given away, `faults[k]()` does its harm.

        A capture that reaches FRAMES finishes its set. What goes wrong is kept in `error`.
        """
        self.error = None
        writer = None
        try:
            with FrameWriter(self.path, header(FRAMES), block=2, say=self.said.append) as writer:
                self.said += writer.recovery.did
                for index in range(writer.next_index, until):
                    (faults or {}).get(index, _nothing)()
                    writer.append(pixels(index), record(index))
                    if index % 2:
                        writer.flush()
                if until == FRAMES:
                    writer.finish()
        except LabctlError as error:
            self.error = error
        if writer is not None:
            self.acknowledged = max(self.acknowledged, writer.acknowledged)
        return self

    def lost(self) -> int:
        """How many acknowledged frames are missing or not as they were."""
        if not self.folder.header.exists():
            return self.acknowledged
        store = FrameStore.open(self.path)
        good = sum(np.array_equal(store.frame(place), pixels(place)) for place in range(len(store)))
        return max(0, self.acknowledged - good)

    def completed(self) -> int:
        """Go on, finish, and prove that every frame is there once, in order, as it was; how many were lost before."""
        lost = self.lost()
        self.capture()
        assert self.error is None, self.error
        store = FrameStore.open(self.path)
        report = verify(store)
        assert report.ok, report.findings
        assert [kept.sample_id for kept in store.records] == list(range(FRAMES))
        assert self.lost() == 0
        return lost

    def resumed(self, fault: str, injected: str) -> None:
        """Assert that the capture ended with words, that all it acknowledged is there, and that it can be completed."""
        assert self.error is not None, "nobody noticed"
        saw, kind = str(self.error), type(self.error).__name__
        lost = self.completed()
        assert lost == 0
        self._keep(fault, injected, saw, f"{kind}; capture resumed")

    def went_on(self, fault: str, injected: str, saw: str, ended: str = "went on by itself") -> None:
        """Assert that the set is, or can be made, whole."""
        lost = self.completed()
        assert lost == 0
        self._keep(fault, injected, saw, ended)

    def refused(self, fault: str, injected: str, damage: Fault, words: str) -> None:
        """Do damage to the set; opening it must say so and change nothing. Then take it back, and go on."""
        copy = self._content()
        damage()
        damaged = self._content()
        self.capture()
        error = self.error
        assert error is not None, "nobody noticed"
        assert words in str(error), error
        assert self._content() == damaged, "a set that was refused is changed"
        self._restore(copy)
        lost = self.completed()
        assert lost == 0
        self._keep(fault, injected, str(error), f"{type(error).__name__}; nothing changed; restored, capture resumed")

    def damaged(self, fault: str, injected: str, damage: Fault) -> None:
        """Do damage to a frame of a complete shard: it must never be read, and proving must name it."""
        copy = self._content()
        damage()
        found = [finding.text for finding in verify(FrameStore.open(self.path)).findings if finding.word == "corrupt"]
        store = FrameStore.open(self.path)
        for place in range(len(store)):
            try:
                assert np.array_equal(store.frame(place), pixels(place)), f"frame {place} is read wrong"
            except LabctlError as error:
                self.error = error
        assert self.error is not None
        self._restore(copy)
        lost = self.completed()
        assert lost == 0
        ended = "RunFailed when that frame is read; restored, capture resumed"
        self._keep(fault, injected, f"labctl dataset verify: {found[0]}", ended)

    def _keep(self, fault: str, injected: str, saw: str, ended: str) -> None:
        saw = re.sub(r" of \w+ on \S+;", " of USER on HOST;", saw)
        keep(Row(fault, injected, saw, ended, 0, 0, time.monotonic() - self.began_s))

    def _content(self) -> dict[Path, bytes]:
        files = (path for path in sorted(self.path.rglob("*")) if path.is_file() and ".writer.lock" not in path.name)
        return {path: path.read_bytes() for path in files}

    def _restore(self, copy: dict[Path, bytes]) -> None:
        for path in set(self._content()) - set(copy):
            path.unlink()
        for path, content in copy.items():
            path.write_bytes(content)


def _nothing() -> None:
    pass
