"""Whether what the ledger says of the frames makes sense: schema, samples, clocks, repeated and dead frames."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from labctl.errors import RunFailed
from labctl.frames.proof import Finding, error, note
from labctl.frames.sessions import Sessions, read_sessions
from labctl.frames.store import FrameStore
from labctl.frames.sweep import Seen, Sweep

OF_SAMPLES = ("scene", "closed")
"""Kinds of frames that show a sample."""


@dataclass(frozen=True)
class Checked:
    """duplicated: frames that came twice by what they say, or that repeat the pixels of another scene."""

    findings: tuple[Finding, ...]
    duplicated: int


def check_records(store: FrameStore, sweep: Sweep, saturated: float) -> Checked:
    """All checks that hold records against each other and against their pixels. saturated: see `verify`."""
    sessions = read_sessions(store)
    doubles = [*_double_frames(sweep.seen, sessions), *_double_pixels(store, sweep)]
    twice = {frame for finding in doubles if finding.severity == "error" for frame in finding.frames}
    findings = [
        *doubles,
        *_schema_findings(store, sweep),
        *_sample_findings(store, sweep.seen),
        *_clock_findings(sweep.seen, sessions),
        *_constant_findings(sweep),
        *_saturation_findings(sweep, saturated),
    ]
    return Checked(tuple(findings), len(twice))


def _schema_findings(store: FrameStore, sweep: Sweep) -> list[Finding]:
    findings = []
    for said in sorted(set(sweep.unlawful.values())):
        frames = [index for index, text in sweep.unlawful.items() if text == said]
        findings.append(error("metadata", f"{{frames}} {{do}} not hold to the schema: {said}", frames))
    readings = {name.removeprefix("instruments.") for name in sweep.known() if name.startswith("instruments.")}
    without = sorted(readings - set(store.header.units))
    if without:
        findings.append(note("metadata", f"nobody wrote down the unit of {', '.join(without)}"))
    return findings


def _sample_findings(store: FrameStore, seen: list[Seen]) -> list[Finding]:
    """A sample has one label, one split and one scene; a label has the name that the header gives it."""
    findings = []
    names = store.header.class_names
    if names:
        wrong = [
            s.number for s in seen if s.label is not None and (s.label >= len(names) or s.label_name != names[s.label])
        ]
        if wrong:
            findings.append(error("metadata", "{frames} {have} a label that the class names do not know", wrong))
    for what in ("label", "split", "scene_hash"):
        first: dict[int, object] = {}
        other = [
            s.number
            for s in seen
            if s.kind in OF_SAMPLES
            and s.sample_id is not None
            and first.setdefault(s.sample_id, getattr(s, what)) != getattr(s, what)
        ]
        if other:
            text = f"{{frames}} {{have}} another {what} than an earlier frame of the same sample"
            findings.append(error("metadata", text, other))
    return findings


def _double_frames(seen: list[Seen], sessions: Sessions) -> list[Finding]:
    findings = []
    for text, frames in (
        (
            "{frames} {have} the exposure id and attempt of an earlier frame",
            _again((s.number, (sessions.part(s.number), s.run_id, s.exposure_id, s.attempt)) for s in seen),
        ),
        (
            "{frames} {have} the camera's frame id and time of an earlier frame: a stale buffer",
            _again((s.number, (sessions.session(s.number), s.run_id, s.frame_id, s.camera_time_s)) for s in seen),
        ),
        (
            "{frames} {have} the sample, repeat, rung and mask of an earlier frame",
            _again(
                (s.number, (s.kind, s.sample_id, s.repeat, s.rung, s.mask_hash, s.levels_hash))
                for s in seen
                if s.kind in OF_SAMPLES and s.sample_id is not None
            ),
        ),
    ):
        if frames:
            findings.append(error("duplicated", text, frames))
    return findings


def _again(keys: Iterable[tuple[int, Hashable]]) -> list[int]:
    """Indices whose key came before; a line that stands twice in the ledger is another matter."""
    first: dict[Hashable, int] = {}
    return [index for index, key in keys if first.setdefault(key, index) != index]


def _double_pixels(store: FrameStore, sweep: Sweep) -> list[Finding]:
    """Frames with equal pixels: noise makes that impossible, but for a buffer that was handed out twice.

    Equal checksums are frequent by chance among 100 000 frames, so the pixels themselves are compared.
    """
    checksums = np.asarray(store.column("crc32c"))
    values, counts = np.unique(checksums, return_counts=True)
    shared = np.isin(checksums, values[counts > 1])
    out = {*sweep.damaged, *sweep.constant}
    noisy = store.header.nature == "real"
    first: dict[int, Seen] = {}
    same: list[int] = []
    stale: list[int] = []
    for seen in sweep.seen:
        if not shared[seen.place] or seen.number in out:
            continue
        before = first.setdefault(int(checksums[seen.place]), seen)
        if before.number != seen.number and _equal_pixels(store, before, seen):
            excused = _same_scene(before, seen) and not (noisy and seen.kind in OF_SAMPLES)
            (same if excused else stale).append(seen.number)
    findings = []
    if known := [index for index in stale if index not in sweep.doubted]:
        text = "{frames} {have} the very pixels of an earlier frame: a stale buffer"
        findings.append(error("duplicated", text, known))
    if same:
        text = "{frames} {have} the very pixels of an earlier frame of the same scene: a rig without noise, or stale"
        findings.append(note("duplicated", text, same))
    return findings


def _equal_pixels(store: FrameStore, one: Seen, other: Seen) -> bool:
    try:
        first, second = store.frame(one.place), store.frame(other.place)
    except RunFailed:
        return False
    return bool(first.min() != first.max() and np.array_equal(first, second))


def _same_scene(one: Seen, other: Seen) -> bool:
    if one.kind not in OF_SAMPLES or other.kind not in OF_SAMPLES:
        return one.kind == other.kind
    if one.kind != other.kind:  # the mask changed in between
        return False
    if one.scene_hash is not None and other.scene_hash is not None:
        return one.scene_hash == other.scene_hash
    return one.sample_id is not None and one.sample_id == other.sample_id


def _constant_findings(sweep: Sweep) -> list[Finding]:
    scenes = {seen.number for seen in sweep.seen if seen.kind == "scene"} - sweep.doubted
    findings = []
    if dead := [index for index in sweep.constant if index in scenes]:
        text = "{frames} {have} the same value in every pixel, and {are} no dark frame: a dead camera, or a closed lid"
        findings.append(error("constant", text, dead))
    if dull := [index for index in sweep.constant if index not in scenes]:
        text = "{frames} {have} the same value in every pixel; no noise can be learned from that"
        findings.append(note("constant", text, dull))
    return findings


def _saturation_findings(sweep: Sweep, saturated: float) -> list[Finding]:
    findings = []
    if sweep.missaid:
        text = "the saturated share of {frames} is not what the ledger says"
        findings.append(error("metadata", text, sweep.missaid))
    ladder = sweep.store.header.ladder
    by_rung: dict[int, list[int]] = {}
    for seen in sweep.seen:
        if seen.saturated_fraction > saturated:
            by_rung.setdefault(seen.rung, []).append(seen.number)
    for rung, frames in sorted(by_rung.items()):
        text = f"{{frames}} {{have}} more than {saturated:.3g} of the pixels saturated"
        if rung == 0:
            text += "; capture with a shorter exposure"
        else:  # on purpose, to a degree
            times = f", {ladder[rung]:g} x the first exposure" if rung < len(ladder) else ""
            text += f" on rung {rung} of the ladder{times}; there only the shorter exposures count"
        findings.append(note("saturated", text, frames))
    return findings


def _clock_findings(seen: list[Seen], sessions: Sessions) -> list[Finding]:
    """The clock of the rig begins anew when a capture is resumed, and never goes back in between."""
    back: dict[str, list[int]] = {"host_time_s": [], "camera_time_s": [], "unix_time_s": []}
    for before, now in pairwise(seen):
        one_session = sessions.session(before.number) == sessions.session(now.number) and before.run_id == now.run_id
        for name, frames in back.items():
            comparable = one_session or (
                name == "unix_time_s" and sessions.part(before.number) == sessions.part(now.number)
            )
            if comparable and getattr(now, name) < getattr(before, name):
                frames.append(now.number)
    findings = []
    if back["host_time_s"]:
        text = "the clock of the rig goes back at {frames}: these frames are not in the order of their exposure"
        findings.append(error("clock", text, back["host_time_s"]))
    if back["camera_time_s"]:
        text = "the clock of the camera goes back at {frames}: it was started anew, or gave an old frame"
        findings.append(note("clock", text, back["camera_time_s"]))
    if back["unix_time_s"]:
        text = "the wall clock was set back at {frames}; trust the order of the frames, not this time"
        findings.append(note("clock", text, back["unix_time_s"]))
    return findings
