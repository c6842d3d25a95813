"""What the frames of several sets are called in one: samples, labels and repeats that mean the same, or do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from labctl.errors import BadInput
from labctl.frames.alike import alike, exposure_key
from labctl.frames.header import SetHeader
from labctl.frames.record import FrameRecord


class Records(Protocol):
    """What is asked of a set here."""

    @property
    def where(self) -> str:
        """Folder or address."""

    @property
    def header(self) -> SetHeader:
        """What holds for the whole set."""

    @property
    def records(self) -> Sequence[FrameRecord]:
        """What is known of every frame, in order."""


@dataclass(frozen=True)
class Renaming:
    """How the records of one set change. labels: the new label by the old one."""

    sample_shift: int = 0
    repeat_shift: int = 0
    labels: dict[int, int] = field(default_factory=dict)
    class_names: tuple[str | None, ...] = ()
    """Of all sets together; None for a label without a name."""

    def renamed(self, record: FrameRecord) -> FrameRecord:
        """The record as it stands in the merged set."""
        changed: dict[str, object] = {}
        if record.sample_id is not None and self.sample_shift:
            changed["sample_id"] = record.sample_id + self.sample_shift
        if record.kind in ("scene", "closed") and self.repeat_shift:
            changed["repeat"] = record.repeat + self.repeat_shift
        if record.label is not None and record.label in self.labels:
            changed["label"] = self.labels[record.label]
        return record.model_copy(update=changed) if changed else record


class _View(NamedTuple):
    """How a frame was taken: only what was taken alike is a repeat. Fields are called as an error names them."""

    mask: str | None
    exposure_s: float
    gain_db: float
    black_level_dn: float | None
    saturation_dn: int


class _Meaning(NamedTuple):
    """What a sample is. Fields are called as an error names them."""

    label: str | int | None
    split: int | None
    scene: str | None


@dataclass
class _Summary:
    """What the records of one set use. taken: (sample, repeat, rung) of its scenes."""

    taken: set[tuple[int, int, int]] = field(default_factory=set)
    views: dict[tuple[int, int], set[_View]] = field(default_factory=dict)
    """By (sample, rung)."""

    meanings: dict[int, _Meaning] = field(default_factory=dict)
    """By sample, of its first frame: `verify` finds what a set contradicts itself in."""

    exposures: dict[int, set[tuple[float, float]]] = field(default_factory=dict)
    """By rung: (s, dB)."""

    names: dict[int, str | None] = field(default_factory=dict)
    samples: int = 0
    """One more than the highest sample id."""

    repeats: int = 0

    @classmethod
    def of(cls, records: Iterable[FrameRecord]) -> _Summary:
        found = cls()
        for record in records:
            if record.label is not None:
                found.names[record.label] = record.label_name
            if record.sample_id is None:
                continue
            found.samples = max(found.samples, record.sample_id + 1)
            if record.kind == "scene":
                found._add_scene(record, record.sample_id)
        return found

    def _add_scene(self, record: FrameRecord, sample: int) -> None:
        self.taken.add((sample, record.repeat, record.rung))
        self.repeats = max(self.repeats, record.repeat + 1)
        exposure_s = exposure_key(record.exposure_s)
        view = _View(record.mask_hash, exposure_s, record.gain_db, record.black_level_dn, record.saturation_dn)
        self.views.setdefault((sample, record.rung), set()).add(view)
        self.exposures.setdefault(record.rung, set()).add((exposure_s, record.gain_db))
        if sample not in self.meanings:
            label = record.label if record.label_name is None else record.label_name
            self.meanings[sample] = _Meaning(label, record.split, record.scene_hash)


def renamings(sets: Sequence[Records], *, as_repeats: bool, say: Callable[[str], None]) -> list[Renaming]:
    """How every set changes when they become one. Raises BadInput for what cannot be told apart; see `merge`."""
    summaries = [_Summary.of(one.records) for one in sets]
    shifts = _sample_shifts(sets, summaries, say)
    _check_meanings(sets, summaries, shifts)
    repeats = _repeat_shifts(sets, summaries, shifts, as_repeats, say)
    _say_exposures(summaries, say)
    names = [_class_names(one, summary) for one, summary in zip(sets, summaries, strict=True)]
    if all(own == names[0] for own in names):
        return [Renaming(s, r, {}, names[0]) for s, r in zip(shifts, repeats, strict=True)]
    union = _union(sets, names, summaries)
    position = {name: number for number, name in enumerate(union)}
    labels = [{number: position[name] for number, name in enumerate(own) if name is not None} for own in names]
    if any(old != new for own in labels for old, new in own.items()):
        say(f"the sets number their labels differently; they are numbered anew, {len(union)} in all, by their names")
    return [Renaming(s, r, own, union) for s, r, own in zip(shifts, repeats, labels, strict=True)]


def _sample_shifts(sets: Sequence[Records], summaries: Sequence[_Summary], say: Callable[[str], None]) -> list[int]:
    """Sets of the same data share sample ids; another source begins behind all ids so far."""
    shift_of: dict[str, int] = {}
    shifts, free = [], 0
    data_ids = [one.header.data_id or f"unknown, of {one.where}" for one in sets]
    room = {data: max(s.samples for s, d in zip(summaries, data_ids, strict=True) if d == data) for data in data_ids}
    for one, data in zip(sets, data_ids, strict=True):
        if data not in shift_of:
            shift_of[data], free = free, free + room[data]
            if shift_of[data]:
                why = "are of other data" if one.header.data_id else "are of data that nobody named"
                say(f"the samples of {one.where} {why}: their ids are shifted by {shift_of[data]}")
        shifts.append(shift_of[data])
    return shifts


def _repeat_shifts(
    sets: Sequence[Records],
    summaries: Sequence[_Summary],
    shifts: Sequence[int],
    as_repeats: bool,
    say: Callable[[str], None],
) -> list[int]:
    """Raises BadInput for a sample that comes twice, unless it may count as a further repeat of the same exposure."""
    found: list[int] = []
    for number, (one, summary) in enumerate(zip(sets, summaries, strict=True)):
        earlier = [n for n in range(number) if shifts[n] == shifts[number]]
        taken = {key for n in earlier for key in _moved(summaries[n].taken, found[n])}
        common = summary.taken & taken
        if not common:
            found.append(0)
            continue
        sample, repeat, rung = min(common)
        twice = f"{one.where} and an earlier set both have sample {sample}, repeat {repeat}, rung {rung}"
        if not as_repeats:
            raise BadInput(
                f"{twice} ({len(common)} such frames); leave one of the sets out, or give --as-repeats to keep them as "
                "further repeats of the same samples"
            )
        for n in earlier:
            _check_views(one, summary, sets[n], summaries[n])
            if one.header.rig_hash != sets[n].header.rig_hash:
                say(f"{one.where} was taken by a rig of other settings than {sets[n].where}; repeats come from both")
        found.append(max(found[n] + summaries[n].repeats for n in earlier))
    return found


def _check_views(one: Records, summary: _Summary, other: Records, earlier: _Summary) -> None:
    """Raise BadInput where a sample that both sets have was not taken alike: a mean would be of neither light."""
    for sample, rung in sorted(summary.views.keys() & earlier.views.keys()):
        new, old = summary.views[sample, rung], earlier.views[sample, rung]
        for name, ours, theirs in zip(_View._fields, zip(*new, strict=True), zip(*old, strict=True), strict=True):
            if set(ours) != set(theirs) and not alike(name, [*ours, *theirs]):
                raise BadInput(
                    f"{one.where} and {other.where} both have sample {sample}, rung {rung}, but with another {name}: "
                    f"{_listed(ours)} and {_listed(theirs)}; only frames taken alike are repeats of each other: keep "
                    "these sets apart"
                )


def _check_meanings(sets: Sequence[Records], summaries: Sequence[_Summary], shifts: Sequence[int]) -> None:
    """Raise BadInput where sets do not mean the same by a sample: one split would leak into the other, unnoticed."""
    first: dict[int, tuple[int, _Meaning]] = {}
    for number, (one, summary, shift) in enumerate(zip(sets, summaries, shifts, strict=True)):
        for sample, meaning in summary.meanings.items():
            earlier, known = first.setdefault(sample + shift, (number, meaning))
            for name, ours, theirs in zip(_Meaning._fields, meaning, known, strict=True):
                if ours != theirs:
                    raise BadInput(
                        f"{one.where} gives sample {sample} the {name} {_listed([ours])}, {sets[earlier].where} gives "
                        f"it {_listed([theirs])}; sets of one data source must agree: leave one of them out"
                    )


def _say_exposures(summaries: Sequence[_Summary], say: Callable[[str], None]) -> None:
    """Frames of other brightness may stand side by side, where the user knows of it."""
    for rung in sorted({rung for summary in summaries for rung in summary.exposures}):
        own = [summary.exposures[rung] for summary in summaries if rung in summary.exposures]
        if any(exposures != own[0] for exposures in own):
            said = ", ".join(f"{exposure_s:g} s at {gain_db:g} dB" for exposure_s, gain_db in sorted(set().union(*own)))
            say(f"the sets were not exposed alike (rung {rung}: {said}); the same light gives other values in them")


def _listed(values: Iterable[object]) -> str:
    said = {value[:12] if isinstance(value, str) else "unknown" if value is None else f"{value:g}" for value in values}
    return ", ".join(sorted(said))


def _moved(taken: set[tuple[int, int, int]], shift: int) -> set[tuple[int, int, int]]:
    return {(sample, repeat + shift, rung) for sample, repeat, rung in taken}


def _class_names(one: Records, summary: _Summary) -> tuple[str | None, ...]:
    """By label: from the header, or as the records have it; None where a label has no name."""
    return one.header.class_names or tuple(summary.names.get(n) for n in range(max(summary.names, default=-1) + 1))


def _union(
    sets: Sequence[Records], names: Sequence[Sequence[str | None]], summaries: Sequence[_Summary]
) -> tuple[str, ...]:
    for one, own, summary in zip(sets, names, summaries, strict=True):
        nameless = [label for label in summary.names if label >= len(own) or own[label] is None]
        if nameless:
            raise BadInput(
                f"{one.where} has label {nameless[0]} without a name, and the sets do not name their labels alike; "
                "only labels with names can be brought together"
            )
    return tuple(dict.fromkeys(name for own in names for name in own if name is not None))
