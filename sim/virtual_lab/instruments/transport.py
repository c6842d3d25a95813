"""What both transports share: a listener that can refuse, and a thread for every connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod

from sim.virtual_lab.instruments.faults import Faults
from sim.virtual_lab.instruments.scpi import ScpiInstrument

RUBBISH = b"\xff\xfe\x80rubbish\x00\x9f\n"


class Server(ABC):
    """Serves one instrument on a port of 127.0.0.1 that the system chooses and that it keeps."""

    def __init__(self, instrument: ScpiInstrument, faults: Faults) -> None:
        self.instrument = instrument
        self.faults = faults
        self.port = 0
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def listening(self) -> bool:
        """Whether it takes connections."""
        return self._listener is not None

    def listen(self) -> None:
        """Take connections from now on."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Close every connection and take none, as an instrument that is switched off."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @abstractmethod
    def converse(self, connection: socket.socket) -> None:
        """Talk over one connection until it ends."""

    def answer(self, connection: socket.socket, text: str, frame_head: bytes = b"") -> None:
        """Send `text` as a line, after `frame_head`, or what the fault of this answer makes of it.

        Raises ConnectionError when the fault ends the connection.
        """
        line = text.encode("ascii") + b"\n"
        fault = self.faults.take()
        if fault is None:
            connection.sendall(self.framed(line, frame_head))
        elif fault.kind == "late":
            time.sleep(fault.seconds)
            connection.sendall(self.framed(line, frame_head))
        elif fault.kind == "rubbish":
            connection.sendall(self.framed(RUBBISH, frame_head))
        elif fault.kind == "value":
            connection.sendall(self.framed(fault.text.encode("ascii") + b"\n", frame_head))
        elif fault.kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionError("reset on purpose")
        elif fault.kind in ("half", "drop"):
            whole = self.framed(line, frame_head)
            connection.sendall(whole[: len(whole) - (len(line) + 1) // 2])
            if fault.kind == "drop":
                raise ConnectionError("dropped on purpose")

    def framed(self, line: bytes, frame_head: bytes) -> bytes:
        """The bytes of a whole answer on this transport."""
        return frame_head + line

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                self.converse(connection)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


def receive(connection: socket.socket, length: int) -> bytes:
    """Exactly `length` bytes. Raises EOFError when the other side has closed."""
    parts = []
    while length > 0:
        part = connection.recv(min(length, 1 << 16))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
