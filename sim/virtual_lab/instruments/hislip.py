"""SCPI over HiSLIP, synchronised mode: `TCPIP0::host::hislip0,port::INSTR`. [IVI-6.1]

A session is two connections. Answers carry the number of the message that they answer, so that late ones can be told.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from enum import IntEnum

from sim.virtual_lab.instruments.faults import Faults
from sim.virtual_lab.instruments.scpi import ScpiInstrument
from sim.virtual_lab.instruments.transport import Server, receive

HEADER = struct.Struct("!2sBBIQ")
"""`HS`, message type, control code, parameter, length of the payload."""

VERSION = 0x0100
MAX_MESSAGE = 1 << 20


class Message(IntEnum):
    """Message types that are understood or sent."""

    INITIALIZE = 0
    INITIALIZE_RESPONSE = 1
    FATAL_ERROR = 2
    ERROR = 3
    ASYNC_LOCK = 4
    ASYNC_LOCK_RESPONSE = 5
    DATA = 6
    DATA_END = 7
    DEVICE_CLEAR_COMPLETE = 8
    DEVICE_CLEAR_ACKNOWLEDGE = 9
    ASYNC_REMOTE_LOCAL_CONTROL = 10
    ASYNC_REMOTE_LOCAL_RESPONSE = 11
    TRIGGER = 12
    ASYNC_MAX_MESSAGE_SIZE = 15
    ASYNC_MAX_MESSAGE_SIZE_RESPONSE = 16
    ASYNC_INITIALIZE = 17
    ASYNC_INITIALIZE_RESPONSE = 18
    ASYNC_DEVICE_CLEAR = 19
    ASYNC_STATUS_QUERY = 21
    ASYNC_STATUS_RESPONSE = 22
    ASYNC_DEVICE_CLEAR_ACKNOWLEDGE = 23
    ASYNC_LOCK_INFO = 24
    ASYNC_LOCK_INFO_RESPONSE = 25


class HislipServer(Server):
    """See `transport.Server`."""

    def __init__(self, instrument: ScpiInstrument, faults: Faults) -> None:
        super().__init__(instrument, faults)
        self._sessions = itertools.count(1)
        self._numbering = threading.Lock()

    @property
    def resource(self) -> str:
        """The VISA resource."""
        return f"TCPIP0::127.0.0.1::hislip0,{self.port}::INSTR"

    def converse(self, connection: socket.socket) -> None:
        """See `Server.converse`. The first message says which of the two connections this is."""
        kind, _, _, _ = _read(connection)
        if kind == Message.INITIALIZE:
            with self._numbering:
                session = next(self._sessions) & 0xFFFF
            _send(connection, Message.INITIALIZE_RESPONSE, 0, VERSION << 16 | session)
            self._synchronous(connection)
        elif kind == Message.ASYNC_INITIALIZE:
            _send(connection, Message.ASYNC_INITIALIZE_RESPONSE, 0, int.from_bytes(b"lc"))
            self._asynchronous(connection)
        else:
            _send(connection, Message.FATAL_ERROR, 3, 0)

    def framed(self, line: bytes, frame_head: bytes) -> bytes:
        """See `Server.framed`. frame_head: number of the message that is answered."""
        number = int.from_bytes(frame_head)
        return HEADER.pack(b"HS", Message.DATA_END, 0, number, len(line)) + line

    def _synchronous(self, connection: socket.socket) -> None:
        heard = b""
        while True:
            kind, control, number, payload = _read(connection)
            if kind in (Message.DATA, Message.DATA_END):
                heard += payload
                if kind == Message.DATA_END:
                    line, heard = heard.decode("ascii", "replace").strip(), b""
                    answer = self.instrument.execute(line)
                    if answer is not None:
                        self.answer(connection, answer, number.to_bytes(4))
            elif kind == Message.DEVICE_CLEAR_COMPLETE:
                heard = b""
                _send(connection, Message.DEVICE_CLEAR_ACKNOWLEDGE, control, 0)
            elif kind != Message.TRIGGER:
                _send(connection, Message.ERROR, 1, 0)

    def _asynchronous(self, connection: socket.socket) -> None:
        while True:
            kind, _, _, _ = _read(connection)
            if kind == Message.ASYNC_MAX_MESSAGE_SIZE:
                _send(connection, Message.ASYNC_MAX_MESSAGE_SIZE_RESPONSE, 0, 0, struct.pack("!Q", MAX_MESSAGE))
            elif kind == Message.ASYNC_DEVICE_CLEAR:
                _send(connection, Message.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 0, 0)
            elif kind == Message.ASYNC_STATUS_QUERY:
                with self.instrument.lock:
                    status = self.instrument.status_byte()
                _send(connection, Message.ASYNC_STATUS_RESPONSE, status, 0)
            elif kind == Message.ASYNC_LOCK:
                _send(connection, Message.ASYNC_LOCK_RESPONSE, 1, 0)
            elif kind == Message.ASYNC_LOCK_INFO:
                _send(connection, Message.ASYNC_LOCK_INFO_RESPONSE, 0, 0)
            elif kind == Message.ASYNC_REMOTE_LOCAL_CONTROL:
                _send(connection, Message.ASYNC_REMOTE_LOCAL_RESPONSE, 0, 0)
            else:
                _send(connection, Message.ERROR, 1, 0)


def _read(connection: socket.socket) -> tuple[int, int, int, bytes]:
    """(type, control code, parameter, payload). Raises EOFError for what is no HiSLIP, too."""
    mark, kind, control, parameter, length = HEADER.unpack(receive(connection, HEADER.size))
    if mark != b"HS" or length > MAX_MESSAGE:
        raise EOFError
    return kind, control, parameter, receive(connection, length)


def _send(connection: socket.socket, kind: Message, control: int, parameter: int, payload: bytes = b"") -> None:
    connection.sendall(HEADER.pack(b"HS", kind, control, parameter, len(payload)) + payload)
