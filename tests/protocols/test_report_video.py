"""The report on cameras for clips: every frame at its time, the steps as they are, and two read-outs told apart."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from protocols.attack.record import Attack
from protocols.attack.table import rows_of
from protocols.report.audit import _panels, _strongest_table
from protocols.report.page import Animation, Picture, Section, Table, render
from protocols.report.tables import Answers, Score
from protocols.report.video import curve_of, dead_zone, strips_of, video_section
from protocols.report.video_figures import Strip, moving_picture, strips_figure, transfer_figure
from protocols.video.transfer import TransferCurve, transfer_curve
from tests.protocols import video_doubles as doubles

T, SIDE = doubles.FRAMES, doubles.SIDE


@pytest.fixture(autouse=True)
def held_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras come from memory, and their clips without a rig."""
    monkeypatch.setattr("protocols.video.camera_file.load_video_camera", doubles.load_video_camera)
    monkeypatch.setattr("protocols.video.encoded.encoded", doubles.encoded)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are drawn from here on."""
    figures: list[Figure] = []
    make = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        make(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_a_difference_stands_below_the_later_of_its_two_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    clip = np.arange(4.0)[:, None, None] * np.ones((4, 3, 3)) / 4
    strips = [Strip("clip", clip), Strip("hard", clip[1:], first=1, signed=True)]
    strips_figure({"action: left": strips}, [0, 1, 3], 0.04)
    above, below = figures[0].axes
    assert len(above.images) == 3
    assert len(below.images) == 2
    middles = [np.mean(image.get_extent()[:2]) for image in below.images]
    assert middles == pytest.approx([1, 2])
    assert float(below.images[1].get_array().max()) == pytest.approx(clip[3].max())
    assert [label.get_text() for label in below.get_xticklabels()] == ["0", "40", "120"]
    assert below.get_xlabel() == "time (ms)"
    assert below.images[0].get_clim() == (-1, 1)
    assert above.images[0].get_clim() == (0, 1)


def test_learned_steps_are_drawn_with_a_tick_for_each_threshold_and_zero_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = drawn(monkeypatch)
    design = doubles.Steps((-0.3, 0.1, 0.4))
    transfer_figure({"d": {name: transfer_curve(design, name, (8, 8)) for name in ("hard", "soft")}})  # type: ignore[arg-type]
    lines = [line for line in figures[0].axes[0].lines]
    at = [float(line.get_xdata()[0]) for line in lines if len(set(line.get_xdata())) == 1]  # type: ignore[arg-type,index]
    assert sorted(at) == pytest.approx([-0.3, 0.0, 0.1, 0.4], abs=2e-3)


def test_the_dead_zone_is_what_cannot_be_told_from_no_change() -> None:
    curve = transfer_curve(doubles.Steps((-0.25, -0.05, 0.15)), "hard", (8, 8))
    assert dead_zone(curve) == pytest.approx((-0.05, 0.15), abs=2e-3)
    assert dead_zone(transfer_curve(doubles.Steps((0.2,)), "hard", (8, 8))) == pytest.approx((-1, 0.2), abs=2e-3)


def test_a_moving_picture_has_all_frames_and_grey_where_nothing_is_read_yet() -> None:
    bright = np.ones((3, 8, 8))
    bright[2, 0] = 0
    gif = moving_picture([Strip("clip", bright), Strip("hard", bright[1:], first=1, signed=True)])
    with Image.open(io.BytesIO(gif)) as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
        assert picture.size == (324, 160)
        first = np.asarray(picture.convert("L"))
        picture.seek(1)
        second = np.asarray(picture.convert("L"))
    assert first[80, 40] == 255
    assert first[80, 300] == pytest.approx(128, abs=2)
    assert second[80, 300] == 255


def evidence_of(tmp_path: Path, *operators: str) -> Any:
    """A run of one camera for clips with an evaluation for each read-out."""
    from protocols.video.evaluate import EvaluateVideo

    made = []
    tiny = {"epochs": 1, "first_cycle": 1}
    for operator in operators:
        step = EvaluateVideo.model_validate(
            {"type": "evaluate_video", "model": "${steps.train.model}", "operator": operator, "budget": tiny}
        )
        doubles.Bench(tmp_path, doubles.Steps()).run(step, operator)
        instance = SimpleNamespace(name=operator, design="d", seed=0, key=f"{operator}/d/s0")
        folder = tmp_path / "artifacts" / "d" / "s0" / operator
        made.append(SimpleNamespace(instance=instance, design="d", folder=folder))
    return SimpleNamespace(
        of=lambda type_: made if type_ == "evaluate_video" else [],
        data=SimpleNamespace(class_names=("left", "right")),
        designs=("d",),
    )


def test_the_section_shows_clips_steps_networks_and_a_moving_picture(tmp_path: Path) -> None:
    blocks = video_section(evidence_of(tmp_path, "soft", "hard"), {})
    assert [type(block) for block in blocks] == [Picture, Animation, Picture, Table, Table]
    table, costs = blocks[3:]
    assert isinstance(costs, Table)
    assert costs.head[:3] == ["design", "parameters", "bytes"]
    assert isinstance(table, Table)
    assert [row[2] for row in table.rows] == ["the same → soft", "the same → hard"]
    page = render([Section("video", "Clips", blocks)], HEAD)
    assert page.count("data:image/gif;base64,") == 1
    assert "figures/clip-d.gif" in page
    steps = blocks[2]
    assert isinstance(steps, Picture)
    assert "5 levels, the one around zero from −0.10 to +0.10" in steps.caption


def test_a_run_without_cameras_for_clips_has_no_such_section() -> None:
    assert video_section(SimpleNamespace(of=lambda type_: []), {}) == []  # type: ignore[arg-type]


def test_kept_clips_are_those_of_the_data_and_their_read_outs(tmp_path: Path) -> None:
    evidence_of(tmp_path, "hard")
    with np.load(tmp_path / "artifacts/d/s0/hard/shown.npz") as file:
        kept = {name: file[name] for name in file.files}
    strips = strips_of(kept, 1)
    assert [strip.name for strip in strips] == ["clip", "soft", "hard"]
    assert [strip.first for strip in strips] == [0, 1, 1]
    again = doubles.Steps().read_clips(torch.from_numpy(strips[0].frames)[None, :, None], "hard")[0, :, 0].numpy()
    assert np.mean(np.abs(again - strips[2].frames) > 0.01) < 0.02  # but for the noise
    curve = curve_of(kept, "hard")
    assert isinstance(curve, TransferCurve)
    assert curve.edges == pytest.approx([-0.3, -0.1, 0.1, 0.3], abs=2e-3)


HEAD = {
    "name": "n", "description": "", "rig": "r", "nature": "", "real": False, "status": "", "complete": True,
    "began": "", "made": "", "alarms": [], "headline": "", "second": "", "designs": "", "seeds": "",
}  # fmt: skip


# Trade-off


def attack(operator: str, where: Any, share: float) -> Attack:
    items = np.arange(20) < 20 * share
    return Attack(
        goal="actor", attacker="a", knows="all labels", where=where, stage="simulated", items=items,
        sample_ids=np.arange(20), chance=0.1, control=np.ones(20, dtype=bool), control_chance=0.1, needed=0.5,
        operator=operator,
    )  # fmt: skip


def score(operator: str, right: int, trained_on: str | None = None) -> Score:
    labels = np.zeros(20, dtype=np.int64)
    answers = Answers(labels, (np.arange(20) >= right).astype(np.int64), np.arange(20))
    metrics = {"stage": "simulated", "operator": operator, "trained_on": trained_on}
    return Score("d", f"{operator}-{trained_on}", "simulated", {0: answers}, {0: metrics})


def test_each_read_out_is_set_against_the_attackers_on_it_and_never_against_mixed_networks() -> None:
    rows = rows_of([("d", 0, attack("soft", "clip", 0.5)), ("d", 0, attack("hard", "clip", 0.3))])
    found = [score("hard", 5, trained_on="soft"), score("hard", 16), score("soft", 18)]
    (panel,) = _panels(SimpleNamespace(designs=("d",)), rows, found)  # type: ignore[arg-type]
    told = {point.design: (point.utility[0], point.attack[0]) for point in panel.points}
    assert told == {"d, soft": (90.0, 50.0), "d, hard": (80.0, pytest.approx(30.0))}
    assert panel.chance == pytest.approx(10)


def test_the_strongest_table_names_read_outs_and_how_clips_were_judged() -> None:
    rows = rows_of([("d", 0, attack("hard", "frame", 0.25)), ("d", 0, attack("hard", "clip", 0.5))])
    table = _strongest_table(SimpleNamespace(designs=("d",)), rows)  # type: ignore[arg-type]
    assert table.rows[0][0] == "d, simulated, hard"
    assert table.head == ["design, frames", "actor from clips, strongest attacker", "actor from clips, frame by frame"]
    assert [cell.split(" ")[0] for cell in table.rows[0][1:]] == ["50.0", "25.0"]
