"""A bench with a sensor of 40 x 24 whose pixel is (7 x + 11 y + frame_id + gain + black level) mod 4096.

Usage: small_bench.py SOCKET MEMORY. It answers an exposure once it is over. Words on stdin change what it does with the
next exposure: `late S`, `silent`, `refuse`, `bright` (DN beyond 12 bits), `astray` (an offset outside the memory);
`last` prints the last request. It prints a line when ready and after each word.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, SLOTS = 40, 24, 2
SLOT_BYTES = WIDTH * HEIGHT * 2
HELLO = struct.Struct("<4sI")
HELLO_ANSWER = struct.Struct("<4sIIIIIQ")
EXPOSURE = struct.Struct("<4sIQQQddII")
EXPOSURE_ANSWER = struct.Struct("<4sIQQII")

plan: list[str] = []
last: list[str] = ["none"]


def main(socket_path: str, memory_path: str) -> None:
    Path(socket_path).unlink(missing_ok=True)
    Path(memory_path).write_bytes(bytes(SLOTS * SLOT_BYTES))
    with Path(memory_path).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(socket_path)
    listener.listen()
    threading.Thread(target=accept, args=(listener, memory), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "last":
            print(last[0], flush=True)
        else:
            plan.append(line.strip())
            print("ok", flush=True)


def accept(listener: socket.socket, memory: mmap.mmap) -> None:
    while True:
        link, _ = listener.accept()
        threading.Thread(target=serve, args=(link, memory), daemon=True).start()


def serve(link: socket.socket, memory: mmap.mmap) -> None:
    with contextlib.suppress(ConnectionError), link:
        magic, _camera = HELLO.unpack(link.recv(HELLO.size))
        assert magic == b"LBH1"
        link.send(HELLO_ANSWER.pack(b"LBH1", 0, WIDTH, HEIGHT, 12, SLOTS, SLOT_BYTES))
        while message := link.recv(EXPOSURE.size):
            expose(link, memory, message)


def expose(link: socket.socket, memory: mmap.mmap, message: bytes) -> None:
    magic, camera, frame_id, start_ns, exposure_ns, gain, black, slot, _ = EXPOSURE.unpack(message)
    assert magic == b"LBX1"
    last[0] = f"{camera} {frame_id} {start_ns} {exposure_ns} {gain:g} {black:g} {slot}"
    word = plan.pop(0) if plan else ""
    late_s = float(word.split()[1]) if word.startswith("late") else 0.0
    time.sleep(max(0.0, (start_ns + exposure_ns) / 1e9 - time.monotonic()) + late_s)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    levels = (7 * x + 11 * y + frame_id + int(gain) + int(black)) % 4096
    if word == "bright":
        levels[:] = 60000
    offset = slot * SLOT_BYTES
    memory[offset : offset + SLOT_BYTES] = levels.astype("<u2").tobytes()
    if word == "astray":
        offset = 1 << 40
    if word != "silent":
        link.send(EXPOSURE_ANSWER.pack(b"LBX1", word == "refuse", frame_id, offset, WIDTH, HEIGHT))


if __name__ == "__main__":
    main(*sys.argv[1:])
