"""The analysis of a study: does it find what was put in, and say how sure it is?"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from labctl.study.analysis import BOOTSTRAP, WILSON, Answered, StudyAnalysis, analyse, share_of
from labctl.study.conduct import Study
from labctl.study.curve import Curve, fit_curve
from labctl.study.figure import draw_study
from tests.bad_input.lab import labctl
from tests.labctl.study_sets import answer, make_set, material

CHOICES = 4
TRUE = Curve(chance=1 / CHOICES, lapse=0.02, middle=0.5, slope=14.0)
BLUR = {"pinhole": 0.25, "disc": 0.45, "open": 0.8}


def observed(people: int, trials: int, *, seed: int = 0, spread: float = 0.0) -> Answered:
    """Answers of people who see as TRUE says. spread: how much their middles differ."""
    rng = np.random.default_rng(seed)
    n = people * trials
    who = np.repeat([f"P{one}" for one in range(people)], trials)
    design = np.array(list(BLUR))[rng.integers(3, size=n)]
    blur = np.array([BLUR[one] for one in design]) + rng.normal(0, 0.05, n)
    middles = np.repeat(TRUE.middle + rng.normal(0, spread, people), trials)
    correct = rng.random(n) < TRUE(blur - middles + TRUE.middle)
    return Answered(who, design, correct, rng.lognormal(7, 0.4, n), rng.random(n) < 0.1, blur)


def found(answered: Answered, *, resamples: int = 10) -> StudyAnalysis:
    people = len(set(answered.participant.tolist()))
    return analyse(answered, choices=CHOICES, begun=people, finished=people, resamples=resamples)


def test_the_curve_that_people_follow_is_found_again() -> None:
    analysis = found(observed(20, 60), resamples=100)
    assert analysis.curve is not None
    assert analysis.middle_interval is not None
    assert analysis.band is not None
    low, high = analysis.middle_interval
    assert low < TRUE.middle < high
    assert high - low < 0.06
    assert analysis.curve.slope == pytest.approx(TRUE.slope, rel=0.3)
    at = np.array(analysis.band.blurriness)
    assert np.abs(np.array(analysis.band.accuracy) - TRUE(at)).max() < 0.05
    inside = (np.array(analysis.band.low) <= TRUE(at)) & (TRUE(at) <= np.array(analysis.band.high))
    assert inside.mean() > 0.8


def test_the_fit_is_the_likeliest_curve() -> None:
    answered = observed(10, 40, seed=3)

    def likelihood(curve: Curve) -> float:
        hit = curve(answered.blurriness)
        return float(np.log(np.where(answered.correct, hit, 1 - hit)).sum())

    best = fit_curve(answered.blurriness, answered.correct, TRUE.chance)
    for other in (TRUE, Curve(TRUE.chance, best.lapse, best.middle + 0.01, best.slope)):
        assert likelihood(best) >= likelihood(other)
    assert likelihood(best) > likelihood(Curve(TRUE.chance, best.lapse, best.middle, -best.slope)) + 10


def test_accuracy_is_told_by_design_from_sharp_to_blurred_and_against_chance() -> None:
    analysis = found(observed(12, 60))
    assert [one.design for one in analysis.designs] == ["pinhole", "disc", "open"]
    assert [one.above_chance for one in analysis.designs] == [True, True, False]
    assert analysis.chance == 0.25
    for one in analysis.designs:
        assert one.blurriness == pytest.approx(BLUR[one.design], abs=0.02)
        assert one.share.low <= one.share.accuracy <= one.share.high
        assert one.share.method == BOOTSTRAP
    assert sum(one.share.answers for one in analysis.designs) == analysis.answers == 720


def test_an_interval_over_people_is_wider_than_one_over_answers_when_people_differ() -> None:
    rng = np.random.default_rng(1)
    skill = np.repeat([0.3, 0.9] * 6, 50)
    correct = rng.random(len(skill)) < skill
    share = share_of(correct, np.repeat([f"P{one}" for one in range(12)], 50))
    alone = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    assert share.high - share.low > 2.5 * (alone.high - alone.low)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        skill = rng.beta(8, 8, 20)  # mean 0.5
        share = share_of(rng.random(400) < np.repeat(skill, 20), np.repeat([f"P{one}" for one in range(20)], 20))
        held += share.low <= 0.5 <= share.high
    assert held >= 51  # 57 of 60 are expected; 51 is 3.5 sigma below


def test_one_participant_gets_the_interval_of_wilson_and_a_warning() -> None:
    analysis = found(observed(1, 60))
    assert {one.share.method for one in analysis.designs} == {WILSON}
    share = analysis.designs[0].share
    expected = binomtest(share.correct, share.answers).proportion_ci(0.95, method="wilson")
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high))
    assert "there is one participant" in analysis.careful[0]


def test_a_share_without_spread_has_an_interval_all_the_same() -> None:
    share = share_of(np.ones(40, dtype=np.bool_), np.repeat(["A", "B"], 20))
    assert share.method == WILSON
    assert 0.85 < share.low < share.accuracy == share.high == 1.0


def test_few_participants_are_warned_of() -> None:
    assert "there are 3 participants" in found(observed(3, 30)).careful[0]
    assert not any("participants; a bootstrap" in line for line in found(observed(8, 30)).careful)


def test_interrupted_answers_count_but_their_times_do_not() -> None:
    times = np.array([500.0, 700, 900, 90_000])
    interrupted = np.array([False, False, False, True])
    same = np.array(["A"] * 4)
    answered = Answered(same, same, np.array([True, True, False, True]), times, interrupted, np.full(4, 0.5))
    analysis = found(answered)
    assert analysis.median_response_ms == 700
    assert analysis.overall.answers == 4
    assert any("1 answers were interrupted" in line for line in analysis.careful)


def test_where_there_can_be_no_curve_the_reason_is_told() -> None:
    few = found(observed(1, 12))
    assert (few.curve, few.no_curve) == (None, "there are 12 answers; at least 20 are needed")
    answered = observed(3, 30)
    unknown = Answered(**{**answered.__dict__, "blurriness": np.full(90, np.nan)})
    assert "have no blurriness" in str(found(unknown).no_curve)
    level = Answered(**{**answered.__dict__, "blurriness": np.full(90, 0.5)})
    assert "spans 0.000 only" in str(found(level).no_curve)
    right = Answered(**{**answered.__dict__, "correct": np.ones(90, dtype=np.bool_)})
    assert "all of the answers are right" in str(found(right).no_curve)
    assert draw_study(found(unknown)).png.startswith(b"\x89PNG")


def test_a_curve_that_rises_with_blur_is_found_and_doubted() -> None:
    answered = observed(12, 60)
    turned = Answered(**{**answered.__dict__, "blurriness": 1 - answered.blurriness})
    analysis = found(turned)
    assert analysis.curve is not None
    assert analysis.curve.slope < 0
    assert any("does not fall with blur" in line for line in analysis.careful)


def test_the_figure_comes_in_three_formats_and_is_the_same_again() -> None:
    analysis = found(observed(4, 30))
    drawing = draw_study(analysis)
    assert drawing.png.startswith(b"\x89PNG")
    assert b"<svg" in drawing.svg
    assert drawing.pdf.startswith(b"%PDF")
    assert draw_study(analysis) == drawing


def test_the_command_analyses_a_study_while_it_is_held(tmp_path: Path) -> None:
    sets = [make_set(tmp_path / "disc" / "frames", "disc"), make_set(tmp_path / "open" / "frames", "open", smooth=4)]
    study = Study(material(*sets, trials=16, practice=2), tmp_path / "out")
    assert "has no answers yet" in labctl("study", "analyse", str(tmp_path / "out")).err
    for wrong_every in (3, 5):
        code = study.begin()
        for number in range(18):
            answer(study, code, right=number % wrong_every != 0, ms=1000 + number)
    answered = labctl("study", "analyse", str(tmp_path / "out"), "--json")
    assert answered.code == 0, answered.err
    told = json.loads(answered.out.splitlines()[-1])
    assert told == json.loads((tmp_path / "out" / "analysis" / "analysis.json").read_text())
    assert (told["participants"], told["finished"], told["answers"]) == (2, 2, 32)
    assert told["overall"]["correct"] == 32 - 5 - 3
    assert told["median_response_ms"] == pytest.approx(1009.5)
    with (tmp_path / "out" / "analysis" / "designs.csv").open(newline="") as file:
        rows = {row["design"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"disc", "open"}
    assert int(rows["disc"]["answers"]) + int(rows["open"]["answers"]) == 32
    assert float(rows["open"]["blurriness"]) > float(rows["disc"]["blurriness"])
    names = {file.name for file in (tmp_path / "out" / "analysis").iterdir()}
    assert names == {"analysis.json", "designs.csv", "study.png", "study.svg", "study.pdf"}
    shown = labctl("study", "analyse", str(tmp_path / "out"))
    assert "2 participants, 2 finished; 32 answers, chance 1/3" in shown.out


def test_what_is_no_study_cannot_be_analysed(tmp_path: Path) -> None:
    answered = labctl("study", "analyse", str(tmp_path))
    assert answered.code == 2
    assert "is no study (it has no study.json)" in answered.err
