"""The report of a run: it tells what the files say, needs nothing from outside, and copes with what is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl.durable import write_json
from labctl.store import RunFolder
from protocols.metrics import Interval
from protocols.report import tables
from protocols.report.page import Section, Table, Text, render
from protocols.report.sections import PARTS
from protocols.report.step import write_report

SMALL = {
    "scene_px": [24, 24],
    "mask_cells": [8, 8],
    "seeds": [0, 1],
    "steps.train.epochs": 1,
    "steps.train.batch": 256,
    "steps.capture.train": 20,
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
    write_report(run, run.path / "figures", [part for part in PARTS if part[0] in anchors])
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
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:image/png;base64,|#)", page)
    assert not re.search(r"url\(|@import|https?://", page)
    figures = {path.stem for path in (finished_run / "artifacts" / "report").glob("*.png")}
    assert {"accuracy", "cameras-1", "scenes-learned", "histograms", "training", "confusion-1", "timing"} <= figures
    assert page.count("data:image/png;base64,") == len(figures)


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
    raw = next(run.artifacts.glob("capture/**/frames.raw"))
    content = bytearray(raw.read_bytes())
    content[100] ^= 0xFF
    raw.write_bytes(content)
    page = page_of(run, "scenes", "gap", "timing")
    assert "does not match its checksum" in page
    assert "RMS difference" not in page
    assert "<h2>Timing</h2>" in page


def test_predictions_that_do_not_fit_the_evaluation_are_refused(run: RunFolder) -> None:
    path = next(run.artifacts.glob("finetuned/**/predictions.npz"))
    with np.load(path) as file:
        np.savez(path, **{name: file[name][:-1] for name in ("label", "predicted", "sample_id")})
    missing = write_report(run, run.path / "figures", [part for part in PARTS if part[0] == "accuracy"])
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
    assert (finished_run / "artifacts" / "report" / "live-live-learned-seed0.png").is_file()


def test_a_protocol_without_data_or_designs_has_a_report_too(tmp_path: Path, configs: Path) -> None:
    protocol = tmp_path / "protocol.yaml"
    steps = {"ready": {"type": "operator", "prompt": "Close the <curtain>"}}
    protocol.write_text(json.dumps({"version": 1, "name": "asked", "steps": steps}))
    rig = configs / "rigs" / "as-built.yaml"
    run = labctl.run_protocol(protocol, rig=rig, out=tmp_path / "run", ask=said_yes)
    missing = write_report(run.folder, run.path / "figures")
    page = (run.path / "report.html").read_text()
    assert "Close the &lt;curtain&gt;" in page
    assert "The rig was not opened in this run." in page
    assert missing == ["report, Accuracy: No evaluation has finished, so there is no accuracy to tell."]


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
    page = render([section], {**title, "simulated": False, "complete": True, "designs": "", "seeds": "0"})
    for raw in ("<b>", "<script>", "<i>", "<u>", "<x>"):
        assert raw not in page
