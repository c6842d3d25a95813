"""A calibration as a file: values with uncertainties, maps, the raw frames they came from, and what it holds for."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt
from pydantic import ValidationError

from labctl.durable import write_whole
from labctl.errors import BadInput, RunFailed
from labctl.frozen import Frozen

SCHEMA: Literal["labctl.calibration/1"] = "labctl.calibration/1"

Array = npt.NDArray[Any]

_DAMAGED = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy raises on a file that is cut, altered, or none of its own."""


class Value(Frozen):
    """One calibrated quantity. value and error have the same length; one number where it is one."""

    value: float | tuple[float, ...]
    error: float | tuple[float, ...] | None
    """One standard deviation; None where it was not found out, which the text then says."""

    unit: str
    """SI, or `DN`, `e-`, `DN/e-`, `px` (of the sensor), `1` for a share or a ratio."""

    text: str = ""
    """What it is, in the words of the field."""


class ArrayNote(Frozen):
    """What an array of a calibration is. Errors of array NAME stand in an array `NAME_error`."""

    unit: str
    text: str


class CalibrationRecord(Frozen):
    """All of a calibration that is not an array."""

    format: Literal["labctl.calibration/1"] = SCHEMA
    kind: str
    """What was calibrated: `dark`, `photon_transfer`, ...; see docs/calibration.md."""

    version: Annotated[int, Ge(1)] = 1
    """Of the method: results of another version are stale."""

    settings: dict[str, Any] = {}
    """Of the method: how many frames, which levels."""

    rig: str
    rig_hash: str
    bench_hash: str
    """Hash of devices and world: what must be the same bench. See `labctl.calibration.validity`."""

    beliefs: dict[str, str] = {}
    """Hash of each section of the twin in whose terms the values are told."""

    devices: dict[str, dict[str, Any]] = {}
    """Identity of every device that took part: settings, model, serial number."""

    readings: dict[str, float] = {}
    """Instruments at the time, by `instrument.quantity`."""

    units: dict[str, str] = {}
    """Units of `readings`."""

    made: Annotated[float, Gt(0)]
    """When, in seconds since 1970."""

    max_age_s: Annotated[float, Gt(0)]
    """Older ones are stale."""

    max_temperature_change_k: Annotated[float, Gt(0)] = 2.0
    """Readings in `degC` or `K` may have changed by so much."""

    holds_for: dict[str, Any] = {}
    """Settings that it holds for, such as `gain_db` and `frame_shape`; others are refused."""

    built_on: dict[str, str] = {}
    """Ids of the calibrations that it stands on, by kind."""

    anew: bool = False
    """Somebody asked for it though there was a good one: nothing that is older counts any more."""

    values: dict[str, Value] = {}
    arrays: dict[str, ArrayNote] = {}
    warnings: tuple[str, ...] = ()
    """What a reader must know before using it: said wherever it is used."""

    exposures: Annotated[int, Ge(0)] = 0
    """Frames that were taken for it."""

    seconds: Annotated[float, Ge(0)] = 0.0
    """How long it took."""

    labctl: str
    """Version of the program."""


@dataclass(frozen=True)
class Calibration:
    """A record with its arrays and its raw frames. `save` and `load` keep it as one .npz file.

    arrays: results by name, as `record.arrays` describes them. raw: what was measured, `NAME` (N, h, w) uint16 DN with
    `NAME.exposure_s` (N,) and what else tells frames apart (`NAME.level`, ...).
    """

    record: CalibrationRecord
    arrays: Mapping[str, Array] = field(default_factory=dict)
    raw: Mapping[str, Array] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What was calibrated."""
        return self.record.kind

    @property
    def id(self) -> str:
        """Sixteen hex digits that only this content has. Fields at their default do not count: records may grow."""
        digest = hashlib.sha256(self.record.model_dump_json(exclude_defaults=True).encode())
        for name, array in sorted(self._all_arrays().items()):
            digest.update(name.encode() + str((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def value(self, name: str) -> float:
        """The number `name`. Raises KeyError when there is none of that name, TypeError when it is several."""
        value = self.record.values[name].value
        if isinstance(value, tuple):
            raise TypeError(f"{self.kind}.{name} is {len(value)} numbers; read record.values")
        return float(value)

    def error(self, name: str) -> float:
        """Standard deviation of the number `name`; NaN where it is not known."""
        error = self.record.values[name].error
        if isinstance(error, tuple):
            raise TypeError(f"{self.kind}.{name} is {len(error)} numbers; read record.values")
        return float("nan") if error is None else float(error)

    def vector(self, name: str) -> npt.NDArray[np.float64]:
        """The numbers `name` as (n,)."""
        return np.atleast_1d(np.asarray(self.record.values[name].value, dtype=np.float64))

    def save(self, path: Path) -> Path:
        """Write it as one file, whole or not at all; returns `path`."""
        packed = io.BytesIO()
        record = np.frombuffer(self.record.model_dump_json(indent=1).encode(), dtype=np.uint8)
        content: dict[str, Any] = {"record.json": record, "id": np.array(self.id), **self._all_arrays()}
        np.savez_compressed(packed, **content)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, packed.getvalue())
        return path

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read one file. Raises BadInput when there is none, RunFailed when it is damaged or of another format."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as packed:
                content = {name: packed[name] for name in packed.files}
            text = bytes(content.pop("record.json")).decode()
            said, found = str(content.pop("id")), json.loads(text).get("format")
        except FileNotFoundError:
            raise BadInput(
                f"there is no calibration '{path}'; measure one with `labctl run configs/protocols/calibrate.yaml`"
            ) from None
        except _DAMAGED as error:
            raise RunFailed(f"{path} is no calibration, or damaged ({error}); calibrate anew") from error
        record = _record_from(text, found, path)
        arrays, raw = _parted(content)
        made = cls(record, arrays, raw)
        if made.id != said:
            raise RunFailed(
                f"{path} was changed after it was written: its content is not that of {said}; calibrate anew"
            )
        return made

    @staticmethod
    def record_in(path: Path) -> CalibrationRecord:
        """Only the record of a file, quickly. Raises RunFailed; whether all is as it was written, `load` can say."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as packed:
                text = bytes(packed["record.json"]).decode()
            found = json.loads(text).get("format")
        except _DAMAGED as error:
            raise RunFailed(f"{path} is no calibration, or damaged ({error}); calibrate anew") from error
        return _record_from(text, found, path)

    def _all_arrays(self) -> dict[str, Array]:
        named = {f"array/{name}": np.asarray(array) for name, array in self.arrays.items()}
        return named | {f"raw/{name}": np.asarray(array) for name, array in self.raw.items()}


def _record_from(text: str, found: Any, path: Path) -> CalibrationRecord:
    if found != SCHEMA:
        raise RunFailed(f"{path} has format {found}; {SCHEMA} is needed; calibrate anew")
    try:
        return CalibrationRecord.model_validate_json(text)
    except ValidationError as error:
        raise RunFailed(f"{path} is no valid calibration ({error}); calibrate anew") from error


def _parted(content: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    parts: dict[str, dict[str, Array]] = {"array": {}, "raw": {}}
    for name, array in content.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = array
    return parts["array"], parts["raw"]
