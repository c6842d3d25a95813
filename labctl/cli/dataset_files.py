"""`labctl dataset view` and `labctl dataset export`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labctl.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from labctl.frames.store import FrameStore

MANY = 12
"""More values than this are counted, not listed."""

SetPath = Annotated[
    str, typer.Argument(metavar="SET", help="Folder of a captured set, or of a run that made one; or an address.")
]
KindName = Annotated[
    Literal["scene", "dark", "background", "sentinel", "closed"] | None,
    typer.Option("--kind", help="Only frames of this kind."),
]
SplitName = Annotated[Literal["train", "val", "test"] | None, typer.Option("--split", help="Only this split.")]
Splitting = Annotated[
    str | None,
    typer.Option("--splitting", metavar="NAME", help="As split by `labctl dataset split`, not by the capture."),
]
LabelName = Annotated[str | None, typer.Option("--label", metavar="NAME", help="Only scenes of this label.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(view)
    app.command()(export)


def view(
    set_: SetPath,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="Where to.")] = Path("contact-sheet.png"),
    count: Annotated[
        int, typer.Option("--n", min=1, max=2000, help="Frames to show, spread evenly over those asked for.")
    ] = 64,
    kind: KindName = None,
    split: SplitName = None,
    splitting: Splitting = None,
    label: LabelName = None,
    marked: Annotated[bool, typer.Option("--marked", help="Only frames that are marked as in doubt.")] = False,
    scenes: Annotated[bool, typer.Option("--scenes", help="The sharp scenes beside their frames.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the files when they are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw a contact sheet (FILE.png), and histograms and courses over time (FILE-histograms.png)."""
    from labctl.cli.talk import print_json, say
    from labctl.durable import write_whole
    from labctl.frames.contact_sheet import contact_sheet
    from labctl.frames.finding import open_set
    from labctl.frames.frame_histograms import histograms
    from labctl.frames.scenes import Scenes

    beside = out.with_name(f"{out.stem}-histograms.png")
    for path in (out, beside):
        _check_picture(path, replace=force)
    store = open_set(set_)
    places = store.select(kind=kind, split=split, splitting=splitting, label=label, marked=True if marked else None)
    if not len(places):
        raise BadInput(_nothing(store, {"kind": kind, "split": split, "label": label}, splitting, marked=marked))
    ground_truth = Scenes.open(store.where, **store.source.options) if scenes else None
    if scenes and ground_truth is None:
        raise BadInput(f"{store.where} keeps no scenes; leave --scenes out")
    splits = store.splits(splitting)
    try:
        write_whole(out, contact_sheet(store, places, count=count, splits=splits, scenes=ground_truth))
        write_whole(beside, histograms(store, places, splits=splits))
    except OSError as error:
        raise RunFailed(f"{out} cannot be written: {error.strerror or error}; give --out in another place") from error
    say(f"contact sheet: {out}")
    say(f"histograms:    {beside}")
    if as_json:
        print_json({"contact_sheet": str(out), "histograms": str(beside), "frames": len(places)})


def export(
    set_: SetPath,
    to: Annotated[Literal["nexus", "tiff", "webdataset", "tree"], typer.Option("--to", help="The format.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    coded_only: Annotated[
        bool, typer.Option("--coded-only", help="Nothing that identifies: no scenes, no frames that show them.")
    ] = False,
    scenes: Annotated[bool, typer.Option("--scenes", help="The sharp scenes too, where the set keeps them.")] = False,
    kind: KindName = None,
    split: SplitName = None,
    splitting: Splitting = None,
    label: LabelName = None,
    marked: Annotated[bool, typer.Option("--marked", help="Frames that are marked as in doubt, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write frames and all that is known of them for other programs: HDF5 (NeXus), TIFF, WebDataset, or PNG folders.

    What is written is a folder with the data card and a manifest of sha256 sums. It appears whole or not at all.
    """
    from labctl.cli.talk import print_json, say, shown_progress
    from labctl.frames.export.choice import choose
    from labctl.frames.export.exporting import export_set, privacy_warning
    from labctl.frames.finding import open_set

    choice = choose(
        open_set(set_),
        kind=kind,
        split=split,
        splitting=splitting,
        label=label,
        marked=marked,
        coded_only=coded_only,
        scenes=scenes,
    )
    for reason, count in choice.left_out.items():
        say(f"left out: {count} frames that are {reason}")
    if coded_only and not choice.left_out:
        say("left out: no frame; all that were asked for are protected by the optics, or show nobody")
    if choice.scenes is None:
        say("scenes: left out" if coded_only else "scenes: not asked for")
    warning = privacy_warning(choice)
    if warning:
        say(f"warning: {warning}")
    with shown_progress("frames") as progress:
        manifest = export_set(choice, out, to, progress)
    size = sum(file["bytes"] for file in manifest["files"].values())
    count, total, files = manifest["frames"], manifest["frames_in_set"], len(manifest["files"])
    say(f"{count} of {total} frames in {files} file{'s' if files > 1 else ''}, {size / 1e6:.4g} MB")
    say(f"written: {out}")
    if as_json:
        print_json({"out": str(out), **{name: value for name, value in manifest.items() if name != "files"}})


def _nothing(store: FrameStore, asked: Mapping[str, Any], splitting: str | None, *, marked: bool) -> str:
    """Which frames were not found, and what there is instead of them."""
    if not len(store):
        return f"{store.where} has no frame yet; view it when some are captured"
    told = {name: value for name, value in asked.items() if value is not None}
    said = [f"{name} '{value}'" for name, value in told.items()] + ["marked"] * marked
    there = [f"{name}s: {_found(store, name, splitting)}" for name in told]
    if marked:
        there.append(f"marked: {int(store.marked.sum())}")
    if told.get("kind", "scene") != "scene" and len(told) > 1:
        there.append("only scenes have labels and splits")
    elif len(said) > 1:
        there.append("none of them is all of that")
    return (
        f"{store.where} has no frame that was asked for ({', '.join(said)}); of {len(store)} frames, {'; '.join(there)}"
    )


def _found(store: FrameStore, name: str, splitting: str | None) -> str:
    """Values that frames have, with how many of them; the first few."""
    from labctl.frames.splitting import PARTS

    if name == "split":
        numbers = store.splits(splitting)
        values = [part for number, part in enumerate(PARTS) for _ in range(int((numbers == number).sum()))]
    else:
        values = [value for value in store.column("label_name" if name == "label" else name).tolist() if value != ""]
    counts = Counter(values)
    shown = [f"{value} {count}" for value, count in list(counts.items())[:MANY]]
    more = [f"{len(counts) - MANY} more"] if len(counts) > MANY else []
    return ", ".join(shown + more) or "none"


def _check_picture(path: Path, *, replace: bool) -> None:
    if path.suffix.lower() != ".png":
        raise BadInput(f"{path}: a contact sheet is a PNG; give a name that ends with .png")
    if path.exists() and not replace:
        raise BadInput(f"{path} is there already; give --out another name, or --force to replace it")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {path.parent}; make it first")
