"""What is known of the exported frames, beside files that cannot hold it or are slow to ask: metadata.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from labctl.frames.export.choice import Item

METADATA = "metadata.jsonl"


class RecordFile:
    """One JSON line per frame: its file, and its record."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / METADATA).open("w", encoding="utf-8")

    def add(self, name: str, item: Item) -> None:
        """name: path of its file in the export."""
        self._file.write(json.dumps({"file": name, **item.values()}, allow_nan=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
