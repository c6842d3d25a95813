from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.api import prepare
from labctl.config import dump_yaml
from labctl.errors import BadInput
from labctl.protocol import RunPlan


@pytest.fixture
def quickstart(configs: Path) -> Path:
    return configs / "protocols" / "quickstart.yaml"


def plan(path: Path, *overrides: str, rig: str | None = None) -> RunPlan:
    return prepare(path, rig=rig, overrides=overrides)


def hashes(made: RunPlan) -> dict[str, str]:
    return {step.key.split("/")[0]: step.hash for step in made}


def changed(before: RunPlan, after: RunPlan) -> set[str]:
    old, new = hashes(before), hashes(after)
    return {name for name in old if old[name] != new.get(name)}


def test_planning_twice_gives_the_same_hashes(quickstart: Path) -> None:
    assert changed(plan(quickstart), plan(quickstart)) == set()


def test_a_changed_setting_changes_the_step_and_what_follows_from_it(quickstart: Path) -> None:
    after = plan(quickstart, "steps.finetune.epochs=13")
    assert changed(plan(quickstart), after) == {"finetune", "finetuned", "report"}


def test_another_bench_changes_what_is_captured_but_not_what_is_trained(quickstart: Path) -> None:
    after = plan(quickstart, "rig.world.seed=2")
    assert changed(plan(quickstart), after) == {"display", "capture", "captured", "finetune", "finetuned", "report"}


def test_another_twin_changes_the_training(quickstart: Path) -> None:
    assert "train" in changed(plan(quickstart), plan(quickstart, "rig.twin.sensor.read_noise_e=4"))


def test_other_data_changes_what_uses_it(quickstart: Path) -> None:
    assert {"train", "capture"} <= changed(plan(quickstart), plan(quickstart, "data.split_seed=1"))


def test_every_design_and_seed_is_a_step_of_its_own_and_the_report_comes_last(quickstart: Path) -> None:
    made = plan(quickstart, "seeds=[0, 3]", "designs.open.type=open", "compare=[open, learned]")
    keys = [step.key for step in made]
    assert len(keys) == 7 * 4 + 1
    assert keys[0] == "train/open/seed0"
    assert keys[7] == "train/learned/seed0"
    assert keys[14] == "train/open/seed3"
    assert keys[-1] == "report"
    assert len({step.hash for step in made}) == len(keys)


def test_two_equal_captures_do_not_share_their_exposures(quickstart: Path) -> None:
    again = 'steps.again={type: capture, mask: "${steps.train.mask}"}'
    made = hashes(plan(quickstart, again, 'steps.capture={type: capture, mask: "${steps.train.mask}"}'))
    assert made["again"] != made["capture"]


def test_where_the_data_lies_does_not_change_a_hash(configs: Path, tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 70, 70), dtype=np.uint8)
    arrays = {"images": images, "identity": np.arange(12) % 2, "split": np.arange(12) // 4}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    np.savez(tmp_path / "a" / "d.npz", **arrays)
    (tmp_path / "b" / "d.npz").write_bytes((tmp_path / "a" / "d.npz").read_bytes())
    faces = configs / "protocols" / "lensless-faces.yaml"
    one, other = (
        plan(faces, f"data.path={tmp_path / folder / 'd.npz'}", "data.min_per_identity=1") for folder in ("a", "b")
    )
    assert changed(one, other) == set()
    assert one.protocol.resolved()["data"]["path"] == str(tmp_path / "a" / "d.npz")


def test_a_plan_foretells_frames_bytes_and_what_moves(quickstart: Path) -> None:
    capture = next(step for step in plan(quickstart) if step.key.startswith("capture/"))
    assert capture.estimate.frames == 240 + 60 + 357
    assert capture.estimate.disk_bytes > 657 * 2 * 32 * 32
    assert any("shows the mask" in text for text in capture.estimate.moves)


def test_the_resolved_protocol_plans_to_the_same_hashes(quickstart: Path, tmp_path: Path) -> None:
    made = plan(quickstart)
    (tmp_path / "resolved.yaml").write_text(dump_yaml({**made.protocol.resolved(), "rig": "as-built"}))
    assert changed(made, plan(tmp_path / "resolved.yaml")) == set()


def test_one_word_in_the_protocol_swaps_the_rig(quickstart: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"extends: {quickstart}\nrig: sim\n")
    assert plan(tmp_path / "p.yaml").rig.name == "sim"
    assert plan(tmp_path / "p.yaml", rig="as-built").rig.name == "as-built"


def test_no_rig_is_ever_chosen_silently(quickstart: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"extends: {quickstart}\nrig: null\n")
    with pytest.raises(BadInput, match="rig: is missing; add `rig: sim`"):
        plan(tmp_path / "p.yaml")


@pytest.mark.parametrize("name", ["quickstart", "lensless-faces"])
def test_shipped_protocols_validate_against_their_own_schema(name: str, configs: Path) -> None:
    import jsonschema

    from labctl.file_schemas import protocol_schema
    from labctl.yaml_source import load_yaml

    jsonschema.validate(load_yaml(configs / "protocols" / f"{name}.yaml").data, protocol_schema())


@pytest.mark.parametrize("name", ["sim", "as-built"])
def test_shipped_rigs_validate_against_their_own_schema(name: str, configs: Path) -> None:
    import jsonschema

    from labctl.file_schemas import rig_schema
    from labctl.yaml_source import load_yaml

    data: Any = load_yaml(configs / "rigs" / f"{name}.yaml").data
    jsonschema.validate(data, rig_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, "lamp": 1}, rig_schema())
