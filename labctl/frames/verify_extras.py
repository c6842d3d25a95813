"""Whether what lies beside the frames fits them: marks, later splits, ground-truth scenes."""

from __future__ import annotations

from labctl.errors import RunFailed
from labctl.frames.layout import MARKS, SPLITS
from labctl.frames.proof import Finding, error, note
from labctl.frames.scenes import Scenes, scene_hash
from labctl.frames.source import FolderSource
from labctl.frames.store import FrameStore, parse_splits
from labctl.frames.sweep import Sweep


def check_extras(store: FrameStore, sweep: Sweep, *, quick: bool) -> list[Finding]:
    """All findings on what lies beside the frames. quick: believe the kept scenes."""
    return [*_mark_findings(store, sweep), *_split_findings(store, sweep), *_scene_findings(store, sweep, quick)]


def _mark_findings(store: FrameStore, sweep: Sweep) -> list[Finding]:
    try:
        marks = store.marks
    except RunFailed:
        return [error("marks", f"{MARKS} is damaged; no frame can be selected until it is mended")]
    last = int(sweep.indices.max(initial=-1))
    findings = []
    for mark in marks:
        if mark.last < mark.first or mark.last > last:
            said = f"a mark ({mark.word}: {mark.reason}) is about frames {mark.first} to {mark.last}"
            findings.append(error("marks", f"{said}; the set has 0 to {last}"))
    if sweep.doubted:
        words = ", ".join(sorted({mark.word for mark in marks}))
        findings.append(note("marks", f"{{frames}} {{are}} marked ({words}) and left out of learning", sweep.doubted))
    return findings


def _split_findings(store: FrameStore, sweep: Sweep) -> list[Finding]:
    """Later splits must divide the samples that are there. A folder behind an address cannot be listed."""
    if not isinstance(store.source, FolderSource):
        return []
    samples = {seen.sample_id for seen in sweep.seen if seen.sample_id is not None}
    findings = []
    for file in sorted((store.source.path / SPLITS).glob("*.json")):
        try:
            of_sample = parse_splits(file.read_bytes())
        except ValueError:
            findings.append(
                error("splits", f"{SPLITS}/{file.name} is damaged; make it anew with `labctl dataset split`")
            )
            continue
        if not set(of_sample.values()) <= {0, 1, 2}:
            findings.append(error("splits", f"{SPLITS}/{file.name} has parts other than 0, 1 and 2; make it anew"))
        if left := len(samples - set(of_sample)):
            text = f"{left} samples have no part in the split '{file.stem}'; make it anew with `labctl dataset split`"
            findings.append(note("splits", text))
    return findings


def _scene_findings(store: FrameStore, sweep: Sweep, quick: bool) -> list[Finding]:
    """Ground truth, where it is kept, must be that of the frames: one picture is in memory at a time."""
    try:
        scenes = Scenes.open(store.where, **store.source.options)
    except RunFailed as refused:
        return [error("scenes", str(refused))]
    if scenes is None:
        return []
    frames = [seen for seen in sweep.seen if seen.kind == "scene" and seen.sample_id is not None]
    shown = {seen.sample_id: seen.scene_hash for seen in frames if seen.sample_id is not None}
    findings = []
    if left := sorted(sample for sample in shown if not scenes.has(sample)):
        findings.append(note("scenes", f"the ground truth of {len(left)} samples is not kept, as of sample {left[0]}"))
    damaged, other = [], []
    for sample, said in sorted(shown.items()) if not quick else ():
        if scenes.has(sample):
            try:
                if said not in (None, scene_hash(scenes.scene(sample))):
                    other.append(sample)
            except RunFailed:
                damaged.append(sample)
    if damaged:
        text = f"the kept scenes of {len(damaged)} samples are damaged, as that of sample {damaged[0]}"
        findings.append(error("scenes", f"{text}; restore scenes.zarr from a copy"))
    if other:
        text = f"the kept scenes of {len(other)} samples are not those that were shown, as that of sample {other[0]}"
        findings.append(error("scenes", text))
    return findings
