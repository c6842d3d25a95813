"""Designs that are no static mask on a panel, through training, model file, evaluation and simulation."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

from labctl.api import prepare
from labctl.config import ConfigError
from labctl.errors import BadInput
from labctl.protocol import load_protocol, plan_run
from labctl.rig_file import find_rig, load_rig
from protocols.data import Digits
from protocols.metrics import blurriness
from protocols.model_file import load_camera
from protocols.simulation import ExposureRule, Simulation
from sim.designs.dynamic import Dynamic
from sim.designs.lenses import Lens
from sim.designs.masks import Open, Pinhole
from tests.protocols.chain import Chain

PROTOCOL = Path(__file__).parents[2] / "configs" / "protocols" / "designs.yaml"
QUICK = {"type": "train", "epochs": 1, "batch": 512}
EVALUATE = {"type": "evaluate", "stage": "simulated", "model": "${steps.train.model}"}


def designed(folder, *overrides: str, rig: str = "sim") -> Chain:
    return Chain(folder, rig, tuple(f"designs.disc.{override}" for override in overrides), steps={})


def setting_of(chain: Chain):
    return next(iter(prepare(chain.folder / "protocol.yaml", rig=chain.rig, overrides=chain.overrides))).setting


def test_one_protocol_compares_every_design_that_there_is_and_can_be_planned():
    protocol = load_protocol(PROTOCOL)
    ours = [each for each in entry_points(group="labctl.designs") if each.value.startswith("sim.designs.")]
    shipped = {each.name for each in ours if not each.value.startswith("sim.designs.video.")}
    assert {settings.type for settings in protocol.designs.values()} == shipped
    assert all(step.hash for step in plan_run(protocol, load_rig(find_rig("sim"))))


def test_a_read_out_that_changes_the_size_of_frames_goes_with_the_model(tmp_path):
    chain = designed(tmp_path / "two", "type=downsample", "factor=2")
    chain.run(train=QUICK)
    told = chain.run(simulated=EVALUATE).metrics
    model = chain.results["train"].outputs["model"]
    camera = load_camera(model, setting_of(chain))
    assert camera.frame_shape == (16, 16)
    assert told["aperture_ratio"] == told["light_throughput"] == pytest.approx(1)
    chain.overrides = ("designs.disc.type=pixelate",)
    with pytest.raises(BadInput, match=r"reads frames of 16x16 pixels, rig 'sim' and design 'disc' give 32x32"):
        load_camera(model, setting_of(chain))


def test_a_read_out_that_leaves_too_little_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"frames of 8x8 px are too small .*") as refused:
        designed(tmp_path, "type=downsample", "factor=4").run(train=QUICK)
    assert "designs.disc" in str(refused.value)


def test_a_camera_for_clips_is_refused_where_pictures_are_learned(tmp_path):
    with pytest.raises(ConfigError, match=r"'disc' reads clips.*train_video") as refused:
        designed(tmp_path, "type=video_original").run(train=QUICK)
    assert "designs.disc" in str(refused.value)


def test_what_is_judged_for_blur_is_what_is_read_out(tmp_path):
    chain = designed(tmp_path, "type=blur", "sigma_px=6")
    chain.run(train=QUICK)
    told = chain.run(simulated=EVALUATE).metrics["blurriness_noise_free"]
    camera = load_camera(chain.results["train"].outputs["model"], setting_of(chain))
    simulation = Simulation(setting_of(chain).rig, camera.exposure, design=camera.design)
    shown = simulation.shown(torch.from_numpy(Digits().load((63, 63)).images[:40]))
    assert told > blurriness(simulation.all_frames(shown, camera.mask).numpy()[:, 0]) + 0.1


@pytest.fixture(scope="module")
def rig():
    """The rig as designed."""
    return load_rig(find_rig("sim"))


def test_with_the_same_time_a_lens_has_the_light_of_all_cells_and_with_auto_all_fill_the_sensor_alike(rig):
    def electrons(design, exposure_s):
        built = design.build((32, 32), 0)
        simulation = Simulation(rig, ExposureRule(0.9, exposure_s), design=built)
        return simulation.white_e(simulation.psf(built.mask().detach()))

    pinhole, lens, everything = (electrons(design, 1e-4) for design in (Pinhole(), Lens(), Open()))
    assert lens == pytest.approx(1024 * pinhole, rel=2e-3)  # closed cells of a panel of 1e6:1 leak 0.1 % of one cell
    assert lens == pytest.approx(everything, rel=2e-3)
    assert electrons(Lens(), "auto") == pytest.approx(electrons(Open(), "auto"), rel=1e-6)


def test_patterns_of_one_camera_share_the_exposure_of_the_mask_that_stands_for_all(rig):
    design = Dynamic().build((32, 32), 0)
    simulation = Simulation(rig, ExposureRule(0.9), design=design)
    generator = torch.Generator().manual_seed(0)
    white = simulation.shown(torch.ones(6, 1, 63, 63))
    frames = simulation.all_frames(white, design.patterns(generator))
    mask = design.mask().detach()
    assert float(simulation.exposure_of(design.draw(6, generator)).detach()) == float(simulation.exposure_of(mask))
    one = float(simulation.all_frames(white[:1], mask).mean())
    # All patterns open 28 or 29 cells, so white through them differs by no more than one cell.
    assert float((frames.mean(dim=(1, 2, 3)) - one).abs().max()) < 1.1 / 28 * one


def test_a_dynamic_mask_trains_to_the_same_camera_again_and_is_judged_on_fresh_patterns(tmp_path):
    cameras, accuracies = [], []
    for name in ("first", "again"):
        chain = designed(tmp_path / name, "type=dynamic", "freeze_from=1")
        chain.run(train=QUICK)
        accuracies.append(chain.run(simulated=EVALUATE).metrics["accuracy"])
        cameras.append(load_camera(chain.results["train"].outputs["model"], setting_of(chain)))
    assert accuracies[0] == accuracies[1]
    one, other = (camera.design.chances().detach() for camera in cameras)
    assert torch.equal(one, other)
    assert float((one - Dynamic().build((32, 32), 0).chances().detach()).abs().max()) > 0.01, "nothing was learned"
    drawn = [camera.design.draw(3, torch.Generator().manual_seed(1)) for camera in cameras]
    assert torch.equal(*drawn)


def test_a_loop_with_the_bench_wants_one_mask_on_the_panel(tmp_path):
    loop = QUICK | {"gradient": "straight_through", "exposure_s": 0.01}
    for design, text in (("lens", "which no panel can show"), ("dynamic", "shows every frame another pattern")):
        with pytest.raises(ConfigError, match=text):
            designed(tmp_path / design, f"type={design}").run(train=loop)
