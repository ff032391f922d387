"""The results: one small JSON file per trial that was run, ``<folder>/<edition>/<key>.json``.

Exhibits are drawn from these files alone. A key depends on what determines the outcome of a trial and on nothing else,
so a trial that several exhibits ask for is run once, and running again runs what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytask.errors import DataError, PolytaskError
from polytask.files import write_text
from polytask.serialization import checked, to_json
from polytask.suites.tasks import Suite
from polytask.training.result import Score

FORMAT = 1
TFIDF = "tfidf"
ABLATION = "ablation"
"""The measurement of ``Trial.measures`` that removes the adapters of one span of layers after another."""


@dataclass(frozen=True)
class Trial:
    """A task of the paper, cut to an edition's caps, to be trained by one recipe with one seed.

    Attributes:
        edition: the name of the edition it belongs to.
        suite: of the task.
        task: its name in ``GLUE`` or ``TEXT17``, or ``squad``.
        recipe: ``Recipe.to_json()`` with every choice made; without a backbone
            ``{"method": {"name": "tfidf", "C": …}, "seed": …}``.
        max_rows: the most training rows; None for all. Likewise ``max_validation`` and ``max_test``.
        measures: what is measured besides scores: ``"ablation"``.
    """

    edition: str
    suite: Suite
    task: str
    recipe: dict[str, Any]
    max_rows: int | None = None
    measures: tuple[str, ...] = ()
    max_validation: int | None = None
    max_test: int | None = None

    @property
    def method(self) -> dict[str, Any]:
        """The method's name and settings: ``{"name": "houlsby", "size": 64, …}``."""
        return dict(self.recipe["method"])

    @property
    def seed(self) -> int:
        """Of initial weights, shuffles and dropout."""
        return int(self.recipe["seed"])

    @property
    def has_backbone(self) -> bool:
        """Whether it trains on a backbone; TF-IDF does not."""
        return bool(self.method["name"] != TFIDF)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return to_json(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Trial:
        """The inverse of ``to_json``."""
        given = checked(cls, values, "a trial", DataError, may_lack_defaults=True)
        return cls(**{**given, "measures": tuple(given.get("measures", ()))})

    def key(self, backbone: str, data: str) -> str:
        """The key of this trial on the backbone and the rows with these fingerprints."""
        what = {name: value for name, value in self.to_json().items() if name != "edition"}
        return hashlib.sha256(json.dumps([what, backbone, data], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """A trial that was run, and its outcome.

    Attributes:
        trial: what was run.
        key: the name of its file.
        backbone: ``name``, ``architecture``, ``fingerprint``, ``layers``, ``hidden``, ``parameters``; without one
            ``{"name": null, "fingerprint": ""}``.
        data: ``digest``, numbers of rows in ``train``, ``validation`` and ``test``, ``is_sample``, ``notes``.
        parameters: ``trained`` (without the head), ``head``, ``backbone``, ``percent``; empty without a backbone.
        validation: None if it diverged, like ``test``.
        test: on rows that no choice was made by; for GLUE these are dev's.
        metrics: every metric of the task's kind on the test rows, by name.
        also: test scores on further rows, by name: ``{"MNLI-mm": …}`` of MNLI-m's adapter.
        measured: what ``trial.measures`` asked for, by name.
        epochs: that were run.
        seconds: of training and validation.
        failure: why it diverged.
        environment: versions, hardware, dtype.
    """

    trial: Trial
    key: str
    backbone: dict[str, Any]
    data: dict[str, Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    validation: Score | None = None
    test: Score | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    also: dict[str, Score] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    seconds: float = 0.0
    failure: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        scores = {name: score and to_json(score) for name in ("validation", "test") for score in [getattr(self, name)]}
        also = {name: to_json(score) for name, score in self.also.items()}
        return {"format": FORMAT, **to_json(self), **scores, "trial": self.trial.to_json(), "also": also}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Entry:
        """The inverse of ``to_json``."""
        own = checked(cls, {name: value for name, value in values.items() if name != "format"}, "an entry", DataError)
        scores = {name: own[name] and Score.from_json(own[name]) for name in ("validation", "test")}
        also = {name: Score.from_json(score) for name, score in own["also"].items()}
        return cls(**{**own, **scores, "trial": Trial.from_json(own["trial"]), "also": also})


class Ledger:
    """The entries of one edition in a folder."""

    def __init__(self, folder: str | Path, edition: str) -> None:
        self.folder, self.edition = Path(folder) / edition, edition

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def path(self, key: str) -> Path:
        """The file of the entry with this key."""
        return self.folder / f"{key}.json"

    def write(self, entry: Entry) -> None:
        """Store an entry, whole or not at all."""
        write_text(self.path(entry.key), json.dumps(entry.to_json(), indent=1, allow_nan=False) + "\n")

    def read(self, key: str) -> Entry:
        """The entry with this key.

        Raises:
            DataError: there is none, or the file is not one.
        """
        path = self.path(key)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            entry = Entry.from_json(values)
            if values["format"] != FORMAT or entry.key != key:
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f": {error}" if isinstance(error, PolytaskError) else ""
            problem = f"this is not the result of a trial{why}"
            raise DataError(problem, file=path, fix="Remove it to run its trial again") from None
        return entry

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order of their keys."""
        for path in sorted(self.folder.glob("*.json")):
            yield self.read(path.stem)
