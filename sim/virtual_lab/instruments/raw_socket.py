"""SCPI over a bare TCP connection, lines ended by a line feed: `TCPIP0::host::port::SOCKET`."""

from __future__ import annotations

import socket

from sim.virtual_lab.instruments.transport import Server

MAX_LINE = 1 << 16


class RawSocketServer(Server):
    """See `transport.Server`."""

    @property
    def resource(self) -> str:
        """The VISA resource."""
        return f"TCPIP0::127.0.0.1::{self.port}::SOCKET"

    def converse(self, connection: socket.socket) -> None:
        """See `Server.converse`."""
        with connection.makefile("rb") as lines:
            while line := lines.readline(MAX_LINE):
                answer = self.instrument.execute(line.decode("ascii", "replace").strip())
                if answer is not None:
                    self.answer(connection, answer)
