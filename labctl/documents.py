"""The run log as event-model documents, so that bluesky's tools can read a run. [bluesky event-model 1.2x]

One line per document: `{"name": "start" | "descriptor" | "event" | "stop", "doc": {...}}`. Every session of a run
(the first, and each resume) is one bluesky run with a start and a stop document.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl.durable import append_line, read_lines

STEP_KEYS = {
    "step": "string",
    "status": "string",
    "hash": "string",
    "seconds": "number",
    "text": "string",
}


class DocumentLog:
    """Writes the documents of one session."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start: str | None = None
        self._descriptors: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def start(self, metadata: Mapping[str, Any]) -> None:
        """Open the session. A session that a crash left open is closed first."""
        rows = read_lines(self._path)
        starts = [row["doc"]["uid"] for row in rows if row["name"] == "start"]
        stopped = {row["doc"]["run_start"] for row in rows if row["name"] == "stop"}
        for uid in starts:
            if uid not in stopped:
                self._write("stop", _stop(uid, "fail", "the process died", {}))
        self._start = str(uuid.uuid4())
        more = {"resumes": starts[-1]} if starts else {}
        self._write("start", {"uid": self._start, "time": time.time(), **metadata, **more})

    def step(self, key: str, status: str, content_hash: str, seconds: float, text: str = "") -> None:
        """One event of the stream `steps`."""
        data = {"step": key, "status": status, "hash": content_hash, "seconds": seconds, "text": text}
        self.event("steps", data, STEP_KEYS)

    def event(self, stream: str, data: Mapping[str, Any], dtypes: Mapping[str, str]) -> None:
        """One event of any stream; its descriptor is written before the first."""
        if stream not in self._descriptors:
            self._descriptors[stream] = str(uuid.uuid4())
            keys = {name: {"dtype": dtype, "shape": [], "source": "labctl"} for name, dtype in dtypes.items()}
            self._write(
                "descriptor",
                {
                    "uid": self._descriptors[stream],
                    "run_start": self._start,
                    "time": time.time(),
                    "name": stream,
                    "data_keys": keys,
                },
            )
        self._counts[stream] = self._counts.get(stream, 0) + 1
        now = time.time()
        self._write(
            "event",
            {
                "uid": str(uuid.uuid4()),
                "descriptor": self._descriptors[stream],
                "time": now,
                "seq_num": self._counts[stream],
                "data": dict(data),
                "timestamps": dict.fromkeys(data, now),
            },
        )

    def stop(self, exit_status: str, reason: str) -> None:
        """Close the session; exit_status is `success`, `abort` or `fail`."""
        if self._start is not None:
            self._write("stop", _stop(self._start, exit_status, reason, self._counts))
            self._start = None

    def _write(self, name: str, document: dict[str, Any]) -> None:
        append_line(self._path, {"name": name, "doc": document})


def _stop(run_start: str, exit_status: str, reason: str, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "uid": str(uuid.uuid4()),
        "run_start": run_start,
        "time": time.time(),
        "exit_status": exit_status,
        "reason": reason,
        "num_events": dict(counts),
    }
