"""``polytask predict``: answer texts with adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import console, options, streams, wording
from polytask.cli.answers import MAX_NAMED, print_answers_json, row_names, show_answers, tasks_from
from polytask.cli.input_rows import check_inputs_of, rows_from_arguments, rows_from_file, texts_of
from polytask.cli.options import USER_ERROR, app, error_exit, examples, load_backbone_of, spinner
from polytask.cli.output import tasks_that_abstain, write
from polytask.cli.remote import Server
from polytask.cli.stream_output import DELIMITERS
from polytask.cli.top_k import check_top_k
from polytask.errors import DataError, UnknownName

if TYPE_CHECKING:
    from polytask.adapters.store import Entry, Store
    from polytask.data.task import Rows
    from polytask.inference.prediction import Prediction


@app.command(
    epilog=examples(
        'polytask predict --task sentiment --task spam "WIN cash now" "see you at 5"',
        "polytask predict --task sentiment --file in.csv --output out.csv",
        "polytask predict --url http://127.0.0.1:8000 --task spam --file in.csv",
        'polytask predict --task qa "Who led them?" --pair "Rollo led them, a Viking."',
        "cat texts.txt | polytask predict --task topic --top-k 3 > answers.jsonl",
        "cat in.csv | polytask predict --task topic --format csv > out.csv",
    )
)
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.", show_default=False)] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="One or more: --task sentiment --task spam@2 --task hub:OWNER/NAME.")
    ] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text of each text, in the same order.")] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Answer the rows of a file. A .txt file and standard input (-) have one text per line.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="File to write: the input columns and, for each task, TASK, TASK_prob, TASK_reason, …."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Format of standard input: txt (default), csv, tsv or jsonl. Answers to csv and tsv keep the format.",
        ),
    ] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            metavar="fail|null",
            help="A row without a text has an empty answer. With fail the exit code is then 2, with null 0.",
        ),
    ] = "fail",
    top_k: Annotated[
        int | None, typer.Option("--top-k", metavar="N", help="Print the N likeliest labels with their probabilities.")
    ] = None,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Print uncalibrated probabilities; labels stay the same.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Minimum probability of a label, instead of the adapters' own thresholds.")
    ] = None,
    store: options.StoreFolder = "adapters",
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a server; its API key is read from POLYTASK_KEY.")
    ] = None,
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Answer texts with the adapters of one or more tasks, from a store or a server."""
    from polytask.adapters.store import Store

    if on_error not in ("fail", "null"):
        raise UnknownName("way of --on-error", on_error, ("fail", "null"))
    streams.check_format(format, file)
    adapters: Any = Store(store) if url is None else Server(url)
    tasks = tasks_from(task, adapters)
    entries = {reference: adapters.entry(reference) for reference in tasks}
    abstaining, columns = tasks_that_abstain(entries, threshold), {"text": text, "text_pair": text_pair}
    check_top_k(top_k, output or (format if format in DELIMITERS and not as_json else None), entries)

    def predictor() -> Callable[[Sequence[Any], str], list[Prediction]]:
        how: dict[str, Any] = {"calibrated": not uncalibrated, "threshold": threshold}
        if url is not None:
            return partial(adapters.predict, **how)
        return _local_predictor(adapters, entries[tasks[0]], backbone, device, dtype, how)

    if streams.is_streamed(file, texts, output, as_json=as_json):
        if pair:
            raise DataError(
                "--pair is for texts of the command line", fix="For a table: --format csv --text-pair COLUMN"
            )
        missing = streams.answer_stream(
            file,
            entries,
            predictor,
            columns,
            output=output,
            format=format,
            as_json=as_json,
            drop_empty=drop_empty,
            encoding=encoding,
            top_k=top_k,
            abstaining=abstaining,
        )
        console.notes(console.terminal(stderr=True), missing)
        exit_if_missing(missing, on_error)
        return
    how: dict[str, Any] = {"drop_empty": drop_empty, "encoding": encoding, "abstaining": abstaining}
    if file is not None and (texts or pair):
        raise DataError("texts and a file are given", fix="Give one of them")
    source = None if file is None else rows_from_file(file, output, entries, columns, **how)
    file_options = [output, text, text_pair, encoding]
    asked = rows_from_arguments(texts, pair, file_options, on_error) if source is None else source.rows
    given = texts_of(asked)
    check_inputs_of(entries, given)
    predict_task = predictor()
    with spinner(f"answering {wording.counted(len(asked), 'text')}"):
        answers = {reference: predict_task(given, reference) for reference in tasks}
    missing = notes_on_missing(row_names(source, len(asked)), next(iter(answers.values())))
    console.notes(console.terminal(stderr=True), missing)
    if source is not None and output is not None:
        write(output, source, answers, entries, abstaining)
    _show(answers, asked, output, top_k, as_json=as_json)
    exit_if_missing(missing, on_error)


def _show(
    answers: dict[str, list[Prediction]], asked: Rows, output: str | None, top_k: int | None, *, as_json: bool
) -> None:
    """Print the answers, or where they were written."""
    if as_json:
        print_answers_json(answers, len(asked), top_k)
    elif output is not None:
        console.terminal().print(f"{wording.counted(len(asked), 'row')} written to {output}")
    else:
        show_answers(console.terminal(), asked, answers, top_k)


def _local_predictor(
    adapters: Store, entry: Entry, backbone: str | None, device: str, dtype: str, how: dict[str, Any]
) -> Callable[[Sequence[Any], str], list[Prediction]]:
    """Load the backbone; return a function that answers texts with an adapter of the store."""
    from polytask.inference.predict import MultiTask

    together = MultiTask(load_backbone_of(entry, device, dtype, backbone), adapters)
    return lambda texts, reference: together.predict(texts, reference, on_error="null", **how)


def notes_on_missing(place: Callable[[int], str], predictions: Sequence[Prediction]) -> list[str]:
    """Notes on rows without an answer: the places of the first ones and the reasons."""
    lines = [f"{place(row)}: {own.error}" for row, own in enumerate(predictions) if own.error]
    more = len(lines) - MAX_NAMED
    return [
        *lines[:MAX_NAMED],
        *([f"… and {wording.counted(more, 'more row')} without an answer"] if more > 0 else []),
    ]


def exit_if_missing(missing: Sequence[str], on_error: str) -> None:
    """Exit with code 2 if rows have no answer, except with ``--on-error null``."""
    if missing and on_error == "fail":
        raise error_exit(
            "some rows have no answer and are empty in the output. Accept this with --on-error null", USER_ERROR
        )
