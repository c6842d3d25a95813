"""Somebody takes part in a study, in a headless Chromium."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.study.conduct import Study
from labctl.study.server import StudyServer
from tests.browser.webdriver import CHROMIUM, DRIVER, Browser
from tests.labctl.study_sets import make_set, material, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"),
]

ENTER = "\ue007"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests here, since its start takes most of the time."""
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StudyServer]:
    """Four trials of three choices after one for practice, with a break after two."""
    frames = make_set(tmp_path / "disc")
    with served(Study(material(frames, trials=4, practice=1, break_every=2), tmp_path / "out")) as made:
        yield made


def shown(browser: Browser, number: int) -> None:
    """Wait until question `number` is on the screen and its time runs."""
    script = "return document.getElementById('ask').dataset.ready"
    browser.until(lambda: browser.run(script) == str(number), f"question {number}")


def test_somebody_consents_answers_reloads_and_goes_on_to_the_end(
    browser: Browser, server: StudyServer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    browser.open(server.address)
    browser.until(lambda: browser.seen("#consent"), "the consent text")
    assert browser.text("#consent h1") == "Can you tell who it is?"
    assert browser.run("return document.getElementById('begin').disabled")
    assert not (out / "participants.jsonl").exists()
    browser.click("#agreed")
    browser.click("#begin")
    browser.until(lambda: browser.seen("#intro"), "how it works")
    code = browser.text("#code")
    assert browser.address.endswith(f"?code={code}")

    browser.press(ENTER)
    shown(browser, 0)
    browser.press("1")
    browser.until(lambda: browser.seen("#next"), "feedback on the practice")
    assert browser.run("return document.querySelectorAll('#choices .right').length") == 1
    browser.press(ENTER)

    shown(browser, 1)
    assert browser.text("#place") == "Picture 1 of 4"
    assert browser.run("return document.documentElement.scrollHeight <= innerHeight")  # all of it is in sight
    browser.press("9")  # there is no such choice
    browser.click("#choices button:nth-child(2)")
    shown(browser, 2)
    browser.reload()
    browser.until(lambda: browser.seen("#intro"), "the welcome after a reload")
    assert "1 of 4 are done." in browser.text("#how")
    browser.press(ENTER)
    shown(browser, 2)
    browser.press("3")
    browser.until(lambda: browser.seen("#pause"), "the break")
    browser.press(ENTER)
    for number in (3, 4):
        shown(browser, number)
        browser.press("1")
    browser.until(lambda: browser.seen("#end"), "thanks")
    assert browser.text("#end-title") == "Thank you!"

    with (out / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert server.study is not None
    trials = server.study.folder.participants[code].trials
    chosen = [trial.choices[place].label for trial, place in zip(trials, (1, 2, 0, 0), strict=True)]
    assert [row["chosen"] for row in rows] == chosen
    assert [row["participant"] for row in rows] == [code] * 4
    assert [row["interrupted"] for row in rows] == ["0", "1", "0", "0"]
    assert all(0 < float(row["response_ms"]) < 60_000 for row in rows)


def test_whoever_stops_may_take_the_answers_along(browser: Browser, server: StudyServer, tmp_path: Path) -> None:
    browser.resize(390, 844)
    browser.open(server.address)
    browser.until(lambda: browser.seen("#consent"), "the consent text")
    browser.click("#agreed")
    browser.click("#begin")
    browser.until(lambda: browser.seen("#intro"), "how it works")
    browser.press(ENTER)
    shown(browser, 0)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.press("2")
    browser.until(lambda: browser.seen("#next"), "feedback on the practice")
    browser.click("#stop")
    browser.until(lambda: browser.seen("#sure"), "the question whether to stop")
    browser.click("#erase")
    browser.until(lambda: browser.seen("#end"), "the end")
    assert browser.text("#end-title") == "Your answers are deleted"
    assert (tmp_path / "out" / "answers.jsonl").read_text() == ""
    assert server.study is not None
    assert server.study.counts() == (0, 0)
