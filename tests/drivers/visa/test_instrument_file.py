"""An instrument is data, and a mistake in it is told with file, line and column."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drivers.visa.instrument_file import SHIPPED, load_instrument_file
from drivers.visa.settings import VisaSettings
from labctl.config import ConfigError
from labctl.errors import BadInput

GOOD = """\
title: Lamp
identification: lamp
quantities:
  power:
    unit: "1"
    low: 0
    high: 1
    read: "POW?"
    set: ["POW {value:.3f}"]
safe: [{power: 0}]
"""

WRONG = [
    ("low: 0", "low: 2", ":5:5: quantities.power", "low 2 must be below high 1"),
    ("POW {value:.3f}", "POW", ":5:5: quantities.power", "holds {value}"),
    ("POW {value:.3f}", "POW {power}", ":9:11: quantities.power.set[0]", "no other field"),
    ("POW {value:.3f}", "POW {value:d}", ":5:5: quantities.power", "cannot carry"),
    ("POW {value:.3f}", "POW {value", ":9:11: quantities.power.set[0]", "is no template"),
    ("identification: lamp", "identification: '('", ":2:17: identification", "is no regular expression"),
    ("{power: 0}", "{powr: 0}", ":1:1", "the safe state sets 'powr'; did you mean `power`?"),
    ("{power: 0}", "{power: 3}", ":1:1", "the safe power 3 is outside of 0..1"),
    ("unit:", "units:", ":5:5: quantities.power.units", "unit"),
]


@pytest.mark.parametrize(("old", "new", "place", "text"), WRONG)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, place: str, text: str) -> None:
    path = tmp_path / "lamp.yaml"
    path.write_text(GOOD)
    assert load_instrument_file(str(path)).title == "Lamp"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as raised:
        load_instrument_file(str(path))
    assert f"{path}{place}" in str(raised.value)
    assert text in str(raised.value)


def test_an_unknown_name_lists_what_ships() -> None:
    with pytest.raises(BadInput, match="there is no instrument file 'shuter'; did you mean `shutter`"):
        load_instrument_file("shuter")
    with pytest.raises(BadInput, match=r"there is no instrument file 'mine/lamp\.yaml' in "):
        load_instrument_file("mine/lamp.yaml")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_that_can_shine_or_burn_has_a_safe_state(path: Path) -> None:
    file = load_instrument_file(path.stem)
    assert file.safe
    assert file.error_query is not None
    for name, entry in file.quantities.items():
        assert entry.low < entry.high, name


def test_settings_and_their_limits_are_known_without_pyvisa() -> None:
    code = (
        "import sys; sys.modules['pyvisa'] = None\n"
        "from drivers.visa.settings import VisaSettings\n"
        "print(VisaSettings(instrument='shutter', resource='$X').declared_quantities()['open'].high)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1.0\n"
    settings = VisaSettings(instrument="light-source", resource="$X", limits={"power": (0.0, 0.5)})
    assert settings.declared_quantities()["power"].high == 0.5
