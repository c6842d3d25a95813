"""What holds for a merged set as a whole: what all its parts agree on, and the worst of what they warn of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from labctl.errors import BadInput
from labctl.frames.header import SetHeader
from labctl.frames.record import Privacy
from labctl.frames.renaming import Records, Renaming

WORST_FIRST: tuple[Privacy, ...] = ("none", "after-readout", "unknown", "optical")
"""A merged set protects no better than the worst of its parts."""


def merged_header(sets: Sequence[Records], names: Sequence[Renaming], *, say: Callable[[str], None]) -> SetHeader:
    """The header of a set made of `sets`; `set_id` and `planned` are the caller's. Raises BadInput where they clash."""
    heads = [one.header for one in sets]
    first = heads[0]
    for one in sets:
        if one.header.ladder != first.ladder:
            raise BadInput(
                f"{one.where} has the exposure ladder {one.header.ladder}, {sets[0].where} has {first.ladder}; only "
                "sets of one ladder can be merged"
            )
    privacy = min((head.privacy for head in heads), key=WORST_FIRST.index)
    if len({head.privacy for head in heads}) > 1:
        say(f"the sets protect differently; the whole is called '{privacy}', the least of them")
    if len({head.nature for head in heads}) > 1:
        natures = ", ".join(sorted({head.nature or "unknown" for head in heads}))
        say(f"the rigs were of different nature ({natures}); the whole is called neither")
    class_names = tuple(name for name in names[0].class_names if name is not None)
    return SetHeader.new(
        first.set_id,
        first.frame_shape,
        compression=_agreed([head.compression for head in heads]) or "none",
        title=_agreed([head.title for head in heads]) or (f"merged of {len(heads)} sets" if len(heads) > 1 else ""),
        **{name: _agreed([getattr(head, name) for head in heads]) for name in _AGREED},
        privacy=privacy,
        class_names=class_names if len(class_names) == len(names[0].class_names) else (),
        ladder=first.ladder,
        units=_units(sets),
        about=_about(heads),
        merged_from=tuple(head.set_id for head in heads),
    )


_AGREED = ("run_id", "rig_name", "rig_hash", "nature", "design", "data_id")


def _agreed(values: Sequence[Any]) -> Any:
    """The value that all have; None when they differ."""
    return values[0] if all(value == values[0] for value in values) else None


def _units(sets: Sequence[Records]) -> dict[str, str]:
    units: dict[str, str] = {}
    for one in sets:
        for name, unit in one.header.units.items():
            if units.setdefault(name, unit) != unit:
                raise BadInput(
                    f"{one.where} gives {name} in '{unit}', an earlier set in '{units[name]}'; bring them to one"
                )
    return units


def _about(heads: Sequence[SetHeader]) -> dict[str, str]:
    """What several parts say differently stands side by side: a licence must not get lost."""
    keys = dict.fromkeys(key for head in heads for key in head.about)
    return {key: "; ".join(dict.fromkeys(head.about[key] for head in heads if key in head.about)) for key in keys}
