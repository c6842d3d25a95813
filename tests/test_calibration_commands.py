"""`labctl calibration` as somebody at the terminal meets it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.calibration.shelf import Shelf
from labctl.cli import main
from labctl.errors import ExitCode
from protocols.calibrate.kinds import KINDS
from tests.labctl.calibration.records import made, rig

Talk = Callable[[], tuple[str, str]]


def labctl(*words: str) -> int:
    """Exit code of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["labctl", "calibration", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.fixture
def talk(capsys: pytest.CaptureFixture[str]) -> Talk:
    """What was said since: answers on stdout and talk on stderr, as one line of words each."""

    def said() -> tuple[str, str]:
        output = capsys.readouterr()
        return output.out, " ".join(output.err.split())

    return said


def put(**changed: Any) -> Any:
    """A calibration on the shelf of `as-built`, of today's version of its kind."""
    spec = rig()
    kind = changed.pop("kind", "dark")
    version = KINDS[kind].version if kind in KINDS else 1
    calibration = made(spec, kind, **{"version": version, **changed})
    Shelf(spec.name).put(calibration)
    return calibration


def test_a_rig_without_calibrations_is_told_what_to_do(talk: Talk) -> None:
    assert labctl("list", "--rig", "as-built") == ExitCode.OK
    out, err = talk()
    assert out == ""
    assert f"never measured: {', '.join(KINDS)}" in err
    assert "labctl run configs/protocols/calibrate.yaml --rig as-built" in err


def test_the_list_says_how_each_stands_and_why(talk: Talk) -> None:
    put()
    put(kind="old-method", made=time.time() - 7 * 3600)
    assert labctl("list", "--rig", "as-built", "--json") == ExitCode.OK
    told = json.loads(talk()[0].splitlines()[-1])
    by_kind = {row["kind"]: row for row in told["calibrations"]}
    assert by_kind["dark"]["standing"] == "good"
    assert by_kind["dark"]["values"]["black_level_dn"] == {
        "value": 158.12, "error": 0.05, "unit": "DN", "text": "Black level",
    }  # fmt: skip
    assert by_kind["old-method"]["standing"] == "stale"
    assert by_kind["old-method"]["reasons"] == ["7 hours old, 60 minutes is allowed"]
    assert "dark" not in told["missing"]
    assert labctl("list", "--rig", "as-built") == ExitCode.OK
    out, _ = talk()
    assert "158.12 ± 0.05 DN" in out


def test_the_list_names_what_is_foreign_or_stands_on_something_older(talk: Talk) -> None:
    put(made=time.time() - 60)
    put(kind="old-method", built_on={"dark": "0123456789abcdef"})
    labctl("list", "--rig", "as-built", "--json")
    rows = {row["kind"]: row for row in json.loads(talk()[0])["calibrations"]}
    assert rows["old-method"]["reasons"] == ["stands on an older calibration of `dark`"]
    labctl("list", "--rig", "as-built", "--set", "rig.world.seed=9", "--json")
    rows = {row["kind"]: row for row in json.loads(talk()[0])["calibrations"]}
    assert {row["standing"] for row in rows.values()} == {"foreign"}


def test_one_made_by_an_older_method_is_stale(talk: Talk) -> None:
    put(version=KINDS["dark"].version + 7)
    labctl("list", "--rig", "as-built", "--json")
    [row] = json.loads(talk()[0])["calibrations"]
    assert row["reasons"] == [
        f"made by version {KINDS['dark'].version + 7} of the method, today's is {KINDS['dark'].version}"
    ]


def test_show_tells_everything_of_one(talk: Talk) -> None:
    calibration = put(warnings=("the panel was still warming up",), built_on={"settling": "0123456789abcdef"})
    assert labctl("show", "dark", "--rig", "as-built") == ExitCode.OK
    out, err = talk()
    for words in (
        calibration.id, "good", "settling 0123456789abcdef", "frame_shape [4, 6]", "lamp.temperature 25 degC",
        "5 frames of 4x6 px", "4x6, DN: Mean dark frame", "158.12 ± 0.05 DN", "(0.500 ± 0.010, −1.250 ± 0.020) px",
    ):  # fmt: skip
        assert words in out
    assert "careful: the panel was still warming up" in err


def test_a_file_is_shown_without_a_rig_and_judged_with_one(tmp_path: Path, talk: Talk) -> None:
    path = made(rig()).save(tmp_path / "dark.npz")
    assert labctl("show", str(path)) == ExitCode.OK
    assert "not judged; add --rig" in talk()[0]
    assert labctl("show", str(path), "--rig", "sim", "--json") == ExitCode.OK
    told = json.loads(talk()[0])
    assert (told["standing"], told["file"]) == ("foreign", str(path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "dark"), "`dark` of which rig? add --rig"),
        (("show", "flat", "--rig", "as-built"), "rig 'as-built' has no calibration `flat`; there is none of any kind"),
        (("show", "none.npz"), "there is no calibration 'none.npz'"),
        (("list", "--rig", "asbuilt"), "there is no rig 'asbuilt'"),
    ],
)
def test_what_cannot_be_shown_is_bad_input_with_the_next_action(words: tuple[str, ...], said: str, talk: Talk) -> None:
    assert labctl(*words) == ExitCode.BAD_INPUT
    assert said in talk()[1]


def test_a_page_of_an_unknown_kind_or_another_format_is_refused(tmp_path: Path, talk: Talk) -> None:
    put()
    assert labctl("show", "dark", "--rig", "as-built", "--plot", str(tmp_path / "a.jpg")) == ExitCode.BAD_INPUT
    assert "a PNG is written" in talk()[1]
    put(kind="old-method")
    assert labctl("show", "old-method", "--rig", "as-built", "--plot", str(tmp_path / "a.png")) == ExitCode.BAD_INPUT
    assert "nothing that is installed draws calibrations of kind `old-method`" in talk()[1]
    assert list(tmp_path.glob("*.png")) == []
