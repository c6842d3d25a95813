"""A connection to one instrument on which question and answer belong together, or which is closed.

pyvisa-py raises whatever its transports raise; here all of it becomes the errors of `drivers.visa.errors`. What the
transports do when something goes wrong [pyvisa-py 0.8.1]:

- SOCKET: an answer that comes after the time limit is given to the next question, and so on for ever (its issue 376).
  `clear` drops only what has arrived by then, and never returns once the instrument has closed the connection.
- SOCKET: opening succeeds where nobody listens, and a connection closed by the instrument reads as a time-out.
- HiSLIP: `clear` starts to number the messages anew, so a late answer can carry the number of a new question.

So after any failure the connection is closed and made anew, and the identification is asked for before anything else:
its answer proves that nothing old is on its way. What arrives late arrives at a connection that nobody reads.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from drivers.visa.errors import (
    InstrumentBusy,
    InstrumentError,
    InstrumentLost,
    InstrumentSilent,
    InstrumentTalksRubbish,
    WrongInstrument,
)
from labctl.errors import HardwareError
from labctl.state import state_folder

Answer = TypeVar("Answer")

IDENTIFY = "*IDN?"


class Connection:
    """One exchange at a time with the instrument at `resource`, from any thread.

    name: what the rig calls it, for messages. patterns: what its answer to `*IDN?` must match.
    """

    def __init__(
        self,
        name: str,
        resource: str,
        patterns: Sequence[str],
        *,
        backend: str,
        timeout_s: float,
        read_termination: str,
        write_termination: str,
    ) -> None:
        self.name = name
        self.resource = resource
        self.identity = ""
        self.turn = threading.RLock()
        """Held during one exchange; hold it to keep several together."""
        self._patterns = tuple(patterns)
        self._backend = backend
        self._timeout_s = timeout_s
        self._read_termination = read_termination.encode("ascii")
        self._terminations = {"read_termination": read_termination, "write_termination": write_termination}
        self._session: Any = None
        self._lock: FileLock | None = None

    @property
    def alive(self) -> bool:
        """Whether there is a connection that was fine after the last exchange."""
        return self._session is not None

    def open(self) -> None:
        """Take the instrument, connect, identify it.

        Raises InstrumentBusy when another rig holds it, WrongInstrument, InstrumentLost, InstrumentSilent, or
        HardwareError without pyvisa; then nothing stays open.
        """
        with self.turn:
            self._take()
            try:
                self.renew()
            except BaseException:
                self.close()
                raise

    def renew(self) -> None:
        """Connect anew and identify. Raises InstrumentError; then there is no connection."""
        with self.turn:
            self._drop()
            manager = resource_manager(self._backend)
            try:
                self._connect(manager)
                answer = self._exchange(IDENTIFY).strip()
            except Exception as error:  # pyvisa-py raises what it meets, bare `Exception` included
                self._drop()
                raise self._named(error, IDENTIFY) from error
            missed = next((pattern for pattern in self._patterns if not re.search(pattern, answer)), None)
            if missed is not None:
                self._drop()
                text = f"{self.name}: '{answer}' answers at {self.resource}, an instrument that matches '{missed}' is"
                text += " needed; correct `resource`, `instrument` or `identification` in the rig file"
                raise WrongInstrument(text, resource=self.resource, command=IDENTIFY, raw=answer.encode())
            self.identity = answer

    def ask(self, command: str, understand: Callable[[str], Answer]) -> Answer:
        """The answer to `command`, as `understand` reads it; a ValueError of that means rubbish.

        Raises InstrumentError. The next answer is then right again, or there is no connection any more.
        """
        with self.turn:
            self._need_session(command)
            answer = ""
            try:
                answer = self._exchange(command)
                return understand(answer)
            except InstrumentError:
                raise  # understood well: the instrument says that it has no value
            except Exception as error:  # see `renew`
                raise self._after(self._named(error, command, answer)) from error

    def tell(self, command: str) -> None:
        """Send `command`, which has no answer. It is never repeated: it may have been heard. Raises InstrumentError."""
        with self.turn:
            self._need_session(command)
            try:
                self._session.write(command)
            except Exception as error:  # see `renew`
                raise self._after(self._named(error, command)) from error

    def close(self) -> None:
        """Let go of the connection and of the instrument. May be called twice."""
        with self.turn:
            self._drop()
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    def _take(self) -> None:
        if self._lock is not None:
            return
        lock = FileLock(_lock_path(self.resource), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            text = f"{self.name}: the instrument at {self.resource} is in use by another rig or process; close that"
            raise InstrumentBusy(text) from None
        self._lock = lock

    def _connect(self, manager: Any) -> None:
        limit_ms = max(1, round(1000 * self._timeout_s))
        self._session = manager.open_resource(
            self.resource, open_timeout=limit_ms, timeout=limit_ms, **self._terminations
        )

    def _drop(self) -> None:
        """Close the session. What reaches an instrument without a connection (USB, GPIB, serial) is cleared before."""
        session, self._session = self._session, None
        if session is None:
            return
        if not _ENDS_WITH_THE_CONNECTION.search(self.resource):
            with contextlib.suppress(Exception):
                session.clear()
        with contextlib.suppress(Exception):
            session.close()

    def _exchange(self, command: str) -> str:
        self._session.write(command)
        raw = self._session.read_raw()
        return bytes(raw).removesuffix(self._read_termination).decode("ascii")

    def _need_session(self, command: str) -> None:
        if self._session is None:
            text = f"{self.name}: there is no connection to {self.resource} any more; look at the instrument, then"
            raise InstrumentLost(f"{text} open it again", resource=self.resource, command=command)

    def _after(self, error: InstrumentError) -> InstrumentError:
        """What to raise once the connection was made anew after `error`, or could not be."""
        try:
            self.renew()
        except InstrumentError as again:
            text = f"{error}; connecting again failed as well: {again}; the connection is closed"
            return type(again)(text, resource=error.resource, command=error.command, raw=error.raw)
        return error

    def _named(self, error: Exception, command: str, answer: str = "") -> InstrumentError:
        """`error` of pyvisa or its transport as one of ours."""
        said: dict[str, Any] = {"resource": self.resource, "command": command}
        where = f"{self.name}: {self.resource}, command '{command}'"
        if isinstance(error, InstrumentError):
            return error
        if isinstance(error, UnicodeDecodeError):
            raw = bytes(error.object)
            text = f"{where}: the answer is no text but {_shown(raw)}; check cable and terminations"
            return InstrumentTalksRubbish(text, **said, raw=raw)
        if isinstance(error, ValueError) and self.alive:
            raw = answer.encode("ascii")
            text = f"{where}: the answer is {_shown(raw)}, {error}; check the instrument file"
            return InstrumentTalksRubbish(text, **said, raw=raw)
        if isinstance(error, TimeoutError) or _is_visa_timeout(error):
            text = f"{where}: no whole answer within {self._timeout_s:g} s; check that it is on, or raise `timeout_s`"
            return InstrumentSilent(text, **said)
        text = f"{where}: {error or type(error).__name__}; check power, cable and address"
        return InstrumentLost(text, **said)


def resource_manager(backend: str) -> Any:
    """The one pyvisa ResourceManager of this process for `backend`, made when first needed.

    Raises HardwareError when pyvisa or the backend is not installed.
    """
    with _making:
        if backend not in _managers:
            try:
                import pyvisa
            except ImportError as error:
                text = "VISA instruments need pyvisa, which is not installed; run pip install 'labctl[visa]'"
                raise HardwareError(text) from error
            try:
                _managers[backend] = pyvisa.ResourceManager(backend)
            except (ValueError, OSError, RuntimeError) as error:
                text = f"the VISA backend '{backend}' cannot be loaded: {error}; '@py' comes with"
                raise HardwareError(f"{text} pip install 'labctl[visa]'") from error
            # Exit handlers run last in, first out: instruments must be made safe while pyvisa still works.
            atexit.unregister(_run_at_exit)
            atexit.register(_run_at_exit)
        return _managers[backend]


def at_exit(work: Callable[[], None]) -> None:
    """Call `work` when the interpreter ends, before pyvisa closes its sessions."""
    _at_exit.append(work)


_making = threading.Lock()
_managers: dict[str, Any] = {}
_at_exit: list[Callable[[], None]] = []

_ENDS_WITH_THE_CONNECTION = re.compile(r"::SOCKET$|::hislip", re.IGNORECASE)
"""Resources whose instrument forgets pending answers with the connection."""


def _run_at_exit() -> None:
    for work in _at_exit:
        with contextlib.suppress(Exception):
            work()


def _lock_path(resource: str) -> str:
    folder = state_folder() / "instruments"
    folder.mkdir(parents=True, exist_ok=True)
    key = resource.upper()
    readable = re.sub(r"[^A-Z0-9]+", "-", key).strip("-")[:60]
    return str(folder / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.lock")


def _is_visa_timeout(error: Exception) -> bool:
    import pyvisa

    timeout = pyvisa.constants.StatusCode.error_timeout
    return isinstance(error, pyvisa.errors.VisaIOError) and error.error_code == timeout


def _shown(raw: bytes) -> str:
    return repr(raw) if len(raw) <= 60 else f"{raw[:57]!r}... ({len(raw)} bytes)"
