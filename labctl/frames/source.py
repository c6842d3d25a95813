"""Where the bytes of a set come from: a folder, or an address of object storage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from labctl.errors import BadInput, RunFailed


class Source(Protocol):
    """Files by name, relative to the set. A file that is not there gives None; one that cannot be read, RunFailed."""

    where: str

    options: dict[str, Any]
    """What it takes to reach it, beside the address."""

    def read(self, name: str) -> bytes | None:
        """A whole file."""

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Bytes start..stop-1; fewer when the file ends before."""


class FolderSource:
    """A folder on this machine. The last file stays open: frames are mostly read from one shard after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        self.options: dict[str, Any] = {}
        self._open: dict[str, int] = {}

    def read(self, name: str) -> bytes | None:
        """See `Source.read`."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunFailed(f"{self.path / name} cannot be read: {error.strerror}") from error

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """See `Source.read_range`."""
        try:
            return os.pread(self._file(name), stop - start, start)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RunFailed(f"{self.path / name} cannot be read: {error.strerror}") from error

    def _file(self, name: str) -> int:
        number = self._open.get(name)
        if number is None:
            number = os.open(self.path / name, os.O_RDONLY)
            if len(self._open) >= _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[name] = number
        return number

    def __del__(self) -> None:
        for number in self._open.values():
            os.close(number)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "where": self.where, "options": {}, "_open": {}}


_MOST_OPEN = 64


class AddressSource:
    """Whatever fsspec reaches: s3://, gs://, http://, memory:// ..."""

    def __init__(self, address: str, **options: Any) -> None:
        self.where = address.rstrip("/")
        self.options = options
        self._connect()

    def read(self, name: str) -> bytes | None:
        """See `Source.read`."""
        return self._get(name)

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """See `Source.read_range`."""
        return self._get(name, start=start, end=stop)

    def _get(self, name: str, **part: int) -> bytes | None:
        try:
            return bytes(self._files.cat_file(f"{self._root}/{name}", **part))
        except FileNotFoundError:
            return None
        except Exception as error:  # every storage has errors of its own
            raise RunFailed(f"{self.where}/{name} cannot be read: {type(error).__name__}: {error}") from error

    def _connect(self) -> None:
        from fsspec.core import url_to_fs

        try:
            self._files, self._root = url_to_fs(self.where, **self.options)
        except (ImportError, ValueError) as error:
            raise BadInput(f"{self.where} cannot be reached: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"where": self.where, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()  # connections do not survive a new process


def open_source(where: str | Path, **options: Any) -> Source:
    """A folder, or the address of one."""
    text = str(where)
    return AddressSource(text, **options) if "://" in text else FolderSource(Path(text).expanduser().absolute())
