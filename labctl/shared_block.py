"""Memory that a device's child shares with its parent. It has no name, so nothing can be left behind."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile

import numpy as np
import numpy.typing as npt

from labctl.errors import HardwareError


class SharedBlock:
    """`size` bytes that two processes see. The parent makes it, the child attaches by the inherited descriptor."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self._map = mmap.mmap(fd, size)

    @classmethod
    def make(cls, size: int) -> SharedBlock:
        """A new block of zeros. Raises HardwareError when the memory is not there."""
        fd = _anonymous_file()
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            os.close(fd)
            raise HardwareError(f"no room for {size} bytes of shared memory: {error.strerror}") from error
        return cls(fd, size)

    @classmethod
    def attach(cls, fd: int) -> SharedBlock:
        """The block behind an inherited descriptor."""
        return cls(fd, os.fstat(fd).st_size)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike, offset: int = 0) -> npt.NDArray[np.generic]:
        """A view of a part as an array. It must not be used after `close`."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=offset).reshape(shape)

    def close(self) -> None:
        """Let go; may be called twice. Memory that an array still looks at goes with the array."""
        with contextlib.suppress(BufferError):  # an array still looks at it; the map goes when the array goes
            self._map.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("labctl")
    with tempfile.TemporaryFile() as file:  # deleted already: it lives as long as somebody has it open
        return os.dup(file.fileno())
