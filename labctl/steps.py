"""What a step is: a frozen settings model that can say what it needs, what it will do, and do it."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from labctl.errors import BadInput, Stopped
from labctl.frozen import Frozen
from labctl.references import Reference

if TYPE_CHECKING:
    from labctl.interrupts import Interrupts
    from labctl.protocol import Protocol
    from labctl.rig import Rig
    from labctl.rig_file import RigSpec
    from labctl.rig_proxy import RigProxy

Role = Literal["mask", "scene", "camera"]
Source = Literal["data", "model", "design", "twin", "rig"]


@dataclass(frozen=True)
class StepSetting:
    """Where a step stands: the protocol, the rig description, and which design and seed it works for."""

    protocol: Protocol
    rig: RigSpec
    name: str
    design: str | None
    seed: int | None

    def design_settings(self) -> Any:
        """Settings of the design of this step. Raises BadInput when the protocol has none."""
        if self.design is None:
            text = "there is no design to run; add one, for example `designs: {learned: {type: learned}}`"
            raise BadInput(text, at=("designs",))
        return self.protocol.designs[self.design]

    def at(self, *path: str | int) -> tuple[str | int, ...]:
        """Where the setting `path` of this step stands, for `BadInput.at`."""
        return ("steps", self.name, *path)


@dataclass(frozen=True)
class Estimate:
    """What a step will do, before it does it."""

    seconds: float = 0.0
    frames: int = 0
    disk_bytes: int = 0
    moves: tuple[str, ...] = ()
    """What will physically happen, in words."""


@dataclass(frozen=True)
class StepResult:
    """What a step made: outputs by name as paths, metrics by name as plain numbers (None where there is none)."""

    outputs: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepContext:
    """What a running step may use. `rig` exists for steps that need devices, `interrupts` only where the rig is."""

    setting: StepSetting
    folder: Path
    run_folder: Path
    inputs: Mapping[Reference, Path]
    report: Callable[[dict[str, Any]], None]
    stop_asked: Callable[[], bool]
    content_hash: str
    open_rig: Callable[[], Rig | RigProxy] | None = None
    interrupts: Interrupts | None = None
    ask: Callable[[str, tuple[str, ...]], str] | None = None

    @property
    def rig(self) -> Rig:
        """The opened rig. In a child process, which never holds it, what asks the runner for exposures; see
        `labctl.rig_proxy`. Raises BadInput there for a step that says of no device that it needs it.
        """
        if self.open_rig is None:
            raise BadInput(f"step '{self.setting.name}' runs in a child process and cannot move the rig")
        return cast("Rig", self.open_rig())

    def input(self, reference: Reference) -> Path:
        """Path of what an earlier step made."""
        return self.inputs[reference]

    def progress(self, done: int, total: int, unit: str, **values: float) -> None:
        """Tell observers how far the step is; `values` are shown beside the bar."""
        self.report({"op": "progress", "done": done, "total": total, "unit": unit, "values": values})

    def metric(self, index: int, **values: float) -> None:
        """Record values of one epoch or block in `metrics.jsonl`."""
        self.report({"op": "metric", "index": index, "values": values})

    def log(self, text: str) -> None:
        """Tell the user something once."""
        self.report({"op": "log", "text": text})

    def shield(self) -> contextlib.AbstractContextManager[None]:
        """A part that an abort must not tear, such as a write; keep it short."""
        return contextlib.nullcontext() if self.interrupts is None else self.interrupts.shield()

    def stop_here(self, what_is_kept: str) -> None:
        """Raise Stopped when the user asked to stop. Call between blocks, after saving."""
        if self.stop_asked():
            raise Stopped(f"stopped by the user after the current block; {what_is_kept}")


class Step(Frozen):
    """One entry under `steps:`. Registered under the entry-point group `labctl.steps`."""

    version: ClassVar[int] = 1
    """Raise it when the same settings give another result: finished steps are then run again on resume."""

    where: ClassVar[Literal["host", "child"]] = "child"
    """`host` steps may move the rig; `child` steps compute in a supervised child process, and ask for exposures."""

    once: ClassVar[bool] = False
    """Runs once per protocol instead of once per design and seed, after all of these."""

    first: ClassVar[bool] = False
    """With `once`: runs before all others instead of after them. Then steps of every design and seed can use it."""

    outputs: ClassVar[Mapping[str, str]] = {}
    """Output names and their kinds, for `${steps.NAME.OUTPUT}`."""

    needs: ClassVar[frozenset[Role]] = frozenset()
    """Devices of the rig that the step moves or reads."""

    newer: ClassVar[frozenset[str]] = frozenset()
    """Settings that the step got later: at their default they leave the content hash as it was without them."""

    uses: ClassVar[frozenset[Source]] = frozenset()
    """What besides its settings and inputs decides its result; enters the content hash."""

    asks: ClassVar[bool] = False
    """Puts questions to an operator: such a step is refused where nobody can answer."""

    modules: ClassVar[tuple[str, ...]] = ()
    """Heavy modules to import ahead of time in the child."""

    type: str

    def check(self, setting: StepSetting) -> None:
        """Look for what cannot work, without moving or writing anything. Raises BadInput."""

    def fingerprint(self) -> str:
        """What besides the settings decides the result: the content of files that they name, as a hash."""
        return ""

    def estimate(self, setting: StepSetting) -> Estimate:
        """Foretell time, frames, bytes and movements."""
        return Estimate()

    @abstractmethod
    def run(self, context: StepContext) -> StepResult:
        """Do it. Must be able to go on from what an interrupted earlier call left in `context.folder`."""
