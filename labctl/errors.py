"""What can go wrong, and the exit code that tells a script which of it did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `labctl` command."""

    OK = 0
    RUN_FAILED = 1
    BAD_INPUT = 2
    STOPPED = 3
    HARDWARE = 4


class LabctlError(Exception):
    """Base of what labctl raises on purpose. The text names the thing, the value, the limit, the next action."""

    exit_code: ExitCode = ExitCode.RUN_FAILED


class RunFailed(LabctlError):
    """A step could not finish."""


class BadInput(LabctlError):
    """What the user gave cannot be run. Raised before anything moves or is written.

    at: path of the wrong setting, as `--set` names it: ("mask_cells",) in the protocol, ("rig", "twin", "optics") in
    the rig file. Whoever knows the files turns it into file, line and column.
    """

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, *args: object, at: tuple[str | int, ...] = ()) -> None:
        super().__init__(*args)
        self.at = at


@contextmanager
def concerning(*at: str | int) -> Iterator[None]:
    """Any BadInput raised inside is about the setting `at`, unless it names a setting itself."""
    try:
        yield
    except BadInput as error:
        error.at = error.at or at
        raise


class Stopped(LabctlError):
    """The user asked to stop; what was done so far is kept and `labctl resume` goes on."""

    exit_code = ExitCode.STOPPED


class HardwareError(LabctlError):
    """A device failed, was lost, or did not do what it was told."""

    exit_code = ExitCode.HARDWARE


class DeviceTimeout(HardwareError):
    """A device did not answer within its limit."""


class RigBusy(HardwareError):
    """Another process holds the rig."""


class InterlockError(HardwareError):
    """A limit of the rig forbids the request."""
