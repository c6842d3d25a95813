"""The append-only ledger of a set: one line of JSON per frame, each with its own checksum, indices without a gap."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import PydanticSerializationError

from labctl.frames.record import FrameRecord
from labctl.frames.shards import CHECKSUM_BYTES, Chunk, crc32c

_HEAD = re.compile(rb'\{"index": (\d+), "nbytes": (\d+), "crc32c": (\d+), "safe": (\d+), ')
_TAIL = re.compile(rb', "line": "([0-9a-f]{8})"\}$')
_TAIL_BYTES = len(b', "line": "00000000"}')


@dataclass(frozen=True)
class Ledger:
    """The lines of a ledger that hold, in order.

    starts, stops: (n,) place of every line in `content`; sizes: (n,) bytes of every chunk with its checksum;
    checksums: (n,) CRC-32C of every chunk.
    """

    content: bytes
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    """(n,) the index that each line gives itself; 0, 1, 2 ... unless the ledger is damaged."""

    torn_bytes: int
    """Length of the end that holds no whole line: a crash tore it, it was never acknowledged."""

    problems: tuple[str, ...]
    """Damaged or missing lines before good ones."""

    torn_at: int | None = None
    """Where a power cut may have torn the last block: byte before which nothing is damaged. None without `problems`,
    and where they lie among lines that were safe before: no crash explains that."""

    def __len__(self) -> int:
        return len(self.starts)

    def values(self, place: int) -> dict[str, Any]:
        """All that line `place` says of its frame, as JSON values."""
        value: dict[str, Any] = json.loads(self.content[self.starts[place] : self.stops[place]])
        del value["line"], value["safe"]
        return value


def ledger_line(index: int, chunk: Chunk, checksum: int, record: str, *, safe: int) -> bytes:
    """The line of one frame. record: a JSON object as text; `chunk` is its stored form without the checksum.

    safe: how many frames were on the disk for good before this line was written. A disk writes the sectors of what is
    not yet synced in any order, so a power cut may leave good lines behind damaged ones: `safe` tells that from damage.
    """
    place = f'{{"index": {index}, "nbytes": {len(chunk) + CHECKSUM_BYTES}, "crc32c": {checksum}, "safe": {safe}, '
    body = (place + record[1:-1]).encode()
    return body + b', "line": "%08x"}\n' % crc32c(body)


def record_json(record: FrameRecord) -> str:
    """A record as a JSON object on one line."""
    try:
        return record.model_dump_json()
    except PydanticSerializationError:  # a name made of undecodable bytes holds halves of characters: escape them
        return json.dumps(record.model_dump(mode="json"), allow_nan=False)


def parse_ledger(content: bytes) -> Ledger:
    """Read what holds; see `Ledger` for what becomes of the rest. A whole ledger of 100 000 lines takes 0.3 s."""
    rows: list[tuple[int, int, int, int, int]] = []
    before, safe = -1, 0
    problems: list[str] = []
    bad: list[int] = []
    torn: tuple[int, int] | None = None
    lines_gone = False
    good_until, place, number = 0, 0, 0
    while place < len(content):
        end = content.find(b"\n", place)
        stop = len(content) if end < 0 else end
        line = content[place:stop]
        head = _HEAD.match(line)
        tail = _TAIL.search(line)
        if end >= 0 and head and tail and crc32c(line[:-_TAIL_BYTES]) == int(tail[1], 16):
            index, safe = int(head[1]), max(safe, int(head[4]))
            if bad and torn is None:
                torn = (good_until, before + 1)
            problems += [f"line {n} of the ledger is damaged" for n in bad]
            if index <= before:
                problems.append(f"frame {index} stands twice or out of order in the ledger, in line {number}")
                lines_gone = True
            elif index > before + 1 + len(bad):
                problems.append(f"the ledger has no line for {_frames(before + 1 + len(bad), index - 1)}")
                lines_gone = lines_gone or not bad
            bad = []
            rows.append((place, stop, int(head[2]), int(head[3]), index))
            before = index
            good_until = stop + 1
        else:
            bad.append(number)
        place, number = stop + 1, number + 1
    starts, stops, sizes, checksums, indices = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    end_bytes = len(content) - good_until
    torn_at = torn[0] if torn is not None and torn[1] >= safe and not lines_gone else None
    return Ledger(content, starts, stops, sizes, checksums, indices, end_bytes, tuple(problems), torn_at)


def _frames(first: int, last: int) -> str:
    return f"frame {first}" if first == last else f"frames {first} to {last}"
