"""Commands for a person at the bench: snap, show, get, set, live. Each opens the whole rig and leaves it safe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labctl.errors import BadInput

if TYPE_CHECKING:
    from labctl.exposure import Exposure
    from labctl.knobs import Knob, Value
    from labctl.light_path import RigDevices

RigName = Annotated[
    str, typer.Option("--rig", envvar="LABCTL_BENCH_RIG", help="Rig name or file. Default: what LABCTL_BENCH_RIG says.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the rig file, e.g. rig.world.seed=7."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for a rig that is in use.")
]
With = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="NAME=VALUE", help="Set this meanwhile, e.g. lamp.power=0.5. See `labctl get`."),
]
MaskSaid = Annotated[
    str, typer.Option("--mask", metavar="WHAT", help="open, closed, grey:0..255, grid, checker, a .npy or a picture.")
]
SceneSaid = Annotated[
    str | None,
    typer.Option(
        "--scene", metavar="WHAT", help="The same on the scene monitor. Default: it is dark, for live scenes."
    ),
]
Seconds = Annotated[
    float | None, typer.Option("--exposure", min=1e-6, max=60, metavar="SECONDS", help="Default: 0.01, if possible.")
]
Gain = Annotated[float, typer.Option("--gain", min=0, max=48, metavar="DB", help="Analogue gain.")]
Roi = Annotated[
    str | None, typer.Option("--roi", metavar="ROWSxCOLUMNS", help="Centred region to read. Default: the whole sensor.")
]

SATURATION_TO_NAME = 0.05
"""Share of saturated pixels from which on `labctl snap` says what to do."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (snap, show, live):
        app.command()(command)
    app.command("get")(get_)
    app.command("set")(set_)


def set_meanwhile(given: list[str] | None) -> dict[str, str]:
    """What --with sets. Raises BadInput for exposure and gain, which every command sets anew for its own frames."""
    settings = _settings(given)
    for name, option in (("camera.exposure_s", "--exposure"), ("camera.gain_db", "--gain")):
        if name in settings:
            raise BadInput(f"--with {name}={settings[name]}: the frames are taken with {option}; give that instead")
    return settings


def snap(
    rig: RigName,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to: .png, .tif or .npz.")] = None,
    mask: MaskSaid = "open",
    scene: SceneSaid = None,
    exposure: Seconds = None,
    gain: Gain = 0.0,
    roi: Roi = None,
    average: Annotated[int, typer.Option("--average", min=1, max=10_000, metavar="N", help="Mean of N frames.")] = 1,
    with_: With = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE when it is there.")] = False,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Take one frame, show its histogram, and write it with all that must be known of it."""
    from labctl.cli.histogram import figures, figures_line, histogram
    from labctl.cli.in_hand import read_rig, rig_in_hand
    from labctl.cli.talk import console, print_json, say
    from labctl.knobs import check_settings, knobs_of, turn
    from labctl.patterns import mask_pattern, scene_pattern
    from labctl.snapshot import check_target, take_snapshot, write_snapshot

    spec = read_rig(rig, set_)
    settings = set_meanwhile(with_)
    check_settings(spec, settings)
    if file is not None:
        check_target(file, replace=force)
    mask_shown, scene_shown = mask_pattern(mask), None if scene is None else scene_pattern(scene)
    region = _region(roi)
    with rig_in_hand(spec, wait_s=wait) as opened:
        devices = opened.devices()
        turn(knobs_of(devices), settings)
        wanted = _exposure(devices, exposure, gain, region)
        snapshot = take_snapshot(opened, mask_shown, scene_shown, wanted, average=average)
        if file is not None:
            write_snapshot(snapshot, file)
    values = figures(snapshot.pixels, snapshot.saturation_dn)
    # Of several frames the mean hides what saturated; the frames themselves told it.
    values["saturated_fraction"] = snapshot.metadata["saturated_fraction"]
    rows, columns = snapshot.pixels.shape
    frames = "one frame" if average == 1 else f"the mean of {average} frames"
    say(
        f"{rows}x{columns} px, {frames} of {1e3 * snapshot.metadata['exposure_s']:.4g} ms at "
        f"{snapshot.metadata['gain_db']:.3g} dB, rig '{spec.name}' ({spec.nature_in_words})"
    )
    if values["saturated_fraction"] > SATURATION_TO_NAME:
        say(f"{values['saturated_fraction']:.0%} of the pixels are saturated; shorten --exposure, or lower --gain")
    if as_json:
        print_json({**snapshot.metadata, **values, "file": None if file is None else str(file)})
    else:
        drawn = histogram(snapshot.pixels, snapshot.saturation_dn)
        console().print(drawn + figures_line(values, snapshot.saturation_dn))
    if file is not None:
        say(f"written: {file}")


def show(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="A picture, a mask.npy, black, white, grey:128, grid ...")
    ],
    rig: RigName,
    on: Annotated[Literal["mask", "scene"], typer.Option("--on", help="On which display.")],
    levels: Annotated[
        bool, typer.Option("--levels", help="As the panel's own levels and pixels, without gamma, contrast and cells.")
    ] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="How long. Default: until Ctrl-C.")] = None,
    with_: With = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
) -> None:
    """Show a picture, a mask or a test pattern on a display; afterwards the rig is made safe, so it is blank again."""
    from labctl.cli.in_hand import hold, read_rig, rig_in_hand
    from labctl.cli.talk import say
    from labctl.knobs import check_settings, knobs_of, turn
    from labctl.patterns import level_pattern, mask_levels, mask_pattern, scene_levels, scene_pattern

    spec = read_rig(rig, set_)
    spec.require((on,), f"`labctl show --on {on}`")
    settings = set_meanwhile(with_)
    check_settings(spec, settings)
    pattern = (level_pattern if levels else mask_pattern if on == "mask" else scene_pattern)(what)
    with rig_in_hand(spec, wait_s=wait) as opened:
        devices = opened.devices()
        turn(knobs_of(devices), settings)
        display = devices.mask if on == "mask" else devices.scene
        assert display is not None
        if levels:
            picture = pattern.draw(display.shape)
        elif on == "mask":
            picture = mask_levels(pattern, display.shape, spec.roads.mask)
        else:
            picture = scene_levels(pattern, display.shape, spec.roads.scene)
        display.show(picture)
        rows, columns = display.shape
        until = "Ctrl-C" if seconds is None else f"{seconds:g} s have passed"
        say(f"{on} ({rows}x{columns} px, rig '{spec.name}') shows {what} until {until}")
        hold(seconds)


def get_(
    rig: RigName,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="As lamp.power, or lamp for all of it.")
    ] = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Read quantities of instruments and features of the camera; all of them, with units and limits, without a NAME.

    Opening a rig makes it safe first: a lamp reads as dark, unless `labctl set` in the same session lit it.
    """
    from labctl.cli.in_hand import read_rig, rig_in_hand
    from labctl.cli.knob_table import knob_table
    from labctl.cli.talk import console, print_json
    from labctl.errors import HardwareError
    from labctl.knobs import check_names, chosen, knobs_of

    spec = read_rig(rig, set_)
    check_names(spec, names or [])
    values: dict[str, Value | None] = {}
    failures: dict[str, str] = {}
    with rig_in_hand(spec, wait_s=wait) as opened:
        knobs = chosen(knobs_of(opened.devices()), names or [])
        for name, knob in knobs.items():
            try:
                values[name] = knob.read()
            except HardwareError as error:
                failures[name] = str(error)
    if as_json:
        print_json({"values": values, "failures": failures})
    else:
        console().print(knob_table(knobs, values, failures))
    if failures:
        raise HardwareError("; ".join(f"{name} cannot be read: {text}" for name, text in failures.items()))


def set_(
    settings: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="As lamp.power=0.5.")],
    rig: RigName,
    hold_s: Annotated[
        float | None, typer.Option("--hold", min=0, metavar="SECONDS", help="How long. Default: until Ctrl-C.")
    ] = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Set quantities of instruments and features of the camera, read them back, and hold them.

    A value holds as long as this command holds the rig: then the rig is made safe, lamps dark and shutters closed.
    """
    from labctl.cli.in_hand import hold, read_rig, rig_in_hand
    from labctl.cli.talk import print_json, say
    from labctl.knobs import check_settings, knobs_of, turn

    spec = read_rig(rig, set_)
    wanted = _settings(settings)
    check_settings(spec, wanted)
    with rig_in_hand(spec, wait_s=wait) as opened:
        knobs = knobs_of(opened.devices())
        taken = turn(knobs, wanted)
        for name, value in taken.items():
            say(f"{name} is {value}{_unit(knobs[name])}")
        if as_json:
            print_json({"values": taken})
        say(f"held until {'Ctrl-C' if hold_s is None else f'{hold_s:g} s have passed'}; then the rig is made safe")
        hold(hold_s)


def live(
    rig: RigName,
    mask: MaskSaid = "open",
    scene: SceneSaid = None,
    exposure: Seconds = None,
    gain: Gain = 0.0,
    roi: Roi = None,
    preview: Annotated[
        Path | None, typer.Option("--preview", metavar="FILE.png", help="Keep this picture of the last frame fresh.")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, help="How long. Default: until Ctrl-C.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="End after so many frames.")] = None,
    with_: With = None,
    set_: Overrides = None,
    wait: Wait = 0.0,
    as_json: AsJson = False,
) -> None:
    """Watch the camera: frame rate, saturation, focus, lost frames, a histogram, and a picture that stays fresh."""
    from labctl.cli.in_hand import read_rig, rig_in_hand
    from labctl.cli.talk import print_json
    from labctl.cli.viewfinder import watch
    from labctl.knobs import check_settings, knobs_of, turn
    from labctl.patterns import mask_levels, mask_pattern, scene_levels, scene_pattern
    from labctl.preview import check_preview

    spec = read_rig(rig, set_)
    settings = set_meanwhile(with_)
    check_settings(spec, settings)
    if preview is not None:
        check_preview(preview)
    mask_shown, scene_shown = mask_pattern(mask), None if scene is None else scene_pattern(scene)
    region = _region(roi)
    if scene_shown is not None:
        spec.require(("scene",), f"--scene {scene}")
    with rig_in_hand(spec, wait_s=wait) as opened:
        devices = opened.devices()
        turn(knobs_of(devices), settings)
        wanted = _exposure(devices, exposure, gain, region)
        devices.mask.show(mask_levels(mask_shown, devices.mask.shape, spec.roads.mask))
        if devices.scene is not None and scene_shown is not None:
            devices.scene.show(scene_levels(scene_shown, devices.scene.shape, spec.roads.scene))
        devices.clock.sleep(max(devices.mask.settle_s, 0.0 if devices.scene is None else devices.scene.settle_s))
        told = watch(devices, wanted, preview=preview, seconds=seconds, frames=frames)
    if as_json:
        print_json({"rig": spec.name, **told})


def _settings(given: list[str] | None) -> dict[str, str]:
    from labctl.knobs import parse_setting

    return dict(parse_setting(text) for text in given or ())


def _region(said: str | None) -> tuple[int, int] | None:
    if said is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", said)
    if found is None:
        raise BadInput(f"--roi {said}: rows and columns are needed, such as --roi 480x640")
    return int(found[1]), int(found[2])


def _exposure(devices: RigDevices, time_s: float | None, gain_db: float, roi: tuple[int, int] | None) -> Exposure:
    from labctl.exposure import Exposure
    from labctl.knobs import usual_exposure_s

    wanted_s = usual_exposure_s(devices.camera) if time_s is None else time_s
    return Exposure(exposure_s=wanted_s, gain_db=gain_db, roi=roi)


def _unit(knob: Knob) -> str:
    return "" if knob.unit in ("", "1") else f" {knob.unit}"
