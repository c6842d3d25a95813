"""The page of a report: paragraphs, tables, pictures and folded texts, and how they become one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocols.report.figures import Drawing


FIGURES_FOLDER = "figures"
"""Beside the page; links are relative, so that both can be moved together."""


@dataclass(frozen=True)
class Text:
    """A paragraph. kind: `text`, `careful` for a warning, or `missing` for what is not there."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: bool = False
    """Cells hold words and stand left; else numbers, which stand right."""

    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; its files are called `name`. Half ones stand side by side."""

    name: str
    drawing: Drawing
    caption: str
    half: bool = False
    kind: str = "picture"

    @property
    def uri(self) -> str:
        """The picture as text that a page can hold."""
        return "data:image/png;base64," + base64.b64encode(self.drawing.png).decode()

    @property
    def width_percent(self) -> float:
        """Width on the page, so that letters have the same size in all figures."""
        from protocols.report.figures import DPI, PAGE_IN

        pixels = int.from_bytes(self.drawing.png[16:20], "big")
        return min(100.0, 100 * pixels / DPI / PAGE_IN)


@dataclass(frozen=True)
class Animation:
    """A moving picture (GIF) with its caption; its file is called `name`."""

    name: str
    gif: bytes
    caption: str
    half: bool = True
    kind: str = "animation"

    @property
    def uri(self) -> str:
        """The picture as text that a page can hold."""
        return "data:image/gif;base64," + base64.b64encode(self.gif).decode()


@dataclass(frozen=True)
class Fold:
    """A long text behind a click; open on paper it would fill pages, so it stays closed there."""

    title: str
    text: str
    kind: str = "fold"


Block = Text | Table | Picture | Animation | Fold


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    @property
    def runs(self) -> list[tuple[bool, list[Block]]]:
        """The blocks in order, neighbouring half pictures (True) taken together."""
        return [
            (half, list(group)) for half, group in groupby(self.blocks, lambda block: getattr(block, "half", False))
        ]


def render(sections: Sequence[Section], title: dict[str, Any]) -> str:
    """One HTML page that needs nothing from outside; only links lead to the figures beside it.

    title: the values that the head of the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("protocols.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(sections=sections, figures=FIGURES_FOLDER, **title)


def short_name(name: str, limit: int = 16) -> str:
    """A class name that fits beside a figure."""
    text = name.replace("_", " ")
    return text if len(text) <= limit else text[: limit - 1] + "…"
