"""The proof of a captured set: that all of it is there, once, in order, as it was written, and makes sense."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from labctl.frames.finding import writer_of
from labctl.frames.layout import FINISHED
from labctl.frames.proof import Finding, Report, error, note
from labctl.frames.source import FolderSource
from labctl.frames.store import FrameStore
from labctl.frames.sweep import Sweep
from labctl.frames.verify_extras import check_extras
from labctl.frames.verify_records import check_records
from labctl.frames.verify_storage import check_storage

Progress = Callable[[int, int], None]
SATURATED = 0.05
"""Share of saturated pixels from which on a frame is noted."""


def verify(
    store: FrameStore, progress: Progress | None = None, *, quick: bool = False, saturated: float = SATURATED
) -> Report:
    """Prove a set, also one that somebody writes, up to what was acknowledged when it began.

    progress: hears how many of how many frames are done. quick: believe the pixels, and prove the rest. One frame is
    in memory at a time. saturated: share of saturated pixels, 0..1, from which on a frame is noted.
    Changes nothing and raises only when nothing can be read: what is wrong stands in the report.
    """
    promised = _promised(store)
    store = FrameStore(store.source)  # what was promised before is in the ledger now, though somebody may write
    expected = max(promised or 0, int(store.column("index").max(initial=-1)) + 1)
    storage = check_storage(store, expected, finished=promised is not None)
    sweep = Sweep(store, pixels=not quick)
    sweep.go(progress or (lambda done, total: None))
    corrupt = sorted(set(storage.corrupt) | set(sweep.damaged))
    findings = [*storage.findings, *_count_findings(store, promised)]
    if changed := set(sweep.damaged) - set(storage.corrupt):
        findings.append(error("corrupt", "{frames} {do} not match the checksum of the ledger", changed))
    checked = check_records(store, sweep, saturated)
    findings += [*checked.findings, *check_extras(store, sweep, quick=quick)]
    present = np.unique(sweep.indices)
    return Report(
        where=store.where,
        frames=len(store),
        planned=store.header.planned,
        finished=promised is not None,
        proven=sweep.proven,
        missing=expected - len(present),
        duplicated=len(store) - len(present) + checked.duplicated,
        corrupt=len(corrupt),
        known=sweep.known(),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity)),
        pixels_read=not quick,
    )


def _promised(store: FrameStore) -> int | None:
    """How many frames the set had when it was finished; None when it was not."""
    text = store.source.read(FINISHED)
    if text is None:
        return None
    try:
        return max(int(json.loads(text)["frames"]), store.header.planned or 0)
    except (ValueError, KeyError, TypeError):
        return store.header.planned


def _count_findings(store: FrameStore, promised: int | None) -> list[Finding]:
    """Whether the ledger is whole: gaps, double lines, and what was planned."""
    findings = []
    indices = np.asarray(store.column("index"))
    counts = np.bincount(indices) if len(indices) else np.empty(0, dtype=np.int64)
    if (counts > 1).any():
        findings.append(error("duplicated", "{frames} {have} more than one line", np.flatnonzero(counts > 1)))
    gaps = np.flatnonzero(counts == 0)
    if len(gaps):
        findings.append(error("missing", "{frames} {are} missing: the ledger has no good line", gaps))
    elif store.problems:
        findings.append(error("metadata", "; ".join(store.problems[:5])))
    there, planned = len(counts), store.header.planned
    if promised is not None and there < promised:
        lost = range(there, promised)
        findings.append(error("missing", f"{{frames}} {{are}} missing: the set was finished with {promised}", lost))
    if promised is not None and there > promised:
        more = range(promised, there)
        findings.append(error("metadata", f"{{frames}} {{are}} beyond the {promised} that were planned", more))
    if promised is None:
        findings.append(_unfinished(store, there, planned))
    return findings


def _unfinished(store: FrameStore, there: int, planned: int | None) -> Finding:
    said = f"{there} of {planned} frames are there" if planned is not None else f"{there} frames are there so far"
    writer = writer_of(store.source.path) if isinstance(store.source, FolderSource) else None
    if writer:
        return note("unfinished", f"{said}; the set is being written by {writer}")
    return error("unfinished", f"{said}; the set is not finished; go on with `labctl resume` and its run")
