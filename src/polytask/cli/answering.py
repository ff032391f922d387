"""``polytask eval`` and ``polytask predict``: adapters of a store answer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask import screen
from polytask.cli import options
from polytask.cli.options import THEIRS, app, emit, examples, loaded, refused, working
from polytask.cli.output import check_folder, check_output, write
from polytask.cli.reading import columns_of, rows_to_score
from polytask.errors import DataError, PolytaskError, UnknownName
from polytask.tasks.task import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from polytask.backbones import Backbone
    from polytask.header import Header
    from polytask.predict import Prediction
    from polytask.store import Entry, Store
    from polytask.tasks.baselines import Majority
    from polytask.tasks.files import FileRows
    from polytask.tasks.task import Kind, Rows, Target

SHOWN_ROWS, MOST_NAMED = 20, 5


@app.command(
    name="eval",
    epilog=examples(
        "polytask eval test.csv --task sentiment",
        "polytask eval test.csv --task sentiment@2 --metric f1 --confusion confusion.png",
    ),
)
def evaluate(
    file: Annotated[str, typer.Argument(help="Rows with labels.")],
    task: Annotated[str, typer.Option(help="The adapter: sentiment, sentiment@2, sentiment@best.")],
    metric: Annotated[str | None, typer.Option(help="The one it was trained by unless given.")] = None,
    confusion: Annotated[
        str | None,
        typer.Option(metavar="FILE.png", help="Draw which label is taken for which; needs polytask\\[paper]."),
    ] = None,
    text: options.TextColumn = None,
    text_pair: options.PairColumn = None,
    label: options.LabelColumn = None,
    drop_empty: options.DropEmpty = False,
    encoding: options.Encoding = None,
    store: options.StoreFolder = "adapters",
    backbone: options.OfBackbone = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Score a task's adapter on a file of texts with labels: as a whole, label by label, and what it confuses."""
    from polytask.store import Store
    from polytask.tasks.chance import interval
    from polytask.tasks.metrics import all_scores, distinct, fitting_metric
    from polytask.tasks.report import report

    adapters = Store(store)
    entry = adapters.entry(task)
    head, name = entry.header.head, metric or entry.metric
    fitting_metric(name, head.kind)
    check_drawable(confusion, head.kind)
    columns = {"text": text, "text_pair": text_pair, "label": label}
    rows = rows_to_score([entry], file, columns, drop_empty=drop_empty, encoding=encoding)
    assert rows.targets is not None, "labelled rows have targets"
    frozen = loaded(backbone or entry.header.backbone.name, device, dtype)
    given = answered(frozen, adapters, entry, rows)
    of_labels = len(head.labels)
    metrics = distinct(all_scores(head.kind, rows.targets, given, num_labels=of_labels), head.kind, of_labels, name)
    surely = interval(name, head.kind, rows.targets, given, num_labels=of_labels)
    by_label = report(head.kind, head.labels, rows.targets, given)
    if confusion is not None and by_label is not None and by_label.confusion is not None:
        from polytask.paper.figures import draw_confusion

        draw_confusion(confusion, head.labels, by_label.confusion, f"{entry} on {Path(file).name}")
    if as_json:
        whole = {"task": entry.task, "metric": name, "score": metrics[name], "rows": len(rows), "metrics": metrics}
        parts = {"classes": None, "confusion": None} if by_label is None else by_label.to_json()
        emit({**whole, "interval": surely, **parts})
        return
    out = screen.terminal()
    if by_label is not None:
        out.print(screen.by_label(by_label))
        if by_label.confusion is not None:
            out.print(screen.confused(head.labels, by_label.confusion))
    majority = commonest_score(entry.header, name, rows.targets)
    out.print(screen.evaluated(entry, file, len(rows), name, metrics, surely, majority))
    if confusion is not None:
        out.print(f"the confusion matrix is drawn in {confusion}")


@app.command(
    epilog=examples(
        'polytask predict --task sentiment --task spam "WIN cash now" "see you at 5"',
        "polytask predict --task sentiment --file in.csv --output out.csv",
        'polytask predict --task qa "Who led them?" --pair "Rollo led them, a Viking."',
    )
)
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to answer.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option(help="One or more: --task sentiment --task spam@2.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text of each text, in their order.")] = None,
    file: Annotated[str | None, typer.Option(metavar="FILE", help="Answer the rows of a file instead.")] = None,
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
    from polytask.predict import MultiTask
    from polytask.store import Store

    if url is not None:
        from polytask.cli.remote import predict_at

        predict_at(url, texts, task, pair, [file, output, text, text_pair, encoding], as_json=as_json)
        return
    if on_error not in ("fail", "null"):
        raise UnknownName("way of --on-error", on_error, ("fail", "null"))
    adapters = Store(store)
    tasks = tasks_asked(task, adapters)
    entries = {reference: adapters.entry(reference) for reference in tasks}
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
    with working(f"answering {screen.counted(len(asked), 'text')}"):
        given = texts_of(asked)
        answers = {reference: together.predict(given, reference, on_error="null") for reference in tasks}
    missing = missing_texts(places(source, len(asked)), next(iter(answers.values())))
    screen.notes(screen.terminal(stderr=True), missing)
    if source is not None and output is not None:
        write(output, source, answers, entries)
    if as_json:
        emit_answers(answers, len(asked))
    elif output is not None:
        screen.terminal().print(f"{screen.counted(len(asked), 'row')} written to {output}")
    else:
        show_answers(screen.terminal(), asked, answers)
    end_with(missing, on_error)


def file_given(
    file: str,
    output: str | None,
    entries: Mapping[str, Entry],
    columns: Mapping[str, str | None],
    *,
    drop_empty: bool,
    encoding: str | None,
) -> FileRows:
    """The rows of a file to be answered, if what is to be written can be."""
    from polytask.tasks.files import read_rows, table_of

    kinds: dict[str, Kind] = {reference: entry.header.head.kind for reference, entry in entries.items()}
    kind: Kind | None = "span" if "span" in kinds.values() else None
    table = table_of(file, kind, labelled=False, encoding=encoding)
    chosen = columns_of(list(entries.values()), table, **columns)
    source = read_rows(table, **chosen, kind=kind, drop_empty=drop_empty, keep_empty=True)
    check_output(file, output, source, kinds)
    return source


def emit_answers(answers: Mapping[str, Sequence[Prediction]], num_rows: int) -> None:
    """One line of JSON for each row and task, with the number of the row, counted from 1."""
    for row in range(num_rows):
        for column in answers.values():
            emit({"row": row + 1, **column[row].to_json()})


def show_answers(out: Console, asked: Rows, answers: Mapping[str, Sequence[Prediction]]) -> None:
    """A table of all rows; on a terminal of the first ones."""
    num_shown = min(len(asked), SHOWN_ROWS) if out.is_terminal else len(asked)
    out.print(screen.answers(asked.texts[:num_shown], answers, asked.pairs and asked.pairs[:num_shown]))
    if num_shown < len(asked):
        out.print(f"… and {screen.counted(len(asked) - num_shown, 'more row')}. Write them all with --output FILE")


def places(source: FileRows | None, num_rows: int) -> Callable[[int], str]:
    """Where a row stands: ``in.csv:7``, or ``text 2 of 3`` of the command line."""
    if source is None:
        return lambda row: f"text {row + 1} of {num_rows}"
    table = source.table
    return lambda row: f"{table.file}:{table.lines[row]}"


def missing_texts(place: Callable[[int], str], predictions: Sequence[Prediction]) -> list[str]:
    """Which rows have no answer, and why: the first of them by their places."""
    lines = [f"{place(row)}: {own.error}" for row, own in enumerate(predictions) if own.error]
    more = len(lines) - MOST_NAMED
    return [*lines[:MOST_NAMED], *([f"… and {screen.counted(more, 'more row')} without an answer"] if more > 0 else [])]


def end_with(missing: Sequence[str], on_error: str) -> None:
    """Exit with 2 where rows have no answer, unless that was expected."""
    if missing and on_error == "fail":
        raise refused("some rows have no answer; theirs are empty. To take that as it is: --on-error null", THEIRS)


def check_drawable(file: str | None, kind: str) -> None:
    """Refuse, before any work is done, a drawing that cannot be made."""
    if file is None:
        return
    if kind != "classification":
        raise DataError(f"a {kind} task has no confusion matrix", fix="Leave out --confusion")
    from polytask.paper.figures import figure

    check_folder(file)
    figure(file, 1, 1)


def answered(frozen: Backbone, adapters: Store, entry: Entry, rows: Rows) -> list[Target]:
    """What an adapter answers, in the form that targets have."""
    from polytask.predict import MultiTask

    with working(f"answering {screen.counted(len(rows), 'text')}"):
        predictions = MultiTask(frozen, adapters).predict(texts_of(rows), str(entry))
    return [target_of(prediction, entry.labels) for prediction in predictions]


def check_taken(entries: Mapping[str, Entry], texts: Sequence[Any]) -> None:
    """Refuse, before anything is loaded, texts that a task does not take."""
    from polytask.predict import check_inputs

    takes = {reference: entry.header.takes for reference, entry in entries.items()}
    known = {takes[reference] == "single" for reference in takes if takes[reference] is not None}
    if len(known) > 1:
        single = ", ".join(reference for reference, of in takes.items() if of == "single")
        paired = ", ".join(reference for reference, of in takes.items() if of not in (None, "single"))
        raise DataError(f"{single} takes single texts and {paired} takes pairs", fix="Ask them separately")
    for reference, of in takes.items():
        check_inputs(texts, [reference] * len(texts), [reference] * len(texts), [of] * len(texts))


def tasks_asked(given: Sequence[str] | None, adapters: Store) -> list[str]:
    """The tasks named, each once."""
    if not given:
        there = ", ".join(adapters.tasks()) or "none yet; train one with polytask train"
        raise PolytaskError(f"no task is named. Name one with --task; the store has {there}")
    return list(dict.fromkeys(given))


def rows_given(
    texts: Sequence[str] | None, pair: Sequence[str] | None, about_a_file: Sequence[str | None], on_error: str
) -> Rows:
    """The texts of the command line. Some may be empty, as rows of a file may; all of them only with ``null``."""
    from polytask.predict import check_texts, problem_of
    from polytask.tasks.task import Rows

    if any(about_a_file):
        raise DataError("--output, --text, --text-pair and --encoding are about a file", fix="Name it with --file FILE")
    if not texts:
        raise DataError("there is nothing to answer", fix="Give texts, or a file with --file FILE")
    if pair and len(pair) != len(texts):
        given = f"{screen.counted(len(texts), 'text')} and {screen.counted(len(pair), 'second text')}"
        raise DataError(given, fix="Give one --pair for each text")
    rows = Rows(texts, pair or None)
    if on_error == "fail" and all(map(problem_of, texts_of(rows))):
        check_texts(texts_of(rows))
    if len(texts) == 1 and isfile(texts[0]):
        again = f"polytask predict --file {shlex.quote(texts[0])}"
        raise DataError(f"{texts[0]!r} is a file, not a text", fix=f"To answer its rows: {again}")
    return rows


def texts_of(rows: Rows) -> list[Any]:
    """Texts, or pairs of texts, as ``MultiTask.predict`` takes them."""
    return list(rows.texts) if rows.pairs is None else list(zip(rows.texts, rows.pairs))


def target_of(prediction: Prediction, labels: Sequence[str]) -> Target:
    """A prediction in the form that targets have."""
    if prediction.answer is not None:
        return (Answer(prediction.answer, prediction.start or 0),)
    if prediction.score is not None:
        return prediction.score
    if prediction.labels is not None:
        return tuple(labels.index(label) for label in prediction.labels)
    return labels.index(prediction.label or "")


def commonest_score(header: Header, metric: str, targets: Sequence[Target]) -> Majority | None:
    """The metric where every row is given the label that was commonest in training; None where there is no such."""
    from polytask.tasks.baselines import Majority
    from polytask.tasks.metrics import score

    counts: Mapping[str, int] = header.result.get("label_counts") or {}
    labels = header.head.labels
    if header.head.kind != "classification" or set(counts) != set(labels):
        return None
    commonest = labels.index(max(labels, key=lambda label: counts[label]))
    answers = [commonest] * len(targets)
    value = score(metric, header.head.kind, targets, answers, num_labels=len(labels))
    return Majority(labels[commonest], value)
