"""`labctl dataset`: look at a captured set, prove it, split, merge and remove it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from labctl.cli import dataset_files, dataset_pack

dataset_app = typer.Typer(
    help="Look at captured data sets; prove, split, merge, pack, export and remove them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SetPath = Annotated[
    str, typer.Argument(metavar="SET", help="Folder of a captured set, or of a run that made one; or an address.")
]
SetFolder = Annotated[str, typer.Argument(metavar="SET", help="Folder of a captured set, or of a run that made one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, below `dataset`."""
    app.add_typer(dataset_app, name="dataset")


@dataset_app.command()
def info(set_: SetPath, as_json: AsJson = False) -> None:
    """Say what a set is: rig, exposure, counts, splits, marks, privacy. Reads no pixels."""
    from labctl.cli.dataset_tables import info_table
    from labctl.cli.talk import console, print_json
    from labctl.frames.finding import open_set
    from labctl.frames.summary import summarize

    summary = summarize(open_set(set_))
    if as_json:
        print_json(summary)
    else:
        console().print(info_table(summary))


@dataset_app.command()
def verify(
    set_: SetPath,
    quick: Annotated[bool, typer.Option("--quick", help="Believe the pixels, and prove the rest.")] = False,
    saturated: Annotated[
        float, typer.Option("--saturated", min=0, max=1, help="Share of saturated pixels that is noted.")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Prove a set: counts, order, checksums, metadata; find gaps, repeated, constant and saturated frames.

    Changes nothing. Exit code 1 when the set is not what it says it is, 0 when it is; notes do not count.
    """
    from labctl.cli.dataset_tables import show_report
    from labctl.cli.talk import print_json, shown_progress
    from labctl.frames import verify as proofs
    from labctl.frames.finding import open_set

    store = open_set(set_)
    with shown_progress("frames") as progress:
        report = proofs.verify(store, progress, quick=quick, saturated=saturated)
    if as_json:
        print_json(report.dump())
    else:
        show_report(report)
    raise typer.Exit(0 if report.ok else 1)


@dataset_app.command()
def split(
    set_: SetFolder,
    name: Annotated[str, typer.Option("--name", help="What to call the split.")],
    fractions: Annotated[
        tuple[float, float, float], typer.Option("--fractions", help="Shares of train, val and test; they sum to 1.")
    ] = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another split.")] = 0,
    by: Annotated[
        Literal["sample", "label", "identity"],
        typer.Option("--by", help="sample: every label in every part; label or identity: whole labels in one part."),
    ] = "sample",
    replace: Annotated[bool, typer.Option("--replace", help="Replace a split of this name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Split a set anew. The frames stay as they are; learning asks for the split by its name."""
    from labctl.cli.dataset_tables import split_table
    from labctl.cli.talk import console, print_json
    from labctl.frames.card import write_card
    from labctl.frames.finding import open_set
    from labctl.frames.splitting import count_split, split_set, write_split

    store = open_set(set_)
    splitting = split_set(store, by=by, fractions=fractions, seed=seed)
    path = write_split(store.folder, name, splitting, replace=replace)
    counts = count_split(store, splitting)
    write_card(store.folder)
    if as_json:
        print_json({"file": str(path), "by": by, "seed": seed, "parts": counts})
    else:
        console().print(split_table(name, counts))


@dataset_app.command()
def merge(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="Sets, also of an older schema.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new set.")],
    as_repeats: Annotated[
        bool, typer.Option("--as-repeats", help="A sample that two sets have counts as repeated, not as an error.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make one set of several, or a set of today's schema of an older one. The sources stay as they are."""
    from labctl.cli.talk import print_json, say, shown_progress
    from labctl.frames import merge as merging

    with shown_progress("frames") as progress:
        made = merging.merge(sets, out, as_repeats=as_repeats, say=say, progress=progress)
    say(f"{len(made)} frames of {len(sets)} {'set' if len(sets) == 1 else 'sets'}")
    say(f"written: {out}")
    if as_json:
        print_json({"out": str(out), "frames": len(made), "set_id": made.header.set_id})


@dataset_app.command()
def rm(
    set_: SetFolder,
    scenes: Annotated[
        bool, typer.Option("--scenes", help="Only the ground-truth scenes; the coded frames stay.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a set, or only its ground truth. Says what goes and asks before. Nothing brings it back."""
    from labctl.cli.talk import say
    from labctl.frames.removal import remove_ground_truth, remove_set

    folder, what = _what_goes(set_, scenes)
    if what is None:
        say(f"{folder} keeps no ground-truth scenes; nothing is removed")
        return
    _ask(f"remove {what}", yes)
    if scenes:
        remove_ground_truth(folder)
        say(f"removed: the scenes of {folder}; copies of the set may still hold them")
        return
    left = remove_set(folder)
    say(f"removed: {folder}" + (f", but for {', '.join(left)}, which {_belong(left)} to no set" if left else ""))


def _belong(left: list[str]) -> str:
    return "belongs" if len(left) == 1 else "belong"


def _what_goes(set_: str, scenes: bool) -> tuple[Path, str | None]:
    """The folder, and what will be removed of it, in words; None when there is nothing."""
    from labctl.errors import BadInput, LabctlError
    from labctl.frames.finding import find_set
    from labctl.frames.removal import REMOVED, check_removable
    from labctl.frames.scenes import Scenes
    from labctl.frames.store import FrameStore

    if "://" in set_:
        raise BadInput(f"{set_} is not a folder on this machine; remove it with the tools of its storage")
    rest = Path(set_).expanduser()
    if (rest / REMOVED).exists():
        return rest, f"what an earlier removal left of {rest}"
    folder = Path(find_set(set_))
    check_removable(folder)
    if scenes:
        kept = Scenes.open(folder)
        return folder, None if kept is None else f"the {len(kept)} ground-truth scenes of {folder}"
    try:
        store = FrameStore.open(folder)
        title = f" ('{store.header.title}')" if store.header.title else ""
        return folder, f"{folder}{title} with its {len(store)} captured frames"
    except LabctlError as error:  # what cannot be read can still be removed
        return folder, f"{folder}, which cannot be read ({error}),"


def _ask(what: str, yes: bool) -> None:
    """Raises BadInput when nobody can be asked, and Stopped when the answer is no."""
    import sys

    from labctl.cli.talk import say
    from labctl.errors import BadInput, Stopped

    say(f"this will {what}; nothing brings it back")
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInput("nobody can be asked here; nothing was removed; give --yes if this is meant")
    if input("remove it? [yes/no] ").strip().lower() not in ("y", "yes"):
        raise Stopped("nothing was removed")


dataset_files.register(dataset_app)
dataset_pack.register(dataset_app)
