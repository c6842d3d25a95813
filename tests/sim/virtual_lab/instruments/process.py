"""The virtual instruments as a child process of the tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.virtual_lab.instruments.control import request

NAMES = ("lamp", "power_meter", "shutter", "supply", "stage")


@dataclass(frozen=True)
class Instruments:
    """Instruments that run: their resources by variable, and the hidden hand."""

    resources: dict[str, str]
    control: str
    array: Path
    process: subprocess.Popen[bytes]

    def inject(self, instrument: str, fault: str, **details: Any) -> None:
        request(self.control, instrument=instrument, fault=fault, **details)

    def mend(self) -> None:
        for name in NAMES:
            self.inject(name, "none")
        self.inject("lamp", "mains_on")

    def truth(self) -> dict[str, float]:
        """What the bench sees: lamp, shutter, stage, supply."""
        return request(self.control, instrument=None)


@contextlib.contextmanager
def running_instruments(**config: Any) -> Iterator[Instruments]:
    """Start them, and end them by closing their standard input."""
    # The path of a Unix socket is short: the folders of pytest may be too long for it.
    with tempfile.TemporaryDirectory(prefix="labctl-") as name:
        folder = Path(name)
        array = folder / "instruments.array"
        file = folder / "config.json"
        file.write_text(json.dumps({"folder": name, "array": str(array), **config}))
        process = subprocess.Popen(
            [sys.executable, "-m", "sim.virtual_lab.instruments", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            yield Instruments(ready["resources"], ready["control"], array, process)
        finally:
            process.stdin.close()
            try:
                assert process.wait(10) == 0
            finally:
                process.kill()
                process.stdout.close()
