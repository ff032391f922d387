"""The HTML of the report: all of it is here, and everything that comes from elsewhere is escaped here.

The page stands alone: no script, no font, no picture is fetched. Figures are inlined SVGs whose inks follow the page's,
light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from polytask.paper.figures import INK, MUTED, RULE
from polytask.paper.table import Table

PANELS = 1.8
"""A figure that is so many times as wide as it is high has several panels, and may be scrolled on a narrow screen."""


@dataclass(frozen=True)
class Part:
    """A section of the page.

    Attributes:
        name: its anchor.
        title: its heading.
        lead: what its numbers say.
        paper: what the paper says.
        svg: a figure.
        table: shown as it is, or folded away under a figure.
        remarks: in small print.
        why_empty: why there is nothing to see.
    """

    name: str
    title: str
    lead: str = ""
    paper: str = ""
    svg: str | None = None
    table: Table | None = None
    remarks: Sequence[str] = ()
    why_empty: str = ""


def page(title: str, subtitle: str, parts: Sequence[Part], command: str) -> str:
    """The whole document; ``command`` makes it again."""
    links = "".join(f'<li><a href="#{escape(part.name)}">{escape(part.title)}</a></li>' for part in parts)
    texts = {"TITLE": title, "SUBTITLE": subtitle, "COMMAND": command}
    values = {"STYLE": _STYLE, "LINKS": links, "BODY": "".join(map(_section, parts))}
    values |= {name: escape(text) for name, text in texts.items()}
    return re.sub(r"\$([A-Z]+)", lambda found: values[found[1]], _PAGE)


def _section(part: Part) -> str:
    inside = f"<h2>{escape(part.title)}</h2>"
    if part.why_empty:
        inside += f'<p class="empty">Nothing to show: {escape(part.why_empty)}.</p>'
    if part.lead:
        inside += f'<p class="lead">{escape(part.lead)}</p>'
    if part.paper:
        inside += f'<p class="paper"><b>The paper</b> {escape(part.paper)}</p>'
    if part.svg is not None:
        label = escape(part.lead or part.title, quote=True)
        inside += f'<div class="figure" role="img" aria-label="{label}">{inlined(part.svg)}</div>'
    if part.table is not None:
        table = part.table.html()
        inside += f"<details><summary>The numbers</summary>{table}</details>" if part.svg is not None else table
    inside += _list(part.remarks)
    return f'<section id="{escape(part.name)}">{inside}</section>'


def _list(remarks: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return f'<ul class="remarks">{lines}</ul>' if lines else ""


def inlined(svg: str) -> str:
    """An SVG as matplotlib writes it, to stand in a page: without its prologue, its inks those of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    if (box := re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)) and float(box[1]) > PANELS * float(box[2]):
        svg = svg.replace("<svg", '<svg class="panels"', 1)
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (RULE, "rule")):
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$TITLE</title>
<style>$STYLE</style>
</head>
<body>
<nav aria-label="Contents"><ul>$LINKS</ul></nav>
<main>
<header><h1>$TITLE</h1><p>$SUBTITLE</p></header>
$BODY
<footer>Made from the ledger alone, by <code>$COMMAND</code></footer>
</main>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1f2328; --muted: #59636e; --rule: #d1d9e0; --ground: #ffffff; --tint: #f4f6f8; --accent: #2f6fd0 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebef; --muted: #a2abb5; --rule: #3b434c; --ground: #14181d; --tint: #1d232a; --accent: #7fb0ff }
}
* { box-sizing: border-box }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--ground); color: var(--ink); display: grid;
  grid-template-columns: 15rem minmax(0, 1fr);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 2rem 1rem 2rem 1.5rem;
  border-right: 1px solid var(--rule); font-size: .875rem; line-height: 1.35 }
nav ul { list-style: none; margin: 0; padding: 0 }
nav li { margin: 0 0 .65rem }
a { color: var(--accent) }
nav a { color: var(--muted); text-decoration: none }
nav a:hover, nav a:focus-visible { color: var(--accent); text-decoration: underline }
main { max-width: 66rem; padding: 2rem clamp(1rem, 3vw, 3rem) 4rem; min-width: 0 }
h1 { font-size: clamp(1.5rem, 3.4vw, 2.1rem); line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .6rem }
header p { color: var(--muted); margin: 0; max-width: 46rem; overflow-wrap: anywhere }
section { margin-top: 2.6rem; padding-top: 1.6rem; border-top: 1px solid var(--rule) }
p { max-width: 46rem }
.lead { margin: .2rem 0 .7rem; font-weight: 500 }
.paper { margin: .2rem 0 1.1rem; color: var(--muted); font-size: .92rem }
.paper b { color: var(--ink); font-weight: 600; margin-right: .35em }
.empty { color: var(--muted); background: var(--tint); padding: .7rem 1rem; border-radius: .4rem }
.figure, .wide { overflow-x: auto }
.figure { margin: 1rem 0 }
.figure svg { display: block; max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.3; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .65rem; text-align: left; white-space: nowrap; font-weight: 400; vertical-align: baseline }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 1px solid var(--muted); white-space: normal }
thead .groups th { text-align: center; border-bottom: 1px solid var(--rule); color: var(--muted) }
thead .groups th:empty { border: 0 }
.number { text-align: right }
tbody + tbody tr:first-child > * { border-top: 1px solid var(--rule) }
tbody tr:hover > * { background: var(--tint) }
tbody th { white-space: normal; min-width: 9rem; max-width: 22rem }
td.prose { white-space: normal }
sup { color: var(--accent); font-size: .7em; margin-left: .15em; line-height: 0 }
.caption, .notes, .remarks { font-size: .82rem; color: var(--muted); max-width: 52rem }
.notes { list-style: none; padding: 0 }
.remarks { padding-left: 1.1rem }
.notes li, .remarks li { margin: .15rem 0; overflow-wrap: anywhere }
details { margin: .6rem 0 }
summary { cursor: pointer; color: var(--accent); font-size: .9rem }
code { font: .88em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--muted);
  font-size: .85rem }
@media (max-width: 60rem) {
  body { display: block }
  html { scroll-padding-top: 3.6rem }
  nav { height: auto; padding: 0; background: var(--ground); border: 0; border-bottom: 1px solid var(--rule);
    overflow-x: auto; z-index: 1 }
  nav ul { display: flex; gap: 1.1rem; padding: .8rem 1rem; width: max-content }
  nav li { margin: 0; white-space: nowrap }
  .figure svg.panels { max-width: none; height: 18rem; width: auto }
  thead .groups th { text-align: left }
  .facts, .facts tbody, .facts tr { display: block }
  .facts thead { display: none }
  .facts th, .facts td { display: block; position: static; padding: 0 .2rem; max-width: none }
  .facts th { font-weight: 600; padding-top: .6rem }
  tbody th { min-width: 7.5rem; position: sticky; left: 0; background: var(--ground) }
}
@media print {
  :root { --ink: #000000; --muted: #444444; --rule: #bbbbbb; --ground: #ffffff; --accent: #000000 }
  body { display: block; font-size: 10pt }
  nav { display: none }
  main { max-width: none; padding: 0 }
  section { break-inside: avoid-page; margin-top: 1.2rem; padding-top: .8rem }
  .figure, .wide { overflow: visible }
  table { font-size: 7.5pt }
  .facts { font-size: 9pt }
  th, td { padding: .15rem .3rem }
  details > summary { display: none }
}
"""
