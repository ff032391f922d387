"""GLUE from its official files, and submissions to its server."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from polytask.data.task import Rows
from polytask.errors import DataError, UnknownName
from polytask.suites.glue import GLUE, available_tasks, hold_out, read_glue, read_submission_rows, write_submission

MNLI_TRAIN = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
    "sentence1 sentence2 label1 gold_label"
).split()
MNLI_DEV = [*MNLI_TRAIN[:-1], *"label2 label3 label4 label5 gold_label".split()]
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2 score".split()


def write(path: Path, *rows: Sequence[str], start: str = "", end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((start + "".join("\t".join(row) + end for row in rows)).encode())
    return path


def cola(root: Path, train: int = 20, dev: int = 3) -> Path:
    for split, count in (("train", train), ("dev", dev)):
        write(
            root / "CoLA" / f"{split}.tsv", *(("gj04", str(i % 2), "*" * (i % 2), f"{split} {i}") for i in range(count))
        )
    return root


def mnli(root: Path, folder: str = "MNLI") -> Path:
    def row(columns: list[str], i: int) -> list[str]:
        gold = ("entailment", "neutral", "contradiction")[i % 3]
        values = {"sentence1": f"premise {i}", "sentence2": f"hypothesis {i}", "gold_label": gold}
        return [values.get(column, "-") for column in columns]

    write(root / folder / "train.tsv", MNLI_TRAIN, *(row(MNLI_TRAIN, i) for i in range(12)))
    write(root / folder / "dev_matched.tsv", MNLI_DEV, *(row(MNLI_DEV, i) for i in range(3)))
    write(root / folder / "dev_mismatched.tsv", MNLI_DEV, *(row(MNLI_DEV, i) for i in range(5)))
    return root


def all_training_rows(train: Rows, validation: Rows) -> set[tuple[object, ...]]:
    return {
        (text, None if rows.pairs is None else rows.pairs[i], None if rows.targets is None else rows.targets[i])
        for rows in (train, validation)
        for i, text in enumerate(rows.texts)
    }


def test_metrics_kinds_and_the_mean_match_the_paper() -> None:
    assert {name: task.metric for name, task in GLUE.items() if task.metric != "accuracy"} == {
        "CoLA": "matthews",
        "MRPC": "f1",
        "QQP": "f1",
        "STS-B": "spearman",
        "AX": "matthews",
    }
    assert [name for name, task in GLUE.items() if task.kind == "regression"] == ["STS-B"]
    assert [name for name, task in GLUE.items() if not task.in_mean] == ["WNLI", "AX"]


def test_cola_has_no_header_and_dev_becomes_the_test_rows(tmp_path: Path) -> None:
    task = read_glue("CoLA", cola(tmp_path))
    assert (len(task.train), len(task.validation)) == (18, 2)
    assert all_training_rows(task.train, task.validation) == {(f"train {i}", None, i % 2) for i in range(20)}
    assert task.test is not None
    assert list(task.test.texts) == ["dev 0", "dev 1", "dev 2"]
    assert list(task.test.targets or []) == [0, 1, 0]
    assert task.labels == ("unacceptable", "acceptable")
    assert task.train.pairs is None


def test_mrpc_starts_with_a_byte_order_mark_and_has_no_quoting(tmp_path: Path) -> None:
    header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    rows = [[str(i % 2), "1", "2", f'He said " {i}', f'" Said he {i} .'] for i in range(4)]
    for split in ("train", "dev"):
        write(tmp_path / "MRPC" / f"{split}.tsv", header, *rows, start="\ufeff")
    task = read_glue("MRPC", tmp_path)
    assert task.test is not None
    assert list(task.test.texts) == [f'He said " {i}' for i in range(4)]
    assert list(task.test.pairs or []) == [f'" Said he {i} .' for i in range(4)]
    assert list(task.test.targets or []) == [0, 1, 0, 1]


def test_stsb_is_a_regression_on_its_last_column(tmp_path: Path) -> None:
    rows = [[*(["x"] * 7), "a plane", "a train", score] for score in ("5.000", "0.000", "3.25")]
    for split in ("train", "dev"):
        write(tmp_path / "STS-B" / f"{split}.tsv", STSB, *rows)
    task = read_glue("STS-B", tmp_path)
    assert (task.kind, task.labels, task.metric) == ("regression", (), "spearman")
    assert task.test is not None
    assert list(task.test.targets or []) == [5.0, 0.0, 3.25]


@pytest.mark.parametrize("score", ["5.01", "-0.1", "nan", "five", ""])
def test_a_score_outside_0_to_5_is_refused(tmp_path: Path, score: str) -> None:
    write(tmp_path / "STS-B" / "train.tsv", STSB, [*(["x"] * 9), "1.0"], [*(["x"] * 9), score])
    write(tmp_path / "STS-B" / "dev.tsv", STSB, [*(["x"] * 9), "1.0"])
    with pytest.raises(DataError, match=r"train\.tsv:3, column 'score': .* is not a score from 0 to 5"):
        read_glue("STS-B", tmp_path)


def test_mnli_matched_and_mismatched_share_train_and_differ_in_dev(tmp_path: Path) -> None:
    matched, mismatched = (read_glue(name, mnli(tmp_path)) for name in ("MNLI-m", "MNLI-mm"))
    assert matched.train == mismatched.train
    assert matched.validation == mismatched.validation
    assert matched.labels == ("entailment", "neutral", "contradiction")
    assert matched.test is not None
    assert mismatched.test is not None
    assert (len(matched.test), len(mismatched.test)) == (3, 5)
    assert list(matched.test.targets or []) == [0, 1, 2]
    assert list(matched.test.pairs or []) == ["hypothesis 0", "hypothesis 1", "hypothesis 2"]


def test_broken_rows_of_qqp_are_skipped_with_a_note(tmp_path: Path) -> None:
    header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
    rows = [[str(i), "1", "2", f"who {i}", f"what {i}", str(i % 2)] for i in range(10)]
    broken = [["10", "1", "2", "why did the"], ["line break?", "because", "1"], ["10", "1", "2", "why", " ", "1"]]
    write(tmp_path / "QQP" / "train.tsv", header, *rows[:5], *broken, *rows[5:])
    write(tmp_path / "QQP" / "dev.tsv", header, *rows)
    task = read_glue("QQP", tmp_path)
    assert len(task.train) + len(task.validation) == 10
    assert "QQP: 3 rows of train have a missing column or text and were skipped" in task.notes


def test_a_line_separator_within_a_text_ends_no_row(tmp_path: Path) -> None:
    rows = [["gj04", label, "", "one\u2028two\x85three"] for label in "01011"]
    for split in ("train", "dev"):
        write(tmp_path / "CoLA" / f"{split}.tsv", *rows, end="\r\n")
    task = read_glue("CoLA", tmp_path)
    assert task.test is not None
    assert list(task.test.texts) == [row[3] for row in rows]


def test_gzipped_files_read_the_same(tmp_path: Path) -> None:
    plain = read_glue("CoLA", cola(tmp_path))
    for path in list((tmp_path / "CoLA").iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read_glue("CoLA", tmp_path).digest == plain.digest


def test_a_sample_is_read_with_a_note_if_the_whole_is_missing(tmp_path: Path) -> None:
    mnli(tmp_path, "MNLI_sample")
    assert "MNLI-m: a sample, read from MNLI_sample" in read_glue("MNLI-m", tmp_path).notes
    assert available_tasks(tmp_path)["MNLI-m"].is_sample
    mnli(tmp_path)
    assert not any("sample" in note for note in read_glue("MNLI-m", tmp_path).notes)
    assert not available_tasks(tmp_path)["MNLI-m"].is_sample


def test_a_dev_of_another_size_gives_a_note(tmp_path: Path) -> None:
    note = "CoLA: 3 rows in dev instead of GLUE's 1,043, so scores are not comparable with GLUE's"
    assert note in read_glue("CoLA", cola(tmp_path)).notes
    whole = cola(tmp_path / "whole", train=8551, dev=1043)
    assert read_glue("CoLA", whole).notes == ()


def test_available_tasks_are_only_those_that_can_be_read(tmp_path: Path) -> None:
    mnli(cola(tmp_path))
    (tmp_path / "MNLI" / "dev_mismatched.tsv").unlink()
    write(tmp_path / "RTE" / "dev.tsv", ["index", "sentence1", "sentence2", "label"])
    assert list(available_tasks(tmp_path)) == ["CoLA", "MNLI-m"]


def test_the_held_out_tenth_depends_on_the_seed_alone(tmp_path: Path) -> None:
    cola(tmp_path, train=200)
    first, again, other = (read_glue("CoLA", tmp_path, seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest
    assert set(first.validation.texts) != set(other.validation.texts)
    assert len(first.validation) == len(other.validation) == 20


def test_a_limit_takes_the_first_rows_of_train_before_holding_out(tmp_path: Path) -> None:
    task = read_glue("CoLA", cola(tmp_path, train=200), limit=100)
    assert (len(task.train), len(task.validation)) == (90, 10)
    assert {text for text, _, _ in all_training_rows(task.train, task.validation)} == {f"train {i}" for i in range(100)}
    assert "CoLA: the first 100 of 200 training rows" in task.notes


@pytest.mark.parametrize("count", [2, 9, 10, 11, 105, 1000])
def test_a_tenth_is_held_out_and_every_row_is_on_one_side(count: int) -> None:
    rows = Rows([str(i) for i in range(count)], targets=list(range(count)))
    train, validation = hold_out(rows, seed=3)
    assert len(validation) == max(1, count // 10)
    assert sorted([*train.texts, *validation.texts], key=int) == [str(i) for i in range(count)]
    assert list(train.targets or []) == sorted(train.targets or [])
    assert [str(target) for target in validation.targets or []] == list(validation.texts)


def test_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 training rows cannot be split"):
        hold_out(Rows(["one"]), seed=0)


def test_an_unknown_task_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'SST-2'"):
        read_glue("SST2", tmp_path)


def test_the_diagnostic_set_has_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="AX has no training rows"):
        read_glue("AX", tmp_path)


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder MNLI \(or MNLI_sample\)"):
        read_glue("MNLI-m", tmp_path)
    cola(tmp_path)
    (tmp_path / "CoLA" / "dev.tsv").unlink()
    with pytest.raises(DataError, match=r"CoLA: there is no dev\.tsv \(or dev\.tsv\.gz\)"):
        read_glue("CoLA", tmp_path)


def test_an_unknown_label_is_refused_with_its_line_and_the_known_labels(tmp_path: Path) -> None:
    header = ["index", "sentence1", "sentence2", "label"]
    write(tmp_path / "RTE" / "train.tsv", header, ["0", "a", "b", "entailment"], ["1", "a", "b", "neutral"])
    write(tmp_path / "RTE" / "dev.tsv", header, ["0", "a", "b", "entailment"])
    with pytest.raises(DataError, match=r"train\.tsv:3, column 'label'.*entailment, not_entailment"):
        read_glue("RTE", tmp_path)


def test_a_missing_column_is_refused_with_the_existing_columns(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        write(tmp_path / "RTE" / f"{split}.tsv", ["index", "sentence1", "label"], ["0", "a", "entailment"])
    with pytest.raises(
        DataError, match=r"'sentence2': there is no such column\. The columns are: index, sentence1, label"
    ):
        read_glue("RTE", tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "contains no rows"),
        (b"\n\n", "contains no rows"),
        (b"gj04\t1\n", "no row has the 4 columns of CoLA"),
        (b"gj04\t1\t\tgood\ngj04\t1\t\t\xff\n", "train.tsv:2: not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    cola(tmp_path)
    (tmp_path / "CoLA" / "train.tsv").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_glue("CoLA", tmp_path)


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    cola(tmp_path)
    path = tmp_path / "CoLA" / "train.tsv"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    for damaged in (packed[:-9], packed[:20] + b"\0\0\0" + packed[23:], b"not gzip"):
        (tmp_path / "CoLA" / "train.tsv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="not a complete gzip file"):
            read_glue("CoLA", tmp_path)


def test_submission_rows_have_the_indices_of_the_server(tmp_path: Path) -> None:
    write(tmp_path / "CoLA" / "test.tsv", ["index", "sentence"], ["0", "Bill left."], ["1", "Left Bill."])
    write(tmp_path / "QQP" / "test.tsv", ["id", "question1", "question2"], ["0", "who?", "what?"])
    rows = read_submission_rows("CoLA", tmp_path)
    assert (list(rows.texts), rows.pairs, list(rows.ids or [])) == (["Bill left.", "Left Bill."], None, ["0", "1"])
    assert rows.targets is None
    pairs = read_submission_rows("QQP", tmp_path)
    assert (list(pairs.texts), list(pairs.pairs or []), list(pairs.ids or [])) == (["who?"], ["what?"], ["0"])


def test_mrpcs_submission_rows_come_from_the_msr_file_where_test_is_missing(tmp_path: Path) -> None:
    header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    write(tmp_path / "MRPC" / "msr_paraphrase_test.txt", header, ["1", "7", "8", "a", "b"], ["0", "9", "6", "c", "d"])
    rows = read_submission_rows("MRPC", tmp_path)
    assert (list(rows.texts), list(rows.ids or []), rows.targets) == (["a", "c"], ["0", "1"], None)


def test_a_broken_submission_row_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "QQP" / "test.tsv", ["id", "question1", "question2"], ["0", "who?", "what?"], ["1", "who?"])
    with pytest.raises(DataError, match=r"test\.tsv:3: 2 columns instead of 3"):
        read_submission_rows("QQP", tmp_path)


def test_a_submission_is_written_as_the_server_reads_it(tmp_path: Path) -> None:
    answers: dict[str, list[int | str | float]] = {
        name: [i % max(len(task.labels), 1) for i in range(task.rows[2])]
        for name, task in GLUE.items()
        if task.rows[2] < 20_000
    }
    answers["STS-B"] = [3.14159, 5.2, -1.0, *([2.5] * 1376)]
    answers["MNLI-m"] = ["contradiction", "neutral", "entailment", *([0] * 9793)]
    assert write_submission(tmp_path, answers) == ("QQP",)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv", "RTE.tsv"),
        *("WNLI.tsv", "AX.tsv"),
    }
    lines = {path.stem: path.read_text().splitlines() for path in tmp_path.iterdir()}
    assert lines["CoLA"][:3] == ["index\tprediction", "0\t0", "1\t1"]
    assert lines["STS-B"][:5] == ["index\tprediction", "0\t3.142", "1\t5.000", "2\t0.000", "3\t2.500"]
    assert lines["MNLI-m"][1:5] == ["0\tcontradiction", "1\tneutral", "2\tentailment", "3\tentailment"]
    assert lines["QNLI"][1:3] == ["0\tentailment", "1\tnot_entailment"]
    assert lines["WNLI"][1:3] == ["0\t0", "1\t1"]
    assert lines["AX"][1:4] == ["0\tentailment", "1\tneutral", "2\tcontradiction"]
    assert Counter({name: len(rows) - 1 for name, rows in lines.items()}) == {
        name: GLUE[name].rows[2] for name in answers
    }


@pytest.mark.parametrize(
    ("name", "answers", "problem"),
    [
        ("WNLI", [0] * 145, "WNLI has 146 test rows, but 145 predictions were given"),
        ("WNLI", [*([0] * 145), 2], "WNLI: prediction 145 is 2"),
        ("WNLI", [*([0] * 145), "perhaps"], "the index or the name of one of: not_entailment, entailment"),
        ("STS-B", [*([0.0] * 1378), float("nan")], "STS-B: prediction 1378 is nan"),
    ],
)
def test_a_wrong_submission_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, answers: list[int | str | float], problem: str
) -> None:
    good = [random.Random(0).randrange(2) for _ in range(1063)]
    with pytest.raises(DataError, match=problem):
        write_submission(tmp_path / "out", {"CoLA": good, name: answers})
    assert not (tmp_path / "out").exists()
