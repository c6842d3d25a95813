"""What a user can do about a disk that refuses."""

from __future__ import annotations

import errno
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def refusal(folder: Path, error: OSError) -> str:
    """A sentence that names the folder, what is wrong, and the next action."""
    if error.errno in FULL:
        what = {errno.EDQUOT: "your quota is used up", errno.EFBIG: "a file may not grow further"}
        return (
            f"the disk that holds {folder} is full ({what.get(error.errno, 'no space is left')}); free some space, "
            "then go on with `labctl resume`"
        )
    if error.errno == errno.ENOENT:
        return f"{folder} is gone: moved, removed or unmounted; bring it back, then go on with `labctl resume`"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{folder} cannot be written ({error.strerror}); make it writable, then go on with `labctl resume`"
    return (
        f"the disk that holds {folder} does not answer as it should ({error.strerror or error}); bring it back, then "
        "go on with `labctl resume`"
    )
