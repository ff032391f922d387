"""Runs rows of any mix of tasks through the backbone in one forward pass.

A row is a tokenized text and the name of the version that answers it, ``task@version``. Names are resolved when a
request arrives (``catalog``), so a request keeps its version whatever happens to the store meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch

from polytask.adapters.module import encode_batch
from polytask.adapters.store import Entry, Store
from polytask.backbones.backbone import Backbone
from polytask.data.batches import collate
from polytask.data.encoding import Cut, Encoded, encode, joined
from polytask.data.task import Rows
from polytask.errors import PolytaskError
from polytask.evaluation.decision import Decision, DecisionOptions
from polytask.inference.cutting import cut_of
from polytask.inference.inputs import Text, as_rows
from polytask.inference.predict import MultiTask
from polytask.inference.prediction import Prediction
from polytask.inference.scoring import scores_of
from polytask.serving.short_batches import is_short, max_short_tokens, num_threads

PROBE_TEXT, PROBE_TOKENS = "Is anybody there?", 32
PADDING = 2
"""Tokens of a forward pass with padding, relative to those of a batch without: padding costs little time."""

DEFAULT_OPTIONS = DecisionOptions()


class Row(NamedTuple):
    """A tokenized text, or its windows, for one adapter."""

    encoded: Encoded
    name: str
    options: DecisionOptions = DEFAULT_OPTIONS

    @property
    def num_tokens(self) -> int:
        """Tokens of all windows."""
        return sum(map(len, self.encoded.ids))


class Engine(MultiTask):
    """A ``MultiTask`` that takes resolved names only, and reads the store only to load.

    Args:
        batch_tokens: the most tokens of the rows that are answered together, without padding.
    """

    def __init__(self, backbone: Backbone, store: Store, *, batch_tokens: int, max_length: int | None = None) -> None:
        super().__init__(backbone, store, max_length=max_length)
        self.batch_tokens = batch_tokens
        self.max_short_tokens = 0

    def measure_short_batches(self) -> None:
        """Find out which batches one thread computes fastest; until then all threads compute every batch."""
        self.max_short_tokens = max_short_tokens(self.backbone)

    def _name(self, reference: str) -> str:
        return reference

    def max_tokens(self, entry: Entry) -> int | None:
        """The number of tokens at which an adapter truncates a text; None if it reads all of it in windows."""
        header = entry.header
        limit, long, stride = cut_of(header.head.kind, header.recipe, self.backbone, self.max_length)
        return limit if long == "truncate" and stride is None else None

    def num_bytes(self, name: str) -> int:
        """Memory that a loaded adapter takes."""
        return sum(parameter.nbytes for parameter in self.adapters[name].tree.parameters())

    def tokenize(
        self, texts: Sequence[Text], names: Sequence[Sequence[str]], options: Sequence[DecisionOptions]
    ) -> list[list[Row]]:
        """For each text a row for each of its adapters.

        All texts with the same tokenizer settings are tokenized in one call, and adapters with the same settings share
        the tokens.
        """
        cuts = {name: self._cut(self.adapters[name]) for name in {name for own in names for name in own}}
        alike: dict[tuple[Cut, bool], list[int]] = {}
        for at, (text, own) in enumerate(zip(texts, names, strict=True)):
            for cut in {cuts[name] for name in own}:
                alike.setdefault((cut, isinstance(text, tuple | list)), []).append(at)
        encoded: dict[tuple[int, Cut], Encoded] = {}
        for (cut, _), chosen in alike.items():
            together = encode(self.backbone.tokenizer, as_rows([texts[at] for at in chosen]), *cut)
            encoded |= zip([(at, cut) for at in chosen], one_by_one(together), strict=True)
        return [
            [Row(encoded[at, cuts[name]], name, asked) for name in own]
            for at, (own, asked) in enumerate(zip(names, options, strict=True))
        ]

    def answer(self, rows: Sequence[Row]) -> list[Prediction | Exception]:
        """One prediction for each row; an error in place of one that is not finite.

        Raises:
            Exception: the forward pass failed; any of the rows may be the cause.
        """
        names = [row.name for row in rows]
        with self.adapters.in_use(names) as adapters:
            asked = dict.fromkeys((row.name, row.options) for row in rows)
            decisions = {(name, options): options.apply(adapters[name].decision) for name, options in asked}
            encoded = joined([(row.encoded, [at]) for at, row in enumerate(rows)])
            budget = PADDING * self.batch_tokens
            with self._threads_for(rows):
                scores = scores_of(self.backbone, self.adapters.attached, adapters, encoded, names, budget)
        return [_prediction(row, decisions[row.name, row.options], own) for row, own in zip(rows, scores, strict=True)]

    def _threads_for(self, rows: Sequence[Row]) -> AbstractContextManager[None]:
        """One thread for a short batch, all threads otherwise."""
        return num_threads(1) if is_short([row.encoded for row in rows], self.max_short_tokens) else nullcontext()

    @torch.inference_mode()
    def probe(self) -> None:
        """Run a forward pass of the bare backbone.

        Raises:
            RuntimeError: its output is not finite.
        """
        encoded = encode(self.backbone.tokenizer, Rows([PROBE_TEXT]), min(PROBE_TOKENS, self.backbone.max_length))
        batch = collate([(encoded, [0])], self.backbone.tokenizer.pad_token_id or 0, self.backbone.device)
        with self.backbone.one_pass(training=False):
            _, pooled = encode_batch(self.backbone, batch)
        if not bool(torch.isfinite(pooled).all()):
            raise RuntimeError("the backbone's output is not finite")


def one_by_one(encoded: Encoded) -> list[Encoded]:
    """Each row of an encoding as an encoding of its own."""
    alone = [encoded.take(texts) for texts in encoded.by_row()]
    return alone if encoded.owners is None else [replace(one, owners=[0] * len(one)) for one in alone]


def _prediction(row: Row, decision: Decision, scores: object) -> Prediction | Exception:
    try:
        prediction = Prediction.of(row.name.partition("@")[0], decision, scores)
    except PolytaskError as error:
        return RuntimeError(str(error))
    return prediction if is_finite(prediction) else RuntimeError(f"the output of {row.name} is not finite")


def is_finite(prediction: Prediction) -> bool:
    """Whether all numbers of a prediction are finite."""
    probs: Mapping[str, float] = prediction.probs or {}
    numbers = [*probs.values(), *([] if prediction.score is None else [prediction.score])]
    return all(map(math.isfinite, numbers))
