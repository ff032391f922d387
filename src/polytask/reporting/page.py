"""The page: sections of pictures, tables and cards, rendered as one HTML file that needs nothing else.

The template (``templates/report.html``) extends the one in ``drawing`` and escapes everything but the SVGs, which
matplotlib has escaped. ``dir="auto"`` keeps texts that are written from right to left from reordering what is around
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytask.drawing.rendering import templates_of
from polytask.drawing.table import Table


@dataclass(frozen=True)
class Tile:
    """A number in large type at the top of the page, with what it is and a remark."""

    value: str
    name: str
    remark: str = ""


@dataclass(frozen=True)
class Picture:
    """An SVG of matplotlib with its caption; a wide one has a line of its own."""

    svg: str
    caption: str
    is_wide: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of a text. ``weight`` in [-1, 1] is how strongly it is marked, with ``mark`` the marking's name."""

    text: str
    weight: float = 0.0
    mark: str = ""

    @property
    def style(self) -> str:
        """The CSS of a piece that is marked by its weight."""
        colour = "212, 115, 11" if self.weight > 0 else "47, 111, 208"
        return f"background: rgba({colour}, {0.75 * min(abs(self.weight), 1):.2f})"


@dataclass(frozen=True)
class Card:
    """A row: which it is, what is said of it (name, value, and a class of the page), and its texts in pieces."""

    title: str
    facts: tuple[tuple[str, str, str], ...]
    passages: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True)
class Section:
    """A section of the page and its figures.

    Attributes:
        name: its anchor on the page and its key in the JSON.
        title: its heading.
        lead: what it shows, in a sentence.
        tiles: for the top of the page.
        pictures, tables, cards: what it consists of, in this order.
        remarks: in small print.
        data: its figures, as JSON.
    """

    name: str
    title: str
    lead: str = ""
    tiles: tuple[Tile, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    cards: tuple[Card, ...] = ()
    remarks: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def render_page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], footer: str) -> str:
    """The HTML document.

    Args:
        title: the heading.
        facts: names and values below it.
        sections: in their order; their tiles come first.
        footer: the last line.
    """
    tiles = [tile for section in sections for tile in section.tiles]
    page = templates_of("polytask.reporting").get_template("report.html")
    return str(page.render(title=title, facts=facts, tiles=tiles, sections=sections, footer=footer))
