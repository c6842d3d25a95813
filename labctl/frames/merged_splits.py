"""Later splits of several sets as splits of the set made of them: kept where they still keep their promise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labctl.durable import write_whole
from labctl.frames.layout import SPLITS
from labctl.frames.older import OlderSet
from labctl.frames.renaming import Renaming
from labctl.frames.store import FrameStore, parse_splits

Part = FrameStore | OlderSet

WHOLE_LABELS = ("label", "identity")
"""Rules by which no label may stand in two parts."""


def keep_splits(parts: Sequence[Part], names: Sequence[Renaming], out: Path, *, say: Callable[[str], None]) -> None:
    """Write those later splits of `parts` to `out` that all of them have, made by one rule and without contradiction.

    Sample ids change as `names` says. A split that is left out, and why, is said: `labctl dataset split` makes another.
    """
    for part in parts:
        if isinstance(part, FrameStore) and "://" in part.where:
            say(f"{part.where} cannot be listed; only splits are kept that a set in a folder has, too")
    for name in sorted({name for part in parts for name in _names(part)}):
        try:
            content = _merged(name, parts, names)
        except _LeftOutError as error:
            say(f"the split '{name}' is left out: {error}; make it anew with `labctl dataset split`")
            continue
        path = out / SPLITS / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(content, indent=1) + "\n")


class _LeftOutError(Exception):
    """Why a split cannot be kept."""


def _names(part: Part) -> list[str]:
    if isinstance(part, OlderSet) or "://" in part.where:
        return []
    return [file.stem for file in (Path(part.where) / SPLITS).glob("*.json")]


def _merged(name: str, parts: Sequence[Part], names: Sequence[Renaming]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    of_sample: dict[int, int] = {}
    of_label: dict[str, int] = {}
    for part, renaming in zip(parts, names, strict=True):
        own, how = _read(name, part)
        rule = rule or how
        if how != rule:
            raise _LeftOutError("the sets were split by different rules")
        for sample, split in own.items():
            if of_sample.setdefault(sample + renaming.sample_shift, split) != split:
                raise _LeftOutError(f"{part.where} has sample {sample} in another part than an earlier set")
        if rule.get("by") in WHOLE_LABELS:
            for label, split in _labels(part, own):
                if of_label.setdefault(label, split) != split:
                    raise _LeftOutError(f"{part.where} has label '{label}' in another part than an earlier set")
    made = {"split_of_sample": dict(sorted(of_sample.items())), "made": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    return rule | made


def _read(name: str, part: Part) -> tuple[dict[int, int], dict[str, Any]]:
    """Part by sample, and by what rule."""
    text = None if isinstance(part, OlderSet) else part.source.read(f"{SPLITS}/{name}.json")
    if text is None:
        raise _LeftOutError(f"{part.where} has none of that name")
    try:
        own = parse_splits(text)
    except ValueError as error:
        raise _LeftOutError(f"that of {part.where} cannot be read ({error})") from error
    return own, {key: value for key, value in json.loads(text).items() if key not in ("split_of_sample", "made")}


def _labels(part: Part, split_of_sample: dict[int, int]) -> set[tuple[str, int]]:
    """(label, part) of every sample."""
    return {
        (record.label_name or str(record.label), split_of_sample[record.sample_id])
        for record in part.records
        if record.kind == "scene" and record.sample_id in split_of_sample
    }
