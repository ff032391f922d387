"""Makes tasks to choose recipes on, from packaged corpora: none of them is reported anywhere.

    python benchmarks/development_tasks.py --out DIR      # DIR/grammar/train.csv, validation.csv, test.csv, …

* ``acceptability``: short sentences from BBC articles, three in ten of them with one word moved, left out or inflected;
  scored by Matthews correlation (as CoLA).
* ``grammar``: sentences from Rotten Tomatoes, half of them with two such corruptions.
* ``mood``: the sentiment of tweets, without those about airlines, which are a task of the paper's.
* ``review``: the sentiment of sentences from Rotten Tomatoes (as in SST-2).
* ``pairs``: whether a sentence of a BBC article follows another one (as in RTE: two texts, hard, few rows).

Needs ``polytask[demo]``. Equal versions of the packages give equal files.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from polytask.demo.corpora import CORPORA, path_of

SIZES = {"train": 2500, "validation": 500, "test": 1500}
WORDS = (6, 24)
"""The fewest and the most words of a sentence of ``grammar``."""
SHORT = (5, 15)
"""The same for ``acceptability``."""
FUNCTION_WORDS = frozenset(
    "a an the is are was were of to in on for with and or but that it its as at by from be has have not this".split()
)
CONFUSED = {"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "a": "an", "an": "a"}
PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,'%£$-]+\.")
"""A sentence without quotation marks, brackets and other signs."""
AIRLINES = re.compile(r"@(united|usairways|americanair|southwestair|jetblue|virginamerica|delta)", re.IGNORECASE)

Row = tuple[str, ...]
Corrupt = Callable[[list[str], list[int], random.Random], list[str] | None]


def swapped(words: list[str], at: list[int], draw: random.Random) -> list[str] | None:
    """Two neighbouring words in the other order."""
    pairs = [i for i in at if i + 1 in at and words[i] != words[i + 1]]
    if not pairs:
        return None
    i = draw.choice(pairs)
    return [*words[:i], words[i + 1], words[i], *words[i + 2 :]]


def without_one(words: list[str], at: list[int], draw: random.Random) -> list[str] | None:
    """Without one function word."""
    found = [i for i in at if words[i] in FUNCTION_WORDS]
    if not found:
        return None
    i = draw.choice(found)
    return [*words[:i], *words[i + 1 :]]


def inflected(words: list[str], at: list[int], draw: random.Random) -> list[str] | None:
    """One word with an s more or less, or one verb or article in its other form."""
    found = [i for i in at if words[i] in CONFUSED or len(words[i]) > 4]
    if not found:
        return None
    i = draw.choice(found)
    other = words[i][:-1] if words[i].endswith("s") else words[i] + "s"
    return [*words[:i], CONFUSED.get(words[i], other), *words[i + 1 :]]


def moved(words: list[str], at: list[int], draw: random.Random) -> list[str] | None:
    """One word at another place."""
    i, j = draw.choice(at), draw.choice(at)
    rest = [*words[:i], *words[i + 1 :]]
    return None if abs(i - j) < 3 else [*rest[:j], words[i], *rest[j:]]


CORRUPTED: tuple[Corrupt, ...] = (swapped, without_one, inflected, moved)


def corrupted(words: list[str], draw: random.Random, number: int) -> list[str]:
    """The words after a number of corruptions."""
    left = number
    while left:
        at = [i for i, word in enumerate(words) if word.isalpha()]
        changed = draw.choice(CORRUPTED)(words, at, draw)
        if changed is not None:
            words, left = changed, left - 1
    return words


def grammar(sentences: Sequence[str], draw: random.Random) -> Iterator[Row]:
    """Each sentence once, half of them corrupted."""
    for sentence in sentences:
        words = sentence.lower().split()
        if WORDS[0] <= sum(word.isalpha() for word in words) and len(words) <= WORDS[1]:
            is_original = draw.random() < 0.5
            own = " ".join(words if is_original else corrupted(words, draw, 2))
            yield own, "original" if is_original else "corrupted"


def acceptability(articles: Sequence[str], draw: random.Random) -> list[Row]:
    """Each short sentence without quotations once, three in ten corrupted."""
    found = [own for article in articles for own in re.split(r"(?<=[.!?])\s+", " ".join(article.split()))]
    plain = [own for own in dict.fromkeys(found) if PLAIN.fullmatch(own)]
    short = [own for own in plain if SHORT[0] <= sum(map(str.isalpha, own.split())) and len(own.split()) <= SHORT[1]]
    draw.shuffle(short)
    rows = []
    for sentence in short:
        is_original = draw.random() < 0.7
        words = sentence.split()
        own = " ".join(words if is_original else corrupted(words, draw, 1))
        rows.append((own, "acceptable" if is_original else "unacceptable"))
    return rows


def pairs(articles: Sequence[str], draw: random.Random) -> Iterator[Row]:
    """Per article twice a sentence with the one that follows it, or with another one of the article."""
    for article in articles:
        sentences = [own for own in re.split(r"(?<=[.!?])\s+", " ".join(article.split())) if 40 < len(own) < 160]
        for _ in range(2 if len(sentences) > 3 else 0):
            i = draw.randrange(len(sentences) - 1)
            others = [j for j in range(len(sentences)) if j not in (i, i + 1)]
            follows = draw.random() < 0.5
            second = sentences[i + 1 if follows else draw.choice(others)]
            yield sentences[i], second, "follows" if follows else "does not follow"


def write(folder: Path, header: Row, rows: Sequence[Row], metric: str = "accuracy") -> None:
    """Write the metric and the splits, one after the other, and say how many rows these have."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metric").write_text(metric + "\n")
    start = 0
    for split, size in SIZES.items():
        own = rows[start : start + size]
        start += size
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *own])
        print(f"{folder / split}.csv: {len(own):,} rows")


def main() -> None:
    """Make all tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    draw = random.Random(0)
    corpora = {corpus.task: list(dict(corpus.read(path_of(corpus))).items()) for corpus in CORPORA}
    for rows in corpora.values():
        draw.shuffle(rows)
    tweets = [row for row in corpora["mood"] if not AIRLINES.search(row[0])]
    write(out / "grammar", ("text", "label"), list(grammar([text for text, _ in corpora["review"]], draw)))
    write(out / "mood", ("text", "label"), tweets)
    topics = [text for text, _ in corpora["topic"]]
    write(out / "review", ("text", "label"), corpora["review"])
    write(out / "pairs", ("text", "text_pair", "label"), list(pairs(topics, draw)))
    write(out / "acceptability", ("text", "label"), acceptability(topics, draw), metric="matthews")


if __name__ == "__main__":
    main()
