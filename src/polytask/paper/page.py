"""The report as one HTML page that needs no other file.

The templates (``templates/``) escape everything. Figures are inline SVGs in the page's colours, light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from polytask.paper.figures import INK, MUTED, RULE

if TYPE_CHECKING:
    from polytask.paper.table import Table

PANELS = 1.8
"""A figure with a greater ratio of width to height has several panels, and scrolls on a narrow screen."""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its anchor.
        title: its heading.
        lead: what its numbers say.
        paper: what the paper says.
        svg: a figure.
        table: shown as it is, or folded away under a figure.
        remarks: in small print.
        why_empty: why there is nothing to show.
    """

    name: str
    title: str
    lead: str = ""
    paper: str = ""
    svg: str | None = None
    table: Table | None = None
    remarks: Sequence[str] = ()
    why_empty: str = ""


def render_page(title: str, subtitle: str, sections: Sequence[Section], command: str) -> str:
    """The HTML document; its footer names the ``command`` that makes it again."""
    page = _templates().get_template("page.html")
    return str(page.render(title=title, subtitle=subtitle, parts=sections, command=command))


def render_table(table: Table) -> str:
    """A ``<table>`` with its caption and footnotes."""
    return str(_templates().get_template("table.html").module.show(table))


def inline_svg(svg: str) -> str:
    """An SVG written by matplotlib without its prologue and metadata, with the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    if (box := re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)) and float(box[1]) > PANELS * float(box[2]):
        svg = svg.replace("<svg", '<svg class="panels"', 1)
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (RULE, "rule")):
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    found = Environment(
        loader=PackageLoader("polytask.paper"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["inlined"] = lambda svg: Markup(inline_svg(svg))
    return found
