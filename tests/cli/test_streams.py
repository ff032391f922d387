"""Rows answered as they come: standard input, text files, and files that are read in chunks."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from polytask.adapters.store import Store
from polytask.backbones.loading import load_backbone
from polytask.cli import app
from polytask.cli.stream_input import chunks_as_they_arrive
from polytask.cli.streams import bar
from polytask.data import row_stream
from polytask.data.formats import read_table, write_table
from polytask.data.row_stream import RowStream
from polytask.data.task import Rows, Task
from polytask.errors import DataError
from polytask.methods import Houlsby
from polytask.training.loop import train
from polytask.training.recipe import Recipe
from tests.conftest import BAD, GOOD

TEXTS = [*GOOD, *BAD]


@pytest.fixture(scope="module")
def store(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float32")
    rows = Rows(TEXTS, targets=[1] * len(GOOD) + [0] * len(BAD))
    task = Task("mood", "classification", ("bad", "good"), "accuracy", rows, rows)
    folder = tmp_path_factory.mktemp("streams") / "store"
    Store(folder).put(train(backbone, task, Recipe(Houlsby(4), epochs=1, batch_size=8))[0])
    return folder


def predict(store: Path, *arguments: object, given: str | bytes | None = None) -> Result:
    own = ["predict", "--task", "mood", "--store", str(store), *map(str, arguments)]
    return CliRunner().invoke(app, own, input=given, env={"COLUMNS": "200"})


def answers(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_lines_of_standard_input_are_answered_in_json(store: Path) -> None:
    lines = "\n".join(TEXTS) + "\n"
    found = answers(predict(store, given=lines))
    assert found == answers(predict(store, "--file", "-", given=lines)) == answers(predict(store, "--json", *TEXTS))
    assert [answer["row"] for answer in found] == list(range(1, 13))


@pytest.mark.parametrize(
    "name", ["in.csv", "in.csv.gz", "in.jsonl", "in.jsonl.gz", "in.parquet", "in.txt", "in.txt.gz"]
)
def test_a_file_in_chunks_has_the_same_answers_as_the_whole_file(
    name: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_stream, "CHUNK_ROWS", 5)
    path = tmp_path / name
    if ".txt" in name:
        content = "".join(f"{text}\r\n" for text in TEXTS).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    else:
        write_table(path, ["id", "text"], [[str(n), text] for n, text in enumerate(TEXTS)])
    assert answers(predict(store, "--file", path, "--json")) == answers(predict(store, "--json", *TEXTS))


@pytest.mark.parametrize(
    "content",
    [
        'text,label\n"one, ""two""\nthree",a\n\nfour,b\n',
        "text;label\r\none,two;a\r\nthree;b\r\n",
        '\ufeff"te\nxt"\tlabel\none\ta\n',
        "text\none\n\nthree\n",
        "text,label\none,a\ntwo\n",
        'text,label\none,a\n"two,b\n',
        "text,label\n",
    ],
)
def test_a_csv_in_chunks_has_the_same_rows_and_lines_as_the_whole_file(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_stream, "CHUNK_ROWS", 1)
    path = tmp_path / "in.csv"
    path.write_bytes(content.encode())
    try:
        whole = read_table(path)
    except DataError as error:
        where = "" if error.line is None else f":{error.line}"
        with pytest.raises(DataError, match=re.escape(f"{path}{where}: ")):
            list(whole_of(path))
    else:
        assert list(whole_of(path)) == [(whole.header, list(row), line) for row, line in zip(whole.rows, whole.lines)]


def whole_of(path: Path) -> Iterator[tuple[tuple[str, ...], list[str], int]]:
    is_empty = True
    for table in RowStream(path):
        for row, line in zip(table.rows, table.lines):
            is_empty = False
            yield table.header, list(row), line
    if is_empty:
        raise DataError("there are no rows", file=str(path))


def test_a_text_in_another_encoding_is_refused_with_its_line_and_read_with_encoding(
    store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("good film\ncaf\u00e9\n".encode("cp1252"))
    result = predict(store, "--file", path)
    assert result.exit_code == 2
    assert "the text is not utf-8" in result.stderr
    assert "--encoding" in result.stderr
    assert len(answers(predict(store, "--file", path, "--encoding", "cp1252"))) == 2


def test_an_empty_line_has_an_empty_answer(store: Path) -> None:
    result = predict(store, given="good film\n\nbad film\n")
    assert result.exit_code == 2
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert (lines[1]["label"], lines[1]["error"]) == (None, "the text is empty")
    assert "<stdin>:2: the text is empty" in result.stderr
    assert predict(store, "--on-error", "null", given="\n").exit_code == 0
    assert len(answers(predict(store, "--drop-empty", given="good film\n\nbad film\n"))) == 2


def test_nothing_on_standard_input_is_refused(store: Path) -> None:
    result = predict(store, given="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there are no texts" in result.stderr


def test_lines_are_written_to_a_file_by_its_ending(store: Path, tmp_path: Path) -> None:
    assert predict(store, "--file", "-", "--output", tmp_path / "out.jsonl", given="good film\n").stdout == ""
    assert json.loads((tmp_path / "out.jsonl").read_text())["row"] == 1
    assert "1 row written" in predict(store, "--file", "-", "--output", tmp_path / "out.csv", given="a, b\n").stdout
    assert read_table(tmp_path / "out.csv").header == ("text", "mood", "mood_prob")
    result = predict(store, "--file", "-", "--output", tmp_path / "out.parquet", given="good film\n")
    assert result.exit_code == 2
    assert "JSON lines, CSV or TSV" in result.stderr
    assert not (tmp_path / "out.parquet").exists()


TABLE = [(str(n), text, 'a "note", or\ttwo') for n, text in enumerate(TEXTS)]


def delimited(delimiter: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([("id", "text", "more"), *TABLE])
    return out.getvalue()


@pytest.mark.parametrize(("format", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_rows_of_standard_input_are_answered_by_rows(
    format: str, delimiter: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_stream, "CHUNK_ROWS", 5)
    given = delimited(delimiter)
    result = predict(store, "--file", "-", "--format", format, given=given)
    assert result.exit_code == 0, result.output
    path = tmp_path / f"in.{format}"
    path.write_text(given, newline="")
    whole = predict(store, "--file", path, "--output", tmp_path / "out.parquet")
    assert whole.exit_code == 0, whole.output
    (tmp_path / f"out.{format}").write_text(result.stdout, newline="")
    piped, held = read_table(tmp_path / f"out.{format}"), read_table(tmp_path / "out.parquet")
    assert piped.header == held.header == ("id", "text", "more", "mood", "mood_prob")
    assert [row[:4] for row in piped.rows] == [list(row[:4]) for row in held.rows]
    assert answers(predict(store, "--format", format, "--json", given=given)) == answers(
        predict(store, "--json", *TEXTS)
    )


def test_a_csv_in_chunks_gives_the_same_output_as_the_whole_file(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.csv"
    path.write_text(delimited(",") + "12,,empty\n", newline="")
    outs = []
    for rows in (1024, 5):
        monkeypatch.setattr(row_stream, "CHUNK_ROWS", rows)
        outs.append(tmp_path / f"{rows}.csv")
        result = predict(store, "--file", path, "--output", outs[-1])
        assert (result.exit_code, "13 rows written" in result.stdout) == (2, True)
        assert "in.csv:14: the text is empty" in " ".join(result.stderr.split())
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_text().splitlines()[-1] == "12,,empty,,"
    assert "overwrite the input" in predict(store, "--file", path, "--output", path).stderr


def test_lines_of_json_are_read_from_standard_input(store: Path) -> None:
    lines = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS))
    assert answers(predict(store, "--format", "jsonl", given=lines)) == answers(predict(store, "--json", *TEXTS))


def test_a_format_that_does_not_fit_is_refused(store: Path, tmp_path: Path) -> None:
    assert "no format of --format called 'xml'" in predict(store, "--format", "xml", given="a").stderr
    assert "--format is for standard input" in predict(store, "--file", "in.csv", "--format", "csv").stderr
    assert "already has this column" in predict(store, "--format", "csv", given="text,mood\na,b\n").stderr
    assert "--top-k is for answers" in predict(store, "--format", "csv", "--top-k", 1, given="text\na\n").stderr
    unclosed = predict(store, "--format", "csv", given='text,label\n"a,b\n')
    assert (unclosed.exit_code, "<stdin>:2" in unclosed.stderr) == (2, True)


def test_pair_is_refused_with_a_stream(store: Path) -> None:
    result = predict(store, "--pair", "b", given="a\n")
    assert result.exit_code == 2
    assert "--pair is for texts of the command line" in result.output


def test_top_k_gives_the_likeliest_labels_first(store: Path) -> None:
    (both,), (one,) = (answers(predict(store, "--top-k", k, "--json", "good film")) for k in (2, 1))
    assert list(both["probs"].values()) == sorted(both["probs"].values(), reverse=True)
    assert one["probs"] == {one["label"]: both["probs"][one["label"]]}
    shown = predict(store, "--top-k", 2, "good film").stdout
    assert shown.index(one["label"]) < shown.index(({"good", "bad"} - {one["label"]}).pop(), shown.index("%"))
    assert "asks for no label" in predict(store, "--top-k", 0, "good film").stderr


def test_arrived_items_are_yielded_before_more_arrive() -> None:
    script = (
        "import sys\nfrom polytask.cli.stream_input import chunks_as_they_arrive\n"
        "for chunk in chunks_as_they_arrive(sys.stdin, 3):\n    print(len(chunk), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for _ in range(2):
            print("a line", file=run.stdin, flush=True)
            assert run.stdout.readline() == "1\n"
        run.stdin.close()
        assert run.stdout.read() == ""


def test_chunks_have_all_items_in_order_and_then_the_error_is_raised() -> None:
    def lines() -> Iterator[int]:
        yield from range(1000)
        raise DataError("broken")

    found: list[int] = []
    with pytest.raises(DataError, match="broken"):
        found.extend(itertools.chain.from_iterable(chunks_as_they_arrive(lines(), 7)))
    assert found == list(range(1000))


def test_the_bar_shows_rows_and_the_share_of_the_file() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=100)
    with bar(out, lambda: 0.5) as advance:
        advance(1_000_000)
    assert "1,000,000 rows" in out.file.getvalue()  # type: ignore[attr-defined]
    assert "50%" in out.file.getvalue()  # type: ignore[attr-defined]


def test_top_k_is_refused_where_a_table_is_written(store: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "in.csv", ["text"], [["good film"]])
    result = predict(store, "--file", tmp_path / "in.csv", "--output", tmp_path / "out.jsonl", "--top-k", 1)
    assert result.exit_code == 2
    assert "--top-k is for answers that are printed" in result.stderr
