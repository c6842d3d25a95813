"""Mistakes in a protocol file: keys, references, files, grids, steps."""

from __future__ import annotations

from tests.bad_input.lab import PROTOCOL, RIG, Case

PROTOCOL_CASES = [
    # --- keys
    Case("unknown key", "p.yaml:2:1: seed: unknown key; did you mean `seeds`?", "seed: [1]"),
    Case(
        "unknown key in a step",
        "p.yaml:3:11: steps.train.epoch: unknown key; did you mean `epochs`?",
        "steps:\n  train: {epoch: 3}",
    ),
    Case(
        "missing key",
        "p.yaml:1:1: name: is missing; Name of the protocol; runs are called after it.",
        raw=(PROTOCOL, "version: 1\nrig: sim\nsteps:\n  train: {type: train}\n"),
    ),
    Case(
        "missing key in a step",
        "p.yaml:3:9: steps.more.model: is missing; The trained camera to test.",
        "steps:\n  more: {type: evaluate, stage: simulated}",
    ),
    Case("missing scene_px", "p.yaml:2:11: scene_px: is missing; add `scene_px: [rows, columns]`", "scene_px: null"),
    Case(
        "missing data", "p.yaml:1:1: data: is missing; add pictures, for example `data: {type: digits}`", "data: null"
    ),
    Case(
        "missing designs",
        "p.yaml:1:1: designs: there is no design to run; add one, for example `designs: {learned: {type:",
        "designs: null",
    ),
    Case(
        "duplicate key",
        "p.yaml:3:1: the key `seeds` stands twice, first at p.yaml:2:1; keep one",
        "seeds: [0]\nseeds: [1]",
    ),
    Case(
        "wrong unit",
        "p.yaml:3:25: steps.capture.exposure_s: '10 ms' is text; a plain number is needed, in seconds as",
        "steps:\n  capture: {exposure_s: 10 ms}",
    ),
    Case(
        "wrong type",
        "p.yaml:3:19: steps.train.epochs: '8' is text; a whole number is needed",
        "steps:\n  train: {epochs: '8'}",
    ),
    Case(
        "out of range",
        "p.yaml:3:19: steps.train.epochs: 0 is out of range; at least 1 is allowed",
        "steps:\n  train: {epochs: 0}",
    ),
    Case("range of a pair", "p.yaml:2:11: scene_px[1]: is missing; add it", "scene_px: [63]"),
    Case("seed negative", "p.yaml:2:12: seeds[1]: -1 is out of range; at least 0 is allowed", "seeds: [0, -1]"),
    Case("seed twice", "p.yaml:2:8: seeds: [0, 0] names something twice; name each once", "seeds: [0, 0]"),
    Case(
        "bad name",
        "p.yaml:2:7: name: 'my run' is no name; use up to 64 letters, digits, _ and -, a letter or a digit",
        "name: my run",
    ),
    # --- references
    Case(
        "dangling reference",
        "p.yaml:3:19: steps.display.mask: ${steps.tran.mask}: there is no step 'tran'; did you mean `train`?",
        "steps:\n  display: {mask: '${steps.tran.mask}'}",
    ),
    Case(
        "reference to no output",
        "p.yaml:3:19: steps.display.mask: ${steps.train.masks}: the step 'train' has no output 'masks'; did",
        "steps:\n  display: {mask: '${steps.train.masks}'}",
    ),
    Case(
        "wrong kind of reference",
        "p.yaml:3:22: steps.simulated.model: ${steps.train.mask} is of the kind 'mask', 'model' is needed",
        "steps:\n  simulated: {model: '${steps.train.mask}'}",
    ),
    Case(
        "reference to a later step",
        "p.yaml:3:22: steps.simulated.model: ${steps.finetune.model}: the step 'finetune' runs after",
        "steps:\n  simulated: {model: '${steps.finetune.model}'}",
    ),
    Case(
        "no reference",
        "p.yaml:3:19: steps.display.mask: 'mask.npy' is no reference; write ${steps.NAME.OUTPUT}",
        "steps:\n  display: {mask: mask.npy}",
    ),
    Case(
        "compare names an unknown design",
        "p.yaml:2:11: compare[0]: no design is called 'lerned'; the designs are learned",
        "compare: [lerned]",
    ),
    Case(
        "unknown step type",
        "p.yaml:3:16: steps.more.type: 'trian' is unknown; did you mean `train`?",
        "steps:\n  more: {type: trian}",
    ),
    Case(
        "unknown design type",
        "p.yaml:3:19: designs.learned.type: 'lerned' is unknown; did you mean `learned`?",
        "designs:\n  learned: {type: lerned}",
    ),
    Case(
        "unknown data type", "p.yaml:2:14: data.type: 'digit' is unknown; did you mean `digits`?", "data: {type: digit}"
    ),
    Case("unknown model type", "p.yaml:2:15: model.type: 'resnet' is unknown", "model: {type: resnet}"),
    # --- files
    Case(
        "cyclic extends",
        "base.yaml:1:10: extends: the files extend each other in a circle: p.yaml → base.yaml → p.yaml;",
        raw=("base.yaml", "extends: p.yaml\n"),
    ),
    Case(
        "extends nothing",
        "p.yaml:2:10: extends: cannot read nosuch.yaml: there is no such file; mend the path",
        raw=(PROTOCOL, "version: 1\nextends: nosuch.yaml\n"),
    ),
    Case(
        "no such file",
        "cannot read nosuch.yaml: No such file or directory; give the path of a YAML file",
        args=("run", "nosuch.yaml"),
    ),
    Case("a folder as protocol", "cannot read .: Is a directory; give the path of a YAML file", args=("run", ".")),
    Case(
        "not YAML",
        "p.yaml:3:6: not YAML: expected ',' or ']', but got ':' (while parsing a flow sequence)",
        raw=(PROTOCOL, "version: 1\nname: [a\nsteps: {}\n"),
    ),
    Case(
        "a tab",
        "p.yaml:3:1: a tab stands here; indent with spaces",
        raw=(PROTOCOL, "version: 1\nsteps:\n\ttrain: {}\n"),
    ),
    Case("empty file", "p.yaml:1:1: the file is empty; a mapping of settings is needed", raw=(PROTOCOL, "")),
    Case(
        "a list at the top",
        "p.yaml:1:1: a list stands here; a mapping of settings is needed",
        raw=(PROTOCOL, "- a\n- b\n"),
    ),
    Case("version 2", "p.yaml:2:10: version: 2 is not allowed; allowed: 1", "version: 2"),
    Case("a rig file as protocol", "bench.yaml:1:1: this is a rig file, a protocol is needed", args=("run", RIG)),
    # --- grids
    Case(
        "mask larger than the scene",
        "p.yaml:2:13: mask_cells: mask larger than the scene: 64 rows of cells, 63 rows of scene pixels; use",
        "mask_cells: [64, 64]",
    ),
    Case(
        "shadow larger than the image",
        "p.yaml:3:13: mask_cells: mask larger than the scene: the shadow of 33x33 mask cells spans 66x66",
        "scene_px: [33, 33]\nmask_cells: [33, 33]",
        "twin:\n  optics: {mask_pitch_m: 400.0e-6}",
    ),
    Case(
        "mask does not fill the stop",
        "p.yaml:2:13: mask_cells: the mask covers 64x64 display pixels, but 128x128 pass light to the sensor;",
        "mask_cells: [16, 16]",
        "twin:\n  sensor: {shape: [128, 128]}",
    ),
    Case(
        "scene does not fill the view",
        "p.yaml:2:11: scene_px: the scene covers 60x60 display pixels, but 63x63 pass light to the sensor;",
        "scene_px: [60, 60]",
    ),
    Case(
        "scene too large for the sensor",
        "p.yaml:2:11: scene_px: the frame needs 169x169 pixels, sensor.shape is 128x128 in the twin of",
        "scene_px: [200, 200]",
        "twin:\n  sensor: {shape: [128, 128]}\n  monitor: {shape: [200, 200], view_px: [200, 200]}",
    ),
    Case(
        "cell smaller than a sensor pixel",
        "bench.yaml:3:26: twin.optics.mask_pitch_m: a mask cell spans 0.500 sensor pixels; at least 1 is",
        rig="twin:\n  optics: {mask_pitch_m: 100.0e-6}",
    ),
    Case(
        "diffraction",
        "bench.yaml:3:26: twin.optics.mask_pitch_m: diffraction: gap_m * wavelength_m is 5.5e-09 m2, above",
        rig="twin:\n  optics: {mask_pitch_m: 20.0e-6}\n  sensor: {pitch_m: 5.0e-6}",
    ),
    Case(
        "frames too small for the network",
        "p.yaml:2:11: scene_px: frames of 9x9 px are too small for small-residual; at least 16 px each way",
        "scene_px: [40, 40]",
        "twin:\n  monitor: {view_px: [40, 40]}",
    ),
    Case(
        "disc without an open cell",
        "p.yaml:3:12: designs.learned: a disc of radius 0.2 cells opens no cell; use radius_cells of 0.75 or",
        "designs:\n  learned: {type: disc, radius_cells: 0.2}",
    ),
    # --- steps
    Case(
        "exposure beyond the camera",
        "p.yaml:3:25: steps.capture.exposure_s: 30 is out of range; the camera of rig 'sim' allows 1e-05..10",
        "steps:\n  capture: {exposure_s: 30.0}",
    ),
    Case(
        "another exposure than in training",
        "p.yaml:4:25: steps.capture.exposure_s: 0.02 here, 0.001 in step 'train': the frames would be of another "
        "brightness than those that the classifier learns; give both steps the same",
        "steps:\n  train: {exposure_s: 0.001}\n  capture: {exposure_s: 0.02}",
    ),
    Case(
        "a fixed exposure in training alone",
        "quickstart.yaml:LINE:COLUMN: steps.capture.exposure_s: auto here, 0.001 in step 'train': the frames would",
        "steps:\n  train: {exposure_s: 0.001}",
    ),
    Case(
        "filled to another share than in training",
        "p.yaml:3:19: steps.capture.fill: 0.5 here, 0.9 in step 'train': the frames would be of another brightness",
        "steps:\n  capture: {fill: 0.5}",
    ),
    Case(
        "steepness of a panel that has none",
        "p.yaml:3:32: steps.train.panel_steepness_end: the panel of rig 'sim' is learned through straight-through, "
        "which has no steepness to anneal; set twin.panel.surrogate: sigmoid in the rig",
        "steps:\n  train: {panel_steepness_end: 20.0}",
    ),
    Case(
        "a text file as camera to start from",
        "p.yaml:3:17: steps.train.init: p.yaml is no trained camera, or damaged",
        "steps:\n  train: {init: p.yaml}",
    ),
    Case(
        "captured stage without frames",
        "p.yaml:3:21: steps.captured.stage: 'captured' needs captured frames; add `frames:",
        "steps:\n  captured: {stage: captured, frames: null}",
    ),
    Case(
        "simulated stage with frames",
        "p.yaml:3:40: steps.captured.frames: a simulated stage has no captured frames; take",
        "steps:\n  captured: {stage: simulated, frames: '${steps.capture.frames}'}",
    ),
    Case(
        "no test frames captured",
        "p.yaml:3:19: steps.capture.test: 0 is out of range; step 'captured' needs 1 or more scenes of the",
        "steps:\n  capture: {test: 0}",
    ),
    Case(
        "nothing captured",
        "p.yaml:3:20: steps.capture.train: train, val and test are all 0; capture at least one scene",
        "steps:\n  capture: {train: 0, val: 0, test: 0}",
    ),
    Case(
        "operator without a terminal",
        "p.yaml:3:8: steps.ask: asks an operator, but nobody can answer; run in a terminal, give",
        "steps:\n  ask: {type: operator, prompt: Switch the room light off}",
    ),
    Case(
        "operator labels without mask",
        "p.yaml:3:50: steps.ask.labels: `labels` needs `mask`, what the SLM shows meanwhile; add it",
        "steps:\n  ask: {type: operator, prompt: Show it, labels: [mug]}",
    ),
    Case(
        "unknown instrument",
        "p.yaml:4:24: steps.capture.instruments.lmp: rig 'sim' has no instrument 'lmp'; did you mean `lamp`?",
        "steps:\n  capture:\n    instruments: {lmp: {power: 1.0}}",
    ),
    Case(
        "camera as instrument",
        "p.yaml:4:27: steps.capture.instruments.camera: rig 'sim' has no instrument 'camera'",
        "steps:\n  capture:\n    instruments: {camera: {gain: 1.0}}",
    ),
    Case(
        "unknown quantity",
        "p.yaml:4:31: steps.capture.instruments.lamp.pwr: 'lamp' has no quantity 'pwr'; did you mean `power`?",
        "steps:\n  capture:\n    instruments: {lamp: {pwr: 1.0}}",
    ),
    Case(
        "quantity beyond its limit",
        "p.yaml:4:33: steps.capture.instruments.lamp.power: 1.5 is out of range; 'lamp' allows 0..1",
        "steps:\n  capture:\n    instruments: {lamp: {power: 1.5}}",
    ),
]
