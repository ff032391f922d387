"""A table and its five renderings: rich for a terminal, Markdown, LaTeX, CSV and HTML.

Footnotes are written in full where they apply; a rendering gives them letters in reading order.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from polytask.data.csv import FORMULAS
from polytask.drawing.rendering import templates_of
from polytask.files import write_text
from polytask.training.grid import value_in_words

MISSING = "–"
RATES = ("lr", "init_std")
"""Columns whose numbers span orders of magnitude."""


@dataclass(frozen=True)
class Cell:
    """A text or a number with its footnotes. A number keeps all its digits for CSV; ``error`` is its standard error."""

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
        """``56.9 ± 0.4``; a dash for None and NaN."""
        if value is None or math.isnan(value):
            return cls(MISSING, tuple(notes))
        error = None if error is None or math.isnan(error) else error
        beside = "" if error is None else f" ± {error:{form}}"
        return cls(f"{value:{form}}{unit}{beside}".replace("-", "−"), tuple(notes), value, error)


@dataclass(frozen=True)
class Column:
    """A column's heading; neighbours may share the heading of a ``group`` above it."""

    heading: str
    group: str = ""
    is_number: bool = True
    notes: tuple[str, ...] = ()

    def full_heading(self, separator: str = ": ") -> str:
        """The group and the heading on one line."""
        return f"{self.group}{separator}{self.heading}" if self.group else self.heading


Row = Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """Rows in sections that are separated by rules.

    Attributes:
        title: above it.
        columns: their headings.
        sections: each a tuple of rows.
        caption: says what the numbers are.
        summary: on a page the table is folded away under it, if there is one.
    """

    title: str
    columns: tuple[Column, ...]
    sections: tuple[tuple[Row, ...], ...]
    caption: str = ""
    summary: str = ""

    @property
    def rows(self) -> list[Row]:
        """The rows of all sections."""
        return [row for section in self.sections for row in section]

    @cached_property
    def letters(self) -> dict[str, str]:
        """The letter of each footnote, in reading order."""
        texts = [note for column in self.columns for note in column.notes]
        texts += [note for row in self.rows for cell in row for note in cell.notes]
        return {text: letter(at) for at, text in enumerate(dict.fromkeys(texts))}

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings of groups with their numbers of columns; empty if no column has a group."""
        found = [(name, len(list(columns))) for name, columns in groupby(self.columns, key=lambda c: c.group)]
        return found if any(name for name, _ in found) else []

    @property
    def alignment(self) -> str:
        """``lrr``: numbers are on the right."""
        return "".join("r" if column.is_number else "l" for column in self.columns)

    def marks(self, notes: Sequence[str]) -> str:
        """The letters of these footnotes: ``a,b``."""
        return ",".join(sorted((self.letters[note] for note in notes), key=lambda mark: (len(mark), mark)))

    @property
    def below(self) -> list[tuple[str, str]]:
        """The caption and the footnotes, each after its letter."""
        notes = [(mark, text) for text, mark in self.letters.items()]
        return [("", self.caption), *notes] if self.caption else notes

    def markdown(self) -> str:
        """GitHub's dialect."""
        return _rendered(self, "table.md", _MARKDOWN)

    def latex(self) -> str:
        """A ``table`` that needs no package. LaTeX numbers tables itself, so the title's number is left out."""
        return _rendered(self, "table.tex", _LATEX)

    def csv(self) -> str:
        """Numbers in full, standard errors in columns of their own, footnotes spelled out in the last column."""
        has_error = [any(cells) for cells in zip(*([cell.error is not None for cell in row] for row in self.rows))]
        has_error = has_error or [False] * len(self.columns)
        header: list[str] = []
        for column, doubled in zip(self.columns, has_error, strict=True):
            header += [column.full_heading(), *([f"{column.full_heading()}, s.e.m."] if doubled else [])]
        lines = []
        for row in self.rows:
            line: list[object] = []
            for cell, doubled in zip(row, has_error, strict=True):
                text = "" if cell.text == MISSING else cell.text
                line += [text if cell.value is None else cell.value]
                line += ["" if cell.error is None else cell.error] if doubled else []
            lines.append([*line, "; ".join(dict.fromkeys(note for cell in row for note in cell.notes))])
        return as_csv([*header, "notes"], lines)

    def html(self) -> str:
        """A ``<table>`` with its caption and footnotes; everything is escaped."""
        return str(templates_of().get_template("table.html").module.show(self))

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write the table as Markdown, LaTeX and CSV; return the files."""
        texts = {"md": self.markdown(), "tex": self.latex(), "csv": self.csv()}
        for kind, text in texts.items():
            write_text(folder / f"{name}.{kind}", text)
        return [folder / f"{name}.{kind}" for kind in texts]

    def rich(self) -> Any:
        """A renderable for ``rich.console.Console.print``."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        def shown(text: str, notes: Sequence[str]) -> Text:
            return Text.assemble(text, (f" {self.marks(notes)}" if notes else "", "dim"))

        title = Text(self.title, style="bold")
        table = RichTable(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, header_style="bold")
        for column in self.columns:
            right: Any = "right" if column.is_number else "left"
            table.add_column(shown(column.full_heading("\n"), column.notes), justify=right, overflow="fold")
        for section in self.sections:
            for row in section:
                table.add_row(*(shown(cell.text, cell.notes) for cell in row), end_section=row is section[-1])
        below = [Text(f"{mark} {text}".strip(), style="dim") for mark, text in self.below]
        return Group(table, *below, Text(""))


def table_of_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of dicts with the same keys, which become the headings."""
    names = list(rows[0]) if rows else []
    numbers = {name: all(_is_number(row[name]) or row[name] is None for row in rows) for name in names}
    columns = tuple(Column(name.replace("_", " "), is_number=numbers[name]) for name in names)
    return Table(title, columns, (tuple(tuple(_as_cell(name, row[name]) for name in names) for row in rows),))


def text_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[int] = (),
    summary: str = "",
) -> Table:
    """A table of texts; the columns at the positions ``numbers`` are aligned as numbers."""
    sections = (tuple(tuple(map(Cell, row)) for row in rows),)
    return Table(title, columns_of(headings, numbers), sections, summary=summary)


def columns_of(headings: Sequence[str], numbers: Collection[int] | None = None) -> tuple[Column, ...]:
    """Columns, of which those at the positions ``numbers`` (default: all but the first) have numbers."""
    numbers = range(1, len(headings)) if numbers is None else numbers
    return tuple(Column(heading, is_number=at in numbers) for at, heading in enumerate(headings))


def as_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """CSV with line feeds. A text that a spreadsheet would read as a formula is preceded by an apostrophe."""
    out = io.StringIO()
    guarded = [[f"'{c}" if isinstance(c, str) and c[:1] in FORMULAS else c for c in row] for row in (header, *rows)]
    csv.writer(out, lineterminator="\n").writerows(guarded)
    return out.getvalue()


def letter(at: int) -> str:
    """a, b, …, z, aa, ab, …"""
    return (letter(at // 26 - 1) if at >= 26 else "") + chr(ord("a") + at % 26)


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


_MARKDOWN = {sign: f"\\{sign}" for sign in "\\|*_`[]"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
_LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}"}
_LATEX |= {"±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "…": r"\dots{}", "σ": r"$\sigma$", "’": "'"}


def _rendered(table: Table, template: str, signs: Mapping[str, str]) -> str:
    """A template's text of the table, with each special character of its texts replaced once."""

    def escaped(text: str) -> str:
        return "".join(signs.get(sign, sign) for sign in text)

    found = templates_of(is_html=False).get_template(template)
    return str(found.render(table=table, escaped=escaped, braced="{{{}}}".format))
