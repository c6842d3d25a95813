"""Mistakes in a rig file."""

from __future__ import annotations

from tests.bad_input.lab import RIG, Case

RIG_CASES = [
    # --- rigs
    Case("a protocol as rig", "p.yaml:1:1: this is a protocol, a rig file is needed", "rig: p.yaml"),
    Case(
        "rig lacks the camera",
        "quickstart.yaml:LINE:COLUMN: steps.display: step 'display' (display) needs the device camera, which rig",
        rig="camera: null\nsafe_order: [lamp, mask, scene]",
    ),
    Case(
        "rig lacks the lamp",
        "quickstart.yaml:LINE:COLUMN: steps.capture.instruments.lamp: rig 'sim' has no instrument 'lamp'",
        rig="instruments: null\nsafe_order: [mask, scene, camera]",
    ),
    Case(
        "unknown key in the rig",
        "bench.yaml:2:1: cammera: unknown key; did you mean `camera`?",
        rig="cammera: {type: sim.camera}",
    ),
    Case(
        "missing key in the rig",
        "bench.yaml:1:1: twin: is missing; What is known about the set-up, as a model to train in:",
        raw=(RIG, "version: 1\nname: bench\n"),
    ),
    Case(
        "wrong unit in the rig",
        "bench.yaml:3:12: twin.optics.gap_mm: unknown key; did you mean `gap_m`?",
        rig="twin:\n  optics: {gap_mm: 10}",
    ),
    Case(
        "range in the rig",
        "bench.yaml:3:18: twin.sensor.bits: 99 is out of range; at most 16 is allowed",
        rig="twin:\n  sensor: {bits: 99}",
    ),
    Case(
        "duplicate key in the rig",
        "bench.yaml:3:1: the key `name` stands twice, first at bench.yaml:2:1; keep one",
        rig="name: a\nname: b",
    ),
    Case(
        "rig extends nothing",
        "bench.yaml:1:10: extends: cannot read nosuch.yaml: there is no such file; mend the path",
        raw=(RIG, "extends: nosuch.yaml\n"),
    ),
    Case("empty rig", "bench.yaml:1:1: the file is empty; a mapping of settings is needed", raw=(RIG, "")),
    Case("version 2 of a rig", "bench.yaml:2:10: version: 2 is not allowed; allowed: 1", rig="version: 2"),
    Case(
        "unknown device type",
        "bench.yaml:2:16: camera.type: 'sim.camra' is unknown; did you mean `sim.camera`?",
        rig="camera: {type: sim.camra}",
    ),
    Case(
        "device of the wrong kind",
        "bench.yaml:2:16: camera.type: 'sim.panel' is a display; a camera is needed here",
        rig="camera: {type: sim.panel}",
    ),
    Case(
        "simulated device without world",
        "sim.yaml:LINE:COLUMN: mask.type: 'sim.panel' is simulated and needs a `world:` to stand in; add `world:",
        rig="world: null",
    ),
    Case(
        "light_path unknown",
        "bench.yaml:2:13: light_path: 'simulatd' is unknown; did you mean `simulated`?",
        rig="light_path: simulatd",
    ),
    Case(
        "safe_order incomplete",
        "bench.yaml:2:13: safe_order: lacks scene, camera; name every device once: mask, scene, camera, lamp",
        rig="safe_order: [lamp, mask]",
    ),
    Case(
        "safe_order names the unknown",
        "bench.yaml:2:13: safe_order: names the unknown shutter; name every device once: mask, scene,",
        rig="safe_order: [lamp, mask, scene, camera, shutter]",
    ),
    Case(
        "exposure limits the wrong way",
        "bench.yaml:3:31: twin.sensor.exposure_limits_s: [1, 0.5] is out of order; the first must be the",
        rig="twin:\n  sensor: {exposure_limits_s: [1.0, 0.5]}",
    ),
    Case(
        "cells too fine for a geometric shadow",
        "LINE:COLUMN: twin.optics.mask_pitch_m: diffraction: gap_m * wavelength_m is 1.1e-07 m2, above mask_pitch_m "
        "squared, 4e-08 m2; the shadow is not geometric: set optics.model: fresnel",
        rig="twin:\n  optics: {gap_m: 0.2}",
    ),
    Case(
        "scene too near for the Fresnel approximation",
        "bench.yaml:3:19: twin.optics.model: not paraxial: a scene point 0.012 m away sees the rim of the mask under a "
        "tangent of 0.377, more than 0.25; use a smaller mask or a larger scene distance",
        rig="twin:\n  optics: {model: fresnel, scene_distance_m: 0.012}",
    ),
    Case(
        "sensor too coarse for the Fresnel approximation",
        "bench.yaml:3:19: twin.optics.model: a sensor pixel of 0.0002 m needs 216 samples for fringes of 7.41e-06 m, "
        "more than 64: diffraction hardly shows; use the geometric shadow (optics.model: shadow)",
        rig="twin:\n  optics: {model: fresnel, gap_m: 1.0e-4}\n  sensor: {pitch_m: 200.0e-6}",
    ),
    Case(
        "optical model unknown",
        "bench.yaml:3:19: twin.optics.model: 'fresnell' is not allowed; did you mean `fresnel`?",
        rig="twin:\n  optics: {model: fresnell}",
    ),
    Case(
        "Bayer pattern unknown",
        "bench.yaml:3:20: twin.sensor.colour: 'rgbg' is not allowed; did you mean",
        rig="twin:\n  sensor: {colour: rgbg}",
    ),
    Case(
        "colour response out of range",
        "bench.yaml:3:50: twin.sensor.channel_response[1]: 2.0 is out of range; at most 1 is allowed",
        rig="twin:\n  sensor: {colour: rggb, channel_response: [1.0, 2.0, 1.0]}",
    ),
    Case("rig unknown in the protocol", "p.yaml:2:6: rig: there is no rig 'smi'; did you mean `sim`?", "rig: smi"),
    Case("rig file missing", "p.yaml:2:6: rig: there is no rig file 'rigs/bench.yaml'", "rig: rigs/bench.yaml"),
    Case("no rig chosen", "p.yaml:2:6: rig: is missing; add `rig: sim` to the protocol or give --rig sim", "rig: null"),
]
