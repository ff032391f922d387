"""HTML templates of a package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def templates_of(package: str, **filters: Callable[[str], Any]) -> Any:
    """The jinja2 environment of the templates in ``package``; what they show is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(filters)
    return found
