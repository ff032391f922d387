"""``polytask predict``: adapters answer texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import console, options, streams, wording
from polytask.cli.options import THEIRS, app, examples, loaded, refused, working
from polytask.cli.output import write
from polytask.cli.top_k import check_top_k
from polytask.errors import DataError, UnknownName

if TYPE_CHECKING:
    from polytask.inference.prediction import Prediction
from polytask.cli.answers import (
    MOST_NAMED,
    check_taken,
    emit_answers,
    file_given,
    places,
    rows_given,
    show_answers,
    tasks_asked,
    texts_of,
)


@app.command(
    epilog=examples(
        'polytask predict --task sentiment --task spam "WIN cash now" "see you at 5"',
        "polytask predict --task sentiment --file in.csv --output out.csv",
        'polytask predict --task qa "Who led them?" --pair "Rollo led them, a Viking."',
        "cat texts.txt | polytask predict --task topic --top-k 3 > answers.jsonl",
    )
)
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option(help="One or more: --task sentiment --task spam@2.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text of each text, in their order.")] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Answer the rows of a file; of .txt, or - for standard input, a text a line."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="The file's columns and, for each task, TASK, TASK_prob, ….")
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
        int | None, typer.Option("--top-k", metavar="N", help="Give the N likeliest labels with their probabilities.")
    ] = None,
    store: options.StoreFolder = "adapters",
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a server; its key in the variable POLYTASK_KEY.")
    ] = None,
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Answer texts with the adapters of one or more tasks on one backbone."""
    from polytask.adapters.store import Store
    from polytask.inference.predict import MultiTask

    if url is not None:
        from polytask.cli.remote import predict_at

        predict_at(url, texts, task, pair, [file, output, text, text_pair, encoding], as_json=as_json, top_k=top_k)
        return
    if on_error not in ("fail", "null"):
        raise UnknownName("way of --on-error", on_error, ("fail", "null"))
    adapters = Store(store)
    tasks = tasks_asked(task, adapters)
    entries = {reference: adapters.entry(reference) for reference in tasks}
    is_streamed = streams.is_streamed(file, texts, output, as_json=as_json)
    check_top_k(top_k, None if is_streamed else output, entries)
    if is_streamed:
        name = backbone or entries[tasks[0]].header.backbone.name
        missing = streams.answer_stream(
            file,
            entries,
            lambda: MultiTask(loaded(name, device, dtype), adapters),
            {"text": text, "text_pair": text_pair},
            output=output,
            drop_empty=drop_empty,
            encoding=encoding,
            top_k=top_k,
        )
        console.notes(console.terminal(stderr=True), missing)
        end_with(missing, on_error)
        return
    source = None
    if file is None:
        asked = rows_given(texts, pair, [output, text, text_pair, encoding], on_error)
    else:
        if texts or pair:
            raise DataError("texts and a file are given", fix="Answer the one or the other")
        columns = {"text": text, "text_pair": text_pair}
        source = file_given(file, output, entries, columns, drop_empty=drop_empty, encoding=encoding)
        asked = source.rows
    check_taken(entries, texts_of(asked))
    frozen = loaded(backbone or entries[tasks[0]].header.backbone.name, device, dtype)
    together = MultiTask(frozen, adapters)
    with working(f"answering {wording.counted(len(asked), 'text')}"):
        given = texts_of(asked)
        answers = {reference: together.predict(given, reference, on_error="null") for reference in tasks}
    missing = missing_texts(places(source, len(asked)), next(iter(answers.values())))
    console.notes(console.terminal(stderr=True), missing)
    if source is not None and output is not None:
        write(output, source, answers, entries)
    if as_json:
        emit_answers(answers, len(asked), top_k)
    elif output is not None:
        console.terminal().print(f"{wording.counted(len(asked), 'row')} written to {output}")
    else:
        show_answers(console.terminal(), asked, answers, top_k)
    end_with(missing, on_error)


def missing_texts(place: Callable[[int], str], predictions: Sequence[Prediction]) -> list[str]:
    """Which rows have no answer, and why: the first of them by their places."""
    lines = [f"{place(row)}: {own.error}" for row, own in enumerate(predictions) if own.error]
    more = len(lines) - MOST_NAMED
    return [
        *lines[:MOST_NAMED],
        *([f"… and {wording.counted(more, 'more row')} without an answer"] if more > 0 else []),
    ]


def end_with(missing: Sequence[str], on_error: str) -> None:
    """Exit with 2 where rows have no answer, unless that was expected."""
    if missing and on_error == "fail":
        raise refused("some rows have no answer; theirs are empty. To take that as it is: --on-error null", THEIRS)
