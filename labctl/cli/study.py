"""`labctl study`: hold a forced-choice study on captured frames on a local page, and analyse what came of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from labctl.study.conduct import Study
    from labctl.study.folder import StudyFacts
    from labctl.study.server import StudyServer

HOLD = "hold"
PORT = 8750
TRIALS, PRACTICE = 60, 3


class _Commands(TyperGroup):
    """`labctl study RUN` means `labctl study hold RUN`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """See `click.Group.parse_args`."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = [HOLD, *args]
        return super().parse_args(ctx, args)


study_app = typer.Typer(
    cls=_Commands,
    help="Ask people who is in captured frames, and analyse their answers. `labctl study RUN` means `study hold RUN`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, below `study`."""
    app.add_typer(study_app, name="study")


@study_app.command(HOLD)
def hold(
    sets: Annotated[
        list[str],
        typer.Argument(metavar="RUN-or-FRAMES...", help="Captured sets, or runs whose sets shall be asked for."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the study; goes on with it. Default: studies/...")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, max=2000, help=f"Frames per participant. Default: {TRIALS}, or all there are."),
    ] = None,
    choices: Annotated[
        int, typer.Option("--choices", min=2, max=10, help="Reference pictures to choose from; chance is 1/choices.")
    ] = 4,
    seed: Annotated[int, typer.Option("--seed", help="With the participant's code it gives the order.")] = 0,
    practice: Annotated[
        int, typer.Option("--practice", min=0, max=50, help="Frames with feedback first, which do not count.")
    ] = PRACTICE,
    break_every: Annotated[int, typer.Option("--break-every", min=0, help="Trials between breaks; 0: none.")] = 20,
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option("--split", help="Which frames are asked for.")
    ] = "test",
    references: Annotated[
        Path | None,
        typer.Option("--references", metavar="FOLDER", help="class/picture.png or npz. Default: the kept scenes."),
    ] = None,
    consent: Annotated[
        Path | None, typer.Option("--consent", metavar="FILE", help="Text that participants agree to first.")
    ] = None,
    question: Annotated[
        str, typer.Option("--question", help="What stands above the choices.")
    ] = "Which of these is in the picture?",
    show_names: Annotated[bool, typer.Option("--show-names", help="Show the labels below the choices.")] = False,
    encoding: Annotated[
        Literal["linear", "srgb"],
        typer.Option("--encoding", help="How light becomes screen levels: as in the `data` of the protocol."),
    ] = "linear",
    subtract: Annotated[
        Literal["nothing", "dark", "background", "closed"],
        typer.Option("--subtract", help="Take this off the frames first, as whoever has the camera would."),
    ] = "nothing",
    turn: Annotated[
        int,
        typer.Option("--turn", help="Turn frames to the left by 0, 90, 180 or 270 degrees, until they stand upright."),
    ] = 0,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Mirror frames, left to right, before they are turned.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = PORT,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this show pictures to a net.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page here.")] = True,
) -> None:
    """Serve the page of a study until Ctrl-C.

    A forced-choice identification study on captured frames. A participant consents, sees one frame at a time with
    reference pictures below, and picks one. Each answer is on the disk before the next question comes; started again
    with the same arguments, the study goes on.
    """
    from pydantic import ValidationError

    from labctl.cli.talk import say
    from labctl.errors import BadInput
    from labctl.study.conduct import Material, Study, check_study, scenes_to_ask
    from labctl.study.consent import read_consent
    from labctl.study.pool import open_sets
    from labctl.study.server import StudyServer, is_loopback
    from labctl.study.settings import StudySettings

    text = read_consent(consent)
    if not is_loopback(host):
        say(f"careful: --host {host} lets everybody in this network see the pictures, and nothing is encrypted")
    opened = open_sets(sets, None if split == "all" else split, subtract)
    try:
        settings = StudySettings(
            trials=trials or max(1, min(TRIALS, scenes_to_ask(opened) - practice)),
            choices=choices,
            practice=practice,
            break_every=break_every,
            seed=seed,
            split=split,
            subtract=subtract,
            encoding=encoding,
            turn=cast("Any", turn),  # the model says what is allowed
            mirror=mirror,
            show_names=show_names,
            question=question.strip(),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--{first['loc'][0]}: {first['msg']}") from None
    material = Material(opened, settings, references=references, consent=text, say=say)
    folder = out or default_folder(material.facts())
    check_study(material, folder)
    with StudyServer(host, port) as server:
        study = Study(material, folder)
        with study.folder:
            _tell_beginning(study, folder)
            server.hold(study)
            _serve(server, open_page=browser)
            people, answers = study.counts()
            say(f"{people} participants, {answers} answers: {folder / 'answers.csv'}")
            say(f"analyse them with: labctl study analyse {folder}")


def default_folder(facts: StudyFacts) -> Path:
    """The same for the same study, so that it goes on when it is started again."""
    import hashlib
    import json

    digest = hashlib.sha256(json.dumps(facts.dump(), sort_keys=True).encode()).hexdigest()
    return Path("studies") / digest[:10]


def _tell_beginning(study: Study, folder: Path) -> None:
    from labctl.cli.talk import say

    material = study.material
    names = ", ".join(one.name for one in material.sets)
    say(f"{len(material.frames)} frames of {len(material.sets)} sets ({names}); references: {material.gallery.about}")
    people, answers = study.counts()
    say(f"study: {folder}" + (f"; goes on with {people} participants and {answers} answers" if people else ""))


def _serve(server: StudyServer, *, open_page: bool) -> None:
    """Until Ctrl-C, which is how a study ends."""
    import signal
    import webbrowser

    from labctl.cli.talk import say

    say(f"page:  {server.address}  (Ctrl-C ends the study)")
    if open_page:
        with suppress(webbrowser.Error):
            webbrowser.open(server.address)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
    finally:
        signal.signal(signal.SIGTERM, before)


@study_app.command()
def analyse(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a study.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the files. Default: OUT/analysis.")] = None,
    as_json: AsJson = False,
) -> None:
    """Analyse the answers of a study, also while it is held.

    Accuracy by design with intervals, response times, and the curve of accuracy against blurriness. Writes
    analysis.json, designs.csv and study.png, .svg and .pdf.
    """
    from labctl.cli.talk import console, print_json, say
    from labctl.study.analysis import analyse_study
    from labctl.study.files import analysis_table, write_analysis

    found = analyse_study(folder)
    written = write_analysis(found, out or folder / "analysis")
    if as_json:
        print_json(found.dump())
    else:
        console().print(analysis_table(found))
    for line in found.careful:
        say(f"careful: {line}")
    say(f"written: {', '.join(str(path) for path in written)}")
