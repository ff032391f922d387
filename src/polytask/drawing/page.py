"""Results as one HTML page that needs no other file: sections with a sentence, a figure and a table.

The templates (``templates/``) escape everything. Figures are inline SVGs in the page's colours, light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from polytask.drawing.rendering import templates_of
from polytask.drawing.table import Table


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its anchor.
        title: its heading.
        lead: what its numbers say.
        paper: what the paper says.
        svg: a figure (``figures.inline_svg``).
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
    page = templates_of().get_template("page.html")
    return str(page.render(title=title, subtitle=subtitle, sections=sections, command=command))
