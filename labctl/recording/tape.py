"""The tape of one device: every call with its arguments, result or error, and times. Arrays lie beside it.

A tape is a folder: `about.json` (kind, attributes, description), `calls.jsonl` (one line per call), `arrays.bin`
(pixels and other result arrays, back to back). Arguments that are arrays are kept as their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labctl.durable import append_line, read_lines, write_json
from labctl.errors import BadInput

ABOUT_FILE, CALLS_FILE, ARRAYS_FILE = "about.json", "calls.jsonl", "arrays.bin"


@dataclass(frozen=True)
class Call:
    """One call as it was made. result and arguments are plain JSON values; times are those of the rig's clock."""

    name: str
    arguments: list[Any]
    begun_s: float
    ended_s: float
    result: Any = None
    error: tuple[str, str] | None = None
    """Class and text of what was raised."""


class TapeWriter:
    """Writes one tape into `folder`, which it makes. Each call is in the file when `write` returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._writing = threading.Lock()

    def about(self, kind: str, attributes: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        """What the device is, once it is open."""
        write_json(
            self._folder / ABOUT_FILE,
            {"kind": kind, "attributes": dict(attributes), "description": dict(description)},
        )

    def write(self, call: Call) -> None:
        """Append one call."""
        line: dict[str, Any] = {
            "call": call.name, "arguments": call.arguments, "begun_s": call.begun_s, "ended_s": call.ended_s,
        }  # fmt: skip
        line |= {"result": call.result} if call.error is None else {"error": list(call.error)}
        with self._writing:
            append_line(self._folder / CALLS_FILE, line, sync=False)

    def keep(self, array: npt.NDArray[Any]) -> dict[str, Any]:
        """Append an array; returns where it lies, for a result."""
        whole = np.ascontiguousarray(array)
        with self._writing, (self._folder / ARRAYS_FILE).open("ab") as file:
            offset = file.tell()
            file.write(whole.tobytes())
        return {"dtype": whole.dtype.str, "shape": list(whole.shape), "offset": offset}


class TapeReader:
    """A tape, read. Raises BadInput when `folder` holds none."""

    def __init__(self, folder: Path) -> None:
        try:
            about = json.loads((folder / ABOUT_FILE).read_text())
            lines = read_lines(folder / CALLS_FILE)
            self.kind: str = about["kind"]
            self.attributes: dict[str, Any] = about["attributes"]
            self.description: dict[str, Any] = about["description"]
            self.calls = [
                Call(
                    line["call"], line["arguments"], line["begun_s"], line["ended_s"], line.get("result"),
                    tuple(line["error"]) if "error" in line else None,
                )
                for line in lines
            ]  # fmt: skip
        except (OSError, ValueError, KeyError) as error:
            raise BadInput(
                f"{folder} holds no recording of a device ({type(error).__name__}: {error}); "
                "give a folder that `record:` of a rig file wrote"
            ) from error
        self._arrays = folder / ARRAYS_FILE

    def array(self, where: Mapping[str, Any]) -> npt.NDArray[Any]:
        """The array that `TapeWriter.keep` put there. Raises BadInput when the file is cut short."""
        dtype, shape = np.dtype(where["dtype"]), tuple(where["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        found = np.fromfile(self._arrays, dtype=dtype, count=count, offset=where["offset"])
        if found.size != count:
            raise BadInput(f"{self._arrays} is cut short: {found.size} of {count} values; record anew")
        return found.reshape(shape)


def digest(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as an argument: type, shape and SHA-256."""
    whole = np.ascontiguousarray(array)
    return {"dtype": whole.dtype.str, "shape": list(whole.shape), "sha256": hashlib.sha256(whole.tobytes()).hexdigest()}
