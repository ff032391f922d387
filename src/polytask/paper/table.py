"""A table that knows nothing of its reader: rich for a terminal, Markdown, LaTeX, CSV and HTML.

A footnote is written where it applies, in full; letters are given out when the table is rendered, in reading order.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from polytask.data.csv import FORMULAS
from polytask.training.grid import value_in_words

MISSING = "–"
RATES = ("lr", "init_std")
"""Columns whose numbers span orders of magnitude."""


@dataclass(frozen=True)
class Cell:
    """What stands in one place: a text or a number, and its footnotes.

    A number keeps its digits for CSV; ``error`` is its standard error.
    """

    text: str = ""
    notes: tuple[str, ...] = ()
    value: float | None = None
    error: float | None = None

    @classmethod
    def number(
        cls,
        value: float | None,
        error: float | None = None,
        form: str = ".1f",
        notes: Sequence[str] = (),
        unit: str = "",
    ) -> Cell:
        """``56.9 ± 0.4``; a dash where there is none."""
        if value is None:
            return cls(MISSING, tuple(notes))
        beside = "" if error is None else f" ± {error:{form}}"
        return cls(f"{value:{form}}{unit}{beside}".replace("-", "−"), tuple(notes), value, error)


@dataclass(frozen=True)
class Column:
    """A heading, which may stand under that of a group of neighbours."""

    heading: str
    group: str = ""
    is_number: bool = True
    notes: tuple[str, ...] = ()


Row = Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """Rows in sections, which a rule divides; ``caption`` says what the numbers are."""

    title: str
    columns: tuple[Column, ...]
    sections: tuple[tuple[Row, ...], ...]
    caption: str = ""

    @property
    def rows(self) -> Iterator[Row]:
        """Of all sections."""
        for section in self.sections:
            yield from section

    @property
    def letters(self) -> dict[str, str]:
        """Each footnote's letter, in the order in which they are met."""
        texts = [note for column in self.columns for note in column.notes]
        texts += [note for row in self.rows for cell in row for note in cell.notes]
        return {text: letter(at) for at, text in enumerate(dict.fromkeys(texts))}

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings of neighbouring columns with how many they are over; none where no column has one."""
        found = [(name, len(list(columns))) for name, columns in groupby(self.columns, key=lambda c: c.group)]
        return found if any(name for name, _ in found) else []

    def markdown(self) -> str:
        """GitHub's dialect."""
        letters = self.letters

        def shown(text: str, notes: Sequence[str]) -> str:
            marks = _marks(notes, letters)
            return _escaped(text, _MARKDOWN) + (f"<sup>{marks}</sup>" if marks else "")

        headings = [shown(f"{c.group}: {c.heading}" if c.group else c.heading, c.notes) for c in self.columns]
        lines = [f"**{_escaped(self.title, _MARKDOWN)}**", ""]
        lines += [_line(headings), _line(["---:" if column.is_number else "---" for column in self.columns])]
        lines += [_line([shown(cell.text, cell.notes) for cell in row]) for row in self.rows]
        lines += ["", _escaped(self.caption, _MARKDOWN)] if self.caption else []
        notes = [f"<sup>{mark}</sup> {_escaped(text, _MARKDOWN)}" for text, mark in letters.items()]
        return "\n".join([*lines, *(part for note in notes for part in ("", note)), ""])

    def latex(self) -> str:
        """A ``table`` that needs no package."""
        letters = self.letters

        def shown(text: str, notes: Sequence[str]) -> str:
            marks = _marks(notes, letters)
            return _escaped(text, _LATEX) + (rf"\textsuperscript{{{marks}}}" if marks else "")

        align = "".join("r" if column.is_number else "l" for column in self.columns)
        title = self.title.partition(": ")[2] or self.title  # LaTeX numbers tables itself
        lines = [r"\begin{table}", r"\centering\small", r"\renewcommand{\arraystretch}{1.15}"]
        lines += [rf"\caption{{{_escaped(title, _LATEX)}}}", r"\medskip", rf"\begin{{tabular}}{{{align}}}", r"\hline"]
        if self.groups:
            spans = [rf"\multicolumn{{{span}}}{{c}}{{{_escaped(name, _LATEX)}}}" for name, span in self.groups]
            lines.append(" & ".join(spans) + r" \\")
        lines.append(" & ".join(shown(column.heading, column.notes) for column in self.columns) + r" \\")
        for section in self.sections:
            lines.append(r"\hline")
            lines += [" & ".join(shown(cell.text, cell.notes) for cell in row) + r" \\" for row in section]
        lines += [r"\hline", r"\end{tabular}"]
        notes = [_escaped(self.caption, _LATEX)] if self.caption else []
        notes += [rf"\textsuperscript{{{mark}}}~{_escaped(text, _LATEX)}" for text, mark in letters.items()]
        lines += [r"\par\smallskip\raggedright\footnotesize", "\\\\\n".join(notes)] if notes else []
        return "\n".join([*lines, r"\end{table}", ""])

    def csv(self) -> str:
        """Numbers in full; a column of standard errors beside each column that has any; footnotes spelled out, last."""
        rows = list(self.rows)
        has_error = [any(row[at].error is not None for row in rows) for at in range(len(self.columns))]
        header, lines = [], []
        for column, doubled in zip(self.columns, has_error, strict=True):
            name = f"{column.group}: {column.heading}" if column.group else column.heading
            header += [name, f"{name}, s.e.m."] if doubled else [name]
        for row in rows:
            line: list[object] = []
            for cell, doubled in zip(row, has_error, strict=True):
                shown = "" if cell.text == MISSING else cell.text
                line += [shown if cell.value is None else cell.value]
                line += ["" if cell.error is None else cell.error] if doubled else []
            lines.append([*line, "; ".join(dict.fromkeys(note for cell in row for note in cell.notes))])
        return as_csv([*header, "notes"], lines)

    def html(self) -> str:
        """A ``<table>`` with its caption and footnotes; everything is escaped."""
        letters, escape = self.letters, html.escape

        def shown(text: str, notes: Sequence[str]) -> str:
            marks = _marks(notes, letters)
            return escape(text) + (f"<sup>{marks}</sup>" if marks else "")

        kinds = [' class="number"' if column.is_number else ' class="prose"' for column in self.columns]
        head = ""
        if self.groups:
            spans = (f'<th colspan="{span}" scope="colgroup">{escape(name)}</th>' for name, span in self.groups)
            head = f'<tr class="groups">{"".join(spans)}</tr>'
        headings = (f'<th scope="col"{k}>{shown(c.heading, c.notes)}</th>' for c, k in zip(self.columns, kinds))
        head += f"<tr>{''.join(headings)}</tr>"
        body = ""
        for section in self.sections:
            lines = []
            for first, *rest in section:
                cells = (f"<td{kind}>{shown(c.text, c.notes)}</td>" for c, kind in zip(rest, kinds[1:], strict=True))
                lines.append(f'<tr><th scope="row">{shown(first.text, first.notes)}</th>{"".join(cells)}</tr>')
            body += f"<tbody>{''.join(lines)}</tbody>"
        facts = "" if any(column.is_number for column in self.columns) else ' class="facts"'
        if any(column.heading for column in self.columns):
            body = f"<thead>{head}</thead>{body}"
        table = f'<div class="wide"><table{facts}>{body}</table></div>'
        notes = "".join(f"<li><sup>{mark}</sup> {escape(text)}</li>" for text, mark in letters.items())
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        return table + caption + (f'<ul class="notes">{notes}</ul>' if notes else "")

    def rich(self) -> Any:
        """For ``rich.console.Console.print``."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        letters = self.letters

        def shown(text: str, notes: Sequence[str]) -> Text:
            return Text.assemble(text, (f" {_marks(notes, letters)}" if notes else "", "dim"))

        title = Text(self.title, style="bold")
        table = RichTable(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, header_style="bold")
        for column in self.columns:
            heading = f"{column.group}\n{column.heading}" if column.group else column.heading
            right = "right" if column.is_number else "left"
            table.add_column(shown(heading, column.notes), justify=right, overflow="fold")  # type: ignore[arg-type]
        for section in self.sections:
            for row in section:
                table.add_row(*(shown(cell.text, cell.notes) for cell in row), end_section=row is section[-1])
        below = [Text(self.caption, style="dim")] if self.caption else []
        below += [Text.assemble((f"{mark} ", "dim"), (text, "dim")) for text, mark in letters.items()]
        return Group(table, *below, Text(""))


def of_rows(title: str, rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    """A table of dicts that have the same names, as they are."""
    names = list(rows[0]) if rows else []
    numbers = {name: all(_is_number(row[name]) or row[name] is None for row in rows) for name in names}
    columns = tuple(Column(name.replace("_", " "), is_number=numbers[name]) for name in names)
    cells = tuple(tuple(_as_cell(name, row[name]) for name in names) for row in rows)
    return Table(title, columns, (cells,), caption)


def as_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lines that end in a line feed. Before a text that a spreadsheet would take for a formula stands an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([list(map(_no_formula, row)) for row in (header, *rows)])
    return out.getvalue()


def _no_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in FORMULAS else cell


def letter(at: int) -> str:
    """a, b, …, z, aa, ab, …"""
    return (letter(at // 26 - 1) if at >= 26 else "") + chr(ord("a") + at % 26)


def _marks(notes: Sequence[str], letters: Mapping[str, str]) -> str:
    return ",".join(sorted((letters[note] for note in notes), key=lambda mark: (len(mark), mark)))


def _as_cell(name: str, value: object) -> Cell:
    if value is None:
        return Cell(MISSING)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        if name in RATES:
            return Cell(value_in_words(value), value=value)
        return Cell.number(value, form=",d" if isinstance(value, int) else ".2f")
    return Cell(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_MARKDOWN = {
    "\\": "\\\\",
    "|": "\\|",
    "*": "\\*",
    "_": "\\_",
    "`": "\\`",
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    "\n": " ",
}
_MARKDOWN |= {"[": "\\[", "]": "\\]"}

_LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"}
_LATEX |= {"±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "…": r"\dots{}", "σ": r"$\sigma$", "’": "'"}
_LATEX |= {"[": "{[}", "]": "{]}"}


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    """Each sign replaced, once."""
    return "".join(signs.get(sign, sign) for sign in text)
