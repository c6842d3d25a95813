"""The table of mistakes: one row each, with the place, the path and the words that the user must be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_input.lab import PROTOCOL, RIG, RUN, Case


def pictures(folder: Path, corrupt: int) -> None:
    """Two classes of twelve pictures each below `pics`, the first `corrupt` of class `a` cut short."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / "pics" / label).mkdir(parents=True)
        for index in range(12):
            path = folder / "pics" / label / f"{index:02}.png"
            Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(path)
            if label == "a" and index < corrupt:
                path.write_bytes(path.read_bytes()[:90])


def npz(folder: Path, **changes: object) -> None:
    """`d.npz` of twenty pictures, two people, three splits; a change of None leaves a key out."""
    rng = np.random.default_rng(0)
    arrays: dict[str, object] = {
        "images": rng.integers(0, 255, (20, 16, 16), dtype=np.uint8),
        "identity": np.arange(20) % 2,
        "split": np.repeat([0, 1, 2, 0, 2], 4),
    }
    chosen = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    np.savez(folder / "d.npz", **chosen)  # type: ignore[arg-type]


def _summary_is_broken(folder: Path) -> None:
    (folder / "torn").mkdir()
    (folder / "torn" / "summary.json").write_text('{"status": "fini')


NPZ = "data: {type: npz, path: d.npz}"
FOLDER = "data: {type: folder, path: pics}"
CASES = [
    # --- keys
    Case("unknown key", (), "seed: [1]"),
    Case("unknown key in a step", (), "steps:\n  train: {epoch: 3}"),
    Case("missing key", (), raw=(PROTOCOL, "version: 1\nrig: sim\nsteps:\n  train: {type: train}\n")),
    Case("missing key in a step", (), "steps:\n  more: {type: evaluate, stage: simulated}"),
    Case("missing scene_px", (), "scene_px: null"),
    Case("missing data", (), "data: null"),
    Case("missing designs", (), "designs: null"),
    Case("duplicate key", (), "seeds: [0]\nseeds: [1]"),
    Case("wrong unit", (), "steps:\n  capture: {exposure_s: 10 ms}"),
    Case("wrong type", (), "steps:\n  train: {epochs: '8'}"),
    Case("out of range", (), "steps:\n  train: {epochs: 0}"),
    Case("range of a pair", (), "scene_px: [63]"),
    Case("seed negative", (), "seeds: [0, -1]"),
    Case("seed twice", (), "seeds: [0, 0]"),
    Case("bad name", (), "name: my run"),
    # --- references
    Case("dangling reference", (), "steps:\n  display: {mask: '${steps.tran.mask}'}"),
    Case("reference to no output", (), "steps:\n  display: {mask: '${steps.train.masks}'}"),
    Case("wrong kind of reference", (), "steps:\n  simulated: {model: '${steps.train.mask}'}"),
    Case("reference to a later step", (), "steps:\n  simulated: {model: '${steps.finetune.model}'}"),
    Case("no reference", (), "steps:\n  display: {mask: mask.npy}"),
    Case("compare names an unknown design", (), "compare: [lerned]"),
    Case("unknown step type", (), "steps:\n  more: {type: trian}"),
    Case("unknown design type", (), "designs:\n  learned: {type: lerned}"),
    Case("unknown data type", (), "data: {type: digit}"),
    Case("unknown model type", (), "model: {type: resnet}"),
    # --- files
    Case("cyclic extends", (), raw=("base.yaml", "extends: p.yaml\n")),
    Case("extends nothing", (), raw=(PROTOCOL, "version: 1\nextends: nosuch.yaml\n")),
    Case("no such file", (), args=("run", "nosuch.yaml")),
    Case("a folder as protocol", (), args=("run", ".")),
    Case("not YAML", (), raw=(PROTOCOL, "version: 1\nname: [a\nsteps: {}\n")),
    Case("a tab", (), raw=(PROTOCOL, "version: 1\nsteps:\n\ttrain: {}\n")),
    Case("empty file", (), raw=(PROTOCOL, "")),
    Case("a list at the top", (), raw=(PROTOCOL, "- a\n- b\n")),
    Case("version 2", (), "version: 2"),
    Case("a rig file as protocol", (), args=("run", RIG)),
    # --- data
    Case("data file missing", (), NPZ),
    Case("data is no npz", (), NPZ, make=lambda folder: (folder / "d.npz").write_text("hello") and None),
    Case("npz without keys", (), NPZ, make=lambda folder: npz(folder, identity=None, split=None)),
    Case("npz without test split", (), NPZ, make=lambda folder: npz(folder, split=np.repeat([0, 1], 10))),
    Case("npz out of range", (), NPZ, make=lambda folder: npz(folder, images=np.full((20, 16, 16), 255.0))),
    Case("picture folder missing", (), FOLDER),
    Case("picture folder without classes", (), FOLDER, make=lambda folder: (folder / "pics").mkdir()),
    Case("corrupt pictures", (), FOLDER, make=lambda folder: pictures(folder, 2)),
    Case("corrupt pictures skipped until a class is empty", (), "data: {type: folder, path: pics, corrupt: skip}",
         make=lambda folder: pictures(folder, 12)),
    Case("too many asked of each person", (), "data: {type: npz, path: d.npz, min_per_identity: 11}", make=npz),
    # --- grids
    Case("mask larger than the scene", (), "mask_cells: [64, 64]"),
    Case("shadow larger than the image", (), "scene_px: [33, 33]\nmask_cells: [33, 33]",
         "twin:\n  optics: {mask_pitch_m: 400.0e-6}"),
    Case("mask does not fill the stop", (), "mask_cells: [16, 16]"),
    Case("scene does not fill the view", (), "scene_px: [60, 60]"),
    Case("scene too large for the sensor", (), "scene_px: [200, 200]",
         "twin:\n  monitor: {shape: [200, 200], view_px: [200, 200]}"),
    Case("cell smaller than a sensor pixel", (), rig="twin:\n  optics: {mask_pitch_m: 100.0e-6}"),
    Case("diffraction", (), rig="twin:\n  optics: {mask_pitch_m: 20.0e-6}\n  sensor: {pitch_m: 5.0e-6}"),
    Case("frames too small for the network", (), "scene_px: [40, 40]", "twin:\n  monitor: {view_px: [40, 40]}"),
    Case("disc without an open cell", (), "designs:\n  learned: {type: disc, radius_cells: 0.2}"),
    # --- steps
    Case("exposure beyond the camera", (), "steps:\n  capture: {exposure_s: 30.0}"),
    Case("captured stage without frames", (), "steps:\n  captured: {frames: null}"),
    Case("simulated stage with frames", (), "steps:\n  captured: {stage: simulated}"),
    Case("no test frames captured", (), "steps:\n  capture: {test: 0}"),
    Case("nothing captured", (), "steps:\n  capture: {train: 0, val: 0, test: 0}"),
    Case("operator without a terminal", (), "steps:\n  ask: {type: operator, prompt: Switch the room light off}"),
    Case("operator labels without mask", (), "steps:\n  ask: {type: operator, prompt: Show it, labels: [mug]}"),
    Case("unknown instrument", (), "steps:\n  capture:\n    instruments: {lmp: {power: 1.0}}"),
    Case("camera as instrument", (), "steps:\n  capture:\n    instruments: {camera: {gain: 1.0}}"),
    Case("unknown quantity", (), "steps:\n  capture:\n    instruments: {lamp: {pwr: 1.0}}"),
    Case("quantity beyond its limit", (), "steps:\n  capture:\n    instruments: {lamp: {power: 1.5}}"),
    # --- rigs
    Case("rig lacks the camera", (), rig="camera: null\nsafe_order: [lamp, mask, scene]"),
    Case("rig lacks the lamp", (), rig="instruments: null\nsafe_order: [mask, scene, camera]"),
    Case("unknown key in the rig", (), rig="cammera: {type: sim.camera}"),
    Case("missing key in the rig", (), raw=(RIG, "version: 1\nname: bench\n")),
    Case("wrong unit in the rig", (), rig="twin:\n  optics: {gap_mm: 10}"),
    Case("range in the rig", (), rig="twin:\n  sensor: {bits: 99}"),
    Case("duplicate key in the rig", (), rig="name: a\nname: b"),
    Case("rig extends nothing", (), raw=(RIG, "extends: nosuch.yaml\n")),
    Case("empty rig", (), raw=(RIG, "")),
    Case("version 2 of a rig", (), rig="version: 2"),
    Case("unknown device type", (), rig="camera: {type: sim.camra}"),
    Case("device of the wrong kind", (), rig="camera: {type: sim.panel}"),
    Case("simulated device without world", (), rig="world: null"),
    Case("light_path unknown", (), rig="light_path: simulatd"),
    Case("safe_order incomplete", (), rig="safe_order: [lamp, mask]"),
    Case("safe_order names the unknown", (), rig="safe_order: [lamp, mask, scene, camera, shutter]"),
    Case("exposure limits the wrong way", (), rig="twin:\n  sensor: {exposure_limits_s: [1.0, 0.5]}"),
    Case("rig unknown in the protocol", (), "rig: smi"),
    Case("rig file missing", (), "rig: rigs/bench.yaml"),
    Case("no rig chosen", (), "rig: null"),
    # --- the command line
    Case("--rig unknown", (), args=(*RUN, "--rig", "as-buildt")),
    Case("--rig file missing", (), args=(*RUN, "--rig", "nosuch.yaml")),
    Case("--set typo in a key", (), args=(*RUN, "--set", "steps.train.epoch=3")),
    Case("--set typo in a step", (), args=(*RUN, "--set", "steps.tran.epochs=3")),
    Case("--set bad value", (), args=(*RUN, "--set", "steps.train.epochs=many")),
    Case("--set without =", (), args=(*RUN, "--set", "steps.train.epochs")),
    Case("--set nothing", (), args=(*RUN, "--set", "steps.train.epochs=")),
    Case("--set into a list", (), args=(*RUN, "--set", "seeds.0=3")),
    Case("--set typo in the rig", (), args=(*RUN, "--set", "rig.world.sed=3")),
    Case("--set bad value in the rig", (), args=(*RUN, "--set", "rig.twin.sensor.bits=99")),
    Case("unknown command", (), args=("rnu", PROTOCOL)),
    Case("no protocol", (), args=("run",)),
    Case("unknown option", (), args=("run", PROTOCOL, "--fast")),
    Case("option of the wrong type", (), args=("run", PROTOCOL, "--wait", "soon")),
    Case("schema of nothing", (), args=("schema", "run")),
    Case("runs show no run", (), args=("runs", "show", "nosuch")),
    Case("runs compare no run", (), args=("runs", "compare", "nosuch")),
    Case("runs below no folder", (), args=("runs", "--root", "nosuch")),
    Case("resume no run", (), args=("resume", ".")),
    Case("status of no run", (), args=("status", "nosuch")),
    Case("status of a torn summary", (), args=("status", "torn"), make=_summary_is_broken),
    Case("stop no run", (), args=("stop", "nosuch")),
    Case("abort no run", (), args=("abort", "nosuch")),
    # --- the output folder
    Case("--out onto a file", (), args=("run", PROTOCOL, "--out", "base.yaml")),
    Case("--out below a file", (), args=("run", PROTOCOL, "--out", "base.yaml/run")),
    Case("--out onto a full folder", (), args=("run", PROTOCOL, "--out", ".")),
    Case("--out onto a run", (), args=("run", PROTOCOL, "--out", "torn"), make=_summary_is_broken),
    Case("--out with an endless name", (), args=("run", PROTOCOL, "--out", "x" * 300)),
]
