"""``polytask report``: write an HTML page about how an adapter answers labelled rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from polytask.cli import console, options
from polytask.cli.input_rows import label_of_examples, rows_to_score
from polytask.cli.option_groups import ColumnOptions
from polytask.cli.options import app, examples, load_backbone_of, print_json
from polytask.cli.output import check_folder
from polytask.cli.wording import bytes_in_words
from polytask.errors import DataError

if TYPE_CHECKING:
    from polytask.reporting.answered import Progress as ShowProgress


@app.command(
    epilog=examples(
        "polytask report sentiment test.csv",
        "polytask report sentiment@2 test.csv --train reviews.csv --out sentiment.html",
    )
)
def report(
    name: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="The adapter: sentiment, sentiment@2, sentiment@best.")
    ],
    file: Annotated[str, typer.Argument(help="Texts with labels that it was not trained on.")],
    input_columns: ColumnOptions,
    out: Annotated[str, typer.Option("--out", metavar="FILE.html", help="Where the page is written.")] = "report.html",
    train: Annotated[
        str | None,
        typer.Option(
            "--train", metavar="FILE", help="The training rows: adds a linear probe and rows that both files share."
        ),
    ] = None,
    none_label: options.NoneLabel = None,
    store: options.StoreFolder = "adapters",
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Write a page that shows how an adapter answers: scores, confusions, calibration, mistakes, doubtful labels.

    The page is one file that needs no network. Drawing needs polytask\\[paper].
    """
    from polytask.adapters.store import Store
    from polytask.drawing.figures import check_drawing
    from polytask.reporting.report import report as report_on

    check_out(out, file, train)
    check_drawing()
    adapters = Store(store)
    entry = adapters.entry(name)
    examples_label = label_of_examples([entry], none_label)
    rows = rows_to_score([entry], file, input_columns, examples_label)
    known = None if train is None else rows_to_score([entry], train, input_columns, examples_label)
    frozen = load_backbone_of(entry, device, dtype, backbone)
    with report_progress() as progress:
        made = report_on(frozen, adapters, str(entry), rows, out, train=known, name=Path(file).name, progress=progress)
    if as_json:
        print_json({"file": out, **made.figures})
        return
    size = bytes_in_words(Path(out).stat().st_size)
    console.terminal().print(f"the report on {entry} is in {out} ({size}). Open it in a browser")


def check_out(out: str, file: str, train: str | None) -> None:
    """Refuse a page that cannot be written, before any work is done.

    Raises:
        DataError: it is a folder, in a folder that does not exist, or one of the inputs.
    """
    check_folder(out)
    if Path(out).is_dir():
        raise DataError("this is a folder", file=out, fix="Name a file: --out report.html")
    if Path(out).resolve() in [Path(given).resolve() for given in (file, train) if given is not None]:
        raise DataError("the page would overwrite the rows", file=out, fix="Give it another name with --out")


@contextmanager
def report_progress() -> Iterator[ShowProgress]:
    """A ``progress`` for ``pt.report``: a progress bar on a terminal, else one line per stage."""
    out = console.terminal(stderr=True)
    if not out.is_terminal:
        said: set[str] = set()

        def say(stage: str, done: int, total: int) -> None:
            if stage not in said:
                said.add(stage)
                out.print(stage, style="dim")

        yield say
        return
    bars: dict[str, Any] = {}
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out, transient=True
    ) as bar:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = bar.add_task(stage, total=total)
            bar.update(bars[stage], completed=done, total=total)

        yield show
