"""The five renderings of a table: nothing in a cell can break out of it."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from polytask.drawing.table import Cell, Column, Table, letter, table_of_rows

HOSTILE = "<script>alert('x')</script> 100% & a_b #1 $x$ {y} ~z ^w \\input | `c` [d](e) *f*"


def small(text: str = "CoLA") -> Table:
    columns = (Column("task", is_number=False), Column("full", "ours"), Column("full", "paper", notes=("of 2019",)))
    first = (Cell(text, ("a sample",)), Cell.number(56.94, 0.41, notes=("a sample",)), Cell.number(60.5))
    second = (Cell("RTE"), Cell.number(None, notes=("not run",)), Cell.number(-3.5))
    return Table("Scores", columns, ((first,), (second,)), "In per cent.")


def test_a_number_is_shown_with_its_error_and_kept_in_full() -> None:
    cell = Cell.number(56.94, 0.41)
    assert (cell.text, cell.value, cell.error) == ("56.9 ± 0.4", 56.94, 0.41)
    assert Cell.number(None).text == "–"
    assert Cell.number(-1.0).text == "−1.0"
    assert Cell.number(1.19, form=".2f", unit="×").text == "1.19×"


def test_footnotes_get_letters_in_the_order_in_which_they_are_read() -> None:
    assert small().letters == {"of 2019": "a", "a sample": "b", "not run": "c"}
    assert [letter(at) for at in (0, 25, 26, 51, 52)] == ["a", "z", "aa", "az", "ba"]


def test_markdown() -> None:
    assert small().markdown().splitlines() == [
        "**Scores**",
        "",
        "| task | ours: full | paper: full<sup>a</sup> |",
        "| --- | ---: | ---: |",
        "| CoLA<sup>b</sup> | 56.9 ± 0.4<sup>b</sup> | 60.5 |",
        "| RTE | –<sup>c</sup> | −3.5 |",
        "",
        "In per cent.",
        "",
        "<sup>a</sup> of 2019",
        "",
        "<sup>b</sup> a sample",
        "",
        "<sup>c</sup> not run",
    ]


def test_csv_keeps_the_digits_and_spells_footnotes_out() -> None:
    header, first, second = csv.reader(io.StringIO(small().csv()))
    assert header == ["task", "ours: full", "ours: full, s.e.m.", "paper: full", "notes"]
    assert first == ["CoLA", "56.94", "0.41", "60.5", "a sample"]
    assert second == ["RTE", "", "", "-3.5", "not run"]


def test_latex_escapes_what_means_something_to_it() -> None:
    text = small(HOSTILE).latex()
    assert (
        r"\textless{}script\textgreater{}alert('x')\textless{}/script\textgreater{} 100\% \& a\_b \#1 \$x\$ \{y\} "
        r"\textasciitilde{}z \textasciicircum{}w \textbackslash{}input \textbar{} `c` {[}d{]}(e) *f*"
    ) in text
    assert r"56.9 $\pm$ 0.4\textsuperscript{b} & 60.5 \\" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    source = tmp_path / "table.tex"
    source.write_text(f"\\documentclass{{article}}\\begin{{document}}{small(HOSTILE).latex()}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", source.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_html_and_markdown_let_no_tag_through() -> None:
    for text in (small(HOSTILE).html(), small(HOSTILE).markdown()):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_a_bar_in_a_cell_does_not_end_it_in_markdown() -> None:
    line = small("a|b").markdown().splitlines()[4]
    assert line.startswith("| a\\|b<sup>b</sup> |")


def test_html_groups_headings_and_rules_sections() -> None:
    text = small().html()
    assert '<th colspan="1" scope="colgroup">ours</th>' in text
    assert text.count("<tbody>") == 2
    assert '<td class="number">56.9 ± 0.4<sup>b</sup></td>' in text
    assert "<li><sup>c</sup> not run</li>" in text


def test_rich_shows_every_cell_and_footnote() -> None:
    console = Console(width=100, file=io.StringIO())
    console.print(small("[bold]x[/bold]").rich())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("Scores", "[bold]x[/bold] b", "56.9 ± 0.4 b", "60.5", "In per cent.", "c not run"):
        assert part in shown


def test_dicts_become_a_table_as_they_are() -> None:
    table = table_of_rows("Rates", [{"task": "CoLA", "lr": 1e-3, "seeds": 3, "is_sample": True, "mean": None}])
    assert [column.heading for column in table.columns] == ["task", "lr", "seeds", "is sample", "mean"]
    assert [cell.text for row in table.rows for cell in row] == ["CoLA", "1e-3", "3", "yes", "–"]
    assert table.csv() == "task,lr,seeds,is sample,mean,notes\nCoLA,0.001,3,yes,,\n"
