"""Files that survive a crash: whole or not at all, and appended lines that are on the disk when we say so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` in one step: a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # a full disk must not be filled further
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_tree(path: Path) -> None:
    """Bring a file, or all files below a folder, and the names that lead to them, to the disk."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    for folder in {file.parent for file in files} | {path.parent}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: what was made, renamed or removed there."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, value: Any) -> None:
    """`write_whole` of `value` as indented JSON."""
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_line(path: Path, value: Any, *, sync: bool = True) -> None:
    """Append `value` as one JSON line; with `sync` it is on the disk on return.

    A line torn by an earlier crash is cut off first, so that the new one stays readable.
    """
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end > 0:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(value, allow_nan=False).encode() + b"\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())
            if end == 0:
                sync_folder(path.parent)  # the file is new, and so is its name


def read_lines(path: Path) -> list[Any]:
    """All whole JSON lines of `path`; a torn last line is left out. An absent file has none."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line.strip()]
