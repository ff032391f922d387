"""What a page needs of a figure."""

from __future__ import annotations

from polytask.drawing.figures import inline_svg


def test_an_inline_figure_has_the_colours_of_the_page() -> None:
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "http://www.w3.org/x.dtd">\n<svg viewBox="0 0 700 300">'
        '<metadata>by</metadata><path style="fill: #1f2328"/></svg>\n'
    )
    assert inline_svg(svg) == '<svg class="panels" viewBox="0 0 700 300"><path style="fill: var(--ink)"/></svg>'
