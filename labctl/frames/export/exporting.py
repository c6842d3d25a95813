"""An export is a folder: the frames, what is known of them, the data card, and a manifest that proves the files."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from labctl import __version__
from labctl.durable import sync_folder, write_json
from labctl.errors import BadInput, RunFailed
from labctl.frames.export.choice import Choice
from labctl.frames.export.export_card import export_card
from labctl.frames.layout import CARD, is_set

Format = Literal["nexus", "tiff", "webdataset", "tree"]

SCHEMA = "labctl.export/1"
MANIFEST, WARNING = "manifest.json", "PRIVACY.txt"

Writer = Callable[[Choice, Path, Callable[[], None]], None]
"""Writes the frames into a folder and calls after each."""


def export_set(
    choice: Choice, out: Path, to: Format, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Write the chosen frames to the new folder `out`, whole or not at all, and return its manifest.

    progress: takes how many of how many frames are written. Raises BadInput when `out` is there or lies in a set, or
    when a library is missing; RunFailed when a frame is damaged or the disk refuses.
    """
    _check_target(out)
    write = _writer(to)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, len(choice))

    with _whole_folder(out) as folder:
        write(choice, folder, advance)
        (folder / CARD).write_text(export_card(choice, to))
        warning = privacy_warning(choice)
        if warning:
            (folder / WARNING).write_text(f"{warning}\n")
        manifest = _manifest(choice, to, warning)
        manifest["files"] = _fingerprints(folder)
        write_json(folder / MANIFEST, manifest)
    return manifest


def privacy_warning(choice: Choice) -> str:
    """What whoever gets this export must know before passing it on; empty when the optics protect every frame."""
    said = [
        f"{count} frames {_REVEALS[level]} (privacy level '{level}')" for level, count in choice.identifying.items()
    ]
    if choice.scenes is not None:
        said.append(f"The sharp scenes of {len(choice.scene_ids())} samples lie beside the frames")
    return f"{'. '.join(said)}. Treat this export like the scenes themselves." if said else ""


_REVEALS = {
    "after-readout": "identify: their design protects only after the read-out",
    "none": "identify: their design protects nobody",
    "unknown": "may identify: nobody said what their design protects",
}


def _writer(to: Format) -> Writer:
    try:
        if to == "nexus":
            from labctl.frames.export.nexus import write_nexus

            return write_nexus
        if to == "tiff":
            from labctl.frames.export.tiff import write_tiff

            return write_tiff
    except ImportError as error:
        raise BadInput(
            f"an export to {to} needs the library {error.name}; install it with: pip install 'labctl[export]'"
        ) from error
    if to == "webdataset":
        from labctl.frames.export.webdataset import write_webdataset

        return write_webdataset
    from labctl.frames.export.tree import write_tree

    return write_tree


def _check_target(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise BadInput(f"{out} is there already; an export makes a new folder, give another name")
    for folder in out.absolute().parents:
        if is_set(folder):
            raise BadInput(f"{out} lies inside the captured set {folder}; export to a place outside of it")


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name at the end, or is removed."""
    folder = out.absolute().with_name(f".{out.name}.{os.getpid()}.part")
    try:
        folder.mkdir(parents=True)
        yield folder
        os.sync()  # once for all: file by file, 5000 frames of 2 kB take 100 times as long
        folder.rename(out)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunFailed(f"{out} cannot be written: {_why(error)}; what was written is removed") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.strerror}; free some space, or give --out on another disk"
    return f"{error.strerror or error}; give --out in another place"


def _manifest(choice: Choice, to: Format, warning: str) -> dict[str, Any]:
    store = choice.store

    def counts(name: str) -> dict[str, int]:
        return dict(sorted(Counter(str(value) or "none" for value in store.column(name)[choice.places]).items()))

    splits = Counter({-1: "none", 0: "train", 1: "val", 2: "test"}[split] for split in choice.splits.tolist())
    return {
        "schema": SCHEMA,
        "format": to,
        "labctl": __version__,
        "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "set": store.header.model_dump(mode="json"),
        "frames": len(choice),
        "frames_in_set": len(store),
        "by_kind": counts("kind"),
        "by_split": dict(sorted(splits.items())),
        "by_label": counts("label_name"),
        "by_privacy": counts("privacy"),
        "left_out": dict(choice.left_out),
        "scenes": len(choice.scene_ids()),
        "privacy_warning": warning,
    }


def _fingerprints(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file, by its path in the export."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return found
