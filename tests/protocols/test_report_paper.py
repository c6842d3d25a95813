"""A run beside published numbers: which are put beside which, and what the section says of their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.config import ConfigError
from labctl.errors import BadInput
from labctl.protocol import load_protocol
from protocols.report.paper import Published, rank_correlation, read_published, reversed_pairs

PROTOCOLS = Path(__file__).parents[2] / "configs" / "protocols"


def test_the_published_table_holds_every_pattern_in_every_column():
    table = read_published("lensless-2023")
    assert len(table["columns"]) == 7
    for column in table["columns"].values():
        assert set(column["accuracy"]) == set(table["patterns"])
        for quantity in ("blurriness", "aperture"):
            assert set(column.get(quantity, {})) <= set(table["patterns"])
            assert all(0 <= value <= 1 for value in column.get(quantity, {}).values())


def test_equal_orders_correlate_fully_and_reversed_ones_name_their_pairs():
    theirs = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert rank_correlation({"a": 0.9, "b": 0.8, "c": 0.1, "x": 1.0}, theirs) == (1.0, 1.0, 3)
    assert rank_correlation({"a": 0.9}, theirs) is None
    assert reversed_pairs({"a": 0.5, "b": 0.6, "c": 0.1}, theirs) == [("a", "b")]


@pytest.mark.parametrize(
    ("changes", "at", "text"),
    [
        ({"column": "ms-1-2"}, ("column",), "is no column of lensless-2023"),
        ({"patterns": {"lwoc": "LwoX"}}, ("patterns", "lwoc"), "is no pattern of lensless-2023"),
        ({"patterns": {"else": "LwoC"}}, ("patterns", "else"), "is no design of this protocol"),
    ],
)
def test_what_is_not_there_cannot_be_put_beside(changes, at, text):
    settings = Published(**{"patterns": {"lwoc": "LwoC"}, **changes})
    with pytest.raises(BadInput, match=text) as refused:
        settings.check(["lwoc"], ("steps", "report", "published"))
    assert refused.value.at == ("steps", "report", "published", *at)


@pytest.mark.parametrize("name", ["paper-lensless-table", "paper-lensless-blurriness"])
def test_the_protocols_of_the_paper_have_its_patterns_and_its_split(name):
    protocol = load_protocol(PROTOCOLS / f"{name}.yaml")
    published = protocol.steps["report"].published  # type: ignore[attr-defined]
    assert set(published.patterns.values()) == set(read_published(published.table)["patterns"])
    published.check(protocol.compared, ())
    assert protocol.data.fractions == (0.95, 0.0, 0.05)
    assert protocol.data.identities == 10
    assert "disc" in protocol.compared


def test_a_loss_without_a_weight_is_refused():
    with pytest.raises(ConfigError, match=r"designs\.lwc-tv\.losses"):
        load_protocol(PROTOCOLS / "paper-lensless-table.yaml", overrides=["designs.lwc-tv.losses={tv: 1}"])
