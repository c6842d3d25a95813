"""What is installed under an entry-point group. Only the plug-in that is asked for is imported."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from labctl.errors import BadInput
from labctl.suggest import is_model, one_of


def names(group: str) -> list[str]:
    """Sorted names of the plug-ins of `group`. Imports none of them; looks at what is installed once per process."""
    return sorted(_found(group))


def load(group: str, name: str) -> Any:
    """The object that plug-in `name` of `group` offers.

    Raises BadInput when there is none of that name, when two packages offer different ones, or when its import fails.
    """
    return _loaded(group, name)


def any_of(group: str) -> Any:
    """A type for a field of a settings model: the settings of any plug-in of `group`, told apart by their `type`.

    Imports them all. One that cannot be used refuses its own settings with the reason, and the others stay usable.
    Raises BadInput when none is installed.
    """
    members = tuple(_member(group, name) for name in names(group))
    if not members:
        raise BadInput(f"no plug-in of {group} is installed, not even those of labctl; install labctl again")
    if len(members) == 1:
        return members[0]
    return Annotated[Union[members], Field(discriminator="type")]  # noqa: UP007 - members are known at run time only


SHAPES = {
    "labctl.steps": ("run", "outputs", "where"),
    "labctl.designs": ("build",),
    "labctl.models": ("build",),
    "labctl.attackers": ("learn", "name"),
    "labctl.datasets": ("load", "check", "fingerprint"),
    "labctl.devices": ("make", "kind"),
    "labctl.light_paths": ("stream",),
    "labctl.twins": ("build", "check_design", "frame_shape"),
    "labctl.worlds": ("make",),
    "labctl.exporters": ("export",),
    "labctl.finders": ("__call__",),
    "labctl.checks": ("__call__",),
    "labctl.flashers": ("__call__",),
}
"""What a plug-in of each group must have; docs/plug-ins.md says which class to derive it from."""


@cache
def _found(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=group):
        others = found.get(entry.name, ())
        # An editable install next to an old one lists the same plug-in twice: that is one plug-in.
        if entry.value not in [other.value for other in others]:
            found[entry.name] = (*others, entry)
    return found


@cache
def _loaded(group: str, name: str) -> Any:
    entries = _found(group).get(name, ())
    if not entries:
        raise BadInput(f"'{name}' is no plug-in of {group}; {one_of(name, names(group))}")
    if len(entries) > 1:
        values = " and ".join(f"{entry.value} (from {_package(entry)})" for entry in entries)
        raise BadInput(f"the plug-in '{name}' of {group} is offered twice, by {values}; uninstall one")
    entry = entries[0]
    try:
        found = entry.load()
    except Exception as error:
        raise BadInput(
            f"the plug-in '{name}' of {group} ({entry.value}, from {_package(entry)}) cannot be imported: "
            f"{type(error).__name__}: {error}; repair or reinstall {_package(entry)}"
        ) from error
    lacking = [attribute for attribute in SHAPES.get(group, ()) if not hasattr(found, attribute)]
    lacking += sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise BadInput(
            f"the plug-in '{name}' of {group} ({entry.value}, from {_package(entry)}) lacks {', '.join(lacking)}; "
            "docs/plug-ins.md says which class to derive it from"
        )
    return found


def _member(group: str, name: str) -> type[BaseModel]:
    try:
        found = load(group, name)
    except BadInput as error:
        return _refusing(name, str(error))
    if not is_model(found):
        return _refusing(name, f"the plug-in '{name}' of {group} is no settings model; mend the plug-in")
    if "type" not in found.model_fields or get_args(found.model_fields["type"].annotation) != (name,):
        return _refusing(name, f"the plug-in '{name}' of {group} needs `type: Literal[\"{name}\"]`; mend the plug-in")
    return found


class _Refusing(BaseModel):
    """Settings that are never right, for the `reason`."""

    model_config = ConfigDict(extra="allow")
    reason: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        raise ValueError(cls.reason)


def _refusing(name: str, reason: str) -> type[BaseModel]:
    tag: Any = Literal[name]
    model = create_model(f"Refused_{name}", __base__=_Refusing, type=(tag, ...))
    model.reason = reason
    return model


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
