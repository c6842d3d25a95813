"""A protocol: data, camera designs and steps, read from YAML, resolved and checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from labctl import plugins
from labctl.config import Checked, ConfigError, Problem, content_hash, dump_yaml, load_config, validate_model
from labctl.errors import BadInput
from labctl.frozen import Frozen
from labctl.references import Reference, check_references, references_of
from labctl.rig_file import Name, RigSpec
from labctl.steps import Estimate, Step, StepSetting
from labctl.suggest import is_model
from labctl.yaml_source import KeyPath, loads

if TYPE_CHECKING:
    from labctl.yaml_source import Located

Progress = Callable[[int, int, str], None]
"""Called with how many are done, how many there are, and of what: (300, 1000, "pictures")."""

Side = Annotated[int, Field(ge=1, le=4096)]


class ProtocolFile(Frozen):
    """A protocol, as its YAML file says it."""

    version: Literal[1]
    """Version of this file format."""

    name: Name
    """Name of the protocol; runs are called after it."""

    description: str = ""

    rig: str | None = None
    """The rig to run on: a name (`sim`, `as-built`) or a path. `--rig` on the command line goes before it."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(min_length=1)] = (0,)
    """Every design is trained and measured once per seed."""

    scene_px: tuple[Side, Side] | None = None
    """(rows, columns) of a scene."""

    mask_cells: tuple[Side, Side] | None = None
    """(rows, columns) of the mask on the design grid."""

    data: dict[str, Any] | None = None
    """Where the pictures come from."""

    designs: dict[Name, dict[str, Any]] = {}
    """Camera designs by name."""

    model: dict[str, Any] = {"type": "small-residual"}
    """The classifier that reads the frames."""

    compare: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Which of the designs to run, in this order; by default all."""

    steps: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """What to do, in order."""


@dataclass(frozen=True)
class StepInstance:
    """One step for one design and seed."""

    name: str
    step: Step
    design: str | None
    seed: int | None

    @property
    def key(self) -> str:
        """`train/learned/seed0`; a step that runs once is called by its bare name."""
        if self.step.once:
            return self.name
        return "/".join([self.name, *([self.design] if self.design else []), f"seed{self.seed}"])


@dataclass(frozen=True)
class Protocol:
    """A protocol file, read and checked against its plug-ins."""

    file: ProtocolFile
    data: Any
    model: Any
    designs: Mapping[str, Any]
    steps: Mapping[str, Step]
    located: Located = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the protocol."""
        return self.file.name

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the designs to run."""
        return self.file.compare if self.file.compare is not None else tuple(self.designs)

    def grids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(scene_px, mask_cells). Raises BadInput when the protocol does not say them."""
        if self.file.scene_px is None or self.file.mask_cells is None:
            key = "scene_px" if self.file.scene_px is None else "mask_cells"
            raise BadInput(f"is missing; add `{key}: [rows, columns]`", at=(key,))
        return self.file.scene_px, self.file.mask_cells

    def instances(self) -> list[StepInstance]:
        """Every step for every seed and design, in the order in which they run.

        Steps that run once come first, where they say so, or last.
        """
        repeated = {name: step for name, step in self.steps.items() if not step.once}
        once = [StepInstance(name, step, None, None) for name, step in self.steps.items() if step.once]
        cells = [(design, seed) for seed in self.file.seeds for design in (self.compared or (None,))]
        return [
            *(instance for instance in once if instance.step.first),
            *(StepInstance(name, step, design, seed) for design, seed in cells for name, step in repeated.items()),
            *(instance for instance in once if not instance.step.first),
        ]

    def resolved(self) -> dict[str, Any]:
        """The protocol with every default filled in, as it is written to the run folder."""
        data = self.file.model_dump(mode="json")
        data["data"] = None if self.data is None else _dump(self.data)
        data["model"] = _dump(self.model)
        data["designs"] = {name: _dump(design) for name, design in self.designs.items()}
        data["steps"] = {name: _dump(step) for name, step in self.steps.items()}
        return {key: value for key, value in data.items() if value is not None}


def load_protocol(path: Path, *, overrides: Sequence[str] = ()) -> Protocol:
    """Read and check a protocol file and all plug-ins it names. Raises ConfigError with all problems at once."""
    return parse_protocol(load_config(path, overrides=overrides))


def parse_protocol(located: Located) -> Protocol:
    """Check a protocol that was read already."""
    if isinstance(located.data, dict) and "twin" in located.data and "steps" not in located.data:
        raise ConfigError([located.problem((), "this is a rig file, a protocol is needed; give the rig with --rig")])
    checked = Checked(located)
    problems, typed = checked.problems, checked.typed
    file = checked.model(ProtocolFile)
    raw: dict[str, Any] = located.data if isinstance(located.data, dict) else {}
    data = typed("labctl.datasets", "data") if isinstance(raw.get("data"), dict) else None
    model = typed("labctl.models", "model") if isinstance(raw.get("model"), dict) else None
    if "model" not in raw and file is not None:
        model = validate_model(plugins.load("labctl.models", file.model["type"]), loads(dump_yaml(file.model), "model"))
    designs = {name: typed("labctl.designs", "designs", name) for name in _mappings_in(raw.get("designs"))}
    steps = {name: typed("labctl.steps", "steps", name) for name in _mappings_in(raw.get("steps"))}
    if problems or file is None:
        raise ConfigError(problems)
    for index, name in enumerate(file.compare or ()):
        if name not in designs:
            text = f"no design is called '{name}'; the designs are {', '.join(designs) or 'none'}"
            problems.append(located.problem(("compare", index), text))
    for key in ("seeds", "compare"):
        values = getattr(file, key) or ()
        if len(set(values)) < len(values):
            problems.append(located.problem((key,), f"{list(values)} names something twice; name each once"))
    problems += check_references({n: (s, s.outputs) for n, s in steps.items()}, located, ("steps",))
    for name, step in steps.items():
        for reference in [] if problems else [r for r, _ in references_of(step).values()]:
            maker = steps[reference.step]
            if step.once and not maker.once:
                text = f"{reference} is made once per design and seed, this step runs once; it cannot use it"
                problems.append(located.problem(("steps", name), text))
            elif maker.once and not maker.first and (step.first or not step.once):
                text = f"{reference} is made after all designs and seeds; this step, which runs before, cannot use it"
                problems.append(located.problem(("steps", name), text))
    if problems:
        raise ConfigError(problems)
    return Protocol(file, data, model, designs, steps, located)


@dataclass(frozen=True)
class PlannedStep:
    """A step instance with its content hash and what it will do."""

    instance: StepInstance
    hash: str
    inputs: Mapping[Reference, str]
    """Key of the instance that makes each input."""

    setting: StepSetting
    estimate: Estimate

    @property
    def key(self) -> str:
        """Key of the instance."""
        return self.instance.key


@dataclass(frozen=True)
class RunPlan:
    """Everything a run will do, found out without moving or writing anything."""

    protocol: Protocol
    rig: RigSpec
    steps: tuple[PlannedStep, ...]

    @cached_property
    def disk_bytes(self) -> int:
        """What the run will write, foretold."""
        return sum(step.estimate.disk_bytes for step in self.steps)

    def __iter__(self) -> Iterator[PlannedStep]:
        return iter(self.steps)


def unwatched(done: int, total: int, unit: str) -> None:
    """A `Progress` for when nobody looks."""


def plan_run(protocol: Protocol, rig: RigSpec, *, progress: Progress = unwatched) -> RunPlan:
    """Check every step against the rig and the data, hash it, foretell it. Raises ConfigError with all problems.

    progress: called while pictures are looked at, which can take minutes the first time.
    """
    problems: dict[tuple[KeyPath, str], Problem] = {}

    def note(error: BadInput, otherwise: KeyPath) -> None:
        problem = _problem_of(error, otherwise, protocol, rig)
        problems.setdefault((problem.path, problem.message), problem)

    fingerprint = ""
    if protocol.data is not None:
        try:
            if protocol.file.scene_px is not None:
                # First, since it counts all bad pictures, not only those seen at a glance.
                protocol.data.check_pixels(protocol.file.scene_px, progress)
            protocol.data.check()
            fingerprint = protocol.data.fingerprint()
        except BadInput as error:
            note(error, _place_of_data(protocol.located))
    hashes: dict[str, str] = {}
    planned: list[PlannedStep] = []
    for instance in protocol.instances():
        step = instance.step
        setting = StepSetting(protocol, rig, instance.name, instance.design, instance.seed)
        estimate = Estimate()
        inputs = {reference: _maker(instance, reference, protocol) for reference, _ in references_of(step).values()}
        hashes[instance.key] = ""
        try:
            rig.require(sorted(step.needs), f"step '{instance.name}' ({step.type})")
            step.check(setting)
            if not problems:  # data and files that these read need not be good otherwise
                estimate = step.estimate(setting)
                hashes[instance.key] = _step_hash(instance, protocol, rig, inputs, hashes, fingerprint)
        except BadInput as error:
            note(error, setting.at())
        planned.append(PlannedStep(instance, hashes[instance.key], inputs, setting, estimate))
    if problems:
        raise ConfigError(list(problems.values()))
    return RunPlan(protocol, rig, tuple(planned))


def _problem_of(error: BadInput, otherwise: KeyPath, protocol: Protocol, rig: RigSpec) -> Problem:
    at = error.at or otherwise
    if len(at) > 1 and at[0] == "rig":
        return rig.located.problem(at[1:], str(error))
    return protocol.located.problem(at, str(error))


def _maker(instance: StepInstance, reference: Reference, protocol: Protocol) -> str:
    if protocol.steps[reference.step].once:
        return reference.step
    return "/".join([reference.step, *instance.key.split("/")[1:]])


def _step_hash(
    instance: StepInstance,
    protocol: Protocol,
    rig: RigSpec,
    inputs: Mapping[Reference, str],
    hashes: Mapping[str, str],
    fingerprint: str,
) -> str:
    step = instance.step
    sources: dict[str, Callable[[], Any]] = {
        "data": lambda: [
            fingerprint,
            None if protocol.data is None else _decisive(protocol.data),
        ],
        "model": lambda: _decisive(protocol.model),
        "design": lambda: _designed(protocol.designs[instance.design]) if instance.design else None,
        "twin": lambda: rig.twin_hash,
        "rig": lambda: rig.content_hash,
    }
    return content_hash(
        {
            "name": instance.name,
            "type": step.type,
            "version": step.version,
            "settings": [_decisive(step), step.fingerprint()],
            "design": instance.design,
            "seed": instance.seed,
            "grids": [protocol.file.scene_px, protocol.file.mask_cells],
            "sources": {name: sources[name]() for name in sorted(step.uses)},
            "inputs": {str(reference): hashes[key] for reference, key in inputs.items()},
            "before": sorted(hashes.values()) if step.once and not step.first else [],
        }
    )


def _dump(plugin: Any) -> dict[str, Any]:
    """Settings with every default; paths in full, since a run must resume from any folder."""
    paths = {name: str(value.expanduser().absolute()) for name, value in plugin if isinstance(value, Path)}
    return {**plugin.model_dump(mode="json"), **paths}


def _decisive(plugin: Any) -> dict[str, Any]:
    """Settings that decide a result: where a file lies does not, what it holds stands in the fingerprint."""
    dumped: dict[str, Any] = plugin.model_dump(mode="json", exclude=_left_out(plugin))
    return dumped


def _left_out(plugin: Any) -> dict[str, Any]:
    """What of its settings decides nothing, as `model_dump` takes it."""
    left: dict[str, Any] = {name: True for name, value in plugin if isinstance(value, Path)}
    left |= {name: True for name in getattr(plugin, "newer", ()) if _is_default(plugin, name)}
    inside = {name: _left_out_inside(value) for name, value in plugin if name not in left}
    return left | {name: found for name, found in inside.items() if found}


def _left_out_inside(value: Any) -> dict[Any, Any]:
    """Of settings within settings. Only those with a fingerprint: whoever holds them hands it on in its own."""
    if isinstance(value, tuple | list):
        found = {place: _left_out_inside(item) for place, item in enumerate(value)}
        return {place: left for place, left in found.items() if left}
    return _left_out(value) if is_model(type(value)) and hasattr(value, "fingerprint") else {}


def _is_default(plugin: Any, name: str) -> bool:
    return bool(getattr(plugin, name) == type(plugin).model_fields[name].get_default(call_default_factory=True))


def _designed(design: Any) -> list[Any]:
    return [_decisive(design), design.fingerprint()]


def _mappings_in(value: Any) -> list[str]:
    return [str(key) for key, item in value.items() if isinstance(item, dict)] if isinstance(value, dict) else []


def _place_of_data(located: Located) -> tuple[str, ...]:
    data = located.data.get("data", {}) if isinstance(located.data, dict) else {}
    return ("data", "path") if "path" in data else ("data",)
