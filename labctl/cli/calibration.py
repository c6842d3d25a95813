"""`labctl calibration`: which calibrations a rig has, whether they may still be used, and what is in one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl.cli.bench import AsJson, Overrides, RigName

if TYPE_CHECKING:
    from rich.table import Table

    from labctl.calibration.record import Calibration, Value
    from labctl.calibration.shelf import Shelf
    from labctl.calibration.validity import Verdict
    from labctl.rig_file import RigSpec

calibration_app = typer.Typer(help="Look at the calibrations of a rig.", no_args_is_help=True, rich_markup_mode=None)

MAIN_VALUES = 4
"""Values of a calibration that the list shows; `show` has all."""

COLOURS = {"good": "green", "stale": "yellow", "foreign": "red"}

MaybeRig = Annotated[
    str | None,
    typer.Option("--rig", envvar="LABCTL_BENCH_RIG", help="Rig name or file. Default: what LABCTL_BENCH_RIG says."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, below `calibration`."""
    app.add_typer(calibration_app, name="calibration")


@calibration_app.command("list")
def list_(rig: RigName, set_: Overrides = None, as_json: AsJson = False) -> None:
    """The newest calibration of each kind: its age, whether it may be used on this rig, why not, and its main values.

    Opens no device: temperatures are not compared here, and settings of a method are those of a protocol.
    """
    from labctl.calibration.kinds import installed_kinds
    from labctl.calibration.shelf import Shelf
    from labctl.cli.in_hand import read_rig
    from labctl.cli.talk import console, print_json, say

    spec = read_rig(rig, set_)
    shelf = Shelf(spec.name)
    kinds = installed_kinds()
    found = list(_newest(shelf, spec, kinds))
    missing = [name for name in kinds if name not in {calibration.kind for calibration, _ in found}]
    if as_json:
        rows = [_as_json(calibration, verdict) for calibration, verdict in found]
        print_json({"rig": spec.name, "folder": str(shelf.folder), "calibrations": rows, "missing": missing})
        return
    if found:
        console().print(_list_table(found, spec.name))
    if missing:
        say(f"never measured: {', '.join(missing)}")
    if missing or not all(verdict.good for _, verdict in found):
        say(f"measure what is missing or stale: labctl run configs/protocols/calibrate.yaml --rig {rig}")


@calibration_app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="KIND|FILE", help="A kind, as `list` names it, or a file (.npz).")],
    rig: MaybeRig = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Write its one-page plot.")] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """All of one calibration: values with errors and units, what it stands on and holds for, its raw frames."""
    from labctl.calibration.kinds import installed_kinds
    from labctl.cli.in_hand import read_rig
    from labctl.cli.talk import console, print_json, say

    spec = None if rig is None else read_rig(rig, set_)
    calibration, file = _chosen(what, spec)
    verdict = None if spec is None else _judged(calibration, spec, installed_kinds(), {})
    if plot is not None:
        _plot(calibration, plot)
    if as_json:
        told = _as_json(calibration, verdict)
        print_json({**told, "file": str(file), **({} if plot is None else {"plot": str(plot)})})
        return
    console().print(_about_table(calibration, verdict, file))
    console().print(_values_table(calibration.record.values))
    for warning in calibration.record.warnings:
        say(f"careful: {warning}")
    if plot is not None:
        say(f"page: {plot}")


# What is there


def _newest(shelf: Shelf, spec: RigSpec, kinds: Mapping[str, Any]) -> Iterator[tuple[Calibration, Verdict]]:
    there = shelf.kinds()
    ids: dict[str, str] = {}
    for kind in [*(name for name in kinds if name in there), *(name for name in there if name not in kinds)]:
        calibration = shelf.newest(kind)
        if calibration is not None:
            yield calibration, _judged(calibration, spec, kinds, ids)
            ids[kind] = calibration.id


def _judged(calibration: Calibration, spec: RigSpec, kinds: Mapping[str, Any], newest: Mapping[str, str]) -> Verdict:
    from labctl.calibration.validity import judge

    kind = kinds.get(calibration.kind)
    return judge(calibration.record, spec, version=None if kind is None else kind.version, newest=newest)


def _chosen(what: str, spec: RigSpec | None) -> tuple[Calibration, Path]:
    """Raises BadInput when there is none."""
    from labctl.calibration.record import Calibration
    from labctl.calibration.shelf import SUFFIX, Shelf
    from labctl.errors import BadInput
    from labctl.suggest import one_of

    if what.endswith(SUFFIX) or "/" in what:
        return Calibration.load(Path(what)), Path(what)
    if spec is None:
        raise BadInput(f"`{what}` of which rig? add --rig, or give the file of a calibration ({SUFFIX})")
    shelf = Shelf(spec.name)
    found = shelf.newest(what)
    if found is None:
        there = shelf.kinds()
        known = one_of(what, there) if there else "there is none of any kind"
        raise BadInput(
            f"rig '{spec.name}' has no calibration `{what}`; {known}; "
            f"measure it with `labctl run configs/protocols/calibrate.yaml --rig {spec.name}`"
        )
    return found, next(path for path in reversed(shelf.files(what)) if found.id in path.name)


def _plot(calibration: Calibration, path: Path) -> None:
    """Raises BadInput for a name that is no PNG, and for a kind that nothing installed knows."""
    import io

    from labctl.calibration.kinds import draw_page
    from labctl.durable import write_whole
    from labctl.errors import BadInput

    if path.suffix != ".png":
        raise BadInput(f"--plot {path}: a PNG is written; give a name that ends with .png")
    content = io.BytesIO()
    draw_page(calibration).savefig(content, format="png", dpi=110, bbox_inches="tight")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())


# How it is told


def _as_json(calibration: Calibration, verdict: Verdict | None) -> dict[str, Any]:
    record = calibration.record
    told = record.model_dump(mode="json", exclude={"devices", "units", "format"})
    standing = {} if verdict is None else {"standing": verdict.standing, "reasons": list(verdict.reasons)}
    return {"kind": record.kind, "id": calibration.id, **standing, "age_s": time.time() - record.made, **told}


def _list_table(found: list[tuple[Calibration, Verdict]], rig: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from labctl.calibration.telling import told_values

    table = Table(title=f"calibrations of rig '{escape(rig)}'", title_justify="left")
    table.add_column("kind", no_wrap=True)
    table.add_column("age", no_wrap=True)
    table.add_column("standing", overflow="fold")
    table.add_column("values", overflow="fold")
    for calibration, verdict in found:
        standing = f"[{COLOURS[verdict.standing]}]{verdict.standing}[/]"
        if verdict.reasons:
            standing += ": " + escape("; ".join(verdict.reasons))
        table.add_row(
            calibration.kind, _age(calibration), standing, escape(told_values(calibration.record, MAIN_VALUES))
        )
    return table


def _about_table(calibration: Calibration, verdict: Verdict | None, file: Path) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _about(calibration, verdict, file):
        table.add_row(name, escape(text))
    return table


def _about(calibration: Calibration, verdict: Verdict | None, file: Path) -> Iterator[tuple[str, str]]:
    from labctl.calibration.validity import in_words

    record = calibration.record
    yield "kind", f"{record.kind}, version {record.version} of the method (labctl {record.labctl})"
    yield "file", str(file)
    yield "id", calibration.id
    yield "rig", f"{record.rig} ({record.rig_hash[:16]})"
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.made))
    yield "made", f"{made}, {_age(calibration)} ago; counts for {in_words(record.max_age_s)}"
    yield "standing", "not judged; add --rig" if verdict is None else str(verdict)
    yield "took", f"{record.exposures} exposures, {record.seconds:.1f} s"
    yield "settings", _pairs(record.settings) or "none"
    yield "holds for", _pairs(record.holds_for) or "every setting of the camera"
    yield "stands on", ", ".join(f"{kind} {id_}" for kind, id_ in record.built_on.items()) or "nothing else"
    if record.readings:
        units = {name: "" if unit == "1" else f" {unit}" for name, unit in record.units.items()}
        yield "readings", _pairs({name: f"{value:g}{units.get(name, '')}" for name, value in record.readings.items()})
    for name, note in record.arrays.items():
        array = calibration.arrays[name]
        yield f"array {name}", f"{_by(array.shape)}, {_unit(note.unit)}: {note.text}"
    for name, array in calibration.raw.items():
        if "." not in name:
            yield f"raw {name}", f"{len(array)} frames of {_by(array.shape[1:])} px" + _exposures(calibration, name)


def _exposures(calibration: Calibration, name: str) -> str:
    times = calibration.raw.get(f"{name}.exposure_s")
    if times is None or len(times) == 0:
        return ""
    low, high = 1e3 * float(times.min()), 1e3 * float(times.max())
    return f", {low:.4g} ms" if low == high else f", {low:.4g} to {high:.4g} ms"


def _values_table(values: Mapping[str, Value]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from labctl.calibration.telling import told

    table = Table(title="values ± one standard deviation", title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("what it is", overflow="fold")
    for name, value in values.items():
        table.add_row(name, told(value), escape(value.text))
    return table


def _age(calibration: Calibration) -> str:
    from labctl.calibration.validity import in_words

    return in_words(max(0.0, time.time() - calibration.record.made))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "1"


def _unit(unit: str) -> str:
    return "relative" if unit == "1" else unit
