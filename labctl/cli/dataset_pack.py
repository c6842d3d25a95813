"""`labctl dataset pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from labctl.cli.talk import print_json, say, shown_progress

Kind = Literal["scene", "dark", "background", "sentinel", "closed", "all"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pack")(_pack)


def _pack(
    where: Annotated[str, typer.Argument(metavar="SET", help="Folder of a set, of the run that made it, or address.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the pack; SET/pack unless given.")] = None,
    kind: Annotated[Kind, typer.Option(help="Which frames.")] = "scene",
    split: Annotated[Literal["train", "val", "test"] | None, typer.Option(help="Only this split.")] = None,
    splitting: Annotated[
        str | None, typer.Option(help="Name of a later split; that of the capture unless given.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only frames of this label.")] = None,
    marked: Annotated[bool, typer.Option("--marked", help="Also frames that are in doubt.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="Subtract the mean dark frame.")] = False,
    closed: Annotated[
        bool, typer.Option("--closed", help="Subtract the frame of the same scene through the closed mask.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", help="Subtract the mean background.")] = False,
    flat: Annotated[str | None, typer.Option(help="Divide by an even light: a .npy file, or a captured set.")] = None,
    rungs: Annotated[
        Literal["merge", "separate"], typer.Option(help="What becomes of the exposures of a ladder.")
    ] = "merge",
    average: Annotated[
        bool, typer.Option("--average", help="One sample of all repeats of a scene: their mean.")
    ] = False,
    dtype: Annotated[
        Literal["uint16", "float32"] | None, typer.Option(help="uint16 for frames as measured, unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Make a copy for training that is mapped into memory. It holds no scenes, and knows when its set has changed."""
    from labctl.frames.finding import open_set
    from labctl.frames.pack import write_pack
    from labctl.frames.samples import Choice, Treatment

    choice: dict[str, Any] = {"split": split, "splitting": splitting, "label": label}
    with shown_progress("packing") as progress:
        pack = write_pack(
            open_set(where),
            out,
            choice=Choice(kind=None if kind == "all" else kind, marked=None if marked else False, **choice),
            treatment=Treatment(
                dark=dark, background=background, closed=closed, flat=flat, rungs=rungs, average=average
            ),
            dtype=dtype,
            progress=progress,
        )
    about = pack.about
    size = sum(file.stat().st_size for file in pack.folder.iterdir())
    say(f"{len(pack)} samples of {about.dtype} {about.frame_shape}, {size / 1e6:.1f} MB, in {pack.folder}")
    if about.clipped_pixels:
        say(f"{about.clipped_pixels} pixels of them clipped in every exposure, or in a repeat: they are lower bounds")
    if about.privacy == "after-readout":
        say("raw frames of this design identify people, and so does the pack; keep it as you keep the set")
    if as_json:
        print_json({"folder": str(pack.folder), "bytes": size, **about.model_dump(mode="json")})
