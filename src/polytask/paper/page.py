"""The report as one HTML page that needs no other file.

The templates (``templates/``) escape everything. Figures are inline SVGs in the page's colours, light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from polytask.drawing.figures import inline_svg
from polytask.drawing.templates import templates_of

if TYPE_CHECKING:
    from polytask.paper.table import Table


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


@cache
def _templates() -> Any:
    from markupsafe import Markup

    return templates_of("polytask.paper", inlined=lambda svg: Markup(inline_svg(svg)))
