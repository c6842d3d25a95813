"""What is installed under an entry-point group. Only the plug-in that is asked for is imported."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from labctl.errors import BadInput
from labctl.suggest import one_of


def names(group: str) -> list[str]:
    """Sorted names of the plug-ins of `group`. Imports none of them; looks at what is installed once per process."""
    return sorted(_found(group))


def load(group: str, name: str) -> Any:
    """The object that plug-in `name` of `group` offers.

    Raises BadInput when there is none of that name, when two packages offer different ones, or when its import fails.
    """
    return _loaded(group, name)


SHAPES = {
    "labctl.steps": ("run", "outputs", "where"),
    "labctl.designs": ("build",),
    "labctl.models": ("build",),
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
    if lacking:
        raise BadInput(
            f"the plug-in '{name}' of {group} ({entry.value}, from {_package(entry)}) lacks {', '.join(lacking)}; "
            "docs/plug-ins.md says which class to derive it from"
        )
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
