"""Labels as names of folders: legal everywhere, never equal, never outside."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.frames.export.safe_names import NAME_BYTES, safe_names

WILD = [
    "../../etc/passwd", "..", ".", "", " ", "/", "a/b", "a\\b", "C:", "CON", "nul.txt", "com1", "~", "-rf", ".hidden",
    "tab\there", "zero\0byte", "line\nbreak", "trailing.", "trailing ", 'qu"ote', "a*b?", "\u202egnp.exe", "x" * 400,
    "三" * 200, "👩‍🔬" * 60,
]  # fmt: skip


@pytest.mark.parametrize("label", WILD)
def test_a_wild_label_becomes_one_legal_name(label: str) -> None:
    name = safe_names([label])[label]
    assert PurePosixPath(name).parts == (name,)
    assert PureWindowsPath(name).parts == (name,)
    assert not PureWindowsPath(name).is_reserved()
    assert name not in (".", "..")
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert len(name.encode()) <= NAME_BYTES
    assert all(unicodedata.category(letter)[0] != "C" for letter in name)


@pytest.mark.parametrize("label", ["seven", "chloé", "三毛猫", "Müller, A. (left)", "class 7"])
def test_a_tame_label_stays_as_it_is(label: str) -> None:
    assert safe_names([label]) == {label: label}


def test_labels_that_a_file_system_takes_for_one_stay_two() -> None:
    alike = ["Anna", "anna", "chlo\u00e9", "chloe\u0301", "a/b", "a_b", "a?b", "ﬁg", "fig", "x" * 400, "x" * 401]
    names = safe_names(alike)
    folded = {unicodedata.normalize("NFKD", name).casefold() for name in names.values()}
    assert len(folded) == len(alike)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=200), max_size=8, unique=True))
def test_no_two_labels_share_a_name_in_whatever_order_they_come(labels: list[str]) -> None:
    names = safe_names(labels)
    assert len({name.casefold() for name in names.values()}) == len(labels)
    assert safe_names(labels[::-1]) == names
