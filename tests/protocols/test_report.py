"""The report of a run: it tells what the files say, needs nothing from outside, and copes with what is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

import labctl
from labctl.durable import write_json
from labctl.store import RunFolder
from protocols.metrics import Interval
from protocols.report import tables
from protocols.report.audit import tradeoff
from protocols.report.comparison import accuracy_section, exposure_words, learned_designs, own_start, verdict
from protocols.report.figures import (
    COLUMN_IN,
    PAGE_IN,
    Curve,
    Dot,
    Drawing,
    accuracy_figure,
    confusion_figure,
    curves_figure,
    histogram_figure,
)
from protocols.report.page import Section, Table, Text, render
from protocols.report.pictures import CameraView, ExportedView, camera_figure, exported_figure, scenes_figure
from protocols.report.sections import PARTS
from protocols.report.step import write_report

SMALL = {
    "scene_px": [24, 24],
    "mask_cells": [8, 8],
    "seeds": [0, 1],
    "steps.train.epochs": 1,
    "steps.train.batch": 256,
    "steps.capture.train": 20,
    "steps.capture.witness": "none",
    "steps.capture.val": 10,
    "steps.capture.test": 60,
    "steps.finetune.epochs": 1,
    "steps.live": {
        "type": "operator", "prompt": "Stand there", "labels": ["left", "right"], "mask": "${steps.train.mask}",
        "exposure_s": 0.01,
    },
    "rig.twin.panel.stop_px": [32, 32],
    "rig.twin.monitor.view_px": [24, 24],
}  # fmt: skip


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One small run of the quickstart, report included; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("report")
    configs = Path(__file__).parents[2] / "configs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        run = labctl.run_protocol(
            configs / "protocols" / "quickstart.yaml", rig="as-built", out=folder / "run", set=SMALL, ask=said_yes
        )
        assert run.status == "finished", run.outcome
        yield run.path


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunFolder:
    """A copy of the small run."""
    return RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))


def said_yes(question: str, allowed: tuple[str, ...]) -> str:
    return allowed[0]


def page_of(run: RunFolder, *anchors: str) -> str:
    """The page with these parts only."""
    write_report(run, [part for part in PARTS if part[0] in anchors])
    return run.report_file.read_text()


def without_steps(run: RunFolder, *types: str) -> None:
    """Let the summary say that these steps have not run."""
    summary = run.summary()
    for row in summary["steps"]:
        if row["type"] in types:
            row.update(status="waiting", outputs={}, metrics={}, seconds=0.0)
    write_json(run.summary_file, summary)


def comparison(run: Path) -> list[dict[str, str]]:
    with (run / "artifacts" / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_report_holds_the_accuracies_of_the_comparison(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    evidence = tables.read_evidence(RunFolder(finished_run))
    rows = comparison(finished_run)
    assert len(tables.scores(evidence)) == 3
    for score in tables.scores(evidence):
        told = [float(row["accuracy"]) for row in rows if row["stage"] == score.stage]
        assert score.interval.mean == pytest.approx(np.mean(told))
        assert f"<td>{tables.percent(score.interval)}</td>" in page
    assert f"<td>{tables.share(float(rows[0]['majority']))}</td>" in page
    assert f"<td>{tables.share(float(np.mean([float(row['aperture_ratio']) for row in rows])))}</td>" in page


def test_the_page_needs_nothing_from_outside_and_its_figures_lie_beside_it(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"src\s*=\s*[\"'](?!data:image/png;base64,)", page)
    assert not re.search(r"href\s*=\s*[\"'](?!figures/|#)", page)
    assert not re.search(r"url\(|@import|https?://", page)
    figures = {path.stem for path in (finished_run / "figures").glob("*.png")}
    assert {"accuracy", "cameras-1", "scenes-learned", "histograms", "training", "confusion-1", "timing"} <= figures
    assert page.count("data:image/png;base64,") == len(figures)


def test_every_figure_is_linked_as_pdf_and_svg_of_a_column_of_a_paper(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    links = re.findall(r'href="(figures/[^"]+)"', page)
    assert {Path(link).suffix for link in links} == {".pdf", ".svg"}
    assert len(links) == len(set(links)) == 2 * len(list((finished_run / "figures").glob("*.png")))
    for link in links:
        content = (finished_run / link).read_bytes()
        if link.endswith(".pdf"):
            assert content.startswith(b"%PDF-")
            points = float(re.search(rb"/MediaBox \[ 0 0 (\S+) ", content)[1])  # type: ignore[index]
        else:
            points = float(ElementTree.fromstring(content).attrib["width"].removesuffix("pt"))
            assert b"<text" not in content  # letters are outlines: no font is needed where it is opened
        assert points / 72 == pytest.approx(COLUMN_IN) or points / 72 == pytest.approx(PAGE_IN)


def test_equal_numbers_give_equal_figure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw() -> Drawing:
        camera = CameraView("a", np.eye(4), np.eye(8) * 255, np.eye(4), None, 0.2, 0.1, 0.2)
        return camera_figure([camera])

    first = draw()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert draw() == first
    for content in (first.svg, first.pdf):
        assert not re.search(rb"CreationDate|dc:date|20[2-9]\d-\d\d-\d\d", content)
    assert b"/FontFile2" in first.pdf  # text stays text, its TrueType font embedded


def test_no_text_of_a_figure_is_cut_off_or_covers_another(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Figure] = []
    monkeypatch.setattr("protocols.report.figures._saved", lambda figure, *_: caught.append(figure) or b"")
    mask = np.eye(8)
    views = [CameraView(f"design {i}", mask, mask * 255, mask, 4000 * mask, 0.8, 0.8, 0.8) for i in range(5)]
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=float)
    dots = [Dot(f"design {i}", "simulated", "simulated", 0.5, 0.4, 0.6, (0.45, 0.55)) for i in range(6)]
    curves = [Curve("train", f"design {i}", s, "loss (nats)", [1, 2], [1.0, 0.5]) for i in range(6) for s in range(3)]
    frames = {"ideal, noise-free": np.stack([mask] * 3), "simulated": np.stack([mask] * 3)}
    camera_figure(views)
    exported_figure([ExportedView(f"design {i}", [square], (6.4, 6.4), "closed cells") for i in range(5)])
    accuracy_figure(dots, [0.15])
    curves_figure(curves)
    confusion_figure({f"{i}": np.eye(8, dtype=int) for i in range(4)}, [f"somebody {i}" for i in range(8)], 2)
    scenes_figure(np.stack([mask] * 3), frames, ["ann", "bob", "cyd"], 0.2, 5.2, True)
    histogram_figure({f"design {i}": (mask * 900, mask * 800) for i in range(5)}, 4095)
    assert len(caught) == 7 * 3
    for figure in caught[::3]:
        width, height = figure.get_size_inches()
        whole = figure.get_tightbbox()
        assert whole.x0 > -0.01 < whole.y0
        assert whole.x1 < width + 0.01
        assert whole.y1 < height + 0.01
        titles = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
        assert not any(a.overlaps(b) for a, b in combinations(titles, 2))
        for legend in figure.legends:
            assert not any(legend.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_all_parts_of_a_whole_run_are_there(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    assert "could not be made" not in page
    assert RunFolder(finished_run).summary()["metrics"]["report"] == {"missing_parts": 0}
    for title in ("Accuracy", "The camera", "What it sees", "From simulation to the rig", "Training", "Provenance"):
        assert f"<h2>{title}</h2>" in page
    assert "all 16 steps before this report are finished" in page
    assert "captured” means measured on the simulated rig &#39;as-built&#39;" in page
    assert RunFolder(finished_run).summary()["rig_hash"][:16] in page


def test_a_run_without_evaluation_says_so_and_gives_no_accuracy(run: RunFolder) -> None:
    without_steps(run, "evaluate")
    page = page_of(run, "accuracy", "confusion", "timing")
    assert "without an evaluation" in page
    assert "No evaluation has finished" in page
    assert "incomplete: 10 of 16 steps finished" in page
    assert "test items" not in page
    assert "<h2>Confusion</h2>" not in page


def test_missing_captures_leave_the_simulated_part_and_no_gap(run: RunFolder) -> None:
    without_steps(run, "capture", "finetune", "display")
    summary = run.summary()
    for row in summary["steps"]:
        if row["name"].startswith(("captured/", "finetuned/")):
            row.update(status="waiting", outputs={}, metrics={})
    write_json(run.summary_file, summary)
    page = page_of(run, "accuracy", "scenes", "gap")
    assert "No capture has finished" in page
    assert "From simulation to the rig" not in page
    assert "as captured (" not in page
    assert "lost on the rig" not in page
    assert "What it sees" in page


def test_a_damaged_capture_is_named_and_not_compared(run: RunFolder) -> None:
    shard = next(run.artifacts.glob("capture/**/frames.zarr/coded/c.0.0.0.0"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 0xFF
    shard.write_bytes(content)
    page = page_of(run, "scenes", "gap", "timing")
    assert "does not match its checksum" in page
    assert "RMS difference" not in page
    assert "<h2>Timing</h2>" in page


def test_predictions_that_do_not_fit_the_evaluation_are_refused(run: RunFolder) -> None:
    path = next(run.artifacts.glob("finetuned/**/predictions.npz"))
    with np.load(path) as file:
        np.savez(path, **{name: file[name][:-1] for name in ("label", "predicted", "sample_id")})
    missing = write_report(run, [part for part in PARTS if part[0] == "accuracy"])
    assert any("does not hold the items" in text for text in missing)
    assert "<table" not in run.report_file.read_text()


def test_many_classes_give_the_most_frequent_mistakes_instead_of_a_matrix(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.report.sections.MAX_CLASSES", 5)
    page = page_of(run, "confusion")
    last = tables.scores(tables.read_evidence(run))[-1]
    wrong = Counter(
        (int(true), int(said))
        for answers in last.answers.values()
        for true, said in zip(answers.labels, answers.predicted, strict=True)
        if true != said
    )
    assert f" ({wrong.most_common(1)[0][1]}×)" in page
    assert "A matrix of 10 classes could not be read" in page
    assert "data:image" not in page


def test_a_failed_run_is_never_called_finished(run: RunFolder) -> None:
    summary = run.summary()
    summary.update(status="failed", reason="the lamp is <gone>")
    write_json(run.summary_file, summary)
    page = page_of(run)
    assert "failed: 16 of 16 steps finished; the lamp is &lt;gone&gt;" in page
    assert "before this report are finished" not in page


def test_live_frames_of_an_operator_are_counted_by_label(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    assert "live scenes presented by the operator; 0 frames were refused" in page
    assert re.search(r"<td>left</td><td>1</td><td>\d+</td>", page)
    assert (finished_run / "figures" / "live-live-learned-seed0.png").is_file()


def test_a_protocol_without_data_or_designs_has_a_report_too(tmp_path: Path, configs: Path) -> None:
    protocol = tmp_path / "protocol.yaml"
    steps = {"ready": {"type": "operator", "prompt": "Close the <curtain>"}}
    protocol.write_text(json.dumps({"version": 1, "name": "asked", "steps": steps}))
    rig = configs / "rigs" / "as-built.yaml"
    run = labctl.run_protocol(protocol, rig=rig, out=tmp_path / "run", ask=said_yes)
    missing = write_report(run.folder)
    page = (run.path / "report.html").read_text()
    assert "Close the &lt;curtain&gt;" in page
    assert "The rig was not opened in this run." in page
    assert missing == []
    assert "No evaluation has finished" not in page
    assert "without an evaluation" in page


@pytest.mark.parametrize(("steps", "missed"), [(("train", "attack_recognise"), 0), (("train", "evaluate"), 1)])
def test_an_evaluation_is_missed_only_where_one_was_asked_for(steps: tuple[str, ...], missed: int) -> None:
    protocol = SimpleNamespace(
        steps={name: SimpleNamespace(type=name) for name in steps}, compared=("disc",), instances=tuple
    )
    evidence = tables.Evidence(run=None, protocol=protocol, rig=None, summary={"steps": []})  # type: ignore[arg-type]
    for blocks in (accuracy_section(evidence, {}), tradeoff(evidence, [])):
        assert len(blocks) == missed
        assert all("No evaluation has finished" in block.text for block in blocks if isinstance(block, Text))


def test_differences_are_paired_by_sample_and_not_by_place(run: RunFolder) -> None:
    found = tables.scores(tables.read_evidence(run))
    after = next(score for score in found if score.stage == "finetuned")
    answers = {
        seed: tables.Answers(a.labels[::-1], a.predicted[::-1], a.sample_ids[::-1]) for seed, a in after.answers.items()
    }
    turned = tables.Score(after.design, after.step, after.stage, answers, after.metrics)
    gained, items = tables.difference(after, turned)
    assert items == 60
    assert gained == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("interval", "written"),
    [
        (Interval(0.8739, 0.8375, 0.9104), "87.4 % [83.8, 91.0]"),
        (Interval(0.345, 0.271, 0.399), "34 % [27, 40]"),
        (Interval(1.0, 1.0, 1.0), "100.0 % [100.0, 100.0]"),
    ],
)
def test_percent_has_only_the_digits_that_its_interval_supports(interval: Interval, written: str) -> None:
    assert tables.percent(interval) == written


def test_points_carry_their_sign_and_zero_has_none() -> None:
    assert tables.points(Interval(-0.118, -0.151, -0.08)) == "−11.8 [−15.1, −8.0]"
    assert tables.points(Interval(-0.02, -0.04, -0.0004)) == "−2.0 [−4.0, 0.0]"
    assert tables.points(Interval(0.003, -0.006, 0.014)) == "+0.3 [−0.6, +1.4]"


def test_the_gap_of_equal_frames_is_zero_and_an_offset_is_one(run: RunFolder) -> None:
    frames = np.random.default_rng(0).uniform(100, 900, (5, 8, 8)).astype(np.float32)
    scenes, labels = np.zeros((5, 8, 8), np.float32), np.zeros(5, np.int64)
    same = tables.FramePairs("a", 0, scenes, labels, frames, frames, frames, 0.01, 0.01)
    shifted = tables.FramePairs("a", 0, scenes, labels, frames, frames, frames + 50, 0.01, 0.02)
    assert tables.gap_of([same], 64.0).rms == 0
    gap = tables.gap_of([shifted], 64.0)
    assert gap.rms == pytest.approx(50)
    assert gap.fitted_rms == pytest.approx(0, abs=0.1)
    assert gap.captured_mean - gap.simulated_mean == pytest.approx(50, abs=1e-3)
    assert gap.light_ratio == pytest.approx((frames.mean() - 14) / (frames.mean() - 64) / 2)


def test_names_and_texts_are_escaped() -> None:
    section = Section("a", "<b>", [Text("<script>"), Table(["<i>"], [["<u>"]])])
    title = dict.fromkeys(("name", "description", "rig", "status", "began", "made", "headline", "second"), "<x>")
    page = render(
        [section],
        {
            **title,
            "alarms": ["<x>"],
            "nature": "REAL HARDWARE",
            "real": True,
            "complete": True,
            "designs": "",
            "seeds": "0",
        },
    )
    for raw in ("<b>", "<script>", "<i>", "<u>", "<x>"):
        assert raw not in page


# What learning brought


def two_designs(right_a: list[bool], right_b: list[bool]) -> tuple[tables.Score, tables.Score]:
    ids, labels = np.arange(len(right_a)), np.ones(len(right_a), np.int64)
    made = [
        tables.Score(
            name, "simulated", "simulated", {0: tables.Answers(labels, np.int64(1) * np.array(right), ids)}, {}
        )
        for name, right in (("learned", right_a), ("start", right_b))
    ]
    return made[0], made[1]


def test_the_verdict_says_by_how_much_and_only_where_the_interval_leaves_0_out() -> None:
    assert verdict("learned", "start", Interval(0.042, 0.01, 0.075)) == (
        "learned is 4.2 points better than start [+1.0, +7.5]"
    )
    assert verdict("learned", "disc", Interval(-0.042, -0.075, -0.01)) == (
        "learned is 4.2 points worse than disc [−7.5, −1.0]"
    )
    assert verdict("learned", "disc", Interval(0.02, 0.0, 0.04)) == (
        "learned and disc cannot be told apart: +2.0 [0.0, +4.0] points"
    )


def test_answers_to_the_same_items_are_compared_item_by_item() -> None:
    hard = [False] * 50
    learned, start = two_designs([True] * 50 + hard, [True] * 40 + [False] * 10 + hard)
    gap, items = tables.difference(learned, start)
    assert (gap.mean, items) == (pytest.approx(0.1), 100)
    # unpaired, two accuracies of 0.5 and 0.4 on 100 items would not be told apart
    assert gap.low > 0
    assert learned.interval.low < start.interval.high


def evaluated(exposure: object) -> tables.Score:
    return tables.Score("a", "simulated", "simulated", {}, {0: {} if exposure is None else {"exposure": exposure}})


def test_the_page_says_whether_light_is_free() -> None:
    assert "light is free" in str(exposure_words([evaluated("auto"), evaluated("auto")]))
    assert "light is accounted for. All masks get the same 2.5 ms" in str(exposure_words([evaluated(0.0025)]))
    assert "compare with care" in str(exposure_words([evaluated("auto"), evaluated(0.0025)]))
    assert exposure_words([evaluated(None)]) is None


@pytest.fixture(scope="module")
def compared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated alone: a learned mask, a fixed one that is its start, and two rivals; two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    protocol = {
        "version": 1, "name": "compared", "rig": "sim", "scene_px": [24, 24], "mask_cells": [8, 8], "seeds": [0, 1],
        "data": {"type": "digits"},
        "designs": {
            "disc": {"type": "disc", "radius_cells": 2}, "learned": {"type": "learned", "start_radius_cells": 2},
            "other": {"type": "learned", "start_radius_cells": 3, "freeze_from": 0},
            "start": {"type": "learned", "start_radius_cells": 2, "freeze_from": 0},
        },
        "steps": {
            "train": {"type": "train", "epochs": 1, "batch": 256},
            "simulated": {"type": "evaluate", "stage": "simulated", "model": "${steps.train.model}"},
            "report": {"type": "report"},
        },
    }  # fmt: skip
    (folder / "protocol.yaml").write_text(json.dumps(protocol))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABCTL_STATE", str(folder / "state"))
        rig = Path(__file__).parents[2] / "configs" / "rigs" / "sim.yaml"
        settings = {key: value for key, value in SMALL.items() if key.startswith("rig.")}
        made = labctl.run_protocol(folder / "protocol.yaml", rig=rig, out=folder / "run", set=settings)
    assert made.status == "finished", made.outcome
    return made.path


def test_the_own_start_is_the_design_that_stands_still_at_the_very_same_masks(compared_run: Path) -> None:
    evidence = tables.read_evidence(RunFolder(compared_run))
    assert learned_designs(evidence) == ["learned"]
    assert own_start(evidence, "learned") == "start"
    for seed in (0, 1):  # the masks that were used prove it
        masks = [np.load(compared_run / f"artifacts/train/{d}/seed{seed}/mask.npy") for d in ("start", "other")]
        built = evidence.protocol.designs["learned"].build((8, 8), seed).settings()["mask"]
        np.testing.assert_array_equal(masks[0], built)
        assert not np.array_equal(masks[1], built)


def test_the_table_tells_light_blur_and_differences_of_every_design(compared_run: Path) -> None:
    page = (compared_run / "report.html").read_text()
    found = {score.design: score for score in tables.scores(tables.read_evidence(RunFolder(compared_run)))}
    for name in ("open fraction", "light", "blur, noise-free", "blur, with noise", "majority"):
        assert f'<th scope="col">{name}</th>' in page
    assert "blur, captured" not in page
    for score in found.values():
        for metric in ("blurriness", "blurriness_noise_free"):
            assert f"<td>{score.mean(metric):.2f}</td>" in page
        assert f"<td>{tables.share(score.mean('light_throughput'))}</td>" in page
    for other in ("start", "disc", "other"):
        gap, _ = tables.difference(found["learned"], found[other])
        assert f"<td>learned − {other}</td><td>{tables.points(gap)}" in page
    gap, _ = tables.difference(found["learned"], found["start"])
    assert f"Simulated, {verdict('learned', 'start (its own start)', gap)}." in page
    assert "Exposure in simulation: light is free." in page
    white = found["start"].mean("white_e")
    assert white is not None
    assert f"<td>{white:,.0f}</td>" in page


def test_a_run_without_the_start_of_its_learned_mask_says_so(run: RunFolder) -> None:
    assert "No design of this run stands still at the start of learned" in page_of(run, "accuracy")


def test_a_changed_simulator_is_said_near_the_top(run: RunFolder) -> None:
    assert 'class="alarm"' not in page_of(run)
    summary = run.summary()
    for row in summary["steps"]:
        if row["name"].startswith("simulated/"):
            row["metrics"]["simulator_changed"] = "the reference frame differs by up to <3> DN"
    write_json(run.summary_file, summary)
    page = page_of(run)
    said = page.index('class="alarm"')
    assert said < page.index('class="headline"')
    assert page.count('class="alarm"') == 1
    assert "up to &lt;3&gt; DN" in page
    assert "Concerns simulated/learned/seed0, simulated/learned/seed1." in page
