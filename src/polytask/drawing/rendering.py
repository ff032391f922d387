"""The jinja2 templates of pages and tables.

A page of any package extends ``base.html`` and is styled by ``page.css``; both are in ``drawing/templates``.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def templates_of(package: str = "polytask.drawing", *, is_html: bool = True) -> Any:
    """The jinja2 environment of the templates in ``package``, which may extend and include those of ``drawing``.

    Args:
        package: its folder ``templates`` is searched first.
        is_html: escapes what the templates show, except an SVG that passes the filter ``drawn``.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    found = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("polytask.drawing")]),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=is_html,
        keep_trailing_newline=not is_html,
    )
    found.filters["drawn"] = Markup
    return found
